//! New names for clusters and instances.

use super::{Rds, called, look_again};
use crate::aws::{AwsError, Called};

impl Rds {
    /// Gives a cluster another name; asynchronous on RDS's side. Its endpoints change with it.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn rename_cluster(&self, from: &str, to: &str) -> Result<Called<()>, AwsError> {
        self.changing
            .modify_db_cluster()
            .db_cluster_identifier(from)
            .new_db_cluster_identifier(to)
            .apply_immediately(true)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| look_again(self.error("rds:ModifyDBCluster", from, error)))
    }

    /// Gives an instance another name; asynchronous on RDS's side, and the instance restarts.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn rename_instance(&self, from: &str, to: &str) -> Result<Called<()>, AwsError> {
        self.changing
            .modify_db_instance()
            .db_instance_identifier(from)
            .new_db_instance_identifier(to)
            .apply_immediately(true)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| look_again(self.error("rds:ModifyDBInstance", from, error)))
    }
}

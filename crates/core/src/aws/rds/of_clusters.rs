//! Several clusters in one call, and the instances of some: by a filter.

use super::{Rds, found};
use crate::aws::{AwsError, convert};
use aurora_restore_domain::cloud::{Cluster, Instance};
use aurora_restore_domain::ids::ClusterId;
use aws_sdk_rds::types::Filter;
use futures_util::future::try_join_all;

fn of_clusters(ids: &[&str]) -> Filter {
    let values = ids.iter().map(ToString::to_string).collect();
    Filter::builder().name("db-cluster-id").set_values(Some(values)).build()
}

impl Rds {
    /// Those of some clusters that there are, in one call; each says its name.
    ///
    /// # Errors
    /// Whatever RDS says but `DBClusterNotFoundFault`: a filter should leave out what there is not, but where it is said to
    /// be an error, none may pass for missing because another is. Then each is asked for by itself.
    pub async fn clusters(&self, ids: &[&ClusterId]) -> Result<Vec<Cluster>, AwsError> {
        let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        let mut pages = self.client.describe_db_clusters().filters(of_clusters(&names)).into_paginator().items().send();
        let mut clusters = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.error("rds:DescribeDBClusters", &names.join(", "), error));
            match found(item, "DBClusterNotFoundFault")? {
                Some(item) => clusters.push(convert::cluster(item)),
                None => return self.clusters_one_by_one(ids).await,
            }
        }
        Ok(clusters)
    }

    /// All at once: names move meanwhile.
    async fn clusters_one_by_one(&self, ids: &[&ClusterId]) -> Result<Vec<Cluster>, AwsError> {
        let clusters = try_join_all(ids.iter().map(|id| self.cluster(id))).await?;
        Ok(clusters.into_iter().flatten().collect())
    }

    /// All instances of a cluster.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn instances_of(&self, id: &ClusterId) -> Result<Vec<Instance>, AwsError> {
        self.instances_of_any(&[id.as_str()]).await
    }

    /// All instances of some clusters; each says whose it is.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn instances_of_any(&self, clusters: &[&str]) -> Result<Vec<Instance>, AwsError> {
        let mut pages =
            self.client.describe_db_instances().filters(of_clusters(clusters)).into_paginator().items().send();
        let mut instances = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.error("rds:DescribeDBInstances", &clusters.join(", "), error))?;
            instances.push(convert::instance(item));
        }
        Ok(instances)
    }
}

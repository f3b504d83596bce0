//! The Lambda function `retire-cluster`; what it does is in `aurora_restore_steps::retire_cluster`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::retire_cluster;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::RetireCluster, retire_cluster::run).await
}

//! The Lambda function `swap-cluster`; what it does is in `aurora_restore_steps::swap_cluster`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::swap_cluster;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::SwapCluster, swap_cluster::run).await
}

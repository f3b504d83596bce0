//! The Lambda function `copy-snapshot`; what it does is in `aurora_restore_steps::copy_snapshot`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::copy_snapshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::CopySnapshot, copy_snapshot::run).await
}

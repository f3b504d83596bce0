//! The Lambda function `check-restore`; what it does is in `aurora_restore_steps::check_restore`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::check_restore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::CheckRestore, check_restore::run).await
}

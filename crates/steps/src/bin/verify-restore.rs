//! The Lambda function `verify-restore`; what it does is in `aurora_restore_steps::verify_restore`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::verify_restore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::VerifyRestore, verify_restore::run).await
}

//! The Lambda function `check-copy`; what it does is in `aurora_restore_steps::check_copy`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::check_copy;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::CheckCopy, check_copy::run).await
}

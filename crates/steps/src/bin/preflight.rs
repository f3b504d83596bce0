//! The Lambda function `preflight`; what it does is in `aurora_restore_steps::preflight`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::preflight;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::Preflight, preflight::run).await
}

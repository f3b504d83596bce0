//! The Lambda function `notify`; what it does is in `aurora_restore_steps::notify`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::notify;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::Notify, notify::run).await
}

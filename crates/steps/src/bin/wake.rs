//! The Lambda function `wake`; what it does is in `aurora_restore_steps::wake`.

use aurora_restore_core::serve::serve_function;
use aurora_restore_steps::wake;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve_function("wake", wake::run).await
}

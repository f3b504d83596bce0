//! The Lambda function `setup-db-users`; what it does is in `aurora_restore_steps::setup_db_users`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::setup_db_users;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::SetupDbUsers, setup_db_users::run).await
}

//! The Lambda function `archive-snapshot`; what it does is in `aurora_restore_steps::archive_snapshot`.

use aurora_restore_core::domain::step::Step;
use aurora_restore_core::serve::serve;
use aurora_restore_steps::archive_snapshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Step::ArchiveSnapshot, archive_snapshot::run).await
}

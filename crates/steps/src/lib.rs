//! The steps of a restore. Each module is one step and reads observe → decide → act → record; each has a binary of
//! its own in `src/bin`.

pub mod archive_snapshot;
pub mod check_copy;
pub mod check_restore;
pub mod copy_snapshot;
mod database;
pub mod delete_cluster;
mod follow;
mod ground;
mod mask;
pub mod notify;
pub mod preflight;
mod removal;
pub mod restore_cluster;
mod restored;
pub mod retire_cluster;
pub mod setup_db_users;
pub mod swap_cluster;
pub mod verify_restore;
pub mod wake;

pub use database::{FakeAnswer, FakeDatabase};

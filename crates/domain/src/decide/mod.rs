//! One module per step that has something to decide.

pub mod archive_snapshot;
pub mod check_copy;
pub mod check_restore;
pub mod copy_snapshot;
pub mod delete_cluster;
pub mod mask;
pub mod mask_mysql;
pub mod preflight;
pub mod restore_cluster;
pub mod retire_cluster;
pub mod swap_cluster;

#[cfg(test)]
pub(crate) mod fixtures;

//! The twelve steps. A step's name is its binary, module, state and metric.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One step of the workflow, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each is described by its module in `aurora-restore-steps`
pub enum Step {
    Preflight,
    CopySnapshot,
    CheckCopy,
    DeleteCluster,
    RestoreCluster,
    CheckRestore,
    SetupDbUsers,
    VerifyRestore,
    SwapCluster,
    RetireCluster,
    ArchiveSnapshot,
    Notify,
}

impl Step {
    /// All steps in the workflow's order.
    pub const ALL: [Step; 12] = [
        Step::Preflight,
        Step::CopySnapshot,
        Step::CheckCopy,
        Step::DeleteCluster,
        Step::RestoreCluster,
        Step::CheckRestore,
        Step::SetupDbUsers,
        Step::VerifyRestore,
        Step::SwapCluster,
        Step::RetireCluster,
        Step::ArchiveSnapshot,
        Step::Notify,
    ];

    /// Kebab case: `copy-snapshot`.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::CopySnapshot => "copy-snapshot",
            Step::CheckCopy => "check-copy",
            Step::DeleteCluster => "delete-cluster",
            Step::RestoreCluster => "restore-cluster",
            Step::CheckRestore => "check-restore",
            Step::SetupDbUsers => "setup-db-users",
            Step::VerifyRestore => "verify-restore",
            Step::SwapCluster => "swap-cluster",
            Step::RetireCluster => "retire-cluster",
            Step::ArchiveSnapshot => "archive-snapshot",
            Step::Notify => "notify",
        }
    }

    /// The step after this one, with a swap or without; the last stays the last.
    pub fn next(self, swaps: bool) -> Step {
        let after = Step::ALL.into_iter().skip_while(|step| *step != self).skip(1);
        let mut taken = after.filter(|step| swaps || !matches!(step, Step::SwapCluster | Step::RetireCluster));
        taken.next().unwrap_or(self)
    }

    /// Calls to RDS of the target Region that an invocation makes, about: what it asks for before it begins where calls
    /// are shared out.
    pub fn rds_calls(self) -> u64 {
        match self {
            Step::Preflight => 12,
            Step::DeleteCluster | Step::RetireCluster => 8,
            Step::RestoreCluster => 7,
            // Of a swap: three names, their instances, and a rename.
            Step::SwapCluster | Step::CopySnapshot | Step::CheckRestore | Step::ArchiveSnapshot => 3,
            Step::CheckCopy => 1,
            Step::SetupDbUsers | Step::VerifyRestore | Step::Notify => 0,
        }
    }

    /// How long the step may take from its first invocation, repeats and waits included, in seconds. The machine's
    /// `TimeoutSeconds` is the second bound.
    pub fn deadline_seconds(self) -> u64 {
        const HOUR: u64 = 3600;
        match self {
            // Copies are always full and may queue behind five others: a 10 TB cluster takes the better part of a day.
            Step::CopySnapshot | Step::CheckCopy => 36 * HOUR,
            // A final snapshot of a large cluster is incremental, but not instant.
            Step::DeleteCluster => 4 * HOUR,
            Step::RestoreCluster => HOUR,
            // Forth and back again, each within its own bound, after a target that is busy.
            Step::SwapCluster => 4 * HOUR,
            // The longest grace period, and the deletion.
            Step::RetireCluster => 28 * HOUR,
            // Masking a large database takes its time.
            Step::CheckRestore | Step::SetupDbUsers => 12 * HOUR,
            Step::Preflight | Step::VerifyRestore | Step::ArchiveSnapshot | Step::Notify => HOUR,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_around_the_swap_unless_one_was_asked_for() {
        assert_eq!(Step::VerifyRestore.next(false), Step::ArchiveSnapshot);
        assert_eq!(Step::VerifyRestore.next(true), Step::SwapCluster);
        assert_eq!(Step::RetireCluster.next(true), Step::ArchiveSnapshot);
        assert_eq!(Step::Notify.next(true), Step::Notify);
    }

    #[test]
    fn the_serialised_name_is_the_name() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
        }
    }
}

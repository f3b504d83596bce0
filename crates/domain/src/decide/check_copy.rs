//! Is the copy there yet?

use crate::cloud::Snapshot;
use crate::failure::{ErrorName, Failure};
use crate::phase::{Phase, Waiting};
use crate::plan::{CopyPlan, Plan};
use crate::sabotage::Sabotage;
use crate::status::{Class, snapshot};
use crate::wait;

/// How the copy stands.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Source and target Region are the same.
    Skip,
    /// Available.
    Done,
    /// Not yet.
    Wait(Waiting),
    /// It will never be.
    Fail(Failure),
}

/// Decides by the copy's status; `elapsed_seconds` counts from the first look.
pub fn decide(plan: &Plan, copy: Option<&Snapshot>, elapsed_seconds: u64) -> Decision {
    let CopyPlan::Copy { copy_id, .. } = &plan.copy else { return Decision::Skip };
    let fail = |why: String| {
        Decision::Fail(
            Failure::new(ErrorName::ResourceFailed, format!("snapshot copy {copy_id} {why}"))
                .next("look at the RDS events of both Regions (a source snapshot deleted early, a key disabled), then start a new operation"),
        )
    };
    let Some(copy) = copy else {
        if elapsed_seconds < wait::VISIBLE_SECONDS {
            return Decision::Wait(Waiting::of(Phase::Change, format!("snapshot copy {copy_id} is not visible yet")));
        }
        return fail("is gone: someone deleted it while it was being made".into());
    };
    match snapshot(&copy.status) {
        Class::Settled => Decision::Done,
        Class::InProgress if Sabotage::DeleteBeforeCopyIsThere.is_on() => Decision::Done,
        Class::Failed => fail("failed".into()),
        Class::Deleting => fail("is being deleted".into()),
        Class::InProgress | Class::Unknown => {
            let progress = match copy.percent_progress {
                // AWS shows 0 as long as the copy waits for one of the five slots of the Region.
                None | Some(0) => format!("snapshot copy {copy_id} is {}, 0 % (queued or just begun)", copy.status),
                Some(percent) => format!("snapshot copy {copy_id} is {}, {percent} %", copy.status),
            };
            Decision::Wait(Waiting { percent: copy.percent_progress, ..Waiting::of(Phase::Copy, progress) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;

    #[test]
    fn every_status_has_its_answer() {
        let plan = fixtures::plan();
        for (status, wanted) in [
            ("available", "Done"),
            ("copying", "Wait"),
            ("creating", "Wait"),
            ("pondering", "Wait"),
            ("failed", "Fail"),
            ("deleting", "Fail"),
        ] {
            let copy = Snapshot { status: status.into(), percent_progress: Some(40), ..fixtures::copy() };
            let decision = format!("{:?}", decide(&plan, Some(&copy), 60));
            assert!(decision.starts_with(wanted), "{status}: {decision}");
            assert!(decision.contains(status) || wanted == "Done" || status == "deleting", "{decision}");
        }
        assert!(matches!(decide(&plan, None, 0), Decision::Wait(_)), "just made, not visible yet");
        assert!(matches!(decide(&plan, None, wait::VISIBLE_SECONDS), Decision::Fail(_)));
    }
}

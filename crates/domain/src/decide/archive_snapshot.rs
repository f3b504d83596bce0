//! Which copies stay and which go. Only copies tagged as ours are ever considered, never the source, never the one
//! just restored from, never the last.

use crate::Instant;
use crate::cloud::Snapshot;
use crate::ids::{ClusterId, OperationId};
use crate::naming::{TAG_SOURCE, is_copy_for};
use crate::request::Retention;
use crate::sabotage::Sabotage;
use crate::status::{Class, snapshot as class};

/// What to do with our copies of one source for one target: another target's restore may be about to use its own.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// This operation's copy, to be tagged as archived; `None` when it has none.
    pub archive: Option<Snapshot>,
    /// Copies to delete, oldest first.
    pub remove: Vec<Snapshot>,
    /// Ids of copies that stay, newest first.
    pub keep: Vec<String>,
}

/// Applies `retention` to `snapshots`, which may hold anything that the Region has.
pub fn decide(
    snapshots: &[Snapshot],
    source_cluster_arn: &str,
    target: &ClusterId,
    operation_id: &OperationId,
    retention: Retention,
    now: Instant,
) -> Decision {
    let ours = |snapshot: &&Snapshot| {
        Sabotage::RetentionTakesWhatIsNotOurs.is_on()
            || snapshot.is_our_copy()
                && is_copy_for(target, &snapshot.id, &snapshot.tags)
                && snapshot.tags.get(TAG_SOURCE).is_some_and(|source| source == source_cluster_arn)
    };
    let mut copies: Vec<&Snapshot> = snapshots.iter().filter(ours).collect();
    // A copy without a date is being made: as new as can be.
    copies.sort_by_key(|copy| std::cmp::Reverse((copy.created_at.unwrap_or(now), copy.id.clone())));

    let archive = copies.iter().find(|copy| copy.belongs_to(operation_id)).map(|copy| (*copy).clone());
    let keep_at_least = usize::try_from(retention.copies.max(1)).unwrap_or(usize::MAX);
    let (mut keep, mut remove, mut available_kept) = (Vec::new(), Vec::new(), 0);
    for copy in copies {
        let young = copy.created_at.is_none_or(|created| (now - created).whole_days() < i64::from(retention.days));
        let this_one = copy.belongs_to(operation_id);
        // Another operation's copy that is still being made is not ours to judge; a failed one helps nobody, but it
        // does not count as one of those that stay.
        let stays = match class(&copy.status) {
            Class::Settled => this_one || young || available_kept < keep_at_least,
            Class::InProgress | Class::Unknown | Class::Deleting => true,
            Class::Failed => this_one || young,
        };
        if stays {
            available_kept += usize::from(class(&copy.status) == Class::Settled);
            keep.push(copy.id.clone());
        } else {
            remove.push(copy.clone());
        }
    }
    remove.reverse();
    Decision { archive, remove, keep }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;
    use crate::naming::TAG_OPERATION;
    use time::macros::datetime;

    const NOW: Instant = datetime!(2026-11-21 12:00 UTC);

    fn copy(id: &str, days_old: i64) -> Snapshot {
        let mut copy = fixtures::copy();
        copy.id = format!("staging-copy-{id}");
        copy.created_at = Some(NOW - time::Duration::days(days_old));
        copy.tags.insert(TAG_OPERATION.into(), format!("operation-of-{id}"));
        copy
    }

    fn run(snapshots: &[Snapshot], copies: u32, days: u32) -> (Vec<String>, Vec<String>) {
        let retention = Retention { copies, days };
        let (target, operation_id) = (ClusterId::try_from("staging").unwrap(), fixtures::operation_id());
        let decision = decide(snapshots, fixtures::SOURCE_ARN, &target, &operation_id, retention, NOW);
        let short = |id: String| id.trim_start_matches("staging-copy-").to_owned();
        (
            decision.keep.into_iter().map(short).collect(),
            decision.remove.into_iter().map(|copy| short(copy.id)).collect(),
        )
    }

    #[test]
    fn the_newest_stay_and_the_oldest_go_first() {
        let all = [copy("c", 3), fixtures::copy(), copy("a", 1), copy("b", 2)];
        let this = "1".to_owned();
        assert_eq!(run(&all, 2, 0), (vec![this.clone(), "a".into()], vec!["c".into(), "b".into()]));
        assert_eq!(run(&all, 1, 3), (vec![this, "a".into(), "b".into()], vec!["c".into()]));
    }

    #[test]
    fn what_is_not_our_copy_of_this_source_is_not_considered() {
        let mut untagged = copy("untagged", 100);
        untagged.tags.clear();
        let mut other_source = copy("other-source", 100);
        other_source.tags.insert(TAG_SOURCE.into(), "arn:aws:rds:us-east-1:1:cluster:other".into());
        let mut final_snapshot = copy("final", 100);
        final_snapshot.tags.insert(crate::naming::TAG_KIND.into(), "cluster".into());
        // One that another target's restore has just made, and is about to restore from.
        let mut other_target = copy("other-target", 0);
        other_target.id = "rehearsal-copy-0123456789".into();
        let (keep, remove) = run(&[untagged, other_source, final_snapshot, other_target, fixtures::copy()], 1, 0);
        assert_eq!((keep.len(), remove.len()), (1, 0));
    }

    #[test]
    fn the_one_restored_from_stays_even_if_newer_ones_exist() {
        let mut this = fixtures::copy();
        this.created_at = Some(NOW - time::Duration::days(9));
        let (keep, remove) = run(&[this, copy("a", 1), copy("b", 2)], 1, 0);
        assert_eq!((keep, remove), (vec!["a".to_string(), "1".to_string()], vec!["b".to_string()]));
    }

    #[test]
    fn the_last_available_copy_stays_when_newer_ones_failed() {
        let mut failed = copy("failed", 1);
        failed.status = "failed".into();
        let (keep, remove) = run(&[failed, copy("good", 5)], 1, 0);
        assert_eq!((keep, remove), (vec!["good".to_string()], vec!["failed".to_string()]));
    }

    #[test]
    fn a_copy_under_way_is_left_alone() {
        let mut copying = copy("copying", 9);
        copying.status = "copying".into();
        assert_eq!(run(&[copying, fixtures::copy()], 1, 0).1, Vec::<String>::new());
    }
}

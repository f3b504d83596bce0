//! `replacement` and `swap`: how the target makes room for the restored cluster.

use super::fields::Fields;
use crate::ids::ClusterId;
use crate::naming::SWAP_TARGET_CLUSTER_ID_MAX;
use serde::{Deserialize, Serialize};

/// How the target is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// It is deleted, then the cluster is restored under its name.
    #[default]
    DeleteFirst,
    /// The cluster is restored beside it; then names are swapped, and the former one is deleted.
    Swap,
}

/// A swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// How long the former cluster stays after the restored one answered under the target's name.
    pub grace_period_minutes: u32,
    /// How long it may take from the first rename until somebody can log in under the target's name; then the names go back.
    pub answer_within_minutes: u32,
}

impl Default for Swap {
    fn default() -> Self {
        Self { grace_period_minutes: 60, answer_within_minutes: 30 }
    }
}

impl Swap {
    /// The grace period in seconds.
    pub fn grace_seconds(self) -> u64 {
        u64::from(self.grace_period_minutes) * 60
    }

    /// The time until it has to answer, in seconds.
    pub fn answer_within_seconds(self) -> u64 {
        u64::from(self.answer_within_minutes) * 60
    }
}

/// A day: whoever wants to look longer keeps the final snapshot.
const GRACE_PERIOD_MINUTES_MAX: i64 = 24 * 60;
/// The target may be away as long.
const ANSWER_WITHIN_MINUTES_MAX: i64 = 2 * 60;

pub(super) fn read(fields: &mut Fields<'_>, target: Option<&ClusterId>) -> Option<Swap> {
    let replacement = match fields.text("replacement").as_deref() {
        None | Some("delete_first") => Replacement::DeleteFirst,
        Some("swap") => Replacement::Swap,
        Some(other) => {
            fields.problem("replacement", other, "'delete_first' or 'swap'");
            // What is said of a swap is no second problem.
            Replacement::Swap
        }
    };
    let mut swap = Swap::default();
    let object = fields.object("swap", &["grace_period_minutes", "answer_within_minutes"]);
    if object.is_some() && replacement == Replacement::DeleteFirst {
        fields.problem_missing("swap", "\"replacement\": \"swap\" beside it");
    }
    if let Some(mut object) = object {
        let mut minutes = |name: &str, least: i64, most: i64, default: u32| {
            object.whole(name, least, most).and_then(|minutes| u32::try_from(minutes).ok()).unwrap_or(default)
        };
        swap.grace_period_minutes =
            minutes("grace_period_minutes", 0, GRACE_PERIOD_MINUTES_MAX, swap.grace_period_minutes);
        swap.answer_within_minutes =
            minutes("answer_within_minutes", 1, ANSWER_WITHIN_MINUTES_MAX, swap.answer_within_minutes);
        fields.absorb(object);
    }
    if replacement == Replacement::DeleteFirst {
        return None;
    }
    if let Some(id) = target.filter(|id| id.as_str().len() > SWAP_TARGET_CLUSTER_ID_MAX) {
        let takes = format!(
            "at most {SWAP_TARGET_CLUSTER_ID_MAX} characters with a swap, to leave room for the names beside it"
        );
        fields.problem("target_cluster_id", id.as_str(), &takes);
    }
    Some(swap)
}

//! What RDS is at while a restore waits: how long it has been at it, and how long it took before.

use crate::operation::{Operation, Status};
use crate::{Instant, parse_timestamp, seconds_between, timestamp};
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Restores of the same source that a plan remembers: enough for a usual spread, few enough that growth shows.
const REMEMBERED: usize = 5;

/// Seconds by which a look comes sooner than its wait lasts, before we say that an event ended the wait: clocks differ.
const SOONER_SECONDS: u64 = 2;

/// How long an event is under way at the most, usually, in seconds. What it tells happened no earlier than that.
const EVENT_SECONDS: u64 = 10;

/// What RDS is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The copy between Regions, from the first look at it.
    Copy,
    /// Whatever the target is at before it can be touched: a backup, a change.
    Settling,
    /// The deletion of the target, with its final snapshot.
    Deletion,
    /// The restored cluster, until it is available.
    Restore,
    /// Its instances, until they are available.
    Instances,
    /// The master password, until it is in force.
    MasterPassword,
    /// The available cluster, until it lets the master user in.
    Login,
    /// A change that RDS makes at once, until it shows.
    Change,
    /// New names of instances, until they are available under them.
    InstanceRename,
    /// A cluster's new name, until it is available under it.
    ClusterRename,
}

/// When a phase was seen under way. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseState {
    /// The first look that found it under way.
    pub began_at: String,
    /// The last look that did: it ended after that.
    pub under_way_at: String,
    /// Until when the wait after that look lasts by itself: when the next look comes sooner, an event of RDS ended the wait
    /// (or a person looked, which reads the same and costs a later night no more than an event that is lost).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<String>,
    /// The look that found it over; `None` while it is under way.
    pub ended_at: Option<String>,
}

/// How long a phase took before, in seconds, as far as looks and events told: it ended between these, every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Probably no earlier.
    pub least: u64,
    /// By then it was over.
    pub most: u64,
    /// An event of RDS told its end at least once: they come.
    #[serde(default)]
    pub is_told: bool,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What RDS is at.
    pub phase: Phase,
    /// How far it is, where RDS says.
    pub percent: Option<u8>,
    /// For people.
    pub progress: String,
    /// Whose events may end the wait, as the last part of an ARN: `cluster:staging`, `db:staging-1`.
    pub waits_for: Vec<String>,
}

impl Waiting {
    /// A wait that only time ends.
    pub fn of(phase: Phase, progress: String) -> Self {
        Self { phase, percent: None, progress, waits_for: vec![] }
    }

    /// The same, ended by an event of the cluster too.
    pub fn for_cluster(self, id: &str) -> Self {
        self.for_clusters([id])
    }

    /// The same, ended by an event of one of the clusters too.
    pub fn for_clusters<'a>(self, ids: impl IntoIterator<Item = &'a str>) -> Self {
        self.for_any(ids.into_iter().map(|id| format!("cluster:{id}")))
    }

    /// The same, ended by an event of one of the instances too.
    pub fn for_instances<'a>(self, ids: impl IntoIterator<Item = &'a str>) -> Self {
        self.for_any(ids.into_iter().map(|id| format!("db:{id}")))
    }

    fn for_any(self, waits_for: impl IntoIterator<Item = String>) -> Self {
        Self { waits_for: waits_for.into_iter().collect(), ..self }
    }
}

impl PhaseState {
    /// Between which seconds it ended, probably; `None` when it has not, or clocks disagree.
    fn took(&self) -> Option<Expected> {
        let began = parse_timestamp(&self.began_at)?;
        let since = |at: &str| Some(seconds_between(began, parse_timestamp(at)?));
        let (least, most) = (since(&self.under_way_at)?, since(self.ended_at.as_deref()?)?);
        let is_told = self.waits_until.as_deref().and_then(since).is_some_and(|until| most + SOONER_SECONDS < until);
        // An event ended a wait that was to last much longer: the last look before says little. Without one, what was over
        // at the look that was to find it just under way was probably not over long before: next time a sixth sooner.
        let probably = if is_told { most.saturating_sub(EVENT_SECONDS) } else { most * 5 / 6 };
        (least <= most).then_some(Expected { least: least.max(probably), most, is_told })
    }
}

impl Operation {
    /// Notes that `phase` is under way, and that no other is. Answers for how many seconds it has been.
    pub fn note_phase(&mut self, phase: Phase, now: Instant) -> u64 {
        self.end_phases_but(Some(phase), now);
        let at = timestamp(now);
        let state = self.phases.entry(phase).or_insert_with(|| PhaseState {
            began_at: at.clone(),
            under_way_at: at.clone(),
            waits_until: None,
            ended_at: None,
        });
        // Once more: another instance, or a second try. What is remembered of it would mean nothing.
        if state.ended_at.take().is_some() {
            state.began_at.clone_from(&at);
        }
        state.under_way_at = at;
        state.waits_until = None;
        parse_timestamp(&state.began_at).map_or(0, |began| seconds_between(began, now))
    }

    /// Notes how long the wait for `phase`, which is under way, lasts by itself.
    pub fn note_wait(&mut self, phase: Phase, wait_seconds: u64, now: Instant) {
        if let Some(state) = self.phases.get_mut(&phase) {
            state.waits_until = Some(timestamp(now + Duration::from_secs(wait_seconds)));
        }
    }

    /// Notes that nothing is waited for any more.
    pub fn end_phases(&mut self, now: Instant) {
        self.end_phases_but(None, now);
    }

    fn end_phases_but(&mut self, kept: Option<Phase>, now: Instant) {
        for (phase, state) in &mut self.phases {
            if Some(*phase) != kept {
                state.ended_at.get_or_insert_with(|| timestamp(now));
            }
        }
    }

    /// How long `phase` took when this source was restored before.
    pub fn expected(&self, phase: Phase) -> Option<Expected> {
        self.plan.as_ref()?.expected.get(&phase).copied()
    }
}

/// Reads what is known of phases; a phase that only a newer version knows is left out.
///
/// # Errors
/// The item's, where it is no map of such things.
pub fn known_phases<'de, D: Deserializer<'de>, T: Deserialize<'de>>(item: D) -> Result<BTreeMap<Phase, T>, D::Error> {
    let all = BTreeMap::<String, T>::deserialize(item)?;
    let known = |name: &str| Phase::deserialize(StrDeserializer::<Error>::new(name)).ok();
    Ok(all.into_iter().filter_map(|(name, value)| Some((known(&name)?, value))).collect())
}

/// The part of an ARN of RDS that names kind and resource: `cluster:staging`.
pub fn resource_of(arn: &str) -> Option<&str> {
    arn.splitn(6, ':').nth(5).filter(|resource| !resource.is_empty())
}

/// How long each phase took in the last restores of `source` (`<region>#<cluster>`) among `earlier` operations, newest
/// first.
pub fn expected(earlier: &[Operation], source: &str) -> BTreeMap<Phase, Expected> {
    let same =
        |operation: &&Operation| operation.status == Status::Succeeded && operation.source.as_deref() == Some(source);
    let mut expected: BTreeMap<Phase, Expected> = BTreeMap::new();
    for operation in earlier.iter().filter(same).take(REMEMBERED) {
        for (phase, took) in operation.phases.iter().filter_map(|(phase, state)| Some((*phase, state.took()?))) {
            let known = expected.entry(phase).or_insert(took);
            known.least = known.least.min(took.least);
            known.most = known.most.max(took.most);
            // A look can be sooner than the event; that one told it shows that they come.
            known.is_told |= took.is_told;
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::OperationId;
    use time::macros::datetime;

    fn expected_of(least: u64, most: u64, is_told: bool) -> Expected {
        Expected { least, most, is_told }
    }

    const EIGHT: Instant = datetime!(2026-11-21 20:00 UTC);

    fn operation() -> Operation {
        let mut operation = Operation::new(OperationId::try_from("op").unwrap(), None, EIGHT);
        operation.source = Some("us-east-1#production".into());
        operation
    }

    /// A restore that saw a phase last under way and then over after so many seconds.
    fn restored(phase: Phase, under_way: i64, over: i64) -> Operation {
        let mut operation = operation();
        operation.note_phase(phase, EIGHT);
        operation.note_phase(phase, EIGHT + time::Duration::seconds(under_way));
        operation.end_phases(EIGHT + time::Duration::seconds(over));
        operation.status = Status::Succeeded;
        operation
    }

    #[test]
    fn a_phase_is_under_way_until_another_is_or_none() {
        let mut operation = operation();
        let at = |seconds| EIGHT + time::Duration::seconds(seconds);
        assert_eq!(operation.note_phase(Phase::Restore, at(0)), 0);
        assert_eq!(operation.note_phase(Phase::Restore, at(60)), 60);
        assert_eq!(operation.note_phase(Phase::Instances, at(100)), 0);
        assert_eq!(operation.phases[&Phase::Restore].took(), Some(expected_of(83, 100, false)));
        assert_eq!(operation.phases[&Phase::Instances].took(), None, "under way");
        operation.end_phases(at(400));
        operation.end_phases(at(500));
        assert_eq!(operation.phases[&Phase::Instances].took(), Some(expected_of(250, 300, false)));
        assert_eq!(operation.note_phase(Phase::Instances, at(600)), 0, "it begins anew");
    }

    #[test]
    fn what_is_expected_spans_the_last_restores_of_the_same_source() {
        let other = Operation { source: Some("us-east-1#other".into()), ..restored(Phase::Restore, 1, 2) };
        let failed = Operation { status: Status::Failed, ..restored(Phase::Restore, 3, 4) };
        let mut earlier = vec![other, failed];
        earlier.extend(
            [(290, 300), (310, 330), (300, 310), (305, 312), (299, 301), (10, 9000)]
                .map(|(under_way, over)| restored(Phase::Restore, under_way, over)),
        );
        let expected = expected(&earlier, "us-east-1#production");
        assert_eq!(expected, BTreeMap::from([(Phase::Restore, expected_of(290, 330, false))]), "not the sixth");
    }

    /// A restore whose wait of `wait_seconds`, begun with the phase, was followed by the look that found it over.
    fn waited(wait_seconds: u64, over: u64) -> Operation {
        let mut operation = operation();
        operation.note_phase(Phase::Restore, EIGHT);
        operation.note_wait(Phase::Restore, wait_seconds, EIGHT);
        operation.end_phases(EIGHT + Duration::from_secs(over));
        operation.status = Status::Succeeded;
        operation
    }

    #[test]
    fn a_wait_that_ends_before_its_time_was_ended_by_an_event() {
        let source = "us-east-1#production";
        let of = |earlier: &[Operation]| expected(earlier, source)[&Phase::Restore];
        assert_eq!(of(&[waited(480, 300)]), expected_of(290, 300, true));
        assert_eq!(of(&[waited(480, 300), waited(480, 360)]), expected_of(290, 360, true));
        assert_eq!(of(&[waited(480, 300), waited(240, 241)]), expected_of(200, 300, true), "one that a look found");
        assert_eq!(of(&[waited(300, 299)]), expected_of(249, 299, false), "clocks differ");
        assert_eq!(of(&[waited(480, 4)]), expected_of(0, 4, true));
    }

    #[test]
    fn an_event_of_something_else_tells_no_end() {
        let mut operation = waited(480, 300);
        operation.note_phase(Phase::Restore, EIGHT);
        operation.note_wait(Phase::Restore, 480, EIGHT);
        operation.note_phase(Phase::Restore, EIGHT + Duration::from_secs(100));
        operation.note_wait(Phase::Restore, 60, EIGHT + Duration::from_secs(100));
        operation.end_phases(EIGHT + Duration::from_secs(160));
        assert_eq!(operation.phases[&Phase::Restore].took(), Some(expected_of(133, 160, false)));
    }

    #[test]
    fn a_phase_that_a_newer_version_remembers_is_left_out() {
        let mut item = serde_json::to_value(restored(Phase::Restore, 1, 2)).unwrap();
        item["phases"]["levitation"] = item["phases"]["restore"].clone();
        let operation: Operation = serde_json::from_value(item).unwrap();
        assert_eq!(operation, restored(Phase::Restore, 1, 2));
    }

    #[test]
    fn an_arn_ends_with_its_resource() {
        assert_eq!(resource_of("arn:aws:rds:us-west-2:123456789012:db:staging-1"), Some("db:staging-1"));
        assert_eq!(resource_of("arn:aws:rds:us-west-2:1:cluster-snapshot:rds:s"), Some("cluster-snapshot:rds:s"));
        assert_eq!((resource_of("staging"), resource_of("arn:aws:rds:us-west-2:1:")), (None, None));
    }

    #[test]
    fn clocks_that_disagree_are_not_remembered() {
        assert_eq!(expected(&[restored(Phase::Copy, 100, 40)], "us-east-1#production"), BTreeMap::new());
    }
}

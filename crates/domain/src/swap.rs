//! How far a swap of names has come: what the item remembers, so that whoever goes on, or back, knows which name was whose.

use crate::cloud::Cluster;
use crate::ids::ClusterId;
use crate::naming;
use crate::phase::{Phase, Waiting};
use crate::plan::SwapPlan;
use crate::{Instant, parse_timestamp, seconds_between, timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The swap of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapState {
    /// `DbClusterResourceId` of the restored cluster: names move, this does not.
    pub restored_resource_id: Option<String>,
    /// Name of the restored cluster when it was last looked at.
    pub restored_as: Option<String>,
    /// Name of the former cluster when it was last looked at; `None` when there was none.
    pub former_as: Option<String>,
    /// Instances of the former cluster, by the names that they had and those that they get.
    pub former_instances: Vec<Renaming>,
    /// Addresses that the target's endpoint led to before the first rename: the former cluster's.
    #[serde(default)]
    pub former_addresses: BTreeSet<String>,
    /// First rename, written before it.
    pub begun_at: Option<String>,
    /// The same of the execution that is at it.
    pub tried_at: Option<String>,
    /// The renames asked for last, written before they were.
    pub asked: Option<Asked>,
    /// Why the restored cluster was not let in at the last try.
    pub unanswered: Option<String>,
    /// Since when the names go back, and why.
    pub back: Option<Back>,
    /// When the names were as before again.
    pub rolled_back_at: Option<String>,
    /// When somebody could first log in under the target's name.
    pub answered_at: Option<String>,
}

/// A new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renaming {
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
}

/// Renames that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which, in a sentence.
    pub what: String,
    /// The cluster's, if it was a cluster that was to be renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Renaming>,
    /// When.
    pub at: String,
}

impl Asked {
    /// The wait for them.
    pub fn waiting(&self, progress: String) -> Waiting {
        match &self.cluster {
            None => Waiting::of(Phase::InstanceRename, progress),
            // Which of its names an event of RDS is about is not known.
            Some(Renaming { from, to }) => {
                Waiting::of(Phase::ClusterRename, progress).for_clusters([from.as_str(), to])
            }
        }
    }
}

/// The way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// Since when.
    pub at: String,
    /// Why.
    pub why: String,
}

impl SwapState {
    /// As the next execution of this operation finds it: what was tried is tried anew, which name was whose stays known.
    pub fn again(self) -> Self {
        let is_back = self.rolled_back_at.is_some();
        Self {
            begun_at: self.begun_at.filter(|_| !is_back),
            tried_at: None,
            asked: self.asked.filter(|_| !is_back),
            unanswered: None,
            back: None,
            rolled_back_at: None,
            ..self
        }
    }

    /// As it stands when another cluster is restored in the place of the first: what the former's names were stays known.
    pub fn for_another(self) -> Self {
        Self { restored_resource_id: None, restored_as: None, answered_at: None, ..self.again() }
    }

    /// Seconds since `at`.
    pub fn since(at: Option<&String>, now: Instant) -> Option<u64> {
        Some(seconds_between(parse_timestamp(at?)?, now))
    }

    /// Seconds since exactly this was asked for, as the last thing.
    pub fn asked_ago(&self, what: &str, now: Instant) -> Option<u64> {
        let asked = self.asked.as_ref().filter(|asked| asked.what == what)?;
        Self::since(Some(&asked.at), now)
    }

    /// Notes that `what` is about to be asked for, of `cluster` unless it is of instances.
    pub fn ask(&mut self, what: String, cluster: Option<Renaming>, now: Instant) {
        let at = timestamp(now);
        self.begun_at.get_or_insert_with(|| at.clone());
        self.tried_at.get_or_insert_with(|| at.clone());
        self.asked = Some(Asked { what, cluster, at });
    }

    /// Notes that the names go back.
    pub fn turn_back(&mut self, why: String, now: Instant) {
        self.back.get_or_insert_with(|| Back { at: timestamp(now), why });
    }

    /// Whether the former cluster may have its name back: not once people work with the restored one.
    pub fn may_go_back(&self) -> bool {
        self.answered_at.is_none()
    }

    /// The names that the instances of `former` get, those known first: the members may change, a name once given stays.
    pub fn name_instances(&mut self, former: &Cluster, plan: &SwapPlan) {
        let mut members: Vec<_> = former.members.iter().collect();
        members.sort_by_key(|member| (!member.is_writer, member.id.clone()));
        for member in members {
            let is_known = |known: &Renaming| known.from == member.id || known.to == member.id;
            if self.former_instances.iter().any(is_known) {
                continue;
            }
            let to = naming::instance_id(&plan.retired_id, self.former_instances.len() + 1);
            self.former_instances.push(Renaming { from: member.id.clone(), to: to.to_string() });
        }
    }

    /// Whether an endpoint that leads to these addresses is still the former cluster's: names of clusters move at once,
    /// those of endpoints when everybody has heard. Its master password may be the same.
    pub fn leads_to_former(&self, addresses: &BTreeSet<String>) -> bool {
        !self.former_addresses.is_disjoint(addresses)
    }

    /// What stands where, in sentences, for people who have to go on by hand; `None` as long as no name was touched.
    pub fn stands(&self, target: &ClusterId, plan: &SwapPlan) -> Option<String> {
        self.begun_at.as_ref()?;
        let SwapPlan { scratch_id, retired_id } = plan;
        if self.rolled_back_at.is_some() {
            return Some(format!(
                "cluster {target} is the former one again, under all its names; the restored one is {scratch_id}"
            ));
        }
        if self.answered_at.is_some() {
            return Some(match &self.former_as {
                Some(_) => format!("cluster {target} is the restored one; the former one was renamed to {retired_id}"),
                None => format!("cluster {target} is the restored one"),
            });
        }
        let last_seen = |name: &Option<String>| name.clone().unwrap_or_else(|| "gone".to_owned());
        let former = match &self.former_as {
            Some(name) => format!("the former cluster was last seen as {name}, "),
            None => String::new(),
        };
        let asked = self.asked.as_ref().map(|asked| format!("; asked for last: {}", asked.what)).unwrap_or_default();
        Some(format!(
            "names were being swapped: {former}the restored one as {}{asked}; {target} may not answer",
            last_seen(&self.restored_as)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;
    use time::macros::datetime;

    const NOW: Instant = datetime!(2026-11-21 12:00 UTC);

    #[test]
    fn a_wait_is_for_what_was_asked_last() {
        let mut state = SwapState::default();
        let waiting = |state: &SwapState| state.asked.as_ref().unwrap().waiting("busy".into());
        state.ask("rename instances a to b".into(), None, NOW);
        let waiting = waiting(&state);
        assert_eq!((waiting.phase, waiting.waits_for.len()), (Phase::InstanceRename, 0), "no event tells their end");
        let cluster = Renaming { from: "staging".into(), to: "staging-old-1".into() };
        state.ask("rename cluster staging to staging-old-1".into(), Some(cluster), NOW);
        let waiting = state.asked.unwrap().waiting("busy".into());
        assert_eq!(waiting.phase, Phase::ClusterRename);
        assert_eq!(waiting.waits_for, ["cluster:staging", "cluster:staging-old-1"]);
    }

    #[test]
    fn instances_keep_the_names_that_they_were_given() {
        let plan = fixtures::swap_plan();
        let mut state = SwapState::default();
        let mut former = fixtures::cluster("staging");
        state.name_instances(&former, &plan);
        let given = |state: &SwapState| state.former_instances.iter().map(|r| r.to.clone()).collect::<Vec<_>>();
        let first = given(&state);
        assert_eq!(first, [format!("{}-1", plan.retired_id), format!("{}-2", plan.retired_id)]);
        assert_eq!(state.former_instances[0].from, "staging-1", "the writer first");
        former.members[0].id = first[1].clone();
        former.members.push(crate::cloud::Member { id: "added".into(), is_writer: false, promotion_tier: None });
        state.name_instances(&former, &plan);
        assert_eq!(given(&state), [first.clone(), vec![format!("{}-3", plan.retired_id)]].concat());
    }

    #[test]
    fn what_stands_where_is_told_as_it_is() {
        let (plan, target) = (fixtures::swap_plan(), fixtures::target());
        let mut state = SwapState::default();
        assert_eq!(state.stands(&target, &plan), None, "nothing was touched");
        state.ask("rename cluster a to b".into(), None, NOW);
        (state.former_as, state.restored_as) = (Some("a".into()), Some("c".into()));
        let half_way = state.stands(&target, &plan).unwrap();
        for words in ["last seen as a", "restored one as c", "rename cluster a to b", "may not answer"] {
            assert!(half_way.contains(words), "{words} in {half_way}");
        }
        state.answered_at = Some(timestamp(NOW));
        assert!(state.stands(&target, &plan).unwrap().contains("staging is the restored one"));
        assert!(!state.may_go_back());
        state.answered_at = None;
        state.rolled_back_at = Some(timestamp(NOW));
        assert!(state.stands(&target, &plan).unwrap().contains("staging is the former one again"));
    }

    #[test]
    fn an_address_of_the_former_cluster_is_no_answer() {
        let of = |addresses: &[&str]| addresses.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let mut state = SwapState { former_addresses: of(&["10.0.0.7:5432"]), ..SwapState::default() };
        assert!(state.leads_to_former(&of(&["10.0.0.7:5432"])));
        assert!(!state.leads_to_former(&of(&["10.0.0.8:5432"])) && !state.leads_to_former(&of(&[])));
        state.former_addresses.clear();
        assert!(!state.leads_to_former(&of(&["10.0.0.7:5432"])), "there was none, or nobody knew");
    }

    #[test]
    fn the_next_try_begins_anew_and_remembers_the_names() {
        let mut state = SwapState::default();
        state.name_instances(&fixtures::cluster("staging"), &fixtures::swap_plan());
        state.ask("x".into(), None, NOW);
        state.turn_back("no answer".into(), NOW);
        state.turn_back("another reason".into(), NOW);
        assert_eq!(state.back.as_ref().unwrap().why, "no answer");
        let half_way = state.clone().again();
        assert_eq!((half_way.back.is_none(), half_way.begun_at.is_some()), (true, true), "its downtime goes on");
        state.rolled_back_at = Some(timestamp(NOW));
        let again = state.clone().again();
        assert_eq!((again.begun_at, again.asked, again.former_instances), (None, None, state.former_instances));
    }
}

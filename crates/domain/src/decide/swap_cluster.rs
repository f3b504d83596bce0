//! The next move of a swap: the former cluster's names away, then the restored one's in; or all of it back again.
//!
//! Forth: the former's instances give up their names, then the restored one's take theirs, since a renamed instance
//! restarts and nobody works with the restored one yet. The clusters' own names come last, so that the target's leads
//! nowhere for as short a time as can be. Back: the clusters first, for the same reason.

use crate::Instant;
use crate::cloud::{Cluster, Instance};
use crate::failure::{ErrorName, Failure};
use crate::guards::{self, Refusal};
use crate::human_duration;
use crate::ids::{ClusterId, OperationId};
use crate::plan::{Plan, SwapPlan};
use crate::sabotage::Sabotage;
use crate::status::{Class, cluster as cluster_class, instance as instance_class};
use crate::swap::{Renaming, SwapState};
use crate::wait;
use std::fmt;

/// How long the way back may take.
pub const BACK_SECONDS: u64 = 60 * 60;

/// The next move. Each is made right after the observation that it rests on.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Ask for new names.
    Rename(Renames),
    /// All names are as they should be; only a login proves that it serves.
    TryLogin,
    /// RDS is at it; for people.
    Wait(String),
    /// The names have to go back, for this reason.
    TurnBack(String),
    /// They have gone back.
    RolledBack,
    /// Nothing was renamed, and nothing will be.
    Refuse(Failure),
    /// It stands as the failure says.
    Fail(Failure),
}

/// New names for instances or a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renames {
    /// Of these instances.
    Instances(Vec<Renaming>),
    /// Of this cluster.
    Cluster(Renaming),
}

impl Renames {
    /// The cluster's, if it is one of a cluster.
    pub fn cluster(&self) -> Option<&Renaming> {
        match self {
            Self::Instances(_) => None,
            Self::Cluster(renaming) => Some(renaming),
        }
    }
}

impl fmt::Display for Renames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, all) = match self {
            Self::Instances(all) => ("instances", all.as_slice()),
            Self::Cluster(one) => ("cluster", std::slice::from_ref(one)),
        };
        let all: Vec<_> = all.iter().map(|Renaming { from, to }| format!("{from} to {to}")).collect();
        write!(f, "rename {kind} {}", all.join(", "))
    }
}

/// What stands under the three names.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Under the target's.
    pub target: Option<Cluster>,
    /// Under the one that the cluster was restored with.
    pub scratch: Option<Cluster>,
    /// Under the one that the former cluster gets.
    pub retired: Option<Cluster>,
    /// Instances of [`Seen::restored`].
    pub restored_instances: Vec<Instance>,
    /// Instances of [`Seen::former`].
    pub former_instances: Vec<Instance>,
}

impl Seen {
    /// The cluster that this operation restored. Just renamed, a describe may show it under both names: then the one
    /// where it is to go counts.
    pub fn restored(&self, facts: &Facts<'_>) -> Option<&Cluster> {
        let mut names = [&self.target, &self.scratch];
        if facts.state.back.is_some() {
            names.reverse();
        }
        names.into_iter().flatten().find(|cluster| cluster.belongs_to(facts.operation_id))
    }

    /// The cluster that was there when the restore was planned.
    pub fn former(&self, facts: &Facts<'_>) -> Option<&Cluster> {
        let former = facts.plan.replaces.as_ref()?;
        let mut names = [&self.retired, &self.target];
        if facts.state.back.is_some() {
            names.reverse();
        }
        names.into_iter().flatten().find(|cluster| cluster.resource_id == former.resource_id)
    }
}

/// What the step knows besides.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The operation that asks.
    pub operation_id: &'a OperationId,
    /// The name that is swapped.
    pub target: &'a ClusterId,
    /// Its plan.
    pub plan: &'a Plan,
    /// The names beside it.
    pub names: &'a SwapPlan,
    /// How far it has come.
    pub state: &'a SwapState,
    /// What the guards say of the former cluster; asked for until the first rename.
    pub refusals: &'a [Refusal],
    /// How long the way forth may take, see [`crate::request::Swap`].
    pub answer_within_seconds: u64,
    /// Whether the former cluster's deletion has begun.
    pub retiring: bool,
    /// Since the step's first invocation.
    pub elapsed_seconds: u64,
    /// Now.
    pub now: Instant,
}

impl Facts<'_> {
    /// Renames unless the same was asked for so recently that it may only not be visible.
    fn rename(&self, renames: Renames) -> Decision {
        match self.state.asked_ago(&renames.to_string(), self.now) {
            Some(ago) if ago < wait::VISIBLE_SECONDS => Decision::Wait(format!("waiting for RDS to {renames}")),
            Some(_) | None => Decision::Rename(renames),
        }
    }

    /// Gives up going forth. Once people work with the restored cluster, or the former one is being taken apart, there is
    /// no way back.
    fn give_up(&self, why: String) -> Decision {
        if self.state.may_go_back() && !self.retiring {
            return Decision::TurnBack(why);
        }
        Decision::Fail(failure(self, &why).next(
            "the restored cluster was in use, so its name was not taken away; look at its RDS events, then start again under the same operation_id",
        ))
    }

    /// Whether a rename may still not be visible.
    fn is_fresh(&self) -> bool {
        let asked = self.state.asked.as_ref().map(|asked| &asked.at);
        let since = SwapState::since(asked, self.now).unwrap_or(self.elapsed_seconds);
        since < wait::VISIBLE_SECONDS
    }
}

/// `SwapFailed`, with what stands where.
pub fn failure(facts: &Facts<'_>, why: &str) -> Failure {
    let what = format!("the restored cluster could not take the name {}: {why}", facts.target);
    let failure = Failure::new(ErrorName::SwapFailed, what);
    match facts.state.stands(facts.target, facts.names) {
        Some(stands) => failure.left(stands),
        None => failure,
    }
}

/// Decides by what stands under the names.
pub fn decide(seen: &Seen, facts: &Facts<'_>) -> Decision {
    match (&facts.state.back, facts.state.begun_at.is_some()) {
        (Some(back), _) => go_back(seen, facts, &back.why, &back.at),
        (None, false) => begin(seen, facts),
        (None, true) => go_forth(seen, facts),
    }
}

/// Before the first rename everything must be as planned, and nobody else at work on either cluster.
fn begin(seen: &Seen, facts: &Facts<'_>) -> Decision {
    let refuse = |name, what: String| {
        Decision::Refuse(
            Failure::new(name, what)
                .left(format!("cluster {} was not touched; the restored one stays beside it", facts.target))
                .next("look at the RDS events of the clusters, then start a new operation"),
        )
    };
    let Some(restored) = seen.restored(facts) else {
        if facts.is_fresh() {
            return Decision::Wait("the restored cluster is not visible yet".into());
        }
        return refuse(ErrorName::ResourceFailed, "the restored cluster is gone: someone deleted it".into());
    };
    if let Some(what) = broken(restored, &seen.restored_instances) {
        return refuse(ErrorName::ResourceFailed, what);
    }
    let untouched = format!("cluster {} was not touched; the restored one stays beside it", facts.target);
    let begins = "refused to swap: ";
    if let Some(failure) = guards::as_failure(ErrorName::RefusedUnsafe, begins, facts.refusals, &untouched) {
        return Decision::Refuse(failure);
    }
    go_on(seen, facts, restored)
}

fn go_forth(seen: &Seen, facts: &Facts<'_>) -> Decision {
    let Some(restored) = seen.restored(facts) else {
        if facts.is_fresh() {
            return Decision::Wait("the restored cluster is not visible under its new name yet".into());
        }
        return facts.give_up("it is gone: someone deleted it".into());
    };
    if let Some(what) = broken(restored, &seen.restored_instances) {
        return facts.give_up(what);
    }
    let since = SwapState::since(facts.state.tried_at.as_ref(), facts.now).unwrap_or(facts.elapsed_seconds);
    if since > facts.answer_within_seconds {
        let why = facts.state.unanswered.as_deref().unwrap_or("RDS has not renamed all of it");
        return facts
            .give_up(format!("nobody could log in within {}: {why}", human_duration(facts.answer_within_seconds)));
    }
    go_on(seen, facts, restored)
}

/// The next rename that is missing, in their order.
fn go_on(seen: &Seen, facts: &Facts<'_>, restored: &Cluster) -> Decision {
    let former = seen.former(facts);
    if let Some(progress) = former.and_then(|former| busy(former, &seen.former_instances)) {
        return Decision::Wait(progress);
    }
    if let Some(progress) = busy(restored, &seen.restored_instances).filter(|_| !Sabotage::GiveNameAwayEarly.is_on()) {
        return Decision::Wait(progress);
    }
    if restored.has_pending_master_password {
        return Decision::Wait(format!("the master password of cluster {} is pending", restored.id));
    }
    if let Some(former) = former {
        let away = renamings(former, |name| to_of(&facts.state.former_instances, name));
        if !away.is_empty() {
            return facts.rename(Renames::Instances(away));
        }
    }
    let planned = &facts.plan.instances;
    let own = |name: &str| planned.iter().find(|planned| planned.is_called(name)).map(|planned| planned.id.to_string());
    let named = renamings(restored, own);
    if !named.is_empty() {
        return facts.rename(Renames::Instances(named));
    }
    let target = facts.target.as_str();
    if let Some(former) = former.filter(|former| former.id == target) {
        return facts.rename(cluster_renamed(former, &facts.names.retired_id));
    }
    if restored.id == target {
        return Decision::TryLogin;
    }
    match &seen.target {
        Some(other) => Decision::Wait(format!("the name {target} is taken by a cluster {}", other.resource_id)),
        None => facts.rename(cluster_renamed(restored, facts.target)),
    }
}

fn go_back(seen: &Seen, facts: &Facts<'_>, why: &str, since: &String) -> Decision {
    let (target, SwapPlan { scratch_id, .. }) = (facts.target.as_str(), facts.names);
    let (restored, former) = (seen.restored(facts), seen.former(facts));
    let next = "start again under the same operation_id, which goes on from there, or rename by hand what the audit trail lists";
    if SwapState::since(Some(since), facts.now).is_some_and(|since| since > BACK_SECONDS) {
        return Decision::Fail(
            failure(facts, &format!("{why}; the names could not be rolled back in time")).next(next),
        );
    }
    let Some(former) = former else {
        if facts.is_fresh() && facts.plan.replaces.is_some() {
            return Decision::Wait("the former cluster is not visible under its old name yet".into());
        }
        // There is nothing that the name could be given back to.
        return Decision::Fail(failure(facts, &format!("{why}; there is no former cluster to go back to")).next(next));
    };
    // The clusters' own names first: what is wrong with the restored one does not hold up the former.
    if let Some(restored) = restored.filter(|restored| restored.id == target) {
        return match busy(restored, &seen.restored_instances) {
            Some(progress) => Decision::Wait(format!("{progress}; the names go back")),
            None => facts.rename(cluster_renamed(restored, scratch_id)),
        };
    }
    if let Some(progress) = busy(former, &seen.former_instances) {
        return Decision::Wait(format!("{progress}; the names go back"));
    }
    if former.id != target {
        return match &seen.target {
            Some(other) => Decision::Wait(format!("the name {target} is taken by a cluster {}", other.resource_id)),
            None => facts.rename(cluster_renamed(former, facts.target)),
        };
    }
    instances_back(seen, facts, restored, former)
}

fn instances_back(seen: &Seen, facts: &Facts<'_>, restored: Option<&Cluster>, former: &Cluster) -> Decision {
    if let Some(restored) = restored {
        if let Some(progress) = busy(restored, &seen.restored_instances) {
            return Decision::Wait(format!("{progress}; the names go back"));
        }
        let planned = &facts.plan.instances;
        let beside = |name: &str| {
            let planned = planned.iter().find(|planned| planned.is_called(name))?;
            planned.scratch_id.as_ref().map(ToString::to_string)
        };
        let aside = renamings(restored, beside);
        if !aside.is_empty() {
            return facts.rename(Renames::Instances(aside));
        }
    }
    let home = renamings(former, |name| from_of(&facts.state.former_instances, name));
    if !home.is_empty() {
        return facts.rename(Renames::Instances(home));
    }
    Decision::RolledBack
}

fn cluster_renamed(cluster: &Cluster, to: &ClusterId) -> Renames {
    Renames::Cluster(Renaming { from: cluster.id.clone(), to: to.to_string() })
}

/// The members of `cluster` that are not called as they should be.
fn renamings(cluster: &Cluster, wanted: impl Fn(&str) -> Option<String>) -> Vec<Renaming> {
    let mut members: Vec<_> = cluster.members.iter().collect();
    // Readers first, the writer last.
    members.sort_by_key(|member| (member.is_writer, member.id.clone()));
    let renaming = |id: &String| Some(Renaming { from: id.clone(), to: wanted(id).filter(|to| to != id)? });
    members.iter().filter_map(|member| renaming(&member.id)).collect()
}

fn to_of(known: &[Renaming], name: &str) -> Option<String> {
    known.iter().find(|known| known.from == name).map(|known| known.to.clone())
}

fn from_of(known: &[Renaming], name: &str) -> Option<String> {
    known.iter().find(|known| known.to == name).map(|known| known.from.clone())
}

/// What keeps a cluster from ever serving.
fn broken(cluster: &Cluster, instances: &[Instance]) -> Option<String> {
    let id = &cluster.id;
    match cluster_class(&cluster.status) {
        Class::Failed | Class::Deleting => return Some(format!("cluster {id} is {}", cluster.status)),
        Class::Settled if cluster.status == "stopped" => return Some(format!("cluster {id} was stopped")),
        Class::Settled | Class::InProgress | Class::Unknown => {}
    }
    let is_broken = |instance: &&Instance| matches!(instance_class(&instance.status), Class::Failed | Class::Deleting);
    instances.iter().find(is_broken).map(|instance| format!("instance {} is {}", instance.id, instance.status))
}

/// What has to be waited for before something of a cluster can be renamed.
fn busy(cluster: &Cluster, instances: &[Instance]) -> Option<String> {
    let id = &cluster.id;
    match cluster_class(&cluster.status) {
        Class::InProgress | Class::Unknown | Class::Deleting => {
            return Some(format!("cluster {id} is {}", cluster.status));
        }
        Class::Settled | Class::Failed => {}
    }
    for member in &cluster.members {
        let Some(instance) = instances.iter().find(|instance| instance.id == member.id) else {
            return Some(format!("instance {} of cluster {id} is not visible yet", member.id));
        };
        match instance_class(&instance.status) {
            Class::InProgress | Class::Unknown | Class::Deleting => {
                return Some(format!("instance {} is {}", instance.id, instance.status));
            }
            Class::Settled | Class::Failed => {}
        }
    }
    None
}

#[cfg(test)]
#[path = "swap_cluster_tests.rs"]
mod tests;

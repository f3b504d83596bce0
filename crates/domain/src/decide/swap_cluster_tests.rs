use super::*;
use crate::cloud::Member;
use crate::decide::fixtures;
use crate::guards::Refusal;
use time::macros::datetime;

const NOW: Instant = datetime!(2026-11-21 12:00 UTC);

/// A world in which renames happen at once.
#[derive(Clone)]
struct World {
    seen: Seen,
    state: SwapState,
    plan: Plan,
    refusals: Vec<Refusal>,
    retiring: bool,
    now: Instant,
}

fn instance(id: &str, cluster: &str) -> Instance {
    Instance { cluster_id: Some(cluster.into()), ..fixtures::instance(id) }
}

fn world() -> World {
    let plan = fixtures::plan_of_swap();
    let scratch = plan.swap.as_ref().unwrap().scratch_id.to_string();
    let names = [1, 2].map(|ordinal| format!("{scratch}-{ordinal}"));
    let member = |(index, id): (usize, &String)| Member { id: id.clone(), is_writer: index == 0, promotion_tier: None };
    let restored = Cluster {
        id: scratch.clone(),
        resource_id: "cluster-NEW".into(),
        members: names.iter().enumerate().map(member).collect(),
        ..fixtures::restored()
    };
    let seen = Seen {
        target: Some(fixtures::cluster("staging")),
        scratch: Some(restored),
        retired: None,
        restored_instances: names.iter().map(|id| instance(id, &scratch)).collect(),
        former_instances: ["staging-1", "staging-2"].map(|id| instance(id, "staging")).into(),
    };
    let mut state = SwapState::default();
    state.name_instances(seen.target.as_ref().unwrap(), plan.swap.as_ref().unwrap());
    World { seen, state, plan, refusals: vec![], retiring: false, now: NOW }
}

impl World {
    fn next(&self) -> Decision {
        let operation_id = &fixtures::operation_id();
        let facts = Facts {
            operation_id,
            target: &fixtures::target(),
            plan: &self.plan,
            names: self.plan.swap.as_ref().unwrap(),
            state: &self.state,
            refusals: &self.refusals,
            answer_within_seconds: 1800,
            retiring: self.retiring,
            elapsed_seconds: 300,
            now: self.now,
        };
        decide(&self.seen, &facts)
    }

    /// Carries out what was asked for; the function that asked is killed, or not, right after.
    fn rename(&mut self, renames: &Renames) {
        self.state.ask(renames.to_string(), renames.cluster().cloned(), self.now);
        self.now += time::Duration::seconds(30);
        match renames {
            Renames::Instances(all) => all.iter().for_each(|renaming| self.rename_instance(renaming)),
            Renames::Cluster(renaming) => self.rename_cluster(renaming),
        }
    }

    fn rename_instance(&mut self, Renaming { from, to }: &Renaming) {
        let Seen { target, scratch, retired, restored_instances, former_instances } = &mut self.seen;
        let instances = || restored_instances.iter().chain(former_instances.iter());
        assert!(!instances().any(|instance| instance.id == *to), "{to} is taken");
        assert!(instances().any(|instance| instance.id == *from), "there is no {from}");
        let clusters = [target, scratch, retired].into_iter().flatten();
        let members = clusters.flat_map(|cluster| cluster.members.iter_mut().map(|member| &mut member.id));
        let ids = restored_instances.iter_mut().chain(former_instances).map(|instance| &mut instance.id);
        members.chain(ids).filter(|id| *id == from).for_each(|id| id.clone_from(to));
    }

    fn place(&mut self, name: &str) -> &mut Option<Cluster> {
        let SwapPlan { scratch_id, retired_id } = self.plan.swap.as_ref().unwrap();
        match name {
            "staging" => &mut self.seen.target,
            name if name == scratch_id.as_str() => &mut self.seen.scratch,
            name if name == retired_id.as_str() => &mut self.seen.retired,
            other => panic!("nobody should use the name {other}"),
        }
    }

    fn rename_cluster(&mut self, Renaming { from, to }: &Renaming) {
        let mut cluster = self.place(from).take().unwrap_or_else(|| panic!("there is no cluster {from}"));
        cluster.id.clone_from(to);
        assert!(self.place(to).replace(cluster).is_none(), "{to} is taken");
    }

    /// Walks until there is nothing more to rename; answers the renames.
    fn walk(&mut self) -> (Vec<String>, Decision) {
        let mut told = Vec::new();
        loop {
            match self.next() {
                Decision::Rename(renames) => {
                    told.push(renames.to_string());
                    self.rename(&renames);
                }
                Decision::TurnBack(why) => self.state.turn_back(why, self.now),
                end @ (Decision::TryLogin
                | Decision::Wait(_)
                | Decision::RolledBack
                | Decision::Refuse(_)
                | Decision::Fail(_)) => return (told, end),
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let clusters = [&self.seen.target, &self.seen.scratch, &self.seen.retired].into_iter().flatten();
        let mut names: Vec<_> = clusters.map(|cluster| format!("{} {}", cluster.id, cluster.resource_id)).collect();
        let of = |kind: &str, all: &[Instance]| all.iter().map(|i| format!("{kind} {}", i.id)).collect::<Vec<_>>();
        names.extend(of("restored", &self.seen.restored_instances));
        names.extend(of("former", &self.seen.former_instances));
        names
    }
}

fn waits_for(decision: Decision, words: &str) -> bool {
    matches!(&decision, Decision::Wait(progress) if progress.contains(words))
}

#[test]
fn the_targets_name_is_given_away_last() {
    let mut world = world();
    let (told, end) = world.walk();
    let SwapPlan { scratch_id: new, retired_id: old } = fixtures::swap_plan();
    assert_eq!(
        told,
        [
            format!("rename instances staging-2 to {old}-2, staging-1 to {old}-1"),
            format!("rename instances {new}-2 to staging-2, {new}-1 to staging-1"),
            format!("rename cluster staging to {old}"),
            format!("rename cluster {new} to staging"),
        ]
    );
    assert_eq!(end, Decision::TryLogin);
    assert_eq!(world.seen.target.unwrap().resource_id, "cluster-NEW");
    assert_eq!(world.seen.retired.unwrap().resource_id, "cluster-OLD");
}

#[test]
fn a_free_name_is_just_taken() {
    let mut world = world();
    world.seen.target = None;
    world.seen.former_instances.clear();
    for planned in [None, world.plan.replaces.clone()] {
        // Never there, or deleted by somebody since the plan.
        let mut world = World { plan: Plan { replaces: planned, ..world.plan.clone() }, ..world.clone() };
        let (told, end) = world.walk();
        assert_eq!((told.len(), end), (2, Decision::TryLogin), "{told:?}");
    }
}

#[test]
fn from_wherever_it_stands_it_goes_forth_and_back() {
    let before = world();
    for renames_done in 0..=4 {
        let mut half_way = before.clone();
        for _ in 0..renames_done {
            let Decision::Rename(renames) = half_way.next() else { panic!("{:?}", half_way.next()) };
            half_way.rename(&renames);
        }
        // Killed there and started again, by the same execution or the next.
        for state in [half_way.state.clone(), half_way.state.clone().again()] {
            let mut forth = World { state, ..half_way.clone() };
            assert_eq!(forth.walk().1, Decision::TryLogin, "forth from {renames_done}");
        }
        let mut back = half_way;
        back.state.turn_back("nobody can log in".into(), back.now);
        assert_eq!(back.walk().1, Decision::RolledBack, "back from {renames_done}");
        assert_eq!(back.names(), before.names(), "back from {renames_done}");
    }
}

#[test]
fn on_the_way_back_the_target_answers_first() {
    let mut world = world();
    world.walk();
    world.state.turn_back("nobody can log in".into(), world.now);
    let (told, _) = world.walk();
    let SwapPlan { scratch_id: new, retired_id: old } = fixtures::swap_plan();
    assert_eq!(told[..2], [format!("rename cluster staging to {new}"), format!("rename cluster {old} to staging")]);
    assert_eq!(told.len(), 4);
}

#[test]
fn a_rename_that_is_not_visible_yet_is_not_asked_for_again() {
    let mut world = world();
    let Decision::Rename(renames) = world.next() else { panic!() };
    world.state.ask(renames.to_string(), renames.cluster().cloned(), world.now);
    assert!(waits_for(world.next(), "waiting for RDS to rename instances staging-2"));
    world.now += time::Duration::seconds(121);
    assert_eq!(world.next(), Decision::Rename(renames), "it never had its effect");
}

#[test]
fn what_is_shown_under_both_names_counts_where_it_goes() {
    let mut world = world();
    for _ in 0..3 {
        let Decision::Rename(renames) = world.next() else { panic!() };
        world.rename(&renames);
    }
    // The former's rename has happened, and a describe of its old name does not know yet.
    let stale = Cluster { id: "staging".into(), ..world.seen.retired.clone().unwrap() };
    world.seen.target = Some(stale);
    assert!(waits_for(world.next(), "the name staging is taken by a cluster cluster-OLD"));
}

#[test]
fn whoever_is_busy_is_waited_for() {
    for status in ["backing-up", "renaming", "modifying", "deleting"] {
        let mut of_former = world();
        of_former.seen.target.as_mut().unwrap().status = status.into();
        assert!(waits_for(of_former.next(), status), "{status}");
        let mut of_instance = world();
        of_instance.seen.former_instances[0].status = status.into();
        assert!(waits_for(of_instance.next(), status), "{status}");
    }
    let mut renaming = world();
    renaming.seen.restored_instances[1].status = "renaming".into();
    assert!(waits_for(renaming.next(), "renaming"));
    let mut pending = world();
    pending.seen.scratch.as_mut().unwrap().has_pending_master_password = true;
    assert!(waits_for(pending.next(), "master password"));
    let mut unseen = world();
    unseen.seen.former_instances.pop();
    assert!(waits_for(unseen.next(), "staging-2 of cluster staging is not visible"));
}

#[test]
fn before_the_first_rename_it_is_refused_and_nothing_was_touched() {
    let refused = |world: &World| {
        let decision = world.next();
        let Decision::Refuse(failure) = decision else { panic!("{decision:?}") };
        failure.to_string()
    };
    let mut guarded = world();
    guarded.refusals = vec![Refusal { reason: "member of world".into(), remedy: "remove it".into() }];
    assert!(refused(&guarded).contains("member of world") && refused(&guarded).contains("staging was not touched"));
    let mut gone = world();
    gone.seen.scratch = None;
    assert!(refused(&gone).contains("someone deleted it"));
    for status in ["incompatible-network", "stopped", "deleting"] {
        let mut broken = world();
        broken.seen.scratch.as_mut().unwrap().status = status.into();
        assert!(refused(&broken).contains(status));
    }
}

#[test]
fn a_restored_cluster_that_breaks_or_does_not_answer_turns_the_names_back() {
    let mut forth = world();
    forth.walk();
    let turned = |world: &World| {
        let decision = world.next();
        let Decision::TurnBack(why) = decision else { panic!("{decision:?}") };
        why
    };
    let mut late = forth.clone();
    late.state.unanswered = Some("no answer from staging".into());
    late.now += time::Duration::seconds(1800);
    assert!(turned(&late).contains("within 30 min 0 s: no answer from staging"), "{}", turned(&late));
    let mut broken = forth.clone();
    broken.seen.restored_instances[0].status = "failed".into();
    assert!(turned(&broken).contains("is failed"));
    let mut deleted = forth.clone();
    deleted.seen.target = None;
    assert!(waits_for(deleted.next(), "not visible under its new name"));
    deleted.now += time::Duration::seconds(121);
    assert!(turned(&deleted).contains("someone deleted it"));
}

#[test]
fn nobody_takes_a_name_away_that_people_work_with() {
    let mut late = world();
    late.walk();
    late.now += time::Duration::seconds(1801);
    let mut in_use = late.clone();
    in_use.state.answered_at = Some(crate::timestamp(NOW));
    let retiring = World { retiring: true, ..late };
    for world in [in_use, retiring] {
        assert!(matches!(world.next(), Decision::Fail(failure) if failure.name == ErrorName::SwapFailed));
    }
}

#[test]
fn a_way_back_that_is_barred_ends_and_says_what_stands() {
    let mut world = world();
    world.walk();
    world.state.turn_back("nobody can log in".into(), world.now);
    let Decision::Rename(renames) = world.next() else { panic!("{:?}", world.next()) };
    world.rename(&renames);
    let somebodys =
        Cluster { resource_id: "cluster-ELSE".into(), tags: Default::default(), ..fixtures::cluster("staging") };
    world.seen.target = Some(somebodys);
    assert!(waits_for(world.next(), "taken by a cluster cluster-ELSE"));
    world.now += time::Duration::seconds(3600);
    let Decision::Fail(failure) = world.next() else { panic!("{:?}", world.next()) };
    for words in ["nobody can log in", "could not be rolled back", "staging may not answer"] {
        assert!(failure.to_string().contains(words), "{words} in {failure}");
    }
}

#[test]
fn without_a_former_cluster_there_is_no_way_back() {
    let mut world = world();
    world.plan.replaces = None;
    (world.seen.target, world.seen.former_instances) = (None, vec![]);
    world.walk();
    world.state.turn_back("nobody can log in".into(), world.now);
    assert!(matches!(world.next(), Decision::Fail(failure) if failure.what.contains("no former cluster")));
}

#[test]
fn a_former_cluster_that_goes_meanwhile_makes_room() {
    let mut world = world();
    let Decision::Rename(renames) = world.next() else { panic!() };
    world.rename(&renames);
    // Somebody deletes it half-way.
    (world.seen.target, world.seen.former_instances) = (None, vec![]);
    assert_eq!(world.walk().1, Decision::TryLogin);
}

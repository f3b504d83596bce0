//! The simulated cloud below the concrete SDK clients: it reads the requests that the SDK sends and writes the answers
//! that the services would. One world per simulation; nothing in it waits for real.

mod connector;
mod database;
mod dynamodb;
pub mod events;
mod expression;
pub mod lean;
pub mod model;
mod rds;
mod rds_xml;
mod rename;
mod roles;
mod services;
pub mod wire;

pub use connector::{Cloud, Function, Invocation, as_caller};
pub use rds::ENGINE;
pub use roles::Roles;

use crate::faults::{Applied, Plan, Sticky};
use crate::invariants::{Invariant, Takeover, Violation};
use crate::scenario::Scene;
use crate::time::Time;
use crate::transcript::Line;
use aurora_restore_domain::cloud::Tags;
use aurora_restore_domain::roles::RoleChange;
use model::{Cluster, Due, Instance, Pace, Published, Region, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wire::{Call, Fault, Reply, fault};

/// The account of everything.
pub const ACCOUNT: &str = "123456789012";

/// What is about to change, told before it does.
#[derive(Debug)]
#[allow(missing_docs)] // AWS's own terms
pub enum Effect<'a> {
    MakeCopy { id: &'a str, tags: &'a Tags },
    DeleteSnapshot { snapshot: &'a Snapshot },
    Tag { arn: &'a str, tags: &'a Tags },
    Restore { cluster: &'a Cluster, snapshot: &'a Snapshot },
    Modify { cluster: &'a Cluster, protect: Option<bool>, password: bool },
    RenameCluster { cluster: &'a Cluster, to: &'a str },
    RenameInstance { instance: &'a Instance, cluster: Option<&'a Cluster>, to: &'a str },
    DeleteCluster { cluster: &'a Cluster, final_snapshot: Option<&'a str> },
    CreateInstance { cluster: &'a Cluster, id: &'a str },
    DeleteInstance { instance: &'a Instance, cluster: Option<&'a Cluster> },
    ChangeRoles { cluster: &'a Cluster, changes: &'a [RoleChange] },
    Mask { cluster: &'a Cluster },
    Publish,
}

/// Kinds of resources that describe calls show late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Cluster,
    Instance,
    Snapshot,
}

/// How a resource looked before its last change; `None` when it was not there.
#[derive(Debug, Clone)]
enum Before {
    Cluster(Option<Box<Cluster>>),
    Instance(Option<Box<Instance>>),
    Snapshot(Option<Box<Snapshot>>),
}

/// Something that happens by itself, to what.
#[derive(Debug)]
struct Later {
    due: Due,
    region: String,
    id: String,
    serial: u64,
    text: String,
}

/// Everything that there is.
#[derive(Debug)]
pub struct World {
    /// The one time.
    pub time: Time,
    /// What the simulation is about.
    pub scene: Scene,
    /// RDS and KMS by Region.
    pub regions: BTreeMap<String, Region>,
    /// DynamoDB of the target Region.
    pub tables: dynamodb::Tables,
    /// Tokens of DynamoDB's transactions that were carried out.
    tokens: BTreeSet<String>,
    /// Secrets of the target Region.
    pub secrets: BTreeMap<String, String>,
    /// Texts that must never be seen outside of Secrets Manager.
    pub secret_values: Vec<String>,
    /// Objects of S3 in the target Region: text by `bucket/key`.
    pub objects: BTreeMap<String, String>,
    /// Messages of the topic.
    pub published: Vec<Published>,
    /// Executions: ARN to status.
    pub executions: BTreeMap<String, String>,
    /// How long things take.
    pub pace: Pace,
    /// Random numbers of this world.
    pub rng: fastrand::Rng,
    /// Random numbers of the state machine: apart, so that one call more does not change every retry.
    pub jitter: fastrand::Rng,
    /// What goes wrong.
    pub plan: Plan,
    /// What went wrong so far.
    pub applied: Vec<Applied>,
    /// Faults that go on for further attempts.
    pub sticky: Vec<Sticky>,
    /// Calls so far.
    pub calls: u32,
    /// Calls so far of those that the plan names.
    pub named_calls: BTreeMap<&'static str, u32>,
    /// Invocations so far.
    pub invocations: u32,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// Things made, by operation and kind.
    pub made: BTreeMap<(String, String), u32>,
    /// The same, never forgotten.
    pub ever_made: BTreeSet<(String, String)>,
    /// Clusters that somebody could log in to, by serial and the name that they had.
    pub answered: BTreeSet<(u64, String)>,
    /// A cluster and its instances that somebody deleted.
    pub taken: Option<(Cluster, Vec<Instance>)>,
    /// Somebody waits for the target's name to be free.
    pub name_wanted: bool,
    /// The next look at RDS freezes its function.
    pub zombie_wanted: bool,
    /// Who last lost the lock, and when, in microseconds.
    pub lock_lost: Option<((String, String), u64)>,
    /// Locks that changed hands while they were held.
    pub takeovers: Vec<Takeover>,
    /// When something last happened by itself.
    happened_us: u64,
    /// When somebody else last changed something, in microseconds.
    pub tampered_at_us: Option<u64>,
    /// Executions that changed the target cluster.
    pub touched: BTreeSet<String>,
    /// Somebody else changed something in the world.
    pub tampered: bool,
    /// What people read, when it is wanted.
    pub lines: Option<Vec<Line>>,
    /// States that each execution entered, by its name.
    pub states: BTreeMap<String, Vec<String>>,
    /// Calls in order, when they are wanted: `(step, service:Action, resource)`.
    pub log: Vec<(String, String, String)>,
    /// Calls to RDS by Region and the second in which they arrive, when calls are wanted.
    pub tempo: BTreeMap<(String, u64), u32>,
    /// What functions ran, in microseconds.
    pub function_us: u64,
    /// Of that, setup-db-users, which has more memory than the others.
    pub setup_us: u64,
    /// Copies that were in progress at once in the target Region, at the most.
    pub most_copies: usize,
    /// Who calls right now.
    caller: Option<Arc<Invocation>>,
    /// How events get to their waits.
    pub delivery: events::Delivery,
    post: events::Post,
    serials: u64,
    due: BTreeMap<(u64, u64), Later>,
    before: BTreeMap<(String, Kind, String), (u64, Before)>,
    told: BTreeSet<String>,
}

impl World {
    /// An empty world.
    pub fn new(time: Time, scene: Scene, seed: u64) -> Self {
        Self {
            time,
            scene,
            regions: BTreeMap::new(),
            tables: BTreeMap::new(),
            tokens: BTreeSet::new(),
            secrets: BTreeMap::new(),
            secret_values: vec![],
            objects: BTreeMap::new(),
            published: vec![],
            executions: BTreeMap::new(),
            pace: Pace::default(),
            rng: fastrand::Rng::with_seed(seed),
            jitter: fastrand::Rng::with_seed(seed),
            plan: Plan::default(),
            applied: vec![],
            sticky: vec![],
            calls: 0,
            named_calls: BTreeMap::new(),
            invocations: 0,
            violations: vec![],
            made: BTreeMap::new(),
            ever_made: BTreeSet::new(),
            answered: BTreeSet::new(),
            taken: None,
            name_wanted: false,
            zombie_wanted: false,
            lock_lost: None,
            takeovers: vec![],
            happened_us: 0,
            tampered_at_us: None,
            touched: BTreeSet::new(),
            tampered: false,
            lines: None,
            states: BTreeMap::new(),
            log: vec![],
            tempo: BTreeMap::new(),
            function_us: 0,
            setup_us: 0,
            most_copies: 0,
            caller: None,
            delivery: events::Delivery::default(),
            post: events::Post::of_seed(seed),
            serials: 0,
            due: BTreeMap::new(),
            before: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// A number that nothing else has.
    pub fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    /// The ARN of something of RDS.
    pub fn arn(&self, region: &str, kind: &str, id: &str) -> String {
        format!("arn:aws:rds:{region}:{ACCOUNT}:{kind}:{id}")
    }

    fn region(&self, call: &Call) -> &Region {
        static EMPTY: std::sync::OnceLock<Region> = std::sync::OnceLock::new();
        self.regions.get(&call.region).unwrap_or_else(|| EMPTY.get_or_init(Region::default))
    }

    /// A Region, made when nobody looked at it yet.
    pub fn region_mut(&mut self, region: &str) -> &mut Region {
        self.regions.entry(region.to_owned()).or_default()
    }

    fn cluster_mut(&mut self, region: &str, id: &str, serial: u64) -> Option<&mut Cluster> {
        self.region_mut(region).clusters.get_mut(id).filter(|cluster| cluster.serial == serial)
    }

    /// A key's ARN and state, by ARN, id or alias.
    fn key(&self, region: &str, id: &str) -> Option<(String, String)> {
        let keys = &self.regions.get(region)?.keys;
        let found = keys.iter().find(|(arn, _)| *arn == id || arn.ends_with(&format!("/{id}")));
        found.map(|(arn, state)| (arn.clone(), state.clone()))
    }

    /// Something that happens later by itself.
    pub fn later(&mut self, after_us: u64, due: Due, region: &str, id: &str, serial: u64, text: &str) {
        let place = (self.time.now_us() + after_us, self.serial());
        let (region, id, text) = (region.to_owned(), id.to_owned(), text.to_owned());
        self.due.insert(place, Later { due, region, id, serial, text });
    }

    /// How long until a look may find something new, in microseconds, after one that began then: nothing, if something
    /// happened since. `None` when nothing is to come by itself.
    pub fn next_news_us(&self, looked_us: u64) -> Option<u64> {
        if self.happened_us >= looked_us {
            return Some(0);
        }
        let now = self.time.now_us();
        self.next_due_us().map(|at_us| at_us.saturating_sub(now))
    }

    /// When the next thing happens by itself, in microseconds.
    pub fn next_due_us(&self) -> Option<u64> {
        self.due.keys().next().map(|(at_us, _)| *at_us)
    }

    /// Lets happen what should have happened by now.
    pub fn tick(&mut self) {
        let now = self.time.now_us();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            self.happened_us = entry.key().0;
            let Later { due, region, id, serial, text } = entry.remove();
            rds::happen(self, due, &region, &id, serial, &text);
        }
    }

    /// Describe calls show this resource as it is now for a while, whatever becomes of it in this call.
    fn hide(&mut self, region: &str, kind: Kind, id: &str) {
        let now = self.time.now_us();
        let place = (region.to_owned(), kind, id.to_owned());
        if self.pace.visible_us == 0 || self.before.get(&place).is_some_and(|(until, _)| *until > now) {
            return;
        }
        let known = self.region_mut(region);
        let before = match kind {
            Kind::Cluster => Before::Cluster(known.clusters.get(id).cloned().map(Box::new)),
            Kind::Instance => Before::Instance(known.instances.get(id).cloned().map(Box::new)),
            Kind::Snapshot => Before::Snapshot(known.snapshots.get(id).cloned().map(Box::new)),
        };
        let until = now + self.rng.u64(0..=self.pace.visible_us);
        self.before.insert(place, (until, before));
    }

    fn still(&self, region: &str, kind: Kind) -> impl Iterator<Item = (&str, &Before)> {
        let now = self.time.now_us();
        let shown = self.before.iter().filter(move |(_, (until, _))| *until > now);
        shown
            .filter(move |((place, of, _), _)| place == region && *of == kind)
            .map(|((_, _, id), (_, before))| (id.as_str(), before))
    }

    fn shown_cluster(&self, region: &str, id: &str) -> Option<Cluster> {
        if let Some((_, Before::Cluster(before))) = self.still(region, Kind::Cluster).find(|(known, _)| *known == id) {
            return before.as_deref().cloned();
        }
        self.regions.get(region)?.clusters.get(id).cloned()
    }

    fn shown_instances(&self, region: &str) -> Vec<Instance> {
        let mut shown = self.regions.get(region).map(|region| region.instances.clone()).unwrap_or_default();
        for (id, before) in self.still(region, Kind::Instance) {
            match before {
                Before::Instance(Some(instance)) => drop(shown.insert(id.to_owned(), *instance.clone())),
                Before::Instance(None) | Before::Cluster(_) | Before::Snapshot(_) => drop(shown.remove(id)),
            }
        }
        shown.into_values().collect()
    }

    fn shown_snapshots(&self, region: &str) -> Vec<Snapshot> {
        let mut shown = self.regions.get(region).map(|region| region.snapshots.clone()).unwrap_or_default();
        for (id, before) in self.still(region, Kind::Snapshot) {
            match before {
                Before::Snapshot(Some(snapshot)) => drop(shown.insert(id.to_owned(), *snapshot.clone())),
                Before::Snapshot(None) | Before::Cluster(_) | Before::Instance(_) => drop(shown.remove(id)),
            }
        }
        shown.into_values().collect()
    }

    /// Answers a call that has arrived.
    fn answer(&mut self, call: &mut Call) -> Result<Reply, Fault> {
        self.look_for_secrets(call);
        match call.service {
            "rds" => rds::answer(self, call),
            "dynamodb" => {
                let before = crate::invariants::holder(self);
                let answer = dynamodb::answer(&mut self.tables, &mut self.tokens, call, self.lines.is_some());
                let after = crate::invariants::holder(self);
                if let Some(before) = before.filter(|before| after.as_ref() != Some(before)) {
                    if after.is_some() && self.executions.get(&before.1).is_some_and(|status| status == "RUNNING") {
                        self.violated(Invariant::Unlocked, format!("the lock of {}, which runs, was taken", before.1));
                    }
                    if let Some(by) = after {
                        self.takeovers.push(Takeover { former: before.0.clone(), by });
                    }
                    self.lock_lost = Some((before, self.time.now_us()));
                }
                answer
            }
            "secretsmanager" | "kms" | "sns" | "states" | "ec2" | "s3" => services::answer(self, call),
            service => fault("InvalidAction", format!("the simulated cloud has no {service}")),
        }
    }

    /// Something must not have happened.
    pub fn violated(&mut self, invariant: Invariant, what: impl Into<String>) {
        let what = what.into();
        // The same thing again tells nothing new.
        if self.told.insert(format!("{invariant:?} {what}")) {
            self.line("!!", &format!("{invariant:?}: {what}"));
            self.violations.push(Violation { invariant, what, at_us: self.time.now_us() });
        }
    }

    /// A line for people.
    pub fn line(&mut self, who: &str, text: &str) {
        self.write(who, text, false);
    }

    fn write(&mut self, who: &str, text: &str, is_detail: bool) {
        let at_us = self.time.now_us();
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at_us, who: who.to_owned(), text: text.to_owned(), is_detail });
        }
    }

    /// Something that happened by itself.
    fn note(&mut self, text: &str) {
        self.line("AWS", text);
    }

    /// Who calls right now.
    pub fn caller(&self) -> Option<&Invocation> {
        self.caller.as_deref()
    }

    fn effect(&mut self, call: &Call, effect: &Effect<'_>) {
        crate::invariants::judge(self, call, effect);
    }

    /// No secret may leave Secrets Manager, but as a master password on its way to RDS.
    fn look_for_secrets(&mut self, call: &Call) {
        if call.may_hold_secret && self.secret_values.iter().any(|secret| call.shows(secret)) {
            self.violated(Invariant::Secret, format!("{} carries a secret", call.name()));
        }
    }
}

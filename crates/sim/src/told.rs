//! What the first execution's operation tells of itself.

use crate::cloud::World;
use crate::cloud::model::Item;
use crate::scenario;
use aurora_restore_domain::phase::Phase;
use aurora_restore_domain::{parse_timestamp, seconds_between};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long the target was away, in seconds.
pub(crate) fn downtime(world: &World) -> Option<u64> {
    first_item(world)?.get("downtime_seconds")?.get("N")?.as_str()?.parse().ok()
}

/// How long each phase of RDS took, in seconds.
pub(crate) fn phases(world: &World) -> BTreeMap<Phase, u64> {
    // Maps of an item stay text: `cloud::lean`.
    let text = first_item(world).and_then(|item| item.get("phases")?.get("M")?.as_str());
    let phases: Option<Item> = text.and_then(|text| serde_json::from_str(text).ok());
    let took = |phase: &Value| {
        let at = |name: &str| parse_timestamp(phase.get("M")?.get(name)?.get("S")?.as_str()?);
        Some(seconds_between(at("began_at")?, at("ended_at")?))
    };
    let of = |(name, phase): (String, Value)| Some((serde_json::from_value(json!(name)).ok()?, took(&phase)?));
    phases.into_iter().flatten().filter_map(of).collect()
}

fn first_item(world: &World) -> Option<&Item> {
    world.tables.get(scenario::STATE)?.items.get(&("run-1".to_owned(), String::new()))
}

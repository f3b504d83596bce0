//! Rights on objects: what is too much goes, what is missing comes, what is out of reach is said.

use super::super::observed::takes_tokens;
use super::super::{
    Desired, GrantTarget, Membership, Observed, ObservedDatabase, Privilege, RoleChange, RoleName, SurplusRight,
};
use std::collections::{BTreeMap, BTreeSet};

/// What an operator must know about one database and no change can mend, one sentence each.
pub(super) fn notes(database: &ObservedDatabase, desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let name = &database.name;
    let mut notes = BTreeSet::new();
    if observed.is_closed(database) {
        notes.insert(format!("database {name} was left out: the master may not connect to it"));
    }
    for user in desired.declared() {
        let (role, profile) = (&user.role, user.profile.as_str());
        if !database.owners.contains(role) {
            continue;
        }
        if !user.makes_objects() {
            notes.insert(format!(
                "{role} is {profile} but owns objects in database {name}, which it may change or drop"
            ));
        } else if !user.is_let_into(name) {
            notes.insert(format!(
                "{role} is limited to other databases but owns objects in database {name}, which it may change or drop"
            ));
        }
    }
    for missing in database.missing.iter().filter(|missing| observed.is_out_of_reach(&missing.owner)) {
        let (right, target) = (missing.privilege.as_str(), &missing.target);
        let (role, owner) = (&missing.role, &missing.owner);
        notes.insert(format!("{role} lacks {right} on {target} of database {name}, as far as {owner} owns it"));
    }
    for surplus in database.surplus.iter().filter(|surplus| !is_revoked(surplus, desired, observed)) {
        notes.extend(surplus_note(surplus, name, desired));
    }
    for later in database.surplus_defaults.iter().filter(|later| !observed.is_in_reach(&later.owner)) {
        let target = format!("each {} that {} makes later", later.kind.as_str(), later.owner);
        let held = later.extent.of(later.privilege.as_str(), target);
        notes.insert(format!("{} gets {held} in database {name}, beyond its profile", later.role));
    }
    notes
}

fn surplus_note(surplus: &SurplusRight, database: &str, desired: &Desired) -> Option<String> {
    let SurplusRight { role, target, privilege, extent, grantor } = surplus;
    let held = extent.of(privilege.as_str(), target);
    match (role, target) {
        (Some(role), _) => Some(format!(
            "{role} holds {held} of database {database} beyond its profile, as far as {grantor} granted it"
        )),
        (None, GrantTarget::Schema(schema)) => {
            Some(format!("everybody may create objects in schema {schema} of database {database}"))
        }
        (None, _) if privilege.writes(target.kind()) && desired.has_readers() => {
            Some(format!("everybody has {held} of database {database}, read-only users too"))
        }
        (None, _) => {
            let narrow = desired.declared().iter().filter(|user| user.is_narrow());
            let beyond: Vec<&str> =
                narrow.filter(|user| !user.may(*privilege, target, database)).map(|user| user.role.as_str()).collect();
            let beyond = (!beyond.is_empty()).then(|| beyond.join(", "))?;
            Some(match target {
                GrantTarget::Database if *privilege == Privilege::Connect => format!(
                    "everybody may connect to database {database}, {beyond} too: that cannot be taken from one role"
                ),
                GrantTarget::Database
                | GrantTarget::Schema(_)
                | GrantTarget::Tables(_)
                | GrantTarget::Sequences(_)
                | GrantTarget::Routines(_) => format!("everybody has {held} of database {database}, {beyond} too"),
            })
        }
    }
}

/// Every role that the master must act for: those that have or will have objects, or granted what is too much.
pub(super) fn to_act_for<'a>(desired: &'a Desired, observed: &'a Observed) -> BTreeSet<&'a RoleName> {
    let of_databases = observed.databases.iter().flat_map(|database| to_act_for_in(database, desired, observed));
    of_databases.chain(desired.object_makers()).collect()
}

/// The same for one database.
fn to_act_for_in<'a>(
    database: &'a ObservedDatabase,
    desired: &'a Desired,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a RoleName> {
    let grantors = database.surplus.iter().filter(|surplus| is_revoked(surplus, desired, observed));
    let grantors = grantors.map(|surplus| &surplus.grantor);
    let makers = database.surplus_defaults.iter().map(|later| &later.owner);
    database.owners.iter().chain(grantors).chain(makers)
}

/// Acts, for as long as a database is changed, for the roles of which the master must not be a member any longer than that.
pub(super) fn act_for_token_users(
    seen: &ObservedDatabase,
    memberships: &BTreeSet<Membership>,
    desired: &Desired,
    observed: &Observed,
    changes: &mut BTreeSet<RoleChange>,
) {
    let later = seen.missing_defaults.iter().map(|missing| &missing.owner);
    for role in to_act_for_in(seen, desired, observed).chain(later) {
        if *role != observed.master && !observed.is_out_of_reach(role) && takes_tokens(role, memberships) {
            changes.insert(RoleChange::ActFor { database: seen.name.clone(), role: role.clone() });
        }
    }
}

/// Whether a right is taken away. What everybody holds belongs to everybody, with one exception: where everybody may
/// create objects, somebody who is there to read, or somewhere else, can write.
fn is_revoked(surplus: &SurplusRight, desired: &Desired, observed: &Observed) -> bool {
    let wanted = match (&surplus.role, &surplus.target) {
        (Some(_), _) => true,
        (None, GrantTarget::Schema(_)) => desired.has_narrow(),
        (None, _) => false,
    };
    wanted && observed.is_in_reach(&surplus.grantor)
}

/// Takes away what is too much.
pub(super) fn revoke_surplus(
    seen: &ObservedDatabase,
    desired: &Desired,
    observed: &Observed,
    changes: &mut BTreeSet<RoleChange>,
) {
    let mut rights: BTreeMap<_, BTreeSet<Privilege>> = BTreeMap::new();
    for surplus in seen.surplus.iter().filter(|surplus| is_revoked(surplus, desired, observed)) {
        let group = rights.entry((&surplus.target, &surplus.role, surplus.extent)).or_default();
        group.insert(surplus.privilege);
    }
    for ((target, role, extent), privileges) in rights {
        let (database, target, role) = (seen.name.clone(), target.clone(), role.clone());
        changes.insert(RoleChange::Revoke { database, target, role, extent, privileges });
    }
    let mut defaults: BTreeMap<_, BTreeSet<Privilege>> = BTreeMap::new();
    for later in seen.surplus_defaults.iter().filter(|later| observed.is_in_reach(&later.owner)) {
        let group = defaults.entry((&later.owner, &later.schema, later.kind, &later.role, later.extent)).or_default();
        group.insert(later.privilege);
    }
    for ((owner, schema, kind, role, extent), privileges) in defaults {
        let (database, owner) = (seen.name.clone(), owner.clone());
        let (schema, role) = (schema.clone(), role.clone());
        changes.insert(RoleChange::RevokeDefault { database, owner, schema, kind, role, extent, privileges });
    }
}

/// Grants what is missing.
pub(super) fn grant_missing(seen: &ObservedDatabase, observed: &Observed, changes: &mut BTreeSet<RoleChange>) {
    let mut rights: BTreeMap<(&GrantTarget, &RoleName), BTreeSet<Privilege>> = BTreeMap::new();
    for missing in seen.missing.iter().filter(|missing| !observed.is_out_of_reach(&missing.owner)) {
        rights.entry((&missing.target, &missing.role)).or_default().insert(missing.privilege);
    }
    for ((target, role), privileges) in rights {
        let (database, target, role) = (seen.name.clone(), target.clone(), role.clone());
        changes.insert(RoleChange::Grant { database, target, role, privileges });
    }
    let mut defaults: BTreeMap<_, BTreeSet<Privilege>> = BTreeMap::new();
    for missing in seen.missing_defaults.iter().filter(|missing| !observed.is_out_of_reach(&missing.owner)) {
        let group = defaults.entry((&missing.owner, &missing.schema, missing.kind, &missing.role)).or_default();
        group.insert(missing.privilege);
    }
    for ((owner, schema, kind, role), privileges) in defaults {
        let (database, owner) = (seen.name.clone(), owner.clone());
        let (schema, role) = (schema.clone(), role.clone());
        changes.insert(RoleChange::GrantDefault { database, owner, schema, kind, role, privileges });
    }
}

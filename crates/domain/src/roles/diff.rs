//! From what is wanted and what is there to what must be done.

use super::{
    Attribute, Attributes, DeclaredUser, Desired, GrantTarget, InheritedLogins, LOCKED, Membership, Observed,
    ObservedDatabase, ObservedRole, Privilege, RoleChange, RoleName,
};
use std::collections::{BTreeMap, BTreeSet};

/// The changes that make `observed` as `desired`, in the order of the work; none when nothing is missing.
///
/// A database that the master cannot reach yet is not fully seen: after applying, observe and call this again until
/// it answers nothing. Two rounds are enough on any server.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<RoleChange> {
    let mut changes = BTreeSet::new();
    if desired.inherited() == InheritedLogins::Lock {
        lock_inherited(desired, observed, &mut changes);
    }
    for user in desired.declared() {
        make_as_declared(user, observed, &mut changes);
    }
    for owner in owners(desired, observed) {
        let acts = observed.role(owner).is_some_and(|role| role.master_acts_as);
        if *owner != observed.master && !acts && !observed.is_out_of_reach(owner) {
            let (role, member) = (owner.clone(), observed.master.clone());
            changes.insert(RoleChange::GrantMembership { role, member });
        }
    }
    for database in &observed.databases {
        grant_missing(database, observed, &mut changes);
    }
    changes.into_iter().collect()
}

/// Logins that came with the snapshot: not declared, not the master, not the server's own, not to be kept.
pub fn inherited_logins<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a RoleName> {
    observed
        .roles
        .iter()
        .filter(|(_, role)| role.attributes.login)
        .map(|(name, _)| name)
        .filter(|name| is_inherited(name, desired, observed) && !desired.keep_logins().contains(name))
}

/// Logins that carry our mark and cannot log in: locked by this run or an earlier one.
pub fn locked_logins<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a RoleName> {
    observed
        .roles
        .iter()
        .filter(|(_, role)| !role.attributes.login && role.comment.as_ref().is_some_and(|text| text.ends_with(LOCKED)))
        .map(|(name, _)| name)
        .filter(|name| is_inherited(name, desired, observed))
}

/// What an operator must know and no change can mend, one sentence each.
pub fn notes(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut notes = BTreeSet::new();
    for (name, role) in &observed.roles {
        if role.attributes.login && name.is_servers_own() && !name.is_known_to_rds() {
            notes.insert(format!("login {name} was left alone: names that begin with rds are the server's own"));
        }
    }
    if desired.inherited() == InheritedLogins::Report {
        for name in inherited_logins(desired, observed) {
            notes.insert(format!("inherited login {name} can still log in"));
        }
    }
    for user in desired.declared() {
        for name in user.profile.predefined_roles() {
            if !is_member(&user.role, name, observed) && !may_grant(name, observed) {
                notes.insert(format!("{} is not a member of {name}: the master may not grant it", user.role));
            }
        }
    }
    for database in &observed.databases {
        notes.extend(database_notes(database, desired, observed));
    }
    observed.notes.iter().cloned().chain(notes).collect()
}

fn database_notes(database: &ObservedDatabase, desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let name = &database.name;
    let mut notes = BTreeSet::new();
    if !database.reachable && database.owners.iter().all(|owner| observed.is_out_of_reach(owner)) {
        notes.insert(format!("database {name} was left out: the master may not connect to it"));
    }
    for user in desired.declared() {
        if !user.profile.makes_objects() && database.owners.contains(&user.role) {
            let (role, profile) = (&user.role, user.profile.as_str());
            notes.insert(format!(
                "{role} is {profile} but owns objects in database {name}, which it may change or drop"
            ));
        }
    }
    for missing in database.missing.iter().filter(|missing| observed.is_out_of_reach(&missing.owner)) {
        let (right, target) = (missing.privilege.as_str(), &missing.target);
        let (role, owner) = (&missing.role, &missing.owner);
        notes.insert(format!("{role} lacks {right} on {target} of database {name}, as far as {owner} owns it"));
    }
    for schema in &database.open_schemas {
        notes.insert(format!("everybody may create objects in schema {schema} of database {name}"));
    }
    notes
}

fn is_inherited(name: &RoleName, desired: &Desired, observed: &Observed) -> bool {
    *name != observed.master && !name.is_servers_own() && !desired.declares(name)
}

fn lock_inherited(desired: &Desired, observed: &Observed, changes: &mut BTreeSet<RoleChange>) {
    for name in inherited_logins(desired, observed) {
        let Some(role) = observed.role(name) else { continue };
        let comment = match role.comment.as_deref() {
            Some(comment) if comment.ends_with(LOCKED) => comment.to_owned(),
            Some(comment) if !comment.is_empty() => format!("{comment}; {LOCKED}"),
            Some(_) | None => LOCKED.to_owned(),
        };
        changes.insert(RoleChange::LockLogin { role: name.clone(), comment });
    }
    for name in inherited_logins(desired, observed).chain(locked_logins(desired, observed)) {
        for membership in observed.memberships_of(name) {
            if leads_to_power(&membership.role, observed, &[], false) {
                changes.insert(revoke(membership));
            }
        }
        if observed.role(name).is_some_and(|role| role.has_sessions) {
            changes.insert(RoleChange::EndSessions { role: name.clone() });
        }
    }
}

fn make_as_declared(user: &DeclaredUser, observed: &Observed, changes: &mut BTreeSet<RoleChange>) {
    let role = user.role.clone();
    match observed.role(&role) {
        None => {
            changes.insert(RoleChange::CreateRole { role: role.clone() });
            changes.insert(RoleChange::SetPassword { role: role.clone() });
        }
        Some(ObservedRole { attributes, login_works, .. }) => {
            let attributes = attributes_to_set(*attributes);
            if !attributes.is_empty() {
                changes.insert(RoleChange::SetAttributes { role: role.clone(), attributes });
            }
            if *login_works != Some(true) {
                changes.insert(RoleChange::SetPassword { role: role.clone() });
            }
        }
    }
    let predefined = user.profile.predefined_roles();
    for membership in observed.memberships_of(&role) {
        if leads_to_power(&membership.role, observed, predefined, true) {
            changes.insert(revoke(membership));
        }
    }
    for name in predefined {
        if let Ok(granted) = RoleName::try_from(*name)
            && !is_member(&role, name, observed)
            && may_grant(name, observed)
        {
            changes.insert(RoleChange::GrantMembership { role: granted, member: role.clone() });
        }
    }
}

/// What makes an existing role an ordinary login. Only what differs: to name `NOREPLICATION` takes a superuser.
fn attributes_to_set(seen: Attributes) -> BTreeSet<Attribute> {
    [
        (!seen.login, Attribute::Login),
        (!seen.inherit, Attribute::Inherit),
        (seen.superuser, Attribute::NoSuperuser),
        (seen.create_role, Attribute::NoCreateRole),
        (seen.create_database, Attribute::NoCreateDatabase),
        (seen.replication, Attribute::NoReplication),
        (seen.bypass_row_security, Attribute::NoBypassRowSecurity),
        (seen.connection_limit == 0, Attribute::NoConnectionLimit),
        (seen.expires, Attribute::NoExpiry),
    ]
    .into_iter()
    .filter_map(|(differs, attribute)| differs.then_some(attribute))
    .collect()
}

fn revoke(membership: &Membership) -> RoleChange {
    let Membership { role, member, grantor } = membership.clone();
    RoleChange::RevokeMembership { role, member, grantor }
}

/// Whether a member of `role` has, over any number of memberships, the rights of the master, of the server's own roles
/// (but `allowed`), of a role with powerful attributes, or (`owning_counts`) of one that owns objects.
fn leads_to_power(role: &RoleName, observed: &Observed, allowed: &[&str], owning_counts: bool) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([role]), vec![role]);
    while let Some(role) = next.pop() {
        if allowed.contains(&role.as_str()) {
            continue;
        }
        let powerful = *role == observed.master
            || role.is_servers_own()
            || observed.role(role).is_some_and(|role| role.attributes.is_powerful())
            || (owning_counts && observed.owns_something(role));
        if powerful {
            return true;
        }
        next.extend(observed.memberships_of(role).map(|further| &further.role).filter(|role| seen.insert(role)));
    }
    false
}

fn is_member(member: &RoleName, role: &str, observed: &Observed) -> bool {
    observed.memberships_of(member).any(|membership| membership.role.as_str() == role)
}

fn may_grant(role: &str, observed: &Observed) -> bool {
    RoleName::try_from(role).is_ok_and(|name| observed.role(&name).is_some_and(|role| role.master_may_grant))
}

/// Every role that has or will have objects.
fn owners<'a>(desired: &'a Desired, observed: &'a Observed) -> BTreeSet<&'a RoleName> {
    observed.databases.iter().flat_map(|database| &database.owners).chain(desired.object_makers()).collect()
}

fn grant_missing(seen: &ObservedDatabase, observed: &Observed, changes: &mut BTreeSet<RoleChange>) {
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
        let group = defaults.entry((&missing.owner, missing.kind, &missing.role)).or_default();
        group.insert(missing.privilege);
    }
    for ((owner, kind, role), privileges) in defaults {
        let (database, owner, role) = (seen.name.clone(), owner.clone(), role.clone());
        changes.insert(RoleChange::GrantDefault { database, owner, kind, role, privileges });
    }
}

#[cfg(test)]
mod tests;

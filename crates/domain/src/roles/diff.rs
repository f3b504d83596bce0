//! From what is wanted and what is there to what must be done.

mod rights;

use super::observed::takes_tokens;
use super::{
    Attribute, Attributes, Authentication, DeclaredUser, Desired, IAM_ROLE, InheritedLogins, LOCKED, Membership,
    Observed, RoleChange, RoleName,
};
use std::collections::BTreeSet;

/// The changes that make `observed` as `desired`, in the order of the work; none when nothing is missing and
/// nothing is too much.
///
/// A database that the master cannot reach yet is not fully seen: after applying, observe and call this again until
/// it answers nothing. Two rounds are enough on any server.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<RoleChange> {
    let mut changes = BTreeSet::new();
    if desired.inherited() == InheritedLogins::Lock {
        lock_inherited(desired, observed, &mut changes);
    }
    for user in desired.declared() {
        make_as_declared(user, desired, observed, &mut changes);
    }
    let memberships = memberships_after(&changes, observed);
    for role in rights::to_act_for(desired, observed) {
        // From a member of a role that takes tokens, RDS takes no password: the master would shut itself out.
        if !observed.acts_as(role) && !observed.is_out_of_reach(role) && !takes_tokens(role, &memberships) {
            let (role, member) = (role.clone(), observed.master.clone());
            changes.insert(RoleChange::GrantMembership { role, member });
        }
    }
    for database in &observed.databases {
        let known = changes.len();
        rights::revoke_surplus(database, desired, observed, &mut changes);
        rights::grant_missing(database, observed, &mut changes);
        if changes.len() > known {
            rights::act_for_token_users(database, &memberships, desired, observed, &mut changes);
        }
    }
    changes.into_iter().collect()
}

/// Who is a member of what once `changes` are made.
fn memberships_after(changes: &BTreeSet<RoleChange>, observed: &Observed) -> BTreeSet<Membership> {
    let ends = |held: &Membership| changes.contains(&revoke(held));
    let mut memberships: BTreeSet<Membership> =
        observed.memberships.iter().filter(|held| !ends(held)).cloned().collect();
    for change in changes {
        if let RoleChange::GrantMembership { role, member } = change {
            memberships.insert(Membership { role: role.clone(), member: member.clone(), grantor: None });
        }
    }
    memberships
}

/// The changes after which nobody gets in but the master and the logins that stay as they are: inherited logins are
/// locked as they will be anyway, the declared users until they are set up. The master becomes a member of the owners, so
/// that it can change their tables. None when it is so; what logs in meanwhile shows in the next observation.
pub fn closing(desired: &Desired, observed: &Observed) -> Vec<RoleChange> {
    let mut changes: BTreeSet<RoleChange> =
        diff(desired, observed).into_iter().filter(|change| closes(change, desired, observed)).collect();
    for user in desired.declared() {
        let Some(seen) = observed.role(&user.role) else { continue };
        let role = user.role.clone();
        if seen.attributes.login {
            let attributes = BTreeSet::from([Attribute::NoLogin]);
            changes.insert(RoleChange::SetAttributes { role: role.clone(), attributes });
        }
        if seen.attributes.login || seen.has_sessions {
            changes.insert(RoleChange::EndSessions { role });
        }
    }
    changes.into_iter().collect()
}

#[allow(clippy::wildcard_enum_match_arm, reason = "all else waits until the users are set up")]
fn closes(change: &RoleChange, desired: &Desired, observed: &Observed) -> bool {
    match change {
        RoleChange::LockLogin { .. } | RoleChange::EndSessions { .. } => true,
        RoleChange::RevokeMembership { member, .. } => !desired.declares(member),
        RoleChange::GrantMembership { role, member } => *member == observed.master && observed.role(role).is_some(),
        _ => false,
    }
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

/// Logins that cannot log in and carry our mark, or were locked as declared ones: by this run or an earlier one.
pub fn locked_logins<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a RoleName> {
    observed
        .roles
        .iter()
        .filter(|(_, role)| !role.attributes.login)
        .filter(|(name, role)| {
            desired.was_closed(name.as_str()) || role.comment.as_ref().is_some_and(|text| text.ends_with(LOCKED))
        })
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
    let locked = locked_logins(desired, observed).map(RoleName::as_str);
    notes.extend(locked.filter(|name| desired.was_closed(name)).map(declared_no_more));
    for user in desired.declared() {
        for name in user.profile.predefined_roles() {
            if !is_member(&user.role, name, observed) && !may_grant(name, observed) {
                notes.insert(format!("{} is not a member of {name}: the master may not grant it", user.role));
            }
        }
        for (membership, end) in memberships_to_end(user, desired, observed) {
            if end == End::OutOfReach {
                let (role, member) = (&membership.role, &membership.member);
                notes.insert(format!("{member} has what {role} may: the master may not end that membership"));
            }
        }
    }
    for database in &observed.databases {
        notes.extend(rights::notes(database, desired, observed));
    }
    observed.notes.iter().cloned().chain(notes).collect()
}

/// Of a login that was locked before masking and will not be set up.
pub(crate) fn declared_no_more(login: &str) -> String {
    format!("{login} was declared before masking, which locked it, and is declared no more: it stays locked")
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
            if leads_to(&membership.role, observed, &[], |role| is_powerful(role, observed)) {
                changes.insert(revoke(membership));
            }
        }
        if observed.role(name).is_some_and(|role| role.has_sessions) {
            changes.insert(RoleChange::EndSessions { role: name.clone() });
        }
    }
}

fn make_as_declared(user: &DeclaredUser, desired: &Desired, observed: &Observed, changes: &mut BTreeSet<RoleChange>) {
    let role = user.role.clone();
    let seen = observed.role(&role);
    match seen {
        None => drop(changes.insert(RoleChange::CreateRole { role: role.clone() })),
        Some(seen) => {
            let attributes = attributes_to_set(user.login, seen.attributes);
            if !attributes.is_empty() {
                changes.insert(RoleChange::SetAttributes { role: role.clone(), attributes });
            }
        }
    }
    match user.login {
        Authentication::Password if seen.and_then(|seen| seen.login_works) == Some(true) => {}
        Authentication::Password => drop(changes.insert(RoleChange::SetPassword { role: role.clone() })),
        Authentication::Iam => log_in_by_token(user, observed, changes),
    }
    for (membership, end) in memberships_to_end(user, desired, observed) {
        if end == End::Revoke {
            changes.insert(revoke(membership));
        }
    }
    for name in user.profile.predefined_roles() {
        if let Ok(granted) = RoleName::try_from(*name)
            && !is_member(&role, name, observed)
            && may_grant(name, observed)
        {
            changes.insert(RoleChange::GrantMembership { role: granted, member: role.clone() });
        }
    }
}

/// Makes a declared user one that logs in with tokens, and sees to it that the master does not become another.
fn log_in_by_token(user: &DeclaredUser, observed: &Observed, changes: &mut BTreeSet<RoleChange>) {
    let role = user.role.clone();
    // So that a password of production's does not come back with a later loss of the membership.
    if !observed.role(&role).is_some_and(|seen| seen.attributes.never_by_password) {
        changes.insert(RoleChange::RemovePassword { role: role.clone() });
    }
    // Also if the master may not grant it: then the setup has to fail.
    if let Ok(granted) = RoleName::try_from(IAM_ROLE)
        && !is_member(&role, IAM_ROLE, observed)
    {
        changes.insert(RoleChange::GrantMembership { role: granted, member: role.clone() });
    }
    // Since PostgreSQL 16, whoever made a role is a member of it in the bootstrap superuser's name, which stays.
    let of_master = observed.memberships_of(&observed.master).filter(|held| held.role == role);
    for held in of_master.filter(|held| held.grantor.as_ref().is_none_or(|grantor| observed.acts_as(grantor))) {
        changes.insert(revoke(held));
    }
}

/// What makes an existing role an ordinary login. Only what differs: to name `NOREPLICATION` takes a superuser.
fn attributes_to_set(login: Authentication, seen: Attributes) -> BTreeSet<Attribute> {
    let has_password = login == Authentication::Password;
    [
        (!seen.login, Attribute::Login),
        (!seen.inherit, Attribute::Inherit),
        (seen.superuser, Attribute::NoSuperuser),
        (seen.create_role, Attribute::NoCreateRole),
        (seen.create_database, Attribute::NoCreateDatabase),
        (seen.replication, Attribute::NoReplication),
        (seen.bypass_row_security, Attribute::NoBypassRowSecurity),
        (seen.connection_limit == 0, Attribute::NoConnectionLimit),
        (has_password && seen.expires, Attribute::NoExpiry),
    ]
    .into_iter()
    .filter_map(|(differs, attribute)| differs.then_some(attribute))
    .collect()
}

fn revoke(membership: &Membership) -> RoleChange {
    let Membership { role, member, grantor } = membership.clone();
    RoleChange::RevokeMembership { role, member, grantor }
}

/// What becomes of a membership that is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Revoke,
    OutOfReach,
}

/// The memberships that give a declared user more than its profile: those that lead to power, to objects, or to any
/// right, since what the profile holds is granted to the user itself. One that leads to nothing is a mark and stays.
///
/// One that leads to power is revoked whatever the master may: if it may not, the setup has to fail.
fn memberships_to_end<'a>(
    user: &'a DeclaredUser,
    desired: &'a Desired,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a Membership, End)> {
    let by_token = user.takes_tokens().then_some(IAM_ROLE);
    let allowed: Vec<&str> = user.profile.predefined_roles().iter().copied().chain(by_token).collect();
    observed.memberships_of(&user.role).filter_map(move |membership| {
        let power = |role: &RoleName| is_powerful(role, observed) || observed.owns_something(role);
        let rights = |role: &RoleName| {
            desired.declares(role) || observed.role(role).is_some_and(|observed| observed.holds_something)
        };
        if leads_to(&membership.role, observed, &allowed, power) {
            return Some((membership, End::Revoke));
        }
        let may = observed.role(&membership.role).is_some_and(|role| role.master_may_grant)
            && membership.grantor.as_ref().is_none_or(|grantor| observed.acts_as(grantor));
        leads_to(&membership.role, observed, &allowed, rights)
            .then_some((membership, if may { End::Revoke } else { End::OutOfReach }))
    })
}

/// Whether a role is the master, one of the server's own, or one with powerful attributes.
fn is_powerful(role: &RoleName, observed: &Observed) -> bool {
    *role == observed.master
        || role.is_servers_own()
        || observed.role(role).is_some_and(|role| role.attributes.is_powerful())
}

/// Whether a member of `role` is, over any number of memberships, a member of a role that is `such`. The way does not
/// go through `allowed`.
fn leads_to(role: &RoleName, observed: &Observed, allowed: &[&str], such: impl Fn(&RoleName) -> bool) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([role]), vec![role]);
    while let Some(role) = next.pop() {
        if allowed.contains(&role.as_str()) {
            continue;
        }
        if such(role) {
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

#[cfg(test)]
mod tests;

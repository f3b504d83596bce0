//! From what is wanted and what is there to what must be done.

use super::{
    Account, AccountAttribute, AccountChange, Flavor, Membership, Observed, ObservedAccount, Privilege, Right, Scope,
    wanted,
};
use crate::roles::{Authentication, DeclaredUser, Desired, InheritedLogins, declared_no_more};
use std::collections::{BTreeMap, BTreeSet};

/// The changes that make `observed` as `desired`, in the order of the work; none when nothing is missing and nothing is
/// too much. One round is enough: rights do not depend on each other.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<AccountChange> {
    let mut changes = BTreeSet::new();
    if desired.inherited() == InheritedLogins::Lock {
        lock_inherited(desired, observed, &mut changes);
    }
    for user in desired.declared() {
        for account in observed.accounts_of(&user.role) {
            make_as_declared(user, &account, observed, &mut changes);
        }
    }
    // The password that the cluster's reset replaced is production's too, if it was kept as a second one.
    if observed.accounts.get(&observed.master).is_some_and(|master| master.has_former_password) {
        changes.insert(AccountChange::DiscardFormerPassword { account: observed.master.clone() });
    }
    changes.into_iter().collect()
}

/// The changes after which nobody gets in but the master and the logins that stay as they are: inherited accounts are locked
/// as they will be anyway, the declared ones until they are set up. None when it is so; who logs in meanwhile shows in the next
/// observation.
pub fn closing(desired: &Desired, observed: &Observed) -> Vec<AccountChange> {
    let mut changes = BTreeSet::new();
    if desired.inherited() == InheritedLogins::Lock {
        lock_inherited(desired, observed, &mut changes);
    }
    for user in desired.declared() {
        for account in observed.accounts_of(&user.role) {
            let Some(seen) = observed.accounts.get(&account) else { continue };
            if !seen.is_locked {
                changes.insert(AccountChange::Close { account: account.clone() });
            }
            if !seen.is_locked || seen.has_sessions {
                changes.insert(AccountChange::EndSessions { user: account.user });
            }
        }
    }
    changes.into_iter().collect()
}

/// Accounts that came with the snapshot and can log in: not declared, not the master, not the server's own, not to be kept.
pub fn inherited_logins<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a Account> {
    observed
        .accounts
        .iter()
        .filter(|(_, seen)| !seen.is_locked && !seen.is_role)
        .map(|(account, _)| account)
        .filter(|account| is_inherited(account, desired, observed) && !is_kept(account, desired))
}

/// Inherited accounts that can log in because they are to be kept.
pub fn kept_logins<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a Account> {
    observed
        .accounts
        .iter()
        .filter(|(_, seen)| !seen.is_locked && !seen.is_role)
        .map(|(account, _)| account)
        .filter(|account| is_inherited(account, desired, observed) && is_kept(account, desired))
}

/// Accounts that this tool locked, in this run or before, also as declared ones. MariaDB keeps no mark: there, all that are locked.
pub fn locked_logins<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a Account> {
    let ours = |account: &Account, seen: &ObservedAccount| match observed.flavor {
        Flavor::MySql8 => seen.is_marked || desired.was_closed(&account.to_string()),
        Flavor::MariaDb => !seen.is_role,
    };
    observed
        .accounts
        .iter()
        .filter(move |(account, seen)| seen.is_locked && ours(account, seen))
        .map(|(account, _)| account)
        .filter(|account| is_inherited(account, desired, observed))
}

/// What an operator must know and no change can mend, one sentence each.
pub fn notes(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut notes = BTreeSet::new();
    for (account, seen) in &observed.accounts {
        if !seen.is_locked && !seen.is_role && account.is_servers_own() && !account.is_known() {
            notes.insert(format!(
                "login {account} was left alone: names that begin with rds, aws_, mysql. or mariadb. are the server's own"
            ));
        }
        if account.user.is_empty() && !account.host.is_empty() && !desired.declared().is_empty() {
            notes.insert(format!("the anonymous account at host {} comes before users from everywhere: clients from there cannot log in while it is locked; drop it", account.host));
        }
    }
    if desired.inherited() == InheritedLogins::Report {
        for account in inherited_logins(desired, observed) {
            notes.insert(format!("inherited login {account} can still log in"));
        }
    }
    if let Some(roles) = observed.mandatory_roles.as_deref().filter(|roles| !roles.is_empty()) {
        notes.insert(format!("everybody has the roles {roles} (mandatory_roles), read-only users too"));
    }
    let locked = locked_logins(desired, observed).map(ToString::to_string);
    notes.extend(locked.filter(|name| desired.was_closed(name)).map(|name| declared_no_more(&name)));
    for user in desired.declared() {
        for lacking in wanted(user, observed).1 {
            notes.insert(format!("{} lacks {lacking}: the master may not grant it", user.role));
        }
    }
    observed.notes.iter().cloned().chain(notes).collect()
}

fn is_inherited(account: &Account, desired: &Desired, observed: &Observed) -> bool {
    *account != observed.master
        && !account.is_servers_own()
        && !desired.declared().iter().any(|user| user.role.as_str() == account.user)
}

/// `keep_logins` names a user, with all its accounts, or one account as `user@host`.
fn is_kept(account: &Account, desired: &Desired) -> bool {
    let whole = account.to_string();
    desired.keep_logins().iter().any(|kept| kept.as_str() == account.user || kept.as_str() == whole)
}

fn lock_inherited(desired: &Desired, observed: &Observed, changes: &mut BTreeSet<AccountChange>) {
    let mut locked: BTreeSet<&str> = BTreeSet::new();
    for account in inherited_logins(desired, observed) {
        changes.insert(AccountChange::Lock { account: account.clone() });
        locked.insert(&account.user);
    }
    for account in inherited_logins(desired, observed).chain(locked_logins(desired, observed)) {
        for Membership { role, member } in observed.memberships.iter().filter(|held| held.member == *account) {
            if leads_to_power(role, observed) {
                changes.insert(AccountChange::RevokeRole { role: role.clone(), member: member.clone() });
            }
        }
        let ours = |other: &Account| !is_inherited(other, desired, observed) || is_kept(other, desired);
        // Sessions are known by the user name only: those of a name that somebody may still use are not ours to end,
        // but for the moment of the lock.
        let shared = observed.accounts.keys().any(|other| other.user == account.user && ours(other));
        let seen = observed.accounts.get(account).is_some_and(|seen| seen.has_sessions);
        if seen && (!shared || locked.contains(account.user.as_str())) && account.user != observed.master.user {
            changes.insert(AccountChange::EndSessions { user: account.user.clone() });
        }
    }
}

fn make_as_declared(
    user: &DeclaredUser,
    account: &Account,
    observed: &Observed,
    changes: &mut BTreeSet<AccountChange>,
) {
    let none = BTreeSet::new();
    match observed.accounts.get(account) {
        None => drop(changes.insert(AccountChange::Create { account: account.clone(), login: user.login })),
        Some(seen) => {
            let login = login_to_set(user.login, account, seen);
            // MySQL discards it when it gets another plugin for the account.
            if seen.has_former_password && !matches!(login, Some(AccountChange::TakeTokens { .. })) {
                changes.insert(AccountChange::DiscardFormerPassword { account: account.clone() });
            }
            changes.extend(login);
            let attributes = attributes_to_set(user.login, seen);
            if !attributes.is_empty() {
                changes.insert(AccountChange::SetAttributes { account: account.clone(), attributes });
            }
        }
    }
    // What the profile holds is granted to the account itself, so a role can only be too much.
    for Membership { role, member } in observed.memberships.iter().filter(|held| held.member == *account) {
        changes.insert(AccountChange::RevokeRole { role: role.clone(), member: member.clone() });
    }
    let (wanted, _) = wanted(user, observed);
    let held = observed.rights.get(account).unwrap_or(&none);
    let anew = held.difference(&wanted).any(|right| !may_revoke(right, observed));
    let surplus = held.difference(&wanted).filter(|right| !anew || matches!(right.scope, Scope::Proxy(_)));
    if anew {
        changes.insert(AccountChange::RevokeAll { account: account.clone() });
    }
    for (scope, privileges) in by_scope(surplus) {
        changes.insert(AccountChange::Revoke { account: account.clone(), scope, privileges });
    }
    for (scope, privileges) in by_scope(wanted.difference(if anew { &none } else { held })) {
        changes.insert(AccountChange::Grant { account: account.clone(), scope, privileges });
    }
}

/// Whether the master may take away a right by itself: it must hold it, and may hand it on. In `mysql` it may be restricted.
fn may_revoke(Right { scope, privilege }: &Right, observed: &Observed) -> bool {
    let database = match scope {
        Scope::Proxy(_) => return true,
        Scope::Server => "",
        Scope::Database(database)
        | Scope::Table { database, .. }
        | Scope::Column { database, .. }
        | Scope::Routine { database, .. } => database,
    };
    let is_held = *privilege == Privilege::grant_option() || observed.grantable.contains(privilege);
    is_held && database != "mysql"
}

fn by_scope<'a>(rights: impl Iterator<Item = &'a Right>) -> BTreeMap<Scope, BTreeSet<Privilege>> {
    let mut scopes: BTreeMap<Scope, BTreeSet<Privilege>> = BTreeMap::new();
    for Right { scope, privilege } in rights {
        scopes.entry(scope.clone()).or_default().insert(privilege.clone());
    }
    scopes
}

/// The server takes one way of login from an account: setting one ends the other.
fn login_to_set(login: Authentication, account: &Account, seen: &ObservedAccount) -> Option<AccountChange> {
    let account = account.clone();
    match login {
        Authentication::Password => {
            (seen.password_is_declared != Some(true)).then_some(AccountChange::SetPassword { account })
        }
        Authentication::Iam => (!seen.takes_tokens).then_some(AccountChange::TakeTokens { account }),
    }
}

fn attributes_to_set(login: Authentication, seen: &ObservedAccount) -> BTreeSet<AccountAttribute> {
    // What takes tokens begins to need TLS in the statement that makes it so, and may have lost that since.
    let may_go_without = login == Authentication::Iam && seen.takes_tokens && !seen.needs_tls;
    [
        (seen.needs_certificate || may_go_without, AccountAttribute::NoCertificate),
        (seen.expires, AccountAttribute::NoExpiry),
        (seen.is_locked, AccountAttribute::Unlocked),
    ]
    .into_iter()
    .filter_map(|(differs, attribute)| differs.then_some(attribute))
    .collect()
}

/// Whether a role, over any number of roles, is one of the server's own or holds powerful rights on the whole server.
fn leads_to_power(role: &Account, observed: &Observed) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([role]), vec![role]);
    while let Some(role) = next.pop() {
        let holds = |seen: &ObservedAccount| seen.server_rights.iter().any(Privilege::is_powerful);
        if role.is_servers_own() || *role == observed.master || observed.accounts.get(role).is_some_and(holds) {
            return true;
        }
        let further = observed.memberships.iter().filter(|held| held.member == *role).map(|held| &held.role);
        next.extend(further.filter(|role| seen.insert(role)));
    }
    false
}

#[cfg(test)]
mod tests;

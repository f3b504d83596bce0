//! The database inside a cluster, as far as steps look into it: roles, rights, logins. The decision what to change is
//! the product's own (`aurora_restore_domain::roles::diff`); here is only what it looks at and what becomes of it.

use aurora_restore_domain::roles::{
    Attribute, Attributes, DeclaredUser, Desired, Extent, GrantTarget, IAM_ROLE, Membership, MissingDefault,
    MissingRight, ObjectKind, Observed, ObservedDatabase, ObservedRole, Privilege, RoleChange, RoleName, Scope,
    ServerVersion, SurplusDefault, SurplusRight,
};
use std::collections::{BTreeMap, BTreeSet};

/// The one database with data.
const DATABASE: &str = "app";
/// Its one schema.
const SCHEMA: &str = "public";

/// Roles and rights of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Roles {
    master: RoleName,
    owner: RoleName,
    roles: BTreeMap<RoleName, Role>,
    memberships: BTreeSet<Membership>,
    rights: BTreeSet<(RoleName, GrantTarget, Privilege)>,
    /// Who makes objects, in which schema, of which kind; and who gets which right.
    defaults: BTreeSet<(RoleName, Option<String>, ObjectKind, RoleName, Privilege)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Role {
    seen: ObservedRole,
    password: Option<String>,
}

fn role(login: bool, password: Option<&str>) -> Role {
    let attributes = Attributes {
        login,
        superuser: false,
        create_role: false,
        create_database: false,
        replication: false,
        bypass_row_security: false,
        inherit: true,
        connection_limit: -1,
        expires: false,
        never_by_password: false,
    };
    let seen = ObservedRole {
        attributes,
        comment: None,
        has_sessions: false,
        master_acts_as: false,
        master_may_grant: false,
        holds_something: false,
        login_works: None,
    };
    Role { seen, password: password.map(str::to_owned) }
}

/// A right on every kind of object.
fn targets(kind: ObjectKind) -> GrantTarget {
    GrantTarget::new(kind, SCHEMA.to_owned())
}

impl Roles {
    /// Production: its master, an owner without a login, two logins of its applications, and a role that has the name
    /// of a declared user but production's password, and may write what it is to read.
    pub fn of_production(master_password: &str) -> Option<Self> {
        let name = |text: &str| RoleName::try_from(text).ok();
        let (master, owner) = (name("master")?, name("app_owner")?);
        let mut roles = BTreeMap::new();
        let mut boss = role(true, Some(master_password));
        boss.seen.attributes.create_role = true;
        boss.seen.attributes.create_database = true;
        roles.insert(master.clone(), boss);
        roles.insert(owner.clone(), role(false, None));
        roles.insert(name("prod_app")?, role(true, Some("of-production-app")));
        let mut reader = role(true, Some("of-production-reader"));
        reader.seen.has_sessions = true;
        roles.insert(name("prod_reader")?, reader);
        roles.insert(name("readonly_user")?, role(true, Some("of-production-readonly")));
        for predefined in ["pg_monitor", "pg_signal_backend", IAM_ROLE] {
            let mut known = role(false, None);
            known.seen.master_may_grant = true;
            roles.insert(name(predefined)?, known);
        }
        let reader = name("readonly_user")?;
        let rights = BTreeSet::from([(reader.clone(), targets(ObjectKind::Table), Privilege::Delete)]);
        let defaults = BTreeSet::from([(owner.clone(), None, ObjectKind::Table, reader, Privilege::Insert)]);
        let memberships = BTreeSet::new();
        Some(Self { master, owner, roles, memberships, rights, defaults })
    }

    /// Whether this password lets this role in.
    pub fn lets_in(&self, name: &RoleName, password: &str) -> bool {
        !self.takes_tokens(name)
            && self.roles.get(name).is_some_and(|role| {
                let Attributes { login, never_by_password, .. } = role.seen.attributes;
                login && !never_by_password && role.password.as_deref() == Some(password)
            })
    }

    /// Whether a token lets this role in. What is signed is not looked at.
    pub fn takes_tokens(&self, name: &RoleName) -> bool {
        let is_member = |held: &Membership| held.member == *name && held.role.as_str() == IAM_ROLE;
        self.roles.get(name).is_some_and(|role| role.seen.attributes.login) && self.memberships.iter().any(is_member)
    }

    /// Roles that can log in and that are neither the master nor in `declared`.
    pub fn strangers(&self, declared: &[&str]) -> Vec<String> {
        let can = self.roles.iter().filter(|(name, role)| **name != self.master && role.seen.attributes.login);
        can.map(|(name, _)| name.to_string()).filter(|name| !declared.contains(&name.as_str())).collect()
    }

    /// The master gets a new password.
    pub fn set_master_password(&mut self, password: &str) {
        if let Some(master) = self.roles.get_mut(&self.master) {
            master.password = Some(password.to_owned());
        }
    }

    /// What the master sees. `password_of` tells a declared user's.
    pub fn observe(&self, desired: &Desired, password_of: impl Fn(&RoleName) -> Option<String>) -> Observed {
        let mut roles: BTreeMap<RoleName, ObservedRole> =
            self.roles.iter().map(|(name, role)| (name.clone(), role.seen.clone())).collect();
        for user in desired.declared() {
            if let Some(seen) = roles.get_mut(&user.role) {
                seen.login_works = password_of(&user.role).map(|password| self.lets_in(&user.role, &password));
            }
        }
        let mut database = ObservedDatabase {
            name: DATABASE.into(),
            reachable: true,
            owners: BTreeSet::from([self.owner.clone()]),
            schemas: BTreeSet::from([SCHEMA.to_owned()]),
            missing: vec![],
            missing_defaults: vec![],
            surplus: vec![],
            surplus_defaults: vec![],
        };
        self.find_surplus(desired, &mut database);
        let makers: BTreeSet<&RoleName> =
            [&self.owner, &self.master].into_iter().chain(desired.object_makers()).collect();
        for user in desired.declared().iter().filter(|user| user.is_let_into(DATABASE)) {
            for kind in ObjectKind::ALL {
                for (privilege, scope) in user.rights(kind).into_iter().filter(|(_, scope)| scope.covers(SCHEMA)) {
                    let role = user.role.clone();
                    let schema = scope.names().map(|_| SCHEMA.to_owned());
                    let target = targets(kind);
                    if !self.rights.contains(&(role.clone(), target.clone(), privilege)) {
                        let owner = self.owner.clone();
                        database.missing.push(MissingRight { role: role.clone(), target, privilege, owner });
                    }
                    // Within a schema there are no defaults for schemas.
                    if kind == ObjectKind::Database || (kind == ObjectKind::Schema && schema.is_some()) {
                        continue;
                    }
                    for maker in &makers {
                        let entry = ((*maker).clone(), schema.clone(), kind, role.clone(), privilege);
                        if **maker != role && !self.defaults.contains(&entry) {
                            let (owner, schema, kind, role, privilege) = entry;
                            database.missing_defaults.push(MissingDefault { owner, schema, role, kind, privilege });
                        }
                    }
                }
            }
        }
        Observed {
            version: ServerVersion(160_004),
            master: self.master.clone(),
            roles,
            memberships: self.memberships.clone(),
            databases: vec![database],
            notes: vec![],
        }
    }

    fn find_surplus(&self, desired: &Desired, database: &mut ObservedDatabase) {
        let extent = Extent::Right;
        let too_much = |user: &DeclaredUser, role: &RoleName, kind: ObjectKind, privilege| {
            user.role == *role && !user.may(privilege, &targets(kind), DATABASE)
        };
        for user in desired.declared() {
            for (role, target, privilege) in &self.rights {
                let kind = ObjectKind::ALL.into_iter().find(|kind| targets(*kind) == *target);
                if kind.is_some_and(|kind| too_much(user, role, kind, *privilege)) {
                    let (role, target, grantor) = (Some(role.clone()), target.clone(), self.owner.clone());
                    database.surplus.push(SurplusRight { role, target, privilege: *privilege, extent, grantor });
                }
            }
            for (owner, schema, kind, role, privilege) in &self.defaults {
                let rights = user.rights(*kind);
                let everywhere = rights.get(privilege).is_some_and(Scope::is_all);
                if too_much(user, role, *kind, *privilege) || (user.role == *role && schema.is_none() && !everywhere) {
                    let (owner, role, kind, privilege) = (owner.clone(), role.clone(), *kind, *privilege);
                    let later = SurplusDefault { owner, schema: schema.clone(), role, kind, privilege, extent };
                    database.surplus_defaults.push(later);
                }
            }
        }
    }

    /// Makes the changes of the whole server, or those of the databases.
    pub fn apply(
        &mut self,
        changes: &[RoleChange],
        in_databases: bool,
        password_of: impl Fn(&RoleName) -> Option<String>,
    ) {
        for change in changes.iter().filter(|change| change.database().is_some() == in_databases) {
            self.change(change, &password_of);
        }
    }

    fn change(&mut self, change: &RoleChange, password_of: &impl Fn(&RoleName) -> Option<String>) {
        match change {
            RoleChange::LockLogin { role, comment } => {
                if let Some(role) = self.roles.get_mut(role) {
                    role.seen.attributes.login = false;
                    role.seen.comment = Some(comment.clone());
                }
            }
            RoleChange::RevokeMembership { role, member, .. } => {
                self.memberships.retain(|known| known.role != *role || known.member != *member);
            }
            RoleChange::EndSessions { role } => {
                if let Some(role) = self.roles.get_mut(role) {
                    role.seen.has_sessions = false;
                }
            }
            RoleChange::CreateRole { role: name } => {
                self.roles.entry(name.clone()).or_insert_with(|| role(true, None));
            }
            RoleChange::SetAttributes { role, attributes } => {
                if let Some(role) = self.roles.get_mut(role) {
                    for attribute in attributes {
                        set(&mut role.seen.attributes, *attribute);
                    }
                }
            }
            RoleChange::SetPassword { role } => {
                let password = password_of(role);
                if let Some(role) = self.roles.get_mut(role) {
                    role.password = password;
                }
            }
            RoleChange::RemovePassword { role } => {
                if let Some(role) = self.roles.get_mut(role) {
                    role.password = None;
                    role.seen.attributes.expires = true;
                    role.seen.attributes.never_by_password = true;
                }
            }
            // Every change of a database is one transaction here.
            RoleChange::ActFor { .. } => {}
            RoleChange::GrantMembership { role, member } => {
                let membership = Membership { role: role.clone(), member: member.clone(), grantor: None };
                self.memberships.insert(membership);
                if *member == self.master
                    && let Some(role) = self.roles.get_mut(role)
                {
                    role.seen.master_acts_as = true;
                }
            }
            RoleChange::Revoke { target, role, extent, privileges, .. } => {
                let loses = |who: &RoleName| *extent == Extent::Right && Some(who) == role.as_ref();
                self.rights.retain(|(who, on, what)| !(loses(who) && on == target && privileges.contains(what)));
            }
            RoleChange::RevokeDefault { owner, schema, kind, role, privileges, .. } => {
                self.defaults.retain(|(maker, within, on, who, what)| {
                    !(maker == owner && within == schema && on == kind && who == role && privileges.contains(what))
                });
            }
            RoleChange::Grant { target, role, privileges, .. } => {
                let rights = privileges.iter().map(|privilege| (role.clone(), target.clone(), *privilege));
                self.rights.extend(rights);
            }
            RoleChange::GrantDefault { owner, schema, kind, role, privileges, .. } => {
                let entry = |privilege: &Privilege| (owner.clone(), schema.clone(), *kind, role.clone(), *privilege);
                let rights = privileges.iter().map(entry);
                self.defaults.extend(rights);
            }
        }
    }
}

fn set(attributes: &mut Attributes, attribute: Attribute) {
    match attribute {
        Attribute::Login => attributes.login = true,
        Attribute::NoLogin => attributes.login = false,
        Attribute::Inherit => attributes.inherit = true,
        Attribute::NoSuperuser => attributes.superuser = false,
        Attribute::NoCreateRole => attributes.create_role = false,
        Attribute::NoCreateDatabase => attributes.create_database = false,
        Attribute::NoReplication => attributes.replication = false,
        Attribute::NoBypassRowSecurity => attributes.bypass_row_security = false,
        Attribute::NoConnectionLimit => attributes.connection_limit = -1,
        Attribute::NoExpiry => {
            attributes.expires = false;
            attributes.never_by_password = false;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use aurora_restore_domain::roles::{
        Access, Authentication, Grant, InheritedLogins, Limits, Profile, describe, diff,
    };

    fn only(names: &[&str]) -> Scope {
        Scope::only(names.iter().map(|name| (*name).to_owned()))
    }

    fn user(profile: Profile, databases: Scope, schemas: Scope, grants: Vec<Grant>) -> DeclaredUser {
        let (login, limits) = (Authentication::Password, Limits { databases, schemas });
        DeclaredUser::new("readonly_user", "readonly_user", Access { profile, login, grants, limits }).unwrap()
    }

    fn by_token(profile: Profile) -> DeclaredUser {
        DeclaredUser { login: Authentication::Iam, ..user(profile, Scope::ALL, Scope::ALL, vec![]) }
    }

    /// What is left to do, first and after each of two runs.
    fn runs(roles: &mut Roles, user: DeclaredUser) -> [Vec<String>; 2] {
        let master = RoleName::try_from("master").unwrap();
        let desired = Desired::new(&master, vec![user], InheritedLogins::Lock, BTreeSet::new()).unwrap();
        let password = |_: &RoleName| Some("p".to_owned());
        [(), ()].map(|()| {
            let changes = diff(&desired, &roles.observe(&desired, password));
            roles.apply(&changes, false, password);
            roles.apply(&changes, true, password);
            describe(&changes)
        })
    }

    #[test]
    fn one_run_is_enough_whatever_is_declared() {
        let insert = Grant {
            on: ObjectKind::Table,
            schemas: only(&[SCHEMA]),
            databases: Scope::ALL,
            tables: Scope::ALL,
            privileges: BTreeSet::from([Privilege::Insert]),
        };
        let declared = [
            user(Profile::ReadOnly, Scope::ALL, Scope::ALL, vec![]),
            user(Profile::ReadOnly, Scope::ALL, only(&[SCHEMA]), vec![]),
            user(Profile::Devops, only(&[DATABASE]), only(&["elsewhere"]), vec![]),
            user(Profile::Custom, Scope::ALL, Scope::ALL, vec![insert]),
            user(Profile::ReadWrite, only(&["elsewhere"]), Scope::ALL, vec![]),
            by_token(Profile::ReadWrite),
            user(Profile::ReadWrite, Scope::ALL, Scope::ALL, vec![]),
            user(Profile::Devops, Scope::ALL, Scope::ALL, vec![]),
            by_token(Profile::Devops),
        ];
        // Each takes over from the one before.
        let mut roles = Roles::of_production("m").unwrap();
        for user in declared {
            let (words, is_by_token) = (format!("{user:?}"), user.takes_tokens());
            let [first, second] = runs(&mut roles, user);
            assert!(!first.is_empty() && second.is_empty(), "{words}: {first:#?} {second:#?}");
            let role = RoleName::try_from("readonly_user").unwrap();
            assert_eq!((roles.takes_tokens(&role), roles.lets_in(&role, "p")), (is_by_token, !is_by_token), "{words}");
        }
        let mut roles = Roles::of_production("m").unwrap();
        let [first, _] = runs(&mut roles, user(Profile::ReadOnly, Scope::ALL, only(&[SCHEMA]), vec![]));
        let later =
            "grant SELECT on each table that app_owner makes later in schema public to readonly_user (database app)";
        assert!(first.iter().any(|change| change == later), "{first:#?}");
    }
}

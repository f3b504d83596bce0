//! Seeing who may do what. The number of queries depends on nothing: catalogs are read as they are.

use super::flavor::{TOKEN_METHOD, TOKEN_PLUGIN, accounts_query, memberships_query, scheme_of};
use super::quote::quote_text;
use super::session::{MySqlValues, Session, unexpected};
use crate::error::DatabaseError;
use crate::server::{Passwords, Server};
use aurora_restore_domain::accounts::{
    Account, Flavor, Membership, Names, Observed, ObservedAccount, Privilege, Right, RoutineKind, SYSTEM_DATABASES,
    Scope,
};
use aurora_restore_domain::roles::Desired;
use std::collections::{BTreeMap, BTreeSet};

/// Looks at the whole server. Whether a declared password is set is seen from what the server keeps of it: a login would
/// tell it of one of a user's accounts only, that which our own address is let in by.
pub(crate) async fn observe(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
) -> Result<Observed, DatabaseError> {
    let mut session = open(server).await?;
    let mut observed = observe_accounts(&mut session, desired, passwords).await?;
    observe_rights(&mut session, desired, &mut observed).await?;
    session.close().await;
    Ok(observed)
}

/// The master's session, with every role that it has: on Aurora MySQL 3 its rights are those of `rds_superuser_role`.
pub(super) async fn open(server: &Server) -> Result<Session, DatabaseError> {
    let mut session = Session::open(&server.endpoint, None, &server.master, &server.trust).await?;
    if session.flavor == Flavor::MySql8 {
        session.run("take on the master's roles", "SET ROLE ALL").await?;
    }
    Ok(session)
}

/// Version, accounts, roles and databases; no rights but those on the whole server.
pub(super) async fn observe_accounts(
    session: &mut Session,
    desired: &Desired,
    passwords: &Passwords,
) -> Result<Observed, DatabaseError> {
    const WHAT: &str = "list its accounts";
    check_tokens(session, desired).await?;
    let mut accounts = BTreeMap::new();
    for row in session.rows(WHAT, accounts_query(session.flavor)).await? {
        let (account, mut seen) = account_of(&row)?;
        let declared = desired.declared().iter().find(|user| user.role.as_str() == account.user);
        if let Some(user) = declared.filter(|user| !user.takes_tokens()) {
            let password = passwords.credentials(&user.role)?.password;
            let scheme = scheme_of(session.flavor);
            let is_declared = row.bytes(8) == scheme.plugin().as_bytes() && scheme.is_of(row.bytes(9), &password);
            seen.password_is_declared = Some(is_declared);
        }
        accounts.insert(account, seen);
    }
    let connected = "SELECT DISTINCT user FROM information_schema.processlist WHERE id <> connection_id()";
    for row in session.rows(WHAT, connected).await? {
        let user = row.text(0)?;
        accounts.iter_mut().filter(|(account, _)| account.user == user).for_each(|(_, seen)| seen.has_sessions = true);
    }
    let mut memberships = BTreeSet::new();
    for row in session.rows(WHAT, memberships_query(session.flavor)).await? {
        let (role, member) = (Account::new(row.text(0)?, row.text(1)?), Account::new(row.text(2)?, row.text(3)?));
        // MariaDB lists who may hand a role on beside who has it: its maker is a member with that option only.
        memberships.insert(Membership { role, member });
    }
    let master = match session.rows(WHAT, "SELECT current_user()").await?.first() {
        Some(row) => current_user(&row.text(0)?),
        None => return Err(unexpected("no current user".into())),
    };
    let (held, grantable) = server_rights(session, &master, &memberships, &mut accounts).await?;
    let settings = settings(session).await?;
    let is_on = |setting: &str| settings.get(setting).is_some_and(|value| value == "ON");
    let mut notes = vec![];
    if is_on("general_log") && !held.iter().any(|privilege| MAY_BE_SILENT.contains(&privilege.as_str())) {
        notes.push(
            "the general log is on and the master may not keep out of it: it shows hashes of passwords that are set"
                .into(),
        );
    }
    let (system_databases, databases) = databases(session).await?;
    let named_tables = named_tables(session, desired).await?;
    Ok(Observed {
        flavor: session.flavor,
        version: session.version.clone(),
        names: match is_on("partial_revokes") {
            true => Names::Literal,
            false => Names::Patterns,
        },
        master,
        accounts,
        memberships,
        mandatory_roles: settings.get("mandatory_roles").cloned(),
        databases,
        system_databases,
        named_tables,
        rights: BTreeMap::new(),
        grantable,
        notes,
    })
}

/// `user@host`, with no `@` in a host.
fn current_user(text: &str) -> Account {
    let (user, host) = text.rsplit_once('@').unwrap_or((text, "%"));
    Account::new(user, host)
}

/// A row of the query of accounts.
fn account_of(row: &MySqlValues) -> Result<(Account, ObservedAccount), DatabaseError> {
    let seen = ObservedAccount {
        is_role: row.flag(2),
        is_locked: row.flag(3),
        is_marked: row.flag(4),
        expires: row.flag(5),
        needs_certificate: row.flag(6),
        has_former_password: row.flag(7),
        takes_tokens: is_for_tokens(row.bytes(8), row.bytes(9)),
        needs_tls: row.flag(10),
        ..ObservedAccount::default()
    };
    Ok((Account::new(row.text(0)?, row.text(1)?), seen))
}

/// Names of plugins are compared without regard to case.
fn is_for_tokens(plugin: &[u8], method: &[u8]) -> bool {
    plugin.eq_ignore_ascii_case(TOKEN_PLUGIN.as_bytes()) && method == TOKEN_METHOD.as_bytes()
}

/// Whether the server can let in who is to log in with tokens.
async fn check_tokens(session: &mut Session, desired: &Desired) -> Result<(), DatabaseError> {
    let users: Vec<String> = desired.token_users().map(|user| user.key.clone()).collect();
    if users.is_empty() {
        return Ok(());
    }
    let query = format!(
        "SELECT 1 FROM information_schema.plugins WHERE plugin_name = {} AND plugin_status = 'ACTIVE'",
        quote_text(TOKEN_PLUGIN)
    );
    match session.rows("tell whether it takes IAM tokens", query).await?.is_empty() {
        true => Err(DatabaseError::NoTokens { lacks: "plugin AWSAuthenticationPlugin", users }),
        false => Ok(()),
    }
}

async fn settings(session: &mut Session) -> Result<BTreeMap<String, String>, DatabaseError> {
    let query = "SHOW GLOBAL VARIABLES WHERE variable_name IN ('partial_revokes', 'mandatory_roles', 'general_log')";
    let rows = session.rows("tell its settings", query).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}

/// The server's own databases and all others.
async fn databases(session: &mut Session) -> Result<(BTreeSet<String>, BTreeSet<String>), DatabaseError> {
    let rows = session.rows("list its databases", "SELECT schema_name FROM information_schema.schemata").await?;
    let names = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(names.into_iter().partition(|name| SYSTEM_DATABASES.contains(&name.as_str())))
}

/// Where tables and views are whose names the declaration has; one query, and none without such names.
async fn named_tables(session: &mut Session, desired: &Desired) -> Result<BTreeSet<(String, String)>, DatabaseError> {
    let grants = desired.declared().iter().flat_map(|user| &user.grants);
    let names: BTreeSet<&String> = grants.filter_map(|grant| grant.tables.names()).flatten().collect();
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let list = names.iter().map(|name| quote_text(name)).collect::<Vec<_>>().join(", ");
    let query = format!("SELECT table_schema, table_name FROM information_schema.tables WHERE table_name IN ({list})");
    let rows = session.rows("look for the tables that users name", query).await?;
    let found = rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect::<Result<Vec<_>, DatabaseError>>()?;
    // The server may compare without regard to case.
    Ok(found.into_iter().filter(|(_, table)| names.contains(table)).collect())
}

/// With one of these, a session may leave the general log.
const MAY_BE_SILENT: [&str; 3] = ["SUPER", "SYSTEM_VARIABLES_ADMIN", "SESSION_VARIABLES_ADMIN"];

/// Everybody's rights on the whole server; answers those that the master holds, and those that it may hand on, over its
/// roles too.
async fn server_rights(
    session: &mut Session,
    master: &Account,
    memberships: &BTreeSet<Membership>,
    accounts: &mut BTreeMap<Account, ObservedAccount>,
) -> Result<(BTreeSet<Privilege>, BTreeSet<Privilege>), DatabaseError> {
    let mut by_grantee: BTreeMap<String, Account> = BTreeMap::new();
    for account in accounts.keys() {
        let grantee = grantee(account);
        if let Some(other) = by_grantee.insert(grantee, account.clone()) {
            return Err(unexpected(format!("two accounts that look the same, {other} and {account}")));
        }
    }
    let mut of_master = BTreeSet::from([master.clone()]);
    while let Some(further) =
        memberships.iter().find(|held| of_master.contains(&held.member) && !of_master.contains(&held.role))
    {
        of_master.insert(further.role.clone());
    }
    let (mut held, mut grantable) = (BTreeSet::new(), BTreeSet::new());
    let query = "SELECT grantee, privilege_type, is_grantable FROM information_schema.user_privileges";
    for row in session.rows("list the rights on the whole server", query).await? {
        let (grantee, name, may_grant) = (row.text(0)?, row.text(1)?, row.bytes(2) == b"YES");
        let Some(account) = by_grantee.get(&grantee) else { continue };
        let Some(seen) = accounts.get_mut(account) else { continue };
        let privilege = privilege(&name)?;
        if of_master.contains(account) {
            held.insert(privilege.clone());
        }
        if may_grant && of_master.contains(account) {
            grantable.insert(privilege.clone());
        }
        if privilege.as_str() != "USAGE" {
            seen.server_rights.insert(privilege);
        }
        // One for all static rights; each dynamic right has its own, and the statement that takes it away is the same.
        if may_grant {
            seen.server_rights.insert(Privilege::grant_option());
        }
    }
    Ok((held, grantable))
}

/// As the information schema names an account: quotes inside are not doubled. MariaDB's roles have no host.
fn grantee(account: &Account) -> String {
    format!("'{}'@'{}'", account.user, account.host)
}

fn privilege(name: &str) -> Result<Privilege, DatabaseError> {
    Privilege::parse(name).ok_or_else(|| unexpected(format!("the right {name:?}")))
}

/// What the declared users' accounts hold, at every place.
async fn observe_rights(
    session: &mut Session,
    desired: &Desired,
    observed: &mut Observed,
) -> Result<(), DatabaseError> {
    const WHAT: &str = "list the rights of the declared users";
    let declared: Vec<&str> = desired.declared().iter().map(|user| user.role.as_str()).collect();
    let mut rights: BTreeMap<Account, BTreeSet<Right>> = BTreeMap::new();
    for (account, seen) in observed.accounts.iter().filter(|(account, _)| declared.contains(&account.user.as_str())) {
        let whole = seen.server_rights.iter().cloned().map(|privilege| Right { scope: Scope::Server, privilege });
        rights.insert(account.clone(), whole.collect());
    }
    // Rights of the empty name are everybody's.
    let names: Vec<String> = declared.iter().copied().chain([""]).map(quote_text).collect();
    let of_them = format!("WHERE User IN ({})", names.join(", "));
    let mut found = vec![];
    for row in session.rows(WHAT, format!("SELECT * FROM mysql.db {of_them}")).await? {
        found.extend(on_database(&row)?);
    }
    let tables = format!("SELECT User, Host, Db, Table_name, Table_priv FROM mysql.tables_priv {of_them}");
    for row in session.rows(WHAT, tables).await? {
        let scope = Scope::Table { database: row.text(2)?, table: row.text(3)? };
        found.extend(listed(&row, scope, 4)?);
    }
    let columns =
        format!("SELECT User, Host, Db, Table_name, Column_name, Column_priv FROM mysql.columns_priv {of_them}");
    for row in session.rows(WHAT, columns).await? {
        let scope = Scope::Column { database: row.text(2)?, table: row.text(3)?, column: row.text(4)? };
        found.extend(listed(&row, scope, 5)?);
    }
    let routines =
        format!("SELECT User, Host, Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv {of_them}");
    for row in session.rows(WHAT, routines).await? {
        let kind = match row.text(4)?.as_str() {
            "FUNCTION" => RoutineKind::Function,
            "PROCEDURE" => RoutineKind::Procedure,
            other => return Err(unexpected(format!("a right on a routine of kind {other}"))),
        };
        found.extend(listed(&row, Scope::Routine { database: row.text(2)?, kind, name: row.text(3)? }, 5)?);
    }
    let proxies = format!("SELECT User, Host, Proxied_user, Proxied_host FROM mysql.proxies_priv {of_them}");
    for row in session.rows(WHAT, proxies).await? {
        let scope = Scope::Proxy(Account::new(row.text(2)?, row.text(3)?));
        found.push((Account::new(row.text(0)?, row.text(1)?), Right { scope, privilege: privilege("PROXY")? }));
    }
    let mut everybody = BTreeSet::new();
    for (account, right) in found {
        match account.user.as_str() {
            "" => drop(everybody.insert(format!("everybody has {} on {}", right.privilege, right.scope))),
            _ => drop(rights.entry(account).or_default().insert(right)),
        }
    }
    observed.notes.extend(everybody);
    observed.rights = rights;
    Ok(())
}

/// A row of `mysql.db`: a column for each right, `Y` or `N`.
fn on_database(row: &MySqlValues) -> Result<Vec<(Account, Right)>, DatabaseError> {
    let text = |column: &str| {
        let value = row.named().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, value)| value.to_vec());
        String::from_utf8(value.unwrap_or_default()).map_err(|_| unexpected("a name that is not UTF-8".into()))
    };
    let (account, scope) = (Account::new(text("User")?, text("Host")?), Scope::Database(text("Db")?));
    let held = row.named().filter(|(_, value)| *value == b"Y").filter_map(|(name, _)| of_column(name));
    held.map(|name| Ok((account.clone(), Right { scope: scope.clone(), privilege: privilege(&name)? }))).collect()
}

/// The right that a column of `mysql.db` is for.
fn of_column(column: &str) -> Option<String> {
    let column = column.to_ascii_lowercase();
    let name = column.strip_suffix("_priv")?;
    Some(match name {
        "grant" => "GRANT OPTION".to_owned(),
        "create_tmp_table" => "CREATE TEMPORARY TABLES".to_owned(),
        other => other.replace('_', " "),
    })
}

/// Rights as a set in one column: `Select,Create View,Grant`.
fn listed(row: &MySqlValues, scope: Scope, column: usize) -> Result<Vec<(Account, Right)>, DatabaseError> {
    let account = Account::new(row.text(0)?, row.text(1)?);
    let names = row.text(column)?;
    let names = names.split(',').filter(|name| !name.is_empty()).map(|name| match name {
        "Grant" => "GRANT OPTION",
        "Delete versioning rows" => "DELETE HISTORY",
        other => other,
    });
    names.map(|name| Ok((account.clone(), Right { scope: scope.clone(), privilege: privilege(name)? }))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_as_rights() {
        let of = |column| of_column(column).map(|name| Privilege::parse(&name).unwrap().to_string());
        assert_eq!(of("Create_tmp_table_priv").as_deref(), Some("CREATE TEMPORARY TABLES"));
        assert_eq!(of("Grant_priv").as_deref(), Some("GRANT OPTION"));
        assert_eq!(of("Lock_tables_priv").as_deref(), Some("LOCK TABLES"));
        assert_eq!(of("Delete_history_priv").as_deref(), Some("DELETE HISTORY"));
        assert_eq!(of("Db"), None);
    }

    #[test]
    fn names_of_accounts() {
        assert_eq!(current_user("odd@name@10.%"), Account::new("odd@name", "10.%"));
        assert_eq!(grantee(&Account::new("o'b", "%")), "'o'b'@'%'");
    }
}

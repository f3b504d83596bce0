//! Each change as SQL.

use super::flavor::{TAKES_TOKENS, discard_former_password, lock};
use super::quote::{quote_account, quote_identifier};
use crate::error::DatabaseError;
use aurora_restore_domain::accounts::{AccountChange, Flavor, Privilege, Scope};
use aurora_restore_domain::roles::Authentication;
use std::collections::BTreeSet;

/// The statement that makes `change`, or `None` for those that are more than a statement: passwords and sessions.
pub(super) fn statement(change: &AccountChange, flavor: Flavor) -> Result<Option<String>, DatabaseError> {
    Ok(match change {
        AccountChange::Create { login: Authentication::Password, .. }
        | AccountChange::SetPassword { .. }
        | AccountChange::EndSessions { .. } => None,
        AccountChange::Create { account, login: Authentication::Iam } => {
            Some(format!("CREATE USER IF NOT EXISTS {} {TAKES_TOKENS}", quote_account(account)?))
        }
        AccountChange::TakeTokens { account } => Some(format!("ALTER USER {} {TAKES_TOKENS}", quote_account(account)?)),
        AccountChange::Lock { account } => Some(lock(flavor, account)?),
        AccountChange::Close { account } => Some(format!("ALTER USER {} ACCOUNT LOCK", quote_account(account)?)),
        AccountChange::RevokeRole { role, member } => {
            Some(format!("REVOKE {} FROM {}", quote_account(role)?, quote_account(member)?))
        }
        AccountChange::DiscardFormerPassword { account } => discard_former_password(flavor, account)?,
        // Takes the right to change users only, not the rights that it takes away.
        AccountChange::RevokeAll { account } => {
            Some(format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {}", quote_account(account)?))
        }
        AccountChange::Revoke { account, scope, privileges } => {
            Some(format!("REVOKE {} FROM {}", rights(scope, privileges)?, quote_account(account)?))
        }
        AccountChange::Grant { account, scope, privileges } => {
            Some(format!("GRANT {} TO {}", rights(scope, privileges)?, quote_account(account)?))
        }
        AccountChange::SetAttributes { account, attributes } => {
            let attributes: Vec<_> = attributes.iter().map(|attribute| attribute.as_sql()).collect();
            Some(format!("ALTER USER {} {}", quote_account(account)?, attributes.join(" ")))
        }
    })
}

/// `SELECT, INSERT ON place`. A database's name is a pattern already, which quoting leaves as it is.
fn rights(scope: &Scope, privileges: &BTreeSet<Privilege>) -> Result<String, DatabaseError> {
    let list = |of: &str| {
        let of = |privilege: &Privilege| match privilege == &Privilege::grant_option() {
            true => privilege.to_string(),
            false => format!("{privilege}{of}"),
        };
        privileges.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    let on = |database: &str, name: &str| {
        Ok::<_, DatabaseError>(format!("{}.{}", quote_identifier(database)?, quote_identifier(name)?))
    };
    Ok(match scope {
        Scope::Server => format!("{} ON *.*", list("")),
        Scope::Database(pattern) => format!("{} ON {}.*", list(""), quote_identifier(pattern)?),
        Scope::Table { database, table } => format!("{} ON {}", list(""), on(database, table)?),
        Scope::Column { database, table, column } => {
            format!("{} ON {}", list(&format!(" ({})", quote_identifier(column)?)), on(database, table)?)
        }
        Scope::Routine { database, kind, name } => format!("{} ON {} {}", list(""), kind.as_str(), on(database, name)?),
        Scope::Proxy(account) => format!("PROXY ON {}", quote_account(account)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aurora_restore_domain::accounts::{Account, AccountAttribute, RoutineKind};

    fn sql(change: AccountChange) -> String {
        statement(&change, Flavor::MySql8).unwrap().unwrap_or_default()
    }

    fn app() -> Account {
        Account::new("o'`b", "10.%")
    }

    fn revoked(scope: Scope, names: &[&str]) -> String {
        let privileges = names.iter().map(|name| Privilege::parse(name).unwrap()).collect();
        sql(AccountChange::Revoke { account: app(), scope, privileges })
    }

    #[test]
    fn changes_of_accounts() {
        let role = Account::everywhere("rds_superuser_role");
        assert_eq!(
            sql(AccountChange::RevokeRole { role, member: app() }),
            "REVOKE `rds_superuser_role`@`%` FROM `o'``b`@`10.%`"
        );
        let role = Account::new("team", "");
        assert_eq!(sql(AccountChange::RevokeRole { role, member: app() }), "REVOKE `team` FROM `o'``b`@`10.%`");
        let attributes =
            BTreeSet::from([AccountAttribute::Unlocked, AccountAttribute::NoExpiry, AccountAttribute::NoCertificate]);
        let set = AccountChange::SetAttributes { account: app(), attributes };
        assert_eq!(sql(set), "ALTER USER `o'``b`@`10.%` REQUIRE SSL PASSWORD EXPIRE NEVER ACCOUNT UNLOCK");
        assert_eq!(sql(AccountChange::SetPassword { account: app() }), "");
        assert_eq!(sql(AccountChange::Create { account: app(), login: Authentication::Password }), "");
        let tokens = "`o'``b`@`10.%` IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL";
        let create = AccountChange::Create { account: app(), login: Authentication::Iam };
        assert_eq!(sql(create), format!("CREATE USER IF NOT EXISTS {tokens}"));
        assert_eq!(sql(AccountChange::TakeTokens { account: app() }), format!("ALTER USER {tokens}"));
        // No mark: it is none of those that stay locked.
        assert_eq!(sql(AccountChange::Close { account: app() }), "ALTER USER `o'``b`@`10.%` ACCOUNT LOCK");
        let all = AccountChange::RevokeAll { account: app() };
        assert_eq!(sql(all), "REVOKE ALL PRIVILEGES, GRANT OPTION FROM `o'``b`@`10.%`");
    }

    #[test]
    fn rights_by_place() {
        let from = "FROM `o'``b`@`10.%`";
        let (database, table) = ("my_shop".to_owned(), "a`b".to_owned());
        assert_eq!(
            revoked(Scope::Server, &["CONNECTION_ADMIN", "GRANT OPTION"]),
            format!("REVOKE CONNECTION_ADMIN, GRANT OPTION ON *.* {from}")
        );
        assert_eq!(
            revoked(Scope::Database("my\\_shop".into()), &["CREATE VIEW"]),
            format!("REVOKE CREATE VIEW ON `my\\_shop`.* {from}")
        );
        let scope = Scope::Table { database: database.clone(), table: table.clone() };
        assert_eq!(
            revoked(scope, &["SELECT", "GRANT OPTION"]),
            format!("REVOKE GRANT OPTION, SELECT ON `my_shop`.`a``b` {from}")
        );
        let scope = Scope::Column { database: database.clone(), table, column: "x".into() };
        assert_eq!(
            revoked(scope, &["SELECT", "UPDATE"]),
            format!("REVOKE SELECT (`x`), UPDATE (`x`) ON `my_shop`.`a``b` {from}")
        );
        let scope = Scope::Routine { database, kind: RoutineKind::Procedure, name: "p".into() };
        assert_eq!(revoked(scope, &["EXECUTE"]), format!("REVOKE EXECUTE ON PROCEDURE `my_shop`.`p` {from}"));
        assert_eq!(revoked(Scope::Proxy(Account::new("", "h")), &["PROXY"]), format!("REVOKE PROXY ON ``@`h` {from}"));
    }

    #[test]
    fn grants() {
        let privileges = BTreeSet::from([Privilege::parse("SELECT").unwrap(), Privilege::parse("SHOW VIEW").unwrap()]);
        let change = AccountChange::Grant { account: app(), scope: Scope::Database("my\\_shop".into()), privileges };
        assert_eq!(sql(change), "GRANT SELECT, SHOW VIEW ON `my\\_shop`.* TO `o'``b`@`10.%`");
    }
}

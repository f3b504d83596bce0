//! Looking at the restored data as its users will, on MySQL.

use super::checks::find;
use super::observe::{observe_accounts, open};
use super::quote::{quote_identifier, quote_text};
use super::session::{Session, try_login};
use crate::checks::Checks;
use crate::connect::Credentials;
use crate::error::{DatabaseError, mysql_number};
use crate::server::{Passwords, Server};
use crate::verify::{CheckResult, Finding, finding_of, finding_of_login, judge_inherited};
use aurora_restore_domain::accounts::{inherited_logins, reads, writes};
use aurora_restore_domain::roles::{DeclaredUser, Desired};
use std::collections::BTreeSet;
use std::time::Instant;

pub(crate) async fn verify(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
    checks: &Checks,
) -> Result<Vec<CheckResult>, DatabaseError> {
    let mut session = open(server).await?;
    let started = Instant::now();
    let observed = observe_accounts(&mut session, desired, passwords).await?;
    let open_logins: Vec<String> = inherited_logins(desired, &observed).map(ToString::to_string).collect();
    let mut results = vec![judge_inherited(&open_logins, desired).named("inherited logins".into(), started)];
    let tables = first_tables(&mut session).await?;
    session.close().await;
    for user in desired.declared() {
        let credentials = passwords.credentials(&user.role)?;
        results.push(check_login(server, user, &credentials).await?);
        let started = Instant::now();
        let finding = read(server, &credentials, reads(user, &observed), &tables).await.or_else(finding_of)?;
        results.push(finding.named(format!("read of {}", user.key), started));
        if !writes(user) {
            let started = Instant::now();
            let finding = write(server, &credentials, &tables).await.or_else(finding_of)?;
            results.push(finding.named(format!("no write of {}", user.key), started));
        }
    }
    for check in checks.all() {
        let started = Instant::now();
        let finding = find(&check, server).await.or_else(finding_of)?;
        results.push(finding.named(check.name(), started));
    }
    Ok(results)
}

async fn check_login(
    server: &Server,
    user: &DeclaredUser,
    credentials: &Credentials,
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let finding = match try_login(&server.endpoint, credentials, &server.trust).await {
        // The server tells the account that it let in, `app@%`; with another name it would be the anonymous one.
        Ok(login) if login.current_user.rsplit_once('@').is_some_and(|(name, _)| name == user.role.as_str()) => {
            Finding::passed(login.current_user)
        }
        Ok(login) => Finding::failed(format!("the server takes it for {}", login.current_user)),
        Err(error) => finding_of_login(user, error)?,
    };
    Ok(finding.named(format!("login of {}", user.key), started))
}

/// The first table of each database, as the master sees them.
async fn first_tables(session: &mut Session) -> Result<Vec<(String, String)>, DatabaseError> {
    let query = "SELECT table_schema, min(table_name) FROM information_schema.tables WHERE table_type = 'BASE TABLE' \
        AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') GROUP BY 1 ORDER BY 1";
    let rows = session.rows("list its tables", query).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}

/// Databases as a whole, and single tables after their database.
type Places = (BTreeSet<String>, BTreeSet<(String, String)>);

/// A real read with the user's own rights: of the first table that it is to read. It sees only tables that it may use; where
/// the master sees some in its databases (`there`), and it sees none, it has not what its profile promises.
async fn read(
    server: &Server,
    credentials: &Credentials,
    (databases, tables): Places,
    there: &[(String, String)],
) -> Result<Finding, DatabaseError> {
    if databases.is_empty() && tables.is_empty() {
        let reason = Some("it has no right to read tables".into());
        return Ok(Finding { reason, ..Finding::passed("nothing to read") });
    }
    let mut session = Session::open(&server.endpoint, None, credentials, &server.trust).await?;
    let what = format!("read as {}", credentials.role);
    let unseen = there.iter().find(|(database, _)| databases.contains(database));
    let databases = databases.iter().map(|name| format!("table_schema = {}", quote_text(name)));
    let tables = tables.iter().map(|(database, table)| {
        format!("(table_schema = {} AND table_name = {})", quote_text(database), quote_text(table))
    });
    let query = format!(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' \
         AND ({}) ORDER BY 1, 2 LIMIT 1",
        databases.chain(tables).collect::<Vec<_>>().join(" OR ")
    );
    let finding = match session.rows(&what, query).await?.first() {
        Some(row) => {
            let (database, table) = (row.text(0)?, row.text(1)?);
            let query =
                format!("SELECT EXISTS (SELECT 1 FROM {}.{})", quote_identifier(&database)?, quote_identifier(&table)?);
            session.rows(&what, query).await?;
            Finding::passed(format!("{table} in database {database}"))
        }
        None => match unseen {
            Some((database, table)) => {
                Finding::failed(format!("it may read no table, for instance not {table} in database {database}"))
            }
            None => {
                let reason = Some("no database has a table that it may read".into());
                Finding { reason, ..Finding::passed("SELECT 1") }
            }
        },
    };
    session.close().await;
    Ok(finding)
}

/// Not allowed to change a table; not allowed in that database at all.
const NOT_PERMITTED: [u16; 2] = [1142, 1044];

/// Its rights are those of its profile; this tries one of them where it counts: in each database, beyond its limits too,
/// a deletion of no row, which the server refuses before it looks for rows, in a transaction that is taken back whatever it
/// answers.
async fn write(
    server: &Server,
    credentials: &Credentials,
    tables: &[(String, String)],
) -> Result<Finding, DatabaseError> {
    let mut session = Session::open(&server.endpoint, None, credentials, &server.trust).await?;
    let what = format!("write as {}", credentials.role);
    let mut refused = 0;
    for (database, table) in tables {
        session.run(&what, "START TRANSACTION READ WRITE").await?;
        let delete = format!("DELETE FROM {}.{} WHERE 1 = 0", quote_identifier(database)?, quote_identifier(table)?);
        let tried = session.run(&what, delete).await;
        session.run(&what, "ROLLBACK").await?;
        match tried {
            Ok(()) => {
                session.close().await;
                let value = Some(format!("{table} in database {database}"));
                return Ok(Finding { value, ..Finding::failed("a write was let through") });
            }
            Err(error) if error.sqlstate().and_then(mysql_number).is_some_and(|n| NOT_PERMITTED.contains(&n)) => {
                refused += 1
            }
            Err(error) => return Err(error),
        }
    }
    session.close().await;
    Ok(Finding::passed(format!("refused in {refused} databases")))
}

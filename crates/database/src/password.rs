//! Handing verifiers to the server so that nothing writes them down.
//!
//! `ALTER ROLE … PASSWORD` takes no parameter, and the server's log shows statements and parameters. What it never
//! shows is the data of a `COPY`, and statements inside of a `DO` block. So the verifiers travel by `COPY` into a
//! temporary table, and a block sets them from there. Where the master may, logging is silenced besides.
//!
//! What this does not cover: `pg_stat_statements.track = all` keeps the inner statement, with the verifier and not the
//! password, where those with `pg_read_all_stats` see it. RDS's default is `top`.

use crate::connect::Credentials;
use crate::error::DatabaseError;
use crate::scram::scram_verifier;
use aurora_restore_domain::roles::ServerVersion;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use sqlx::postgres::PgConnection;

/// Sets each role's password, inside of the caller's transaction.
pub(crate) async fn set_passwords(
    connection: &mut PgConnection,
    version: ServerVersion,
    credentials: &[Credentials],
) -> Result<(), DatabaseError> {
    const TABLE: &str =
        "CREATE TEMPORARY TABLE pg_temp.aurora_restore_passwords (role text, verifier text) ON COMMIT DROP";
    const COPY: &str = "COPY pg_temp.aurora_restore_passwords FROM STDIN (FORMAT csv)";
    let failed = |error| DatabaseError::of_statement("set the passwords of the declared users", error);
    if credentials.is_empty() {
        return Ok(());
    }
    let mut lines = Zeroizing::new(String::new());
    for Credentials { role, password, .. } in credentials {
        let verifier = scram_verifier(password)?;
        lines.push_str(&csv_line(role.as_str(), verifier.expose_secret()));
    }
    // `has_parameter_privilege` came with 15; before it, only superusers could change these settings.
    if version.major() >= 15 {
        sqlx::query(include_str!("sql/silence.sql")).fetch_all(&mut *connection).await.map_err(failed)?;
    }
    sqlx::raw_sql(TABLE).execute(&mut *connection).await.map_err(failed)?;
    let mut copy = connection.copy_in_raw(COPY).await.map_err(failed)?;
    copy.send(lines.as_bytes()).await.map_err(failed)?;
    copy.finish().await.map_err(failed)?;
    sqlx::raw_sql(include_str!("sql/set_passwords.sql")).execute(connection).await.map_err(failed)?;
    Ok(())
}

/// One line as `COPY … (FORMAT csv)` reads it.
fn csv_line(role: &str, verifier: &str) -> String {
    format!("\"{}\",\"{verifier}\"\n", role.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_quotes() {
        assert_eq!(csv_line("a\"b\\", "SCRAM-SHA-256$x"), "\"a\"\"b\\\",\"SCRAM-SHA-256$x\"\n");
    }
}

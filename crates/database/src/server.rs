//! The server as every function here is given it, and work on several of its databases at a time.

use crate::connect::{Credentials, Endpoint, Login, Purpose, Session, Trust, try_login};
use crate::error::DatabaseError;
use crate::mysql;
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::{Authentication, RoleName};
use secrecy::SecretString;
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// Sessions at a time. Few: a small instance has few connections and each costs it memory.
const SIDE_BY_SIDE: usize = 4;

/// A server and how its master logs in.
#[derive(Debug, Clone)]
pub struct Server {
    /// What it is.
    pub engine: Engine,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The database that the master logs in to for work on the whole server, usually `postgres`. MySQL needs none.
    pub database: String,
    /// The master.
    pub master: Credentials,
    /// How the server proves who it is.
    pub trust: Trust,
}

impl Server {
    /// Logs in as the master.
    pub async fn try_master(&self) -> Result<Login, DatabaseError> {
        match self.engine {
            Engine::PostgreSql => try_login(&self.endpoint, &self.database, &self.master, &self.trust).await,
            Engine::MySql => mysql::try_login(&self.endpoint, &self.master, &self.trust).await,
        }
    }

    /// Opens a session of the master, for what is done on PostgreSQL only.
    pub(crate) async fn session(&self, database: &str) -> Result<Session, DatabaseError> {
        self.session_for(database, Purpose::Manage).await
    }

    /// The same, for somebody's own statements too.
    pub(crate) async fn session_for(&self, database: &str, purpose: Purpose) -> Result<Session, DatabaseError> {
        if self.engine == Engine::MySql {
            let what = format!("{} is a MySQL, and this is done on PostgreSQL only", self.endpoint);
            return Err(DatabaseError::Unsupported { what });
        }
        Session::open(&self.endpoint, database, &self.master, &self.trust, purpose).await
    }
}

/// What the declared users log in with: passwords, and where a login is to be tried, tokens. `Debug` shows none.
#[derive(Debug, Clone, Default)]
pub struct Passwords(BTreeMap<RoleName, Credentials>);

impl Passwords {
    /// Lets `role` log in with a token.
    pub fn add_token(&mut self, role: RoleName, token: SecretString) {
        let credentials = Credentials { role: role.clone(), password: token, login: Authentication::Iam };
        self.0.insert(role, credentials);
    }

    /// The credentials of `role`; an error that names it if it has no password here.
    pub fn credentials(&self, role: &RoleName) -> Result<Credentials, DatabaseError> {
        match self.0.get(role) {
            Some(credentials) => Ok(credentials.clone()),
            None => Err(DatabaseError::Invalid { what: format!("there is no password for the declared role {role}") }),
        }
    }
}

impl FromIterator<(RoleName, SecretString)> for Passwords {
    fn from_iter<I: IntoIterator<Item = (RoleName, SecretString)>>(items: I) -> Self {
        let entry = |(role, password): (RoleName, _)| (role.clone(), Credentials::by_password(role, password));
        Self(items.into_iter().map(entry).collect())
    }
}

/// Runs `work` for every item, a few at a time; the answers in the items' order. The first error ends all of it.
pub(crate) async fn side_by_side<I, T, F>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> F,
) -> Result<Vec<T>, DatabaseError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, DatabaseError>> + Send + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), BTreeMap::new());
    let mut waiting = items.into_iter().enumerate();
    loop {
        while running.len() < SIDE_BY_SIDE
            && let Some((position, item)) = waiting.next()
        {
            let work = work(item);
            running.spawn(async move { (position, work.await) });
        }
        match running.join_next().await {
            Some(Ok((position, result))) => drop(done.insert(position, result?)),
            Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Some(Err(_)) => return Err(DatabaseError::Unsupported { what: "work on a database was cancelled".into() }),
            None => return Ok(done.into_values().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_few_at_a_time_and_in_order() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |item: usize| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(item * 2)
            }
        };
        assert_eq!(side_by_side(0..20, work).await.unwrap(), (0..20).map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), SIDE_BY_SIDE);
    }

    #[tokio::test]
    async fn the_first_error_ends_it() {
        let work = |item: usize| async move {
            match item {
                3 => Err(DatabaseError::Invalid { what: "three".into() }),
                _ => Ok(()),
            }
        };
        assert_eq!(side_by_side(0..9, work).await.unwrap_err().to_string(), "three");
    }
}

//! The restored database as the steps address it: endpoint from RDS, credentials from Secrets Manager.

use crate::follow::planned;
use aurora_restore_core::domain::accounts;
use aurora_restore_core::domain::engine::Engine;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::roles::{DeclaredUser, Desired, Observed, RoleChange, RoleName, unfit};
use aurora_restore_core::secrets::{self, AppCredentials, MasterCredentials};
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::{
    Changes, CheckResult, Checks, Credentials, DatabaseError, Endpoint, ErrorClass, Login, MaskScript, Passwords, Seen,
    Server, Trust,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The restored database. Everything that a step does to it goes through here, so that a simulation can stand for it.
#[derive(Debug)]
pub(crate) struct Database {
    server: Server,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Real,
    Fake(Arc<dyn FakeDatabase>),
}

/// What a [`FakeDatabase`] answers.
pub type FakeAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 'a>>;

/// What a simulation puts in the database's place (`Context::with_stand_in`, as `Arc<dyn FakeDatabase>`). Each method
/// stands for the function of `aurora-restore-database` of its name.
#[allow(missing_docs)] // described there
pub trait FakeDatabase: std::fmt::Debug + Send + Sync {
    fn try_master<'a>(&'a self, server: &'a Server) -> FakeAnswer<'a, Login>;
    fn observe<'a>(
        &'a self,
        server: &'a Server,
        desired: &'a Desired,
        passwords: &'a Passwords,
    ) -> FakeAnswer<'a, Observed>;
    fn apply<'a>(
        &'a self,
        server: &'a Server,
        changes: &'a [RoleChange],
        passwords: &'a Passwords,
    ) -> FakeAnswer<'a, ()>;
    fn verify<'a>(
        &'a self,
        server: &'a Server,
        desired: &'a Desired,
        passwords: &'a Passwords,
        checks: &'a Checks,
    ) -> FakeAnswer<'a, Vec<CheckResult>>;
    fn mask<'a>(
        &'a self,
        server: &'a Server,
        operation_id: &'a str,
        script: &'a MaskScript,
    ) -> FakeAnswer<'a, Option<u64>>;
    fn forget_masked<'a>(&'a self, server: &'a Server, databases: &'a BTreeSet<String>) -> FakeAnswer<'a, ()>;
}

impl Database {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.server.endpoint
    }

    pub(crate) async fn try_master(&self) -> Result<Login, DatabaseError> {
        match &self.inner {
            Inner::Real => self.server.try_master().await,
            Inner::Fake(fake) => fake.try_master(&self.server).await,
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.server.engine
    }

    /// Looks at the server, whichever it is.
    pub(crate) async fn look(&self, desired: &Desired, passwords: &Passwords) -> Result<Seen, DatabaseError> {
        match &self.inner {
            Inner::Real => aurora_restore_database::look(&self.server, desired, passwords).await,
            Inner::Fake(fake) => fake.observe(&self.server, desired, passwords).await.map(Seen::PostgreSql),
        }
    }

    /// Makes what was decided after [`Database::look`].
    pub(crate) async fn make(&self, changes: &Changes, passwords: &Passwords) -> Result<(), DatabaseError> {
        match (&self.inner, changes) {
            (Inner::Real, _) => aurora_restore_database::make(&self.server, changes, passwords).await,
            (Inner::Fake(fake), Changes::PostgreSql(changes)) => fake.apply(&self.server, changes, passwords).await,
            (Inner::Fake(_), Changes::MySql(_)) => {
                Err(DatabaseError::Unsupported { what: "the simulated server is no MySQL".into() })
            }
        }
    }

    pub(crate) async fn mask(&self, operation_id: &str, script: &MaskScript) -> Result<Option<u64>, DatabaseError> {
        match &self.inner {
            Inner::Real => aurora_restore_database::mask(&self.server, operation_id, script).await,
            Inner::Fake(fake) => fake.mask(&self.server, operation_id, script).await,
        }
    }

    pub(crate) async fn forget_masked(&self, databases: &BTreeSet<String>) -> Result<(), DatabaseError> {
        match &self.inner {
            Inner::Real => aurora_restore_database::forget_masked(&self.server, databases).await,
            Inner::Fake(fake) => fake.forget_masked(&self.server, databases).await,
        }
    }

    pub(crate) async fn verify(
        &self,
        desired: &Desired,
        passwords: &Passwords,
        checks: &Checks,
    ) -> Result<Vec<CheckResult>, DatabaseError> {
        match &self.inner {
            Inner::Real => aurora_restore_database::verify(&self.server, desired, passwords, checks).await,
            Inner::Fake(fake) => fake.verify(&self.server, desired, passwords, checks).await,
        }
    }
}

/// Name or ARN of the secret that holds the restored cluster's master password: RDS's own, or ours.
pub(crate) fn master_secret<'a>(context: &'a Context, operation: &'a Operation) -> &'a str {
    let managed = operation.cluster.as_ref().and_then(|state| state.master_user_secret_arn.as_deref());
    managed.unwrap_or(&context.config.master_secret)
}

/// The master credentials; ours were good at preflight.
pub(crate) async fn master(context: &Context, operation: &Operation) -> Result<MasterCredentials, StepError> {
    let name = master_secret(context, operation);
    let text = context.secrets().get(name).await?;
    secrets::parse_master(name, &text).map_err(|problems| secret_invalid(&problems))
}

/// The restored database and what its users are to be.
pub(crate) struct Opened {
    pub(crate) server: Database,
    pub(crate) desired: Desired,
    pub(crate) passwords: Passwords,
    /// Database that the master logs in to when a check names none; empty for MySQL when the secret names none.
    pub(crate) master_database: String,
}

impl Opened {
    /// Signs a token for each user who logs in with one. It outlives the invocation.
    pub(crate) async fn sign_tokens(&mut self, context: &Context) -> Result<(), StepError> {
        let Endpoint { host, port } = self.server.endpoint();
        for user in self.desired.token_users() {
            let token = context.rds.login_token(host, *port, user.role.as_str()).await?;
            self.passwords.add_token(user.role.clone(), token);
        }
        Ok(())
    }
}

/// Master and declared users as the secrets are now: a password that was changed a minute ago must not be set back.
pub(crate) async fn open(context: &Context, operation: &Operation, request: &Request) -> Result<Opened, StepError> {
    context.secrets().forget(master_secret(context, operation));
    context.secrets().forget(&context.config.app_secret);
    let (master, app) = (master(context, operation).await?, app(context, request).await?);
    let server = server(context, operation, &master)?;
    let invalid = |problems: Vec<String>| {
        Failure::new(ErrorName::SecretInvalid, problems.join("; ")).next("mend the application's secret")
    };
    let closed = operation.masking.as_ref().map(|state| state.closed.clone()).unwrap_or_default();
    let desired = desired(request, &master.login.username, &app).map_err(invalid)?.after_closing(closed);
    let unfit = unfit(&request.users, server.engine());
    if !unfit.is_empty() {
        let failure = Failure::new(ErrorName::InvalidRequest, unfit.join("; "));
        return Err(failure.next("mend 'users', then start again under the same operation_id").into());
    }
    let problems = match server.engine() {
        Engine::PostgreSql => vec![],
        Engine::MySql => accounts::check(&desired),
    };
    if !problems.is_empty() {
        return Err(invalid(problems).into());
    }
    let master_database = server.server.database.clone();
    Ok(Opened { server, desired, passwords: passwords(&app)?, master_database })
}

/// The declared users' credentials, which were good at preflight.
async fn app(context: &Context, request: &Request) -> Result<AppCredentials, StepError> {
    let name = &context.config.app_secret;
    let text = context.secrets().get(name).await?;
    secrets::parse_app(name, &text, &request.users).map_err(|problems| secret_invalid(&problems))
}

fn secret_invalid(problems: &[String]) -> StepError {
    Failure::new(ErrorName::SecretInvalid, problems.join("; "))
        .next("mend the secret, then start again under the same operation_id")
        .into()
}

/// What the declared users are to be. Pure but for its inputs, so that preflight can check it before anything is made.
///
/// # Errors
/// Every problem that there is.
pub(crate) fn desired(request: &Request, master: &str, app: &AppCredentials) -> Result<Desired, Vec<String>> {
    let name = |text: &str| RoleName::try_from(text).map_err(|error| format!("'{text}' {error}"));
    let mut problems = Vec::new();
    let master = name(master);
    let master = master.map_err(|error| problems.push(format!("the master user's name {error}"))).ok();
    let mut declared = Vec::new();
    for (key, login) in app {
        let user = match request.users.get(key) {
            Some(access) => DeclaredUser::new(key, &login.username, access.clone()),
            None => DeclaredUser::from_secret(key, &login.username),
        };
        declared.extend(user.map_err(|error| problems.push(error.to_string())));
    }
    let mut keep = BTreeSet::new();
    for text in &request.keep_logins {
        keep.extend(name(text).map_err(|error| problems.push(format!("keep_logins: {error}"))));
    }
    let Some(master) = master else { return Err(problems) };
    problems.extend(Desired::problems(&master, &declared).iter().map(ToString::to_string));
    if !problems.is_empty() {
        return Err(problems);
    }
    Desired::new(&master, declared, request.inherited_logins, keep).map_err(|error| vec![error.to_string()])
}

/// The declared users' passwords by role, without those who log in with tokens.
fn passwords(app: &AppCredentials) -> Result<Passwords, StepError> {
    let entry = |login: &secrets::AppLogin| {
        let password = login.password.clone()?;
        Some(RoleName::try_from(login.username.as_str()).map(|role| (role, password)))
    };
    app.values()
        .filter_map(entry)
        .collect::<Result<Passwords, aurora_restore_core::domain::roles::NameError>>()
        .map_err(|error| {
            Failure::new(ErrorName::SecretInvalid, format!("a user name of the application's secret {error}")).into()
        })
}

/// The restored cluster's server. The endpoint is the one that RDS told for the cluster of this operation: whatever
/// host a secret names, nothing else is ever connected to.
pub(crate) fn server(
    context: &Context,
    operation: &Operation,
    master: &MasterCredentials,
) -> Result<Database, StepError> {
    let known = operation.cluster.as_ref().and_then(|state| Some((state.endpoint.clone()?, state.port?)));
    let (host, port) = known.ok_or_else(|| {
        Failure::new(ErrorName::ResourceConflict, format!("operation {} knows no endpoint", operation.operation_id))
            .next("run check-restore first")
    })?;
    let trust = match &context.config.database_ca_file {
        Some(path) => Trust::from_file(Path::new(path)),
        None => Trust::rds(),
    };
    let role = RoleName::try_from(master.login.username.as_str())
        .map_err(|error| secret_invalid(&[format!("the master user's name {error}")]))?;
    let engine = engine(operation)?;
    let server = Server {
        engine,
        endpoint: Endpoint { host, port },
        database: first_database(engine, master),
        master: Credentials::by_password(role, master.login.password.clone()),
        trust: trust.map_err(|error| failed("read the trusted certificates", error))?,
    };
    let inner = context.stand_in::<Arc<dyn FakeDatabase>>().map_or(Inner::Real, |fake| Inner::Fake(Arc::clone(fake)));
    Ok(Database { server, inner })
}

/// How long a name is looked up before it counts as unknown.
const LOOKUP_SECONDS: u64 = 2;

/// The addresses that a name leads to now; none that is not known, and none in a simulation.
pub(crate) async fn addresses(context: &Context, host: &str, port: u16) -> BTreeSet<String> {
    if context.stand_in::<Arc<dyn FakeDatabase>>().is_some() {
        return BTreeSet::new();
    }
    let lookup = tokio::time::timeout(Duration::from_secs(LOOKUP_SECONDS), tokio::net::lookup_host((host, port)));
    match lookup.await {
        Ok(Ok(found)) => found.map(|address| address.to_string()).collect(),
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    }
}

/// The engine that was restored: the snapshot's.
fn engine(operation: &Operation) -> Result<Engine, StepError> {
    let name = planned(operation)?.1.snapshot.engine;
    Engine::of(&name).ok_or_else(|| {
        let what = format!("operation {} restored an engine {name}, which is not worked on", operation.operation_id);
        Failure::new(ErrorName::ResourceConflict, what).next("start a new operation").into()
    })
}

/// The database that the secret names; a PostgreSQL login needs one, and every server has this one.
fn first_database(engine: Engine, master: &MasterCredentials) -> String {
    match (&master.database, engine) {
        (Some(database), Engine::PostgreSql | Engine::MySql) => database.clone(),
        (None, Engine::PostgreSql) => "postgres".to_owned(),
        (None, Engine::MySql) => String::new(),
    }
}

/// A database error as a step's.
pub(crate) fn failed(what: &str, error: DatabaseError) -> StepError {
    let (name, next) = match error.class() {
        ErrorClass::Unreachable => (
            ErrorName::DatabaseUnreachable,
            "the step is repeated; if it stays so, check VPC, security group and the instance's status",
        ),
        ErrorClass::LoginRefused => (
            ErrorName::SecretInvalid,
            "check the credentials in the secret, then start again under the same operation_id",
        ),
        ErrorClass::Rejected => (
            ErrorName::DatabaseRejected,
            "mend the cause in the database or the request, then start again under the same operation_id",
        ),
        ErrorClass::Invalid => {
            (ErrorName::DatabaseRejected, "mend what is named, then start again under the same operation_id")
        }
    };
    StepError::caused_by(Failure::new(name, format!("could not {what}")).next(next), error)
}

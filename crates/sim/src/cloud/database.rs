//! The restored database as the steps reach it.

use super::connector::{Cloud, write_down};
use super::model::Cluster;
use super::wire::{Call, Form};
use super::{Effect, World};
use crate::faults::{Arrival, CallFault};
use crate::scenario::Scenario;
use crate::time::SECOND;
use aurora_restore_database::{CheckResult, Checks, DatabaseError, Login, MaskScript, Passwords, Server, Verdict};
use aurora_restore_domain::roles::{Desired, InheritedLogins, Observed, RoleChange, RoleName, inherited_logins};
use aurora_restore_steps::{FakeAnswer, FakeDatabase};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a login waits for an answer, as in `aurora-restore-database`.
const CONNECT_SECONDS: u64 = 10;

fn no_answer(server: &Server) -> DatabaseError {
    DatabaseError::NoAnswer { endpoint: server.endpoint.clone(), seconds: CONNECT_SECONDS }
}

fn password_of(passwords: &Passwords, role: &RoleName) -> Option<String> {
    passwords.credentials(role).ok().map(|credentials| credentials.password.expose_secret().to_owned())
}

/// The cluster behind an endpoint, when somebody answers there.
fn answering<'w>(world: &'w mut World, server: &Server) -> Option<&'w mut Cluster> {
    let now = world.time.now_us();
    let region = world.regions.get_mut(&world.scene.target_region)?;
    let host = &server.endpoint.host;
    let cluster = region
        .clusters
        .values_mut()
        .find(|cluster| host.starts_with(&format!("{}.cluster-{}.", cluster.id, cluster.serial)))?;
    let is_swapped_in = world.scene.scenario == Scenario::Swap && cluster.id == world.scene.target_id;
    if is_swapped_in && !world.pace.swapped_answers {
        return None;
    }
    let serves =
        |status: &str| ["available", "modifying", "backing-up", "resetting-master-credentials"].contains(&status);
    let has_instance = cluster
        .members
        .iter()
        .any(|member| region.instances.get(member).is_some_and(|instance| instance.status == "available"));
    (serves(&cluster.status) && has_instance && cluster.accepts_from_us <= now).then_some(cluster)
}

fn logged_in<'w>(world: &'w mut World, server: &Server) -> Result<&'w mut Cluster, DatabaseError> {
    let Some(found) = answering(world, server).map(|cluster| (cluster.serial, cluster.id.clone())) else {
        return Err(no_answer(server));
    };
    world.answered.insert(found);
    let Some(cluster) = answering(world, server) else { return Err(no_answer(server)) };
    let role = &server.master.role;
    if cluster.roles.lets_in(role, server.master.password.expose_secret()) {
        return Ok(cluster);
    }
    Err(DatabaseError::LoginRefused {
        endpoint: server.endpoint.clone(),
        role: role.clone(),
        sqlstate: "28P01".into(),
        source: Box::new(sqlx::Error::PoolClosed),
    })
}

impl Cloud {
    /// Works on the database; `work` is told whether only its first half gets through.
    async fn database<T>(
        &self,
        action: &str,
        server: &Server,
        work: impl FnOnce(&mut World, &Call, bool) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let caller = Self::current();
        let caller = caller.as_ref();
        let call = Call {
            service: "database",
            action: action.to_owned(),
            region: self.world().scene.target_region.clone(),
            form: Form::default(),
            json: Value::Null,
            about: None,
            may_hold_secret: false,
        };
        let after = match self.travel(&call, caller).await {
            Arrival::Lost | Arrival::Refused(_) => {
                self.time.sleep_us(CONNECT_SECONDS * SECOND).await;
                return Err(no_answer(server));
            }
            Arrival::Arrived(after) => after,
        };
        let half = after == Some(CallFault::FailAfter);
        let result = self.with_caller(caller, |world| work(world, &call, half));
        let brief = result.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
        write_down(&mut self.world(), &call, caller, &brief, after);
        match after {
            None => result,
            Some(CallFault::KillAfter) => {
                if let Some(caller) = caller {
                    caller.killed.store(true, Ordering::Relaxed);
                }
                std::future::pending().await
            }
            Some(_) => Err(DatabaseError::Lost { what: "answer".into(), source: Box::new(sqlx::Error::PoolClosed) }),
        }
    }
}

impl FakeDatabase for Cloud {
    fn try_master<'a>(&'a self, server: &'a Server) -> FakeAnswer<'a, Login> {
        Box::pin(self.database("Login", server, |world, _, _| {
            logged_in(world, server)?;
            Ok(Login {
                server_version: "16.4".into(),
                current_user: server.master.role.to_string(),
                tls: true,
                duration: Duration::from_millis(30),
            })
        }))
    }

    fn observe<'a>(
        &'a self,
        server: &'a Server,
        desired: &'a Desired,
        passwords: &'a Passwords,
    ) -> FakeAnswer<'a, Observed> {
        Box::pin(self.database("Observe", server, |world, _, _| {
            let cluster = logged_in(world, server)?;
            Ok(cluster.roles.observe(desired, |role| password_of(passwords, role)))
        }))
    }

    fn apply<'a>(
        &'a self,
        server: &'a Server,
        changes: &'a [RoleChange],
        passwords: &'a Passwords,
    ) -> FakeAnswer<'a, ()> {
        Box::pin(self.database("ChangeRoles", server, move |world, call, half| {
            let cluster = logged_in(world, server)?.clone();
            world.effect(call, &Effect::ChangeRoles { cluster: &cluster, changes });
            let roles = &mut logged_in(world, server)?.roles;
            roles.apply(changes, false, |role| password_of(passwords, role));
            if !half {
                roles.apply(changes, true, |role| password_of(passwords, role));
            }
            Ok(())
        }))
    }

    fn mask<'a>(
        &'a self,
        server: &'a Server,
        operation_id: &'a str,
        script: &'a MaskScript,
    ) -> FakeAnswer<'a, Option<u64>> {
        Box::pin(self.database("Mask", server, move |world, call, half| {
            let cluster = logged_in(world, server)?.clone();
            let mark = (operation_id.to_owned(), script.name.clone());
            if cluster.marks.contains(&mark) {
                return Ok(None);
            }
            world.effect(call, &Effect::Mask { cluster: &cluster });
            // A connection that breaks leaves all of a script or nothing.
            if !half || world.rng.bool() {
                let cluster = logged_in(world, server)?;
                cluster.marks.insert(mark);
                cluster.masked.push(script.name.clone());
            }
            Ok(Some(1))
        }))
    }

    fn forget_masked<'a>(&'a self, server: &'a Server, _databases: &'a BTreeSet<String>) -> FakeAnswer<'a, ()> {
        Box::pin(self.database("ForgetMasked", server, move |world, _, _| {
            logged_in(world, server)?.marks.clear();
            Ok(())
        }))
    }

    fn verify<'a>(
        &'a self,
        server: &'a Server,
        desired: &'a Desired,
        passwords: &'a Passwords,
        checks: &'a Checks,
    ) -> FakeAnswer<'a, Vec<CheckResult>> {
        Box::pin(self.database("Verify", server, move |world, _, _| {
            let cluster = logged_in(world, server)?;
            let observed = cluster.roles.observe(desired, |role| password_of(passwords, role));
            let open: Vec<String> = inherited_logins(desired, &observed).map(ToString::to_string).collect();
            let locked = open.is_empty() || desired.inherited() != InheritedLogins::Lock;
            let mut results = vec![result("inherited logins".into(), locked, open.join(", "))];
            for user in desired.declared() {
                let works = password_of(passwords, &user.role).is_some_and(|secret| match user.takes_tokens() {
                    true => cluster.roles.takes_tokens(&user.role),
                    false => cluster.roles.lets_in(&user.role, &secret),
                });
                results.push(result(format!("login of {}", user.key), works, user.role.to_string()));
            }
            results.extend(checks.queries.iter().map(|check| result(check.name.clone(), true, "true".into())));
            Ok(results)
        }))
    }
}

fn result(name: String, passed: bool, value: String) -> CheckResult {
    let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
    CheckResult { name, verdict, value: Some(value), reason: None, duration_ms: 20 }
}

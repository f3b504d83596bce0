//! Credentials from Secrets Manager, in types that cannot be printed, cached for a while.

use crate::aws::{AwsError, aws_error};
use crate::clock::Clock;
use aurora_restore_domain::roles::{Access, Authentication};
use aurora_restore_domain::{Instant, seconds_between};
use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// The keys that the application's secret must hold, as the contract has them.
pub const REQUIRED_USERS: [&str; 3] = ["application_user", "readonly_user", "devops_user"];

/// A user name and a password.
#[derive(Debug, Clone)]
pub struct Login {
    /// Name of the role in the database.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// The master credentials. `host` and `port` of the secret are accepted and not used: the restored cluster's own
/// endpoint is what the steps connect to, so that a secret that names another server cannot send them there.
#[derive(Debug, Clone)]
pub struct MasterCredentials {
    /// Name and password.
    pub login: Login,
    /// Database to connect to first, if the secret names one.
    pub database: Option<String>,
}

/// A declared user.
#[derive(Debug, Clone)]
pub struct AppLogin {
    /// Name of the role in the database.
    pub username: String,
    /// Its password; `None` for who logs in with tokens.
    pub password: Option<SecretString>,
}

/// The declared users by their keys.
pub type AppCredentials = BTreeMap<String, AppLogin>;

/// Secrets of one Region.
#[derive(Debug)]
pub struct Secrets {
    client: Client,
    clock: Clock,
    ttl_seconds: u64,
    cache: Mutex<HashMap<String, (Instant, SecretString)>>,
}

impl Secrets {
    /// Secrets of the configuration's Region, cached for `ttl_seconds`.
    pub fn new(config: &SdkConfig, clock: Clock, ttl_seconds: u64) -> Self {
        Self { client: Client::new(config), clock, ttl_seconds, cache: Mutex::default() }
    }

    /// The secret's text, from the cache if it is young enough.
    ///
    /// # Errors
    /// What Secrets Manager says.
    pub async fn get(&self, name: &str) -> Result<SecretString, AwsError> {
        let now = self.clock.now();
        if let Some((read_at, value)) = self.cached(|cache| cache.get(name).cloned())
            && seconds_between(read_at, now) < self.ttl_seconds
        {
            return Ok(value);
        }
        let answer = self
            .client
            .get_secret_value()
            .secret_id(name)
            .version_stage("AWSCURRENT")
            .send()
            .await
            .map_err(|error| aws_error("secretsmanager:GetSecretValue", name, error))?;
        let value = SecretString::from(answer.secret_string.unwrap_or_default());
        self.cached(|cache| cache.insert(name.to_owned(), (now, value.clone())));
        Ok(value)
    }

    /// Drops a secret from the cache, because a login with it was refused.
    pub fn forget(&self, name: &str) {
        self.cached(|cache| cache.remove(name));
    }

    fn cached<T>(&self, work: impl FnOnce(&mut HashMap<String, (Instant, SecretString)>) -> T) -> T {
        work(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passwords that the setup guide shows as examples: whoever has them has not filled the secret.
const EXAMPLES: [&str; 4] = ["PLACEHOLDER", "APP_PASSWORD", "READONLY_PASSWORD", "DEVOPS_PASSWORD"];

/// Reads the master credentials, ours or RDS's own shape.
///
/// # Errors
/// Every problem: secret, field and what it takes. Never a value.
pub fn parse_master(name: &str, text: &SecretString) -> Result<MasterCredentials, Vec<String>> {
    let value = object(name, text)?;
    let mut problems = Vec::new();
    let login = login(name, "", &value, &mut problems);
    if let Some(login) = &login {
        // RDS: 8 or more printable ASCII characters without '/', '"', '@' and space. Found out now, because
        // check-restore sets it after the old cluster is gone.
        let password = login.password.expose_secret();
        if password.len() < 8 || !password.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '@')) {
            problems.push(format!(
                "secret {name}, field 'password': takes at least 8 printable ASCII characters without '/', '\"', '@' and space (RDS's rule for master passwords)"
            ));
        }
    }
    let database = ["database", "dbname"].iter().find_map(|field| value.get(*field)?.as_str());
    match login {
        Some(login) if problems.is_empty() => Ok(MasterCredentials { login, database: database.map(str::to_owned) }),
        _ => Err(problems),
    }
}

/// Reads the application's secret: the users of the contract and those that the request declares. A password of one that
/// the request lets log in with tokens is not read.
///
/// # Errors
/// Every problem: secret, user, field and what it takes. Never a value.
pub fn parse_app(
    name: &str,
    text: &SecretString,
    requested: &BTreeMap<String, Access>,
) -> Result<AppCredentials, Vec<String>> {
    let value = object(name, text)?;
    let mut problems = Vec::new();
    let mut users = AppCredentials::new();
    let mut takes = REQUIRED_USERS.to_vec();
    takes.extend(requested.keys().map(String::as_str).filter(|key| !REQUIRED_USERS.contains(key)));
    for key in &takes {
        let by_token = requested.get(*key).is_some_and(|access| access.login == Authentication::Iam);
        match value.get(key) {
            Some(user) if by_token => {
                if let Some(username) = filled(name, key, user, "username", &mut problems) {
                    users.insert((*key).to_owned(), AppLogin { username, password: None });
                }
            }
            Some(user) => {
                if let Some(Login { username, password }) = login(name, key, user, &mut problems) {
                    users.insert((*key).to_owned(), AppLogin { username, password: Some(password) });
                }
            }
            None => {
                let declared = if REQUIRED_USERS.contains(key) { "" } else { ", which the request declares" };
                problems.push(format!(
                    "secret {name} lacks the user '{key}'{declared}; takes {{\"username\": …{}}} there",
                    if by_token { "" } else { ", \"password\": …" }
                ));
            }
        }
    }
    if let Some(object) = value.as_object() {
        for key in object.keys().filter(|key| !takes.contains(&key.as_str())) {
            problems.push(format!(
                "secret {name} holds '{key}'; takes the users {}, and others that the request's 'users' declares",
                takes.join(", ")
            ));
        }
    }
    if problems.is_empty() { Ok(users) } else { Err(problems) }
}

fn object(name: &str, text: &SecretString) -> Result<Value, Vec<String>> {
    // serde_json's message may quote the text, so it is not passed on.
    match serde_json::from_str::<Value>(text.expose_secret()) {
        Ok(value) if value.is_object() => Ok(value),
        _ if EXAMPLES.contains(&text.expose_secret()) => Err(vec![format!("secret {name} says PLACEHOLDER; fill it")]),
        _ => Err(vec![format!("secret {name} is not a JSON object")]),
    }
}

fn login(name: &str, key: &str, value: &Value, problems: &mut Vec<String>) -> Option<Login> {
    let username = filled(name, key, value, "username", problems);
    let password = filled(name, key, value, "password", problems);
    Some(Login { username: username?, password: SecretString::from(password?) })
}

fn filled(name: &str, key: &str, value: &Value, field: &str, problems: &mut Vec<String>) -> Option<String> {
    let path = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
    match value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()) {
        Some(text) if EXAMPLES.contains(&text) => {
            let what = format!("secret {name}, field '{path}': still says PLACEHOLDER or the guide's example; fill it");
            problems.push(what);
            None
        }
        Some(text) => Some(text.to_owned()),
        None => {
            problems.push(format!("secret {name}, field '{path}': needs a text that is not empty"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aurora_restore_domain::roles::{Limits, Profile};

    fn app(text: &str) -> String {
        parse_app("s", &SecretString::from(text), &BTreeMap::new()).unwrap_err().join("\n")
    }

    /// What a request says of these users; of those in `by_token` that they log in with tokens.
    fn requested(keys: &[&str], by_token: &[&str]) -> BTreeMap<String, Access> {
        let access = |login| Access { profile: Profile::ReadOnly, login, grants: vec![], limits: Limits::default() };
        let with = |keys: &[&str], login| keys.iter().map(|key| ((*key).to_owned(), access(login))).collect::<Vec<_>>();
        let (passwords, tokens) = (with(keys, Authentication::Password), with(by_token, Authentication::Iam));
        passwords.into_iter().chain(tokens).collect()
    }

    fn master(text: &str) -> Result<MasterCredentials, Vec<String>> {
        parse_master("s", &SecretString::from(text))
    }

    #[test]
    fn both_master_shapes_are_read() {
        assert_eq!(master(r#"{"username":"m","password":"long-enough"}"#).unwrap().database, None);
        let rds = r#"{"username":"m","password":"long-enough","engine":"postgres","host":"h","port":5432,"dbname":"app","dbClusterIdentifier":"c"}"#;
        assert_eq!(master(rds).unwrap().database.as_deref(), Some("app"));
    }

    #[test]
    fn unfilled_and_incomplete_secrets_are_told_by_field() {
        let text = app(
            r#"{"application_user":{"username":"a","password":"APP_PASSWORD"},"readonly_user":{"username":"r"},"extra":{}}"#,
        );
        for words in
            ["application_user.password", "readonly_user.password", "lacks the user 'devops_user'", "holds 'extra'"]
        {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(master(r#"{"username":"master","password":"PLACEHOLDER"}"#).unwrap_err()[0].contains("PLACEHOLDER"));
        assert!(master("PLACEHOLDER").unwrap_err()[0].contains("PLACEHOLDER"));
    }

    #[test]
    fn the_request_and_the_secret_name_the_same_users() {
        let secret = r#"{"application_user":{"username":"a","password":"p"},"readonly_user":{"username":"r","password":"p"},
            "devops_user":{"username":"d","password":"p"},"reporting":{"username":"m","password":"p"}}"#;
        let read = |keys: &[&str]| {
            let users = parse_app("s", &SecretString::from(secret), &requested(keys, &[]));
            users.map(|users| users.into_keys().collect::<Vec<_>>())
        };
        let all = ["application_user", "devops_user", "readonly_user", "reporting"];
        assert_eq!(read(&["application_user", "reporting"]).unwrap(), all);
        let problems = read(&["loader"]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("lacks the user 'loader', which the request declares"), "{problems:?}");
        assert!(
            problems[1].contains("holds 'reporting'") && problems[1].contains("devops_user, loader, and"),
            "{problems:?}"
        );
    }

    #[test]
    fn who_logs_in_with_tokens_needs_a_name_only() {
        let secret = r#"{"application_user":{"username":"a"},"readonly_user":{"username":"r","password":"p"},
            "devops_user":{"username":"d","password":"PLACEHOLDER"}}"#;
        let read = |by_token: &[&str]| parse_app("s", &SecretString::from(secret), &requested(&[], by_token));
        let users = read(&["application_user", "devops_user"]).unwrap();
        let has_password: Vec<_> =
            users.values().map(|user| (user.username.as_str(), user.password.is_some())).collect();
        assert_eq!(has_password, [("a", false), ("d", false), ("r", true)]);
        let problems = read(&["application_user"]).unwrap_err().join("; ");
        assert!(problems.starts_with("secret s, field 'devops_user.password': still says PLACEHOLDER"), "{problems}");
        let problems = read(&["application_user", "devops_user", "robot"]).unwrap_err();
        assert_eq!(
            problems,
            ["secret s lacks the user 'robot', which the request declares; takes {\"username\": …} there"]
        );
    }

    #[test]
    fn a_master_password_that_rds_would_refuse_is_found_now() {
        for password in ["short", "with space", "with/slash", "with@sign1", "umlautäöü"] {
            let problems = master(&format!(r#"{{"username":"m","password":"{password}"}}"#)).unwrap_err().join("");
            assert!(problems.contains("RDS's rule") && !problems.contains(password), "{problems}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_in_the_middle_is_not_quoted() {
        let wire = crate::aws::replay::Wire::new([(200, r#"{"SecretString":"hunter2hunter2","CreatedDate":"#)]);
        let secrets = Secrets::new(&wire.config(), Clock::system(), 300);
        let error = secrets.get("s").await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn values_never_reach_messages_or_debug() {
        let secret = r#"{"username":"m","password":"hunter2hunter2""#;
        assert!(!format!("{:?}", master(secret)).contains("hunter2"));
        let login = Login { username: "m".into(), password: SecretString::from("hunter2hunter2") };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}

//! Settings from the environment. What a request says goes first, then these, then defaults.

use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::request::Defaults;
use std::collections::BTreeMap;

/// Environment variables, injected so that tests need not change the process's own.
#[derive(Debug, Clone)]
pub struct Env(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Real,
    Fake(BTreeMap<String, String>),
}

impl Env {
    /// The process's environment.
    pub fn real() -> Self {
        Self(Inner::Real)
    }

    /// An environment of exactly these variables.
    pub fn fake<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(Inner::Fake(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    /// A variable's value; empty counts as absent.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match &self.0 {
            Inner::Real => std::env::var(name).ok(),
            Inner::Fake(variables) => variables.get(name).cloned(),
        };
        value.filter(|value| !value.is_empty())
    }
}

/// What every function is configured with.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ENVIRONMENT`, for instance `dev`; part of messages and secret names.
    pub environment: String,
    /// `STATE_TABLE_NAME`
    pub state_table: String,
    /// `AUDIT_TABLE_NAME`
    pub audit_table: String,
    /// `SNS_TOPIC_ARN`
    pub topic_arn: String,
    /// `TARGET_REGION`, else `AWS_REGION`: the Region this function runs in.
    pub target_region: String,
    /// `MASTER_SECRET_NAME`, else `aurora-restore/{environment}/master-credentials`.
    pub master_secret: String,
    /// `APP_SECRET_NAME`, else `aurora-restore/{environment}/app-credentials`.
    pub app_secret: String,
    /// `SECRET_CACHE_TTL`, seconds; default 300.
    pub secret_cache_seconds: u64,
    /// `MAX_WAIT_SECONDS`: upper bound of every `wait_seconds`. For stacks whose RDS is quick; absent in AWS.
    pub max_wait_seconds: Option<u64>,
    /// `RDS_CALLS_PER_SECOND`: how many calls a second RDS gets, in each Region, from all functions that share
    /// `rds_calls_table`; absent for no bound.
    pub rds_calls_per_second: Option<u64>,
    /// `RDS_CALLS_TABLE_NAME`: the table that gives out these calls, which deployments can share; the state table when left out.
    pub rds_calls_table: String,
    /// `DATABASE_CA_FILE`: PEM file of the roots that database servers are verified against, instead of RDS's own.
    pub database_ca_file: Option<String>,
    /// What a request that does not say takes from the environment.
    pub defaults: Defaults,
    /// Who acts, for the audit trail: the function's name.
    pub actor: String,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// `Internal`, naming every variable that is missing or wrong.
    pub fn from_env(env: &Env) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let mut required = |name: &str| {
            env.get(name).unwrap_or_else(|| {
                wrong.push(format!("{name} is not set"));
                String::new()
            })
        };
        let environment = required("ENVIRONMENT");
        let state_table = required("STATE_TABLE_NAME");
        let audit_table = required("AUDIT_TABLE_NAME");
        let topic_arn = required("SNS_TOPIC_ARN");
        let target_region = env.get("TARGET_REGION").or_else(|| env.get("AWS_REGION"));
        if target_region.is_none() {
            wrong.push("TARGET_REGION is not set".into());
        }
        let mut number = |name: &str, of: &str| {
            let text = env.get(name)?;
            let parsed = text.parse::<u64>().ok();
            if parsed.is_none() {
                wrong.push(format!("{name} is '{text}'; takes a whole number of {of}"));
            }
            parsed
        };
        let secret_cache_seconds = number("SECRET_CACHE_TTL", "seconds").unwrap_or(300);
        let max_wait_seconds = number("MAX_WAIT_SECONDS", "seconds");
        let rds_calls_per_second = number("RDS_CALLS_PER_SECOND", "calls").filter(|calls| *calls > 0);
        if !wrong.is_empty() {
            return Err(Failure::new(
                ErrorName::Internal,
                format!("the function's environment is incomplete: {}", wrong.join("; ")),
            )
            .left("nothing was touched")
            .next("set the variables on the Lambda function (README.md lists them)"));
        }
        let secret = |variable: &str, what: &str| {
            env.get(variable).unwrap_or_else(|| format!("aurora-restore/{environment}/{what}"))
        };
        Ok(Self {
            rds_calls_table: env.get("RDS_CALLS_TABLE_NAME").unwrap_or_else(|| state_table.clone()),
            master_secret: secret("MASTER_SECRET_NAME", "master-credentials"),
            app_secret: secret("APP_SECRET_NAME", "app-credentials"),
            state_table,
            audit_table,
            topic_arn,
            secret_cache_seconds,
            max_wait_seconds,
            rds_calls_per_second,
            database_ca_file: env.get("DATABASE_CA_FILE"),
            defaults: Defaults {
                source_region: env.get("SOURCE_REGION"),
                source_cluster_id: env.get("SOURCE_CLUSTER_ID"),
                target_region: target_region.clone(),
                target_cluster_id: env.get("TARGET_CLUSTER_ID"),
                kms_key_id: env.get("KMS_KEY_ID"),
                masking_folder: env.get("MASKING_FOLDER"),
            },
            target_region: target_region.unwrap_or_default(),
            actor: env.get("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| "aurora-restore".into()),
            environment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_variable_is_named_at_once() {
        let failure = Config::from_env(&Env::fake([("ENVIRONMENT", "dev"), ("SECRET_CACHE_TTL", "soon")])).unwrap_err();
        for name in
            ["STATE_TABLE_NAME", "AUDIT_TABLE_NAME", "SNS_TOPIC_ARN", "TARGET_REGION", "SECRET_CACHE_TTL is 'soon'"]
        {
            assert!(failure.what.contains(name), "{name} in {failure}");
        }
    }

    #[test]
    fn calls_are_counted_in_the_state_table_unless_a_table_is_named() {
        let of = |calls_table| {
            let given = [
                ("ENVIRONMENT", "dev"),
                ("STATE_TABLE_NAME", "s"),
                ("AUDIT_TABLE_NAME", "a"),
                ("SNS_TOPIC_ARN", "t"),
                ("AWS_REGION", "us-west-2"),
                ("RDS_CALLS_TABLE_NAME", calls_table),
            ];
            Config::from_env(&Env::fake(given)).unwrap().rds_calls_table
        };
        assert_eq!([of(""), of("shared")], ["s", "shared"]);
    }

    #[test]
    fn secret_names_follow_the_environment() {
        let config = Config::from_env(&Env::fake([
            ("ENVIRONMENT", "staging"),
            ("STATE_TABLE_NAME", "s"),
            ("AUDIT_TABLE_NAME", "a"),
            ("SNS_TOPIC_ARN", "t"),
            ("AWS_REGION", "us-west-2"),
        ]))
        .unwrap();
        assert_eq!(config.master_secret, "aurora-restore/staging/master-credentials");
        assert_eq!(config.defaults.target_region.as_deref(), Some("us-west-2"));
    }
}

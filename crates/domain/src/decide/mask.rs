//! The next masking script to run. Scripts run in the order of their names, each once; what has run may not change behind
//! our back.

use crate::failure::{ErrorName, Failure};
use crate::operation::MaskedScript;

/// A script as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its path below where the scripts are.
    pub name: String,
    /// Of its text.
    pub sha256: String,
    /// Where it runs.
    pub database: String,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run the script at this position.
    Run(usize),
    /// All have run.
    Done,
    /// What is there does not fit what has run.
    Refuse(Failure),
}

/// Decides by the scripts in their order and those that have run.
pub fn decide(scripts: &[Script], ran: &[MaskedScript]) -> Decision {
    for (position, done) in ran.iter().enumerate() {
        let next = "put back what ran, or start a new operation, which restores the data as it was";
        let refuse = |what: String| {
            Decision::Refuse(Failure::new(ErrorName::InvalidRequest, format!("masking: {what}")).next(next))
        };
        match scripts.get(position) {
            // The master's own database is the secret's to say, which may have changed.
            Some(script) if script.name == done.name && script.database != done.database => {
                let (name, then, now) = (&done.name, &done.database, &script.database);
                return refuse(format!("script {name} has run in database {then} and would run in {now} now"));
            }
            Some(script) if script.name == done.name && script.sha256 == done.sha256 => {}
            Some(script) if script.name == done.name => {
                return refuse(format!("script {} has run and has another text now", done.name));
            }
            Some(script) => {
                return refuse(format!(
                    "script {} stands where {} ran: scripts are only added behind those that have run",
                    script.name, done.name
                ));
            }
            None => return refuse(format!("script {} has run and is gone", done.name)),
        }
    }
    if ran.len() < scripts.len() { Decision::Run(ran.len()) } else { Decision::Done }
}

/// The database that a script runs in: its folder's name, or the master's own.
pub fn database_of<'a>(name: &'a str, master_database: &'a str) -> &'a str {
    name.rsplit_once('/').map_or(master_database, |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(names: &[(&str, &str)]) -> Vec<Script> {
        names
            .iter()
            .map(|(name, sha)| Script { name: (*name).into(), sha256: (*sha).into(), database: "app".into() })
            .collect()
    }

    fn ran(names: &[(&str, &str)]) -> Vec<MaskedScript> {
        let done = |(name, sha): &(&str, &str)| MaskedScript {
            name: (*name).into(),
            sha256: (*sha).into(),
            database: "app".into(),
            statements: Some(1),
            finished_at: String::new(),
        };
        names.iter().map(done).collect()
    }

    #[test]
    fn one_after_the_other() {
        let all = scripts(&[("app/1.sql", "a"), ("app/2.sql", "b")]);
        assert_eq!(decide(&all, &[]), Decision::Run(0));
        assert_eq!(decide(&all, &ran(&[("app/1.sql", "a")])), Decision::Run(1));
        assert_eq!(decide(&all, &ran(&[("app/1.sql", "a"), ("app/2.sql", "b")])), Decision::Done);
    }

    #[test]
    fn what_ran_stays_as_it_was() {
        let done = ran(&[("app/1.sql", "a")]);
        for (now, word) in [
            (scripts(&[("app/1.sql", "changed")]), "another text"),
            (scripts(&[("app/0.sql", "x"), ("app/1.sql", "a")]), "stands where"),
            (scripts(&[]), "is gone"),
            (
                vec![Script { database: "other".into(), ..scripts(&[("app/1.sql", "a")]).remove(0) }],
                "has run in database app and would run in other now",
            ),
        ] {
            assert!(matches!(decide(&now, &done), Decision::Refuse(f) if f.what.contains(word)), "{word}");
        }
    }

    #[test]
    fn the_folder_names_the_database() {
        assert_eq!(database_of("app/1.sql", "postgres"), "app");
        assert_eq!(database_of("1.sql", "postgres"), "postgres");
    }
}

//! What is known of a masking script on MySQL, where a change of a schema commits at once, tables of some engines take nothing
//! back, and a procedure may do both.
//!
//! The first thing in a script's transaction is a mark, and the last is that the mark says done, as on PostgreSQL. What
//! commits in between commits the mark too. So one that is there and does not say done belongs to a script that has stayed in
//! part; without one, all of it was rolled back. Where a script could keep something and lose its mark, the mark is
//! committed before the script begins ([`marked_first`]).

/// A script's mark as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Of the text that it was set for.
    pub sha256: String,
    /// Whether that ran to its end.
    pub done: bool,
}

/// What to do with a script.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing of it is there: run it.
    Run,
    /// It has run.
    HasRun,
    /// It cannot run on this data any more; follows its name.
    Spoiled(&'static str),
}

/// Decides by the mark of an earlier try, when nobody is at the script.
pub fn decide(mark: Option<&Mark>, sha256: &str) -> Decision {
    match mark {
        None => Decision::Run,
        Some(mark) if !mark.done => {
            Decision::Spoiled("was begun in an earlier try and did not end: a part of it has stayed")
        }
        Some(mark) if mark.sha256 == sha256 => Decision::HasRun,
        Some(_) => Decision::Spoiled("has run with another text"),
    }
}

/// Words with which a script could take its mark back and go on: a rollback of its own, or what runs elsewhere and may hold
/// one. Functions and triggers may not end a transaction.
const MAY_ROLL_BACK: [&str; 5] = ["ROLLBACK", "CALL", "EXECUTE", "HANDLER", "XA"];

/// Why the mark of a script is to be committed before the script begins; `None` when it need not. `fixed` is a table that
/// takes nothing back. A word counts wherever it stands, in a comment too: how a text is read depends on settings that the script
/// may change, and to look for too many costs a second try, for too few the data.
pub fn marked_first(sql: &str, fixed: Option<&str>) -> Option<String> {
    if let Some(table) = fixed {
        return Some(format!("{table} takes no change back"));
    }
    let found = MAY_ROLL_BACK.into_iter().find(|word| words(sql).any(|other| other.eq_ignore_ascii_case(word)));
    found.map(|word| format!("it has the word {word}, after which a transaction may be another one"))
}

fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
}

/// Where the marks are.
pub const MARKS_DATABASE: &str = "aurora_restore_masking";

/// Why a script cannot be run on any server, found before there is one; follows its name and a comma.
pub fn refusal(sql: &str) -> Option<String> {
    let is_delimiter =
        |line: &str| words(line.trim_start()).next().is_some_and(|word| word.eq_ignore_ascii_case("DELIMITER"));
    if words(sql).any(|word| word.eq_ignore_ascii_case(MARKS_DATABASE)) {
        return Some(format!("which names {MARKS_DATABASE}: masking keeps its own marks there"));
    }
    let line = sql.lines().position(is_delimiter)?;
    Some(format!(
        "line {}: DELIMITER is a command of the mysql client and not of the server, which knows the end of a routine without it",
        line + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_decide() {
        let mark = |done| Mark { sha256: "a".into(), done };
        assert_eq!(decide(None, "a"), Decision::Run);
        assert_eq!(decide(Some(&mark(true)), "a"), Decision::HasRun);
        for (mark, sha256, words) in [
            (mark(true), "b", "another text"),
            (mark(false), "a", "a part of it has stayed"),
            // Mended, it is no better: its data is not what it was written for.
            (mark(false), "b", "a part of it has stayed"),
        ] {
            assert!(matches!(decide(Some(&mark), sha256), Decision::Spoiled(why) if why.contains(words)), "{words}");
        }
    }

    #[test]
    fn scripts_that_may_lose_their_mark() {
        for sql in [
            "UPDATE a SET b = 1; rollback; UPDATE a SET b = 2",
            "Call mask()",
            "/*!50003 CALL*/mask()",
            "SET @x = 'ROLL'; EXECUTE IMMEDIATE concat(@x, 'BACK')",
            "DECLARE CONTINUE HANDLER FOR 1213",
            "XA START 'x'",
        ] {
            assert!(marked_first(sql, None).is_some(), "{sql}");
        }
        for sql in
            ["UPDATE a SET recalled = xa2 + rollback_count", "ALTER TABLE a DROP b; COMMIT", "SELECT `caller`", ""]
        {
            assert_eq!(marked_first(sql, None), None, "{sql}");
        }
        let why = marked_first("SELECT 1", Some("table shop.log of engine MyISAM"));
        assert_eq!(why.as_deref(), Some("table shop.log of engine MyISAM takes no change back"));
    }

    #[test]
    fn commands_of_the_client() {
        let refused = refusal("SELECT 1;\n  delimiter //\nCREATE").unwrap_or_default();
        assert!(refused.starts_with("line 2: DELIMITER is a command of the mysql client"), "{refused}");
        let refused = refusal("DELETE FROM `Aurora_Restore_Masking`.marks").unwrap_or_default();
        assert!(refused.starts_with("which names aurora_restore_masking"), "{refused}");
        for sql in ["SELECT delimiter FROM a", "UPDATE a SET\n delimiters = 1", "-- DELIMITER"] {
            assert_eq!(refusal(sql), None, "{sql}");
        }
    }
}

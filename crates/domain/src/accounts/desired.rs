//! What a declaration must hold besides what holds for both engines.

use super::Account;
use crate::roles::Desired;

/// The longest user name: 32 characters (MySQL 5.7 and later).
const USER_CHARACTERS_MAX: usize = 32;

/// Checks a declaration for MySQL: everything that is wrong with it.
pub fn check(desired: &Desired) -> Vec<String> {
    let mut problems = vec![];
    for user in desired.declared() {
        let (key, name) = (&user.key, user.role.as_str());
        let length = name.chars().count();
        if length > USER_CHARACTERS_MAX {
            problems.push(format!("the username of {key} has {length} characters; MySQL takes {USER_CHARACTERS_MAX}"));
        }
        if Account::everywhere(name).is_servers_own() {
            problems.push(format!(
                "{key} declares the user {name}, a name that the server keeps for itself (mysql.…, rds…, aws_…)"
            ));
        }
        // The server compares with trailing spaces cut off, or not, by version and place.
        if name.ends_with(' ') {
            problems.push(format!("{key} declares the user {name:?}, whose name ends in a space"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::{DeclaredUser, InheritedLogins, RoleName};
    use std::collections::BTreeSet;

    #[test]
    fn names_that_mysql_would_not_take() {
        let of = |name: &str| {
            let user = DeclaredUser::from_secret("devops_user", name).unwrap();
            let master = RoleName::try_from("master").unwrap();
            check(&Desired::new(&master, vec![user], InheritedLogins::Lock, BTreeSet::new()).unwrap()).join("; ")
        };
        assert_eq!(of("ops"), "");
        assert_eq!(of(&"ü".repeat(31)), "");
        assert_eq!(of(&"x".repeat(33)), "the username of devops_user has 33 characters; MySQL takes 32");
        assert!(of("mysql.sys").ends_with("keeps for itself (mysql.…, rds…, aws_…)"));
        assert!(of("ops ").ends_with("ends in a space"));
    }
}

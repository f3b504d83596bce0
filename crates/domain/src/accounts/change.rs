//! One change of the server, small enough to be described in one line and repeated without harm.

use super::{Account, Privilege, Scope};
use crate::roles::Authentication;
use std::collections::BTreeSet;
use std::fmt;

/// A change of one attribute of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountAttribute {
    /// It must use TLS, and need not show a certificate of its own.
    NoCertificate,
    /// Its password does not expire.
    NoExpiry,
    /// It can log in.
    Unlocked,
}

impl AccountAttribute {
    /// The option of `ALTER USER`.
    pub fn as_sql(self) -> &'static str {
        match self {
            Self::NoCertificate => "REQUIRE SSL",
            Self::NoExpiry => "PASSWORD EXPIRE NEVER",
            Self::Unlocked => "ACCOUNT UNLOCK",
        }
    }
}

/// One change. The order of the variants is the order of the work: everybody else is locked out, the declared accounts get
/// their passwords (or none, for tokens) and lose what is too much, and only then can they log in. A run that ends in between leaves nobody with
/// production's password or too many rights let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountChange {
    /// An inherited login can no longer log in.
    Lock {
        /// The login.
        account: Account,
    },
    /// A declared account cannot log in until it is set up.
    Close {
        /// The account.
        account: Account,
    },
    /// A role is taken away.
    RevokeRole {
        /// The role.
        role: Account,
        /// From whom.
        member: Account,
    },
    /// Sessions under a locked account's user name end.
    EndSessions {
        /// The user name.
        user: String,
    },
    /// A declared account is made, with no rights.
    Create {
        /// The account.
        account: Account,
        /// With the declared password, or for tokens.
        login: Authentication,
    },
    /// A declared account gets the declared password, which is kept elsewhere.
    SetPassword {
        /// The account.
        account: Account,
    },
    /// A declared account takes IAM tokens, and no password any more.
    TakeTokens {
        /// The account.
        account: Account,
    },
    /// A second password that worked beside the first works no more.
    DiscardFormerPassword {
        /// The account.
        account: Account,
    },
    /// All rights end, on everything: those that are wanted follow. For what the master does not hold itself and so may not
    /// take away one by one.
    RevokeAll {
        /// Who loses them.
        account: Account,
    },
    /// Rights end.
    Revoke {
        /// Who loses them.
        account: Account,
        /// Where.
        scope: Scope,
        /// Which.
        privileges: BTreeSet<Privilege>,
    },
    /// Rights begin.
    Grant {
        /// Who gets them.
        account: Account,
        /// Where.
        scope: Scope,
        /// Which.
        privileges: BTreeSet<Privilege>,
    },
    /// A declared account that exists is given the attributes of an ordinary login.
    SetAttributes {
        /// The account.
        account: Account,
        /// What changes.
        attributes: BTreeSet<AccountAttribute>,
    },
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for AccountChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock { account } => write!(f, "lock the inherited login {account}"),
            Self::Close { account } => write!(f, "lock {account} until it is set up"),
            Self::RevokeRole { role, member } => write!(f, "revoke the role {role} from {member}"),
            Self::EndSessions { user } => write!(f, "end the sessions of {user}"),
            Self::Create { account, login: Authentication::Password } => write!(f, "create the user {account}"),
            Self::Create { account, login: Authentication::Iam } => {
                write!(f, "create the user {account}, who logs in with IAM tokens")
            }
            Self::SetPassword { account } => write!(f, "set the password of {account}"),
            Self::TakeTokens { account } => write!(f, "let {account} log in with IAM tokens and no password"),
            Self::DiscardFormerPassword { account } => write!(f, "discard the former password of {account}"),
            Self::RevokeAll { account } => write!(f, "revoke all rights from {account}"),
            Self::Revoke { account, scope, privileges } => {
                write!(f, "revoke {} on {scope} from {account}", list(privileges.iter().map(Privilege::as_str)))
            }
            Self::Grant { account, scope, privileges } => {
                write!(f, "grant {} on {scope} to {account}", list(privileges.iter().map(Privilege::as_str)))
            }
            Self::SetAttributes { account, attributes } => {
                write!(f, "make {account} {}", list(attributes.iter().map(|attribute| attribute.as_sql())))
            }
        }
    }
}

/// The changes in words, one line each, no password among them: for the state, the audit trail and people.
pub fn describe(changes: &[AccountChange]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

//! Identifiers, parsed once and trusted afterwards. Names and rules are RDS's own (RDS API reference).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not the identifier it should be. `Display` is a fragment that follows the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(pub String);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                $check(text).map($name)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One restore: 1 to 80 letters, digits, `-`, `_`, `.` (what an execution name may be, less what needs escaping) and
    /// `:` (so that it can carry a schedule's time).
    OperationId, operation_id
}
text_id! {
    /// `DBClusterIdentifier`: 1 to 63 lower-case letters, digits and single hyphens, starting with a letter.
    ClusterId, rds_identifier
}
text_id! {
    /// `DBInstanceIdentifier`; the same rules as a cluster's.
    InstanceId, rds_identifier
}
text_id! {
    /// A manual `DBClusterSnapshotIdentifier`, the only kind that a copy may be given.
    SnapshotId, rds_identifier
}
text_id! {
    /// A commercial AWS Region by its code, for instance `eu-central-1`.
    Region, region
}

fn operation_id(text: String) -> Result<String, IdError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if text.is_empty() || text.len() > 80 || !text.chars().all(legal) {
        return Err(IdError("takes 1 to 80 letters, digits, '-', '_', '.' or ':'".into()));
    }
    Ok(text)
}

/// The rule of RDS identifiers; RDS stores them in lower case, so they are compared in lower case.
fn rds_identifier(text: String) -> Result<String, IdError> {
    let takes = "takes 1 to 63 letters, digits and hyphens, starts with a letter";
    let wrong = |why: &str| Err(IdError(format!("{why}; {takes}")));
    if text.is_empty() {
        return wrong("is empty");
    }
    if text.len() > 63 {
        return wrong(&format!("is {} characters long", text.len()));
    }
    if text.starts_with("rds:") {
        return wrong("starts with 'rds:', which names automated snapshots only");
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return wrong(&format!("holds the character {c:?}"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return wrong("does not start with a letter");
    }
    if text.ends_with('-') {
        return wrong("ends with a hyphen");
    }
    if text.contains("--") {
        return wrong("holds two hyphens in a row");
    }
    Ok(text.to_ascii_lowercase())
}

/// The commercial Regions with Aurora. GovCloud (US) and China are absent on purpose: a copy there needs a
/// presigned URL or is not possible at all (Aurora guide).
pub const REGIONS: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

fn region(text: String) -> Result<String, IdError> {
    if REGIONS.contains(&text.as_str()) {
        return Ok(text);
    }
    if text.starts_with("us-gov-") || text.starts_with("cn-") {
        return Err(IdError(
            "is in a partition that cross-Region copies of this tool do not reach (GovCloud, China)".into(),
        ));
    }
    Err(IdError("is not a Region of AWS that this version knows; takes a code like 'eu-central-1'".into()))
}

/// The parts of an ARN that decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `rds`, `kms`, …
    pub service: &'a str,
    /// Region code; empty for global services.
    pub region: &'a str,
    /// Twelve digits.
    pub account: &'a str,
    /// All that follows the account.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Splits `arn:partition:service:region:account:resource`; `None` when it is not that.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next() != Some("arn") {
            return None;
        }
        let _partition = parts.next()?;
        let (service, region, account) = (parts.next()?, parts.next()?, parts.next()?);
        let resource = parts.next().filter(|resource| !resource.is_empty())?;
        Some(Self { service, region, account, resource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn illegal_cluster_ids_are_refused_with_their_reason() {
        for (text, why) in [
            ("", "empty"),
            ("a--b", "two hyphens"),
            ("a-", "ends with a hyphen"),
            ("1a", "start with a letter"),
            ("rds:prod-2026", "automated snapshots"),
            ("a_b", "'_'"),
            ("a".repeat(64).as_str(), "64 characters"),
        ] {
            let error = ClusterId::try_from(text).unwrap_err();
            assert!(error.to_string().contains(why), "{text:?}: {error}");
        }
        assert_eq!(ClusterId::try_from("Staging-1").unwrap().as_str(), "staging-1");
    }

    #[test]
    fn unknown_and_unreachable_regions_differ() {
        assert!(Region::try_from("eu-west-1").is_ok());
        assert!(Region::try_from("eu-west-9").unwrap_err().to_string().contains("not a Region"));
        assert!(Region::try_from("cn-north-1").unwrap_err().to_string().contains("China"));
    }

    #[test]
    fn arns_split_into_their_parts() {
        let arn = Arn::parse("arn:aws:rds:us-east-1:123456789012:cluster-snapshot:rds:prod-2026").unwrap();
        assert_eq!((arn.region, arn.account), ("us-east-1", "123456789012"));
        assert_eq!(arn.resource, "cluster-snapshot:rds:prod-2026");
        assert_eq!(Arn::parse("arn:aws:rds:us-east-1:1"), None);
        assert_eq!(Arn::parse("snapshot"), None);
    }

    proptest! {
        #[test]
        fn a_parsed_id_parses_again_to_itself(text in "[a-zA-Z0-9:_-]{0,70}") {
            if let Ok(id) = ClusterId::try_from(text.as_str()) {
                prop_assert_eq!(ClusterId::try_from(id.as_str()).unwrap(), id);
            }
        }
    }
}

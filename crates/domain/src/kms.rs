//! What to do when KMS refuses: which key, on which side, which permissions, and the statement to add. RDS says only that
//! a key cannot be used, and a copy needs two.

use serde_json::json;

/// What a copy does with the key of the snapshot that it reads.
const READ: [&str; 3] = ["kms:DescribeKey", "kms:Decrypt", "kms:CreateGrant"];
/// What a copy or a restore does with the key that it encrypts with.
const WRITE: [&str; 5] =
    ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"];

/// A key that a call to RDS uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Id, alias or ARN.
    pub id: &'a str,
    /// The Region that it is in.
    pub region: &'a str,
}

/// What a person can do about a copy from a snapshot under `source` to one under `target`.
pub fn of_copy(source: Option<Key<'_>>, target: Option<Key<'_>>) -> String {
    let read = source.map(|key| side("the snapshot's", key, &READ));
    let write = target.map(|key| side("the copy's", key, &WRITE));
    let sides: Vec<String> = read.into_iter().chain(write).collect();
    let which = if sides.len() > 1 { "RDS does not say which of the two keys it means: check " } else { "check " };
    format!("{which}{}; then start again under the same operation_id", sides.join(", and "))
}

/// What a person can do about a restore of a cluster under `key`.
pub fn of_restore(key: Key<'_>) -> String {
    format!("check {}; then start again under the same operation_id", side("the restored cluster's", key, &WRITE))
}

fn side(whose: &str, key: Key<'_>, actions: &[&str]) -> String {
    let Key { id, region } = key;
    let statement = json!({
        "Effect": "Allow",
        "Principal": { "AWS": "the role of this function" },
        "Action": actions,
        "Resource": "*",
        "Condition": { "StringEquals": { "kms:ViaService": format!("rds.{region}.amazonaws.com") } },
    });
    format!(
        "{whose} key {id} in {region} (`aws kms describe-key --region {region} --key-id {id}` must say Enabled; its key policy, and where the key is another account's the role's policy too, needs {statement})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_names_both_sides() {
        let text = of_copy(
            Some(Key { id: "source-key", region: "us-east-1" }),
            Some(Key { id: "alias/t", region: "us-west-2" }),
        );
        for word in [
            "which of the two",
            "the snapshot's key source-key in us-east-1",
            "the copy's key alias/t in us-west-2",
            "kms:Decrypt",
            "kms:GenerateDataKey*",
            "rds.us-west-2.amazonaws.com",
        ] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn a_restore_has_one() {
        let text = of_restore(Key { id: "k", region: "us-west-2" });
        assert!(text.starts_with("check the restored cluster's key k in us-west-2"), "{text}");
    }
}

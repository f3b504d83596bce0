//! Audit records: append-only, begun and finished around every mutating call, each with the hash of the one before.

use crate::ids::OperationId;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// `outcome` of a call whose end was not recorded, see [`Record::orphan`].
pub const UNKNOWN_OUTCOME: &str = "unknown";

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A mutating call is about to be made.
    Begun,
    /// It was made, or it failed.
    Finished,
    /// Something worth keeping that is no call: a refusal, a lock taken, an outcome.
    Event,
}

/// What happened, before it gets its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What this says.
    pub phase: Phase,
    /// The step that acts.
    pub step: Step,
    /// `service:Action`, for instance `rds:DeleteDBCluster`; `aurora-restore:…` for events.
    pub action: String,
    /// ARN or name of the object.
    pub resource: String,
    /// The Lambda function or person that acts.
    pub actor: String,
    /// `ok` or the error's name; only for [`Phase::Finished`].
    pub outcome: Option<String>,
    /// AWS's id of the request.
    pub request_id: Option<String>,
    /// Parameters and reasons. Never a secret.
    pub detail: Value,
}

/// A record of the audit table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Partition key.
    pub operation_id: OperationId,
    /// Sort key: microseconds since the epoch, unique and rising within the operation.
    pub timestamp: i64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
    /// `hash` of the record before; empty for the first.
    pub previous_hash: String,
    /// SHA-256 over all of the above, in hex.
    pub hash: String,
}

impl Record {
    /// Puts `entry` after the record with `previous`'s timestamp and hash. The timestamp is `now` unless that would
    /// not come after `previous`, for instance when two functions' clocks disagree.
    ///
    /// Numbers in `detail` are brought into the form that DynamoDB keeps: it returns 4.0 as 4, and the hash must be that
    /// of what can be read back.
    pub fn chain(
        operation_id: &OperationId,
        mut entry: Entry,
        previous: Option<(i64, &str)>,
        now_microseconds: i64,
    ) -> Self {
        entry.detail = as_stored(entry.detail);
        let timestamp = previous.map_or(now_microseconds, |(last, _)| now_microseconds.max(last + 1));
        let previous_hash = previous.map_or_else(String::new, |(_, hash)| hash.to_owned());
        let mut record =
            Self { operation_id: operation_id.clone(), timestamp, entry, previous_hash, hash: String::new() };
        record.hash = record.digest();
        record
    }

    /// The entry that closes this record before `next`, if this is a begun call whose end nobody recorded: the function
    /// was ended between the two, and nobody knows whether the call had its effect.
    pub fn orphan(&self, next: &Entry) -> Option<Entry> {
        let own_end = next.phase == Phase::Finished
            && (&next.action, &next.resource) == (&self.entry.action, &self.entry.resource);
        if self.entry.phase != Phase::Begun || own_end {
            return None;
        }
        Some(Entry {
            phase: Phase::Finished,
            outcome: Some(UNKNOWN_OUTCOME.to_owned()),
            request_id: None,
            detail: Value::String(
                "the function ended before it could record the outcome; the next one looks first".to_owned(),
            ),
            ..self.entry.clone()
        })
    }

    /// Whether the record is what was written.
    pub fn is_intact(&self) -> bool {
        self.hash == self.digest()
    }

    /// The fields in a fixed order, JSON-encoded so that no field can run into the next. Maps inside `detail` are
    /// sorted by key (`serde_json` without `preserve_order`), so the hash survives the way through DynamoDB.
    fn digest(&self) -> String {
        let Entry { phase, step, action, resource, actor, outcome, request_id, detail } = &self.entry;
        let fields = serde_json::json!([
            self.operation_id,
            self.timestamp,
            phase,
            step,
            action,
            resource,
            actor,
            outcome,
            request_id,
            detail,
            self.previous_hash
        ]);
        hex::encode(Sha256::digest(fields.to_string().as_bytes()))
    }
}

/// `value` with whole floating-point numbers as integers.
fn as_stored(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Within ±2^53 the conversion is exact.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(as_stored).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, as_stored(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

/// The first thing that is wrong with a trail, oldest record first: `(index, reason)`; `None` when it holds.
pub fn first_break(trail: &[Record]) -> Option<(usize, &'static str)> {
    let mut previous: Option<&Record> = None;
    for (index, record) in trail.iter().enumerate() {
        if !record.is_intact() {
            return Some((index, "the record is not what was written"));
        }
        if record.previous_hash != previous.map_or("", |record| record.hash.as_str()) {
            return Some((index, "the record before it is missing or another one"));
        }
        previous = Some(record);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(action: &str) -> Entry {
        Entry {
            phase: Phase::Begun,
            step: Step::DeleteCluster,
            action: action.into(),
            resource: "staging".into(),
            actor: "delete-cluster".into(),
            outcome: None,
            request_id: None,
            detail: json!({"b": 1, "a": 2}),
        }
    }

    fn trail() -> Vec<Record> {
        let id = OperationId::try_from("op").unwrap();
        let mut trail: Vec<Record> = Vec::new();
        for (action, now) in [("a", 10), ("b", 5), ("c", 30)] {
            let previous = trail.last().map(|record| (record.timestamp, record.hash.as_str()));
            let record = Record::chain(&id, entry(action), previous, now);
            trail.push(record);
        }
        trail
    }

    #[test]
    fn timestamps_rise_even_if_clocks_do_not() {
        let timestamps: Vec<_> = trail().iter().map(|record| record.timestamp).collect();
        assert_eq!(timestamps, [10, 11, 30]);
        assert_eq!(first_break(&trail()), None);
    }

    #[test]
    fn a_changed_or_missing_record_shows() {
        let mut changed = trail();
        changed[1].entry.resource = "production".into();
        assert_eq!(first_break(&changed), Some((1, "the record is not what was written")));
        let mut missing = trail();
        missing.remove(1);
        assert_eq!(first_break(&missing).map(|(index, _)| index), Some(1));
    }

    #[test]
    fn a_begun_call_is_closed_by_its_own_end_or_by_the_next_entry() {
        let begun = &trail()[0];
        let end = Entry { phase: Phase::Finished, ..begun.entry.clone() };
        assert_eq!(begun.orphan(&end), None);
        let closing = begun.orphan(&entry("another")).unwrap();
        assert_eq!((closing.phase, closing.outcome.as_deref()), (Phase::Finished, Some(UNKNOWN_OUTCOME)));
        assert_eq!(closing.action, begun.entry.action);
        // The same call begun once more: the first one's end is unknown, too.
        assert!(begun.orphan(&begun.entry).is_some());
    }

    #[test]
    fn the_hash_survives_numbers_as_dynamodb_keeps_them() {
        let mut fractions = entry("a");
        fractions.detail = json!({"scaling": [{"min_acu": 0.5, "max_acu": 4.0}], "count": 3});
        let record = Record::chain(&OperationId::try_from("op").unwrap(), fractions, None, 1);
        assert_eq!(record.entry.detail.to_string(), r#"{"count":3,"scaling":[{"max_acu":4,"min_acu":0.5}]}"#);
        assert!(record.is_intact());
    }

    #[test]
    fn the_hash_survives_storage() {
        let record = &trail()[0];
        let stored: Record = serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap();
        assert!(stored.is_intact());
    }
}

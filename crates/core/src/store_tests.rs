use super::*;
use crate::audit::Audit;
use crate::aws::replay::Wire;
use crate::clock::Clock;
use aurora_restore_domain::audit::{Entry, Phase};
use aurora_restore_domain::lock::Lock;
use aurora_restore_domain::operation::{CopyState, FailedStep, Replaced};
use aurora_restore_domain::plan::ClusterSettings;
use aurora_restore_domain::request::{InstanceSpec, ServerlessV2};
use aurora_restore_domain::step::Step;
use aurora_restore_domain::swap::{Asked, Renaming, SwapState};
use proptest::prelude::*;
use serde_json::{Value, json};
use time::macros::datetime;

const NOW: Instant = datetime!(2026-11-21 12:00 UTC);

fn store(wire: &Wire) -> Store {
    Store::new(&wire.config(), "state")
}

fn operation() -> Operation {
    Operation::new(OperationId::try_from("op-1").unwrap(), None, NOW)
}

const CONFLICT: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"The conditional request failed"}"#;

fn asked(wire: &Wire, index: usize) -> Value {
    serde_json::from_str(&wire.asked()[index]).unwrap()
}

#[tokio::test]
async fn every_write_is_conditional_on_what_was_read() {
    let wire = Wire::new([(200, "{}"), (200, "{}"), (400, CONFLICT)]);
    let (store, mut operation) = (store(&wire), operation());
    store.create(&operation).await.unwrap();
    assert_eq!(asked(&wire, 0)["ConditionExpression"], "attribute_not_exists(operation_id)");
    store.save(&mut operation, NOW).await.unwrap();
    assert_eq!(operation.version, 1);
    let second = asked(&wire, 1);
    assert_eq!(
        (&second["ConditionExpression"], &second["ExpressionAttributeValues"][":read"]["N"]),
        (&json!("version = :read"), &json!("0"))
    );
    assert_eq!(second["Item"]["version"]["N"], "1");

    let failed = store.save(&mut operation, NOW).await.unwrap_err();
    assert_eq!(failed.name(), ErrorName::StateConflict);
    assert_eq!(operation.version, 1, "a write that failed changes nothing here either");
}

#[tokio::test]
async fn what_is_unknown_is_absent_from_the_item() {
    let wire = Wire::new([(200, "{}")]);
    store(&wire).create(&operation()).await.unwrap();
    let item = &asked(&wire, 0)["Item"];
    assert!(item.get("target").is_none(), "a NULL key attribute of an index is refused by DynamoDB: {item}");
    assert_eq!(item["status"]["S"], "running");

    // Nor inside: every write pays for the whole item.
    let mut copied = operation();
    let (id, arn, status) = ("copy".to_owned(), "arn".to_owned(), "copying".to_owned());
    copied.copy = Some(CopyState { snapshot_id: id, arn, status, made_by_us: true, percent_progress: None });
    let wire = Wire::new([(200, "{}")]);
    store(&wire).create(&copied).await.unwrap();
    assert!(asked(&wire, 0)["Item"]["copy"]["M"].get("percent_progress").is_none());
}

#[tokio::test]
async fn an_item_is_read_back_as_it_was_written() {
    let wire = Wire::new([(200, "{}")]);
    let operation = operation();
    store(&wire).create(&operation).await.unwrap();
    let answer = json!({ "Item": asked(&wire, 0)["Item"] }).to_string();
    let read = store(&Wire::new([(200, &answer)])).load(&operation.operation_id).await.unwrap();
    assert_eq!(read, operation);
}

#[tokio::test]
async fn an_operation_that_is_not_there_is_said_so() {
    let failed = store(&Wire::new([(200, "{}")])).load(&operation().operation_id).await.unwrap_err();
    assert_eq!(failed.name(), ErrorName::InvalidRequest);
    assert!(failed.to_string().contains("op-1"), "{failed}");
}

#[tokio::test]
async fn the_lock_is_taken_over_exactly_what_was_seen() {
    let wire = Wire::new([(200, "{}"), (200, "{}"), (400, CONFLICT)]);
    let store = store(&wire);
    assert_eq!(store.take_lock("us-west-2#staging", &operation(), None, NOW).await.unwrap(), 1);
    assert_eq!(asked(&wire, 0)["ConditionExpression"], "attribute_not_exists(operation_id)");
    let answer = json!({ "Item": asked(&wire, 0)["Item"] }).to_string();
    let seen = self::store(&Wire::new([(200, &answer)])).lock("us-west-2#staging").await.unwrap().unwrap();
    assert_eq!(store.take_lock("us-west-2#staging", &operation(), Some(&seen), NOW).await.unwrap(), 2);
    assert_eq!(asked(&wire, 1)["ExpressionAttributeValues"][":fence"]["N"], "1");
    let raced = store.take_lock("us-west-2#staging", &operation(), Some(&seen), NOW).await.unwrap_err();
    assert_eq!(raced.name(), ErrorName::StateConflict);
}

#[tokio::test]
async fn a_lock_that_changed_hands_stops_its_former_owner() {
    let mut operation = operation();
    operation.target = Some("us-west-2#staging".into());
    operation.fence = Some(1);
    let item = |owner: &str, fence: u64, held: bool| {
        json!({ "Item": {
            "operation_id": {"S": "lock#us-west-2#staging"}, "owner": {"S": owner}, "fence": {"N": fence.to_string()},
            "held": {"BOOL": held}, "taken_at": {"S": "2026-11-21T11:00:00.000Z"}
        }})
        .to_string()
    };
    for (answer, holds) in [
        (item("op-1", 1, true), true),
        (item("op-1", 2, true), false),
        (item("op-2", 1, true), false),
        (item("op-1", 1, false), false),
        ("{}".into(), false),
    ] {
        let checked = store(&Wire::new([(200, &answer)])).check_lock(&operation).await;
        assert_eq!(checked.is_ok(), holds, "{answer}: {checked:?}");
    }
}

#[tokio::test]
async fn a_release_frees_only_ones_own_lock() {
    let mut operation = operation();
    operation.target = Some("us-west-2#staging".into());
    operation.fence = Some(3);
    let wire = Wire::new([(200, "{}"), (400, CONFLICT)]);
    store(&wire).release_lock(&operation).await.unwrap();
    assert_eq!(asked(&wire, 0)["ConditionExpression"], "#owner = :owner AND fence = :fence");
    store(&wire).release_lock(&operation).await.unwrap();

    // Killed between taking it and recording the number.
    (operation.fence, operation.execution_arn) = (None, Some("arn:run".into()));
    let wire = Wire::new([(200, "{}")]);
    store(&wire).release_lock(&operation).await.unwrap();
    assert_eq!(asked(&wire, 0)["ConditionExpression"], "#owner = :owner AND owner_execution_arn = :execution");
}

fn entry() -> Entry {
    Entry {
        phase: Phase::Begun,
        step: Step::DeleteCluster,
        action: "rds:DeleteDBCluster".into(),
        resource: "staging".into(),
        actor: "delete-cluster".into(),
        outcome: None,
        request_id: None,
        detail: json!({ "final_snapshot_id": "f", "count": 2 }),
    }
}

fn event() -> Entry {
    Entry { phase: Phase::Event, ..entry() }
}

const TAKEN: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    "message":"Transaction cancelled, please refer cancellation reasons for specific reasons [None, ConditionalCheckFailed]",
    "CancellationReasons":[{"Code":"None"},{"Code":"ConditionalCheckFailed","Message":"The conditional request failed"}]}"#;

async fn append(wire: &Wire, entry: Entry) -> Result<(), StepError> {
    let audit = Audit::new(store(wire), "audit", Clock::fixed(NOW));
    audit.append(&OperationId::try_from("op-1").unwrap(), entry).await.map(drop)
}

/// The puts of a transaction: the record into the audit table, the end of the chain into the state table.
fn puts(wire: &Wire, index: usize) -> (Value, Value) {
    let items = asked(wire, index)["TransactItems"].clone();
    (items[0]["Put"].clone(), items[1]["Put"].clone())
}

/// A GetItem answer with the end of the chain as `puts` wrote it.
fn ends_with(head: &Value) -> String {
    json!({ "Item": head["Item"] }).to_string()
}

#[tokio::test]
async fn audit_records_follow_each_other_and_never_overwrite() {
    let wire = Wire::new([(200, "{}"), (200, "{}")]);
    append(&wire, event()).await.unwrap();
    let (first, head) = puts(&wire, 1);
    assert_eq!((&first["TableName"], &head["TableName"]), (&json!("audit"), &json!("state")));
    assert_eq!(first["ConditionExpression"], "attribute_not_exists(operation_id)");
    assert_eq!(head["ConditionExpression"], "attribute_not_exists(operation_id)");
    assert_eq!(first["Item"]["timestamp"]["N"], (NOW.unix_timestamp_nanos() / 1000).to_string());

    // Somebody else appends at the same moment: the place is taken once, then the next one is.
    let wire = Wire::new([(200, "{}"), (400, TAKEN), (200, &ends_with(&head)), (200, "{}")]);
    append(&wire, Entry { resource: "staging-1".into(), ..event() }).await.unwrap();
    let (second, moved) = puts(&wire, 3);
    assert_eq!(second["Item"]["timestamp"]["N"], (NOW.unix_timestamp_nanos() / 1000 + 1).to_string());
    assert_eq!(second["Item"]["previous_hash"], first["Item"]["hash"]);
    assert_eq!(moved["ExpressionAttributeValues"][":hash"], first["Item"]["hash"]);

    // By the very same record of another function, whose clock is as far behind: there is a record for each of them.
    let wire = Wire::new([(200, "{}"), (400, TAKEN), (200, &ends_with(&head)), (200, "{}")]);
    append(&wire, event()).await.unwrap();
    assert_eq!(puts(&wire, 3).0["Item"]["previous_hash"], first["Item"]["hash"]);
}

#[tokio::test]
async fn what_rests_on_the_end_of_the_chain_is_not_appended_after_another() {
    let wire = Wire::new([(200, "{}"), (400, TAKEN)]);
    let audit = Audit::new(store(&wire), "audit", Clock::fixed(NOW));
    let id = OperationId::try_from("op-1").unwrap();
    let first = audit.append_after(&id, entry(), None).await.unwrap();
    assert_eq!(puts(&wire, 0).1["ConditionExpression"], "attribute_not_exists(operation_id)");
    let refused = audit.append_after(&id, entry(), Some(&first)).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::StateConflict, "{refused}");
    assert_eq!(puts(&wire, 1).1["ExpressionAttributeValues"][":hash"]["S"], first.hash);
}

#[tokio::test]
async fn a_call_that_nobody_finished_is_closed_by_the_next_entry() {
    let wire = Wire::new([(200, "{}"), (200, "{}")]);
    append(&wire, entry()).await.unwrap();
    let (_, begun) = puts(&wire, 1);
    let wire = Wire::new([(200, &ends_with(&begun)), (200, "{}"), (200, "{}")]);
    append(&wire, Entry { action: "rds:DeleteDBInstance".into(), ..entry() }).await.unwrap();
    let (closing, _) = puts(&wire, 1);
    assert_eq!(
        (&closing["Item"]["action"]["S"], &closing["Item"]["phase"]["S"]),
        (&json!("rds:DeleteDBCluster"), &json!("finished"))
    );
    assert_eq!(closing["Item"]["outcome"]["S"], "unknown");
    assert_eq!(puts(&wire, 2).0["Item"]["action"]["S"], "rds:DeleteDBInstance");
}

#[tokio::test]
async fn within_an_invocation_the_end_of_the_chain_is_read_once() {
    let finished = || Entry { phase: Phase::Finished, outcome: Some("ok".into()), ..entry() };
    let ids = ["op-1", "op-2"].map(|id| OperationId::try_from(id).unwrap());
    let wire = Wire::new([(200, "{}"), (200, "{}")]);
    append(&wire, event()).await.unwrap();
    let (_, head) = puts(&wire, 1);

    let look = ends_with(&head);
    let wire = Wire::new([
        (200, "{}"),
        (200, "{}"),
        (200, "{}"),
        (200, "{}"),
        (200, "{}"),
        (400, TAKEN),
        (200, &look),
        (200, "{}"),
        (200, "{}"),
        (200, "{}"),
    ]);
    let audit = Audit::new(store(&wire), "audit", Clock::fixed(NOW));
    let begun = audit.append(&ids[0], entry()).await.unwrap();
    audit.append(&ids[0], finished()).await.unwrap();
    assert_eq!(puts(&wire, 2).0["Item"]["previous_hash"]["S"], begun.hash);
    // The next invocation looks.
    audit.forget_end();
    let begun = audit.append(&ids[0], entry()).await.unwrap();
    assert_eq!(asked(&wire, 3)["Key"]["operation_id"]["S"], "audit#op-1");
    // Something came between: then it looks, too.
    audit.append(&ids[0], finished()).await.unwrap();
    assert_eq!(puts(&wire, 5).0["Item"]["previous_hash"]["S"], begun.hash);
    assert_eq!(puts(&wire, 7).0["Item"]["previous_hash"], head["Item"]["last"]["M"]["hash"]);
    // And at another operation's chain.
    audit.append(&ids[1], entry()).await.unwrap();
    assert_eq!(asked(&wire, 8)["Key"]["operation_id"]["S"], "audit#op-2");
}

#[tokio::test]
async fn a_call_is_announced_only_under_its_own_lock() {
    let mut operation = operation();
    (operation.target, operation.fence) = (Some("us-west-2#staging".into()), Some(3));
    let wire = Wire::new([(200, "{}"), (200, "{}")]);
    Audit::new(store(&wire), "audit", Clock::fixed(NOW)).append_under_lock(&operation, entry()).await.unwrap();
    let check = asked(&wire, 1)["TransactItems"][2]["ConditionCheck"].clone();
    assert_eq!(check["Key"]["operation_id"]["S"], "lock#us-west-2#staging");
    assert_eq!(check["ExpressionAttributeValues"][":fence"]["N"], "3");

    let lost = TAKEN.replace("[{\"Code\":\"None\"},", "[{\"Code\":\"None\"},{\"Code\":\"None\"},");
    let wire = Wire::new([(200, "{}"), (400, &lost), (200, "{}")]);
    let audit = Audit::new(store(&wire), "audit", Clock::fixed(NOW));
    let refused = audit.append_under_lock(&operation, entry()).await.unwrap_err();
    assert_eq!(refused.name(), ErrorName::TargetLocked, "{refused}");
}

/// A held lock is taken over, its record written and the operation that had it closed: all of it, or nothing.
#[tokio::test]
async fn a_takeover_its_record_and_the_end_of_the_former_are_one_write() {
    let lock = |owner: &str, execution: &str, fence: u64| Lock {
        operation_id: "lock#us-west-2#staging".into(),
        owner: OperationId::try_from(owner).unwrap(),
        owner_execution_arn: Some(execution.into()),
        fence,
        held: true,
        taken_at: "2026-11-21T11:00:00.000Z".into(),
    };
    let (seen, former) = (lock("op-0", "arn:old", 3), Operation { version: 7, status: Status::Aborted, ..operation() });
    let taken = Lock::taken("us-west-2#staging", &operation(), Some(&seen), NOW);
    assert_eq!((taken.owner.as_str(), taken.fence, taken.held), ("op-1", 4, true));
    let append = async |wire: &Wire| {
        let store = store(wire);
        let writes = vec![store.taking_over(&taken, &seen).unwrap(), store.closing(&former, NOW).unwrap()];
        let audit = Audit::new(store, "audit", Clock::fixed(NOW));
        audit.append_with(&OperationId::try_from("op-1").unwrap(), event(), writes).await
    };

    let wire = Wire::new([(200, "{}"), (200, "{}")]);
    append(&wire).await.unwrap();
    let items = asked(&wire, 1)["TransactItems"].clone();
    assert_eq!(items.as_array().unwrap().len(), 4, "{items}");
    let (over, closed) = (&items[2]["Put"], &items[3]["Put"]);
    assert_eq!(over["ConditionExpression"], "fence = :fence AND held = :held");
    assert_eq!(
        (&over["ExpressionAttributeValues"][":fence"]["N"], &over["Item"]["fence"]["N"]),
        (&json!("3"), &json!("4"))
    );
    assert_eq!(
        (&closed["ExpressionAttributeValues"][":read"]["N"], &closed["Item"]["version"]["N"]),
        (&json!("7"), &json!("8"))
    );
    assert_eq!(closed["Item"]["status"]["S"], "aborted");

    // Somebody else took it over, or the former wrote, at the same moment: nothing is written, the step looks again.
    for reasons in [["None", "None", "ConditionalCheckFailed", "None"], ["None", "None", "None", "TransactionConflict"]]
    {
        let reasons = reasons.map(|code| json!({ "Code": code }));
        let refused = json!({ "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "message": "Transaction cancelled", "CancellationReasons": reasons });
        let wire = Wire::new([(200, "{}"), (400, &refused.to_string())]);
        assert_eq!(append(&wire).await.unwrap_err().name(), ErrorName::StateConflict);
    }

    // A call that nobody finished is closed before, by a write of its own: the lock is taken once.
    let wire = Wire::new([(200, "{}"), (200, "{}")]);
    self::append(&wire, entry()).await.unwrap();
    let (_, begun) = puts(&wire, 1);
    let wire = Wire::new([(200, &ends_with(&begun)), (200, "{}"), (200, "{}")]);
    append(&wire).await.unwrap();
    let sizes = [1, 2].map(|index| asked(&wire, index)["TransactItems"].as_array().unwrap().len());
    assert_eq!(sizes, [2, 4]);
}

#[tokio::test]
async fn an_audit_write_that_fails_is_an_error() {
    let denied = r#"{"__type":"AccessDeniedException","message":"no"}"#;
    let throttled = TAKEN.replace("ConditionalCheckFailed", "ThrottlingError");
    for (answer, name) in [(denied, ErrorName::AccessDenied), (throttled.as_str(), ErrorName::Throttled)] {
        let wire = Wire::new([(200, "{}"), (400, answer)]);
        assert_eq!(append(&wire, entry()).await.unwrap_err().name(), name);
    }
}

/// An item as the first version wrote it, taken from the state table after a restore whose verification failed.
const OLD_ITEM: &str = include_str!("../../../tests/golden/operation-0.1.json");

#[tokio::test]
async fn an_old_item_is_read_by_new_code_and_written_whole() {
    let wire = Wire::new([(200, OLD_ITEM), (200, "{}")]);
    let store = store(&wire);
    let mut old = store.load(&OperationId::try_from("night-1").unwrap()).await.unwrap();
    assert_eq!(old.error.as_ref().unwrap().name, "VerificationFailed");
    assert!(old.former.is_empty(), "a field that the first version did not know");
    assert_eq!(old.plan.as_ref().unwrap().instances.len(), 2);

    store.save(&mut old, NOW).await.unwrap();
    let (before, after) = (serde_json::from_str::<Value>(OLD_ITEM).unwrap(), asked(&wire, 1));
    for (name, value) in before["Item"].as_object().unwrap() {
        if !["version", "updated_at"].contains(&name.as_str()) {
            assert!(holds(&after["Item"][name], value), "{name} is lost or changed on the way: {value}");
        }
    }
}

/// Whether all of `old` is in `new`, which may have more attributes, and leaves out what is unknown.
fn holds(new: &Value, old: &Value) -> bool {
    let is_null = |value: &Value| value["NULL"] == true;
    match (new.as_object(), old.as_object()) {
        (Some(new), Some(old)) => {
            old.iter().all(|(name, value)| new.get(name).map_or(is_null(value), |new| holds(new, value)))
        }
        _ => new == old,
    }
}

proptest! {
    #[test]
    fn whatever_is_saved_is_read_again(
        texts in proptest::collection::vec("\\PC{0,40}", 12),
        numbers in proptest::collection::vec(any::<u32>(), 6),
        flags in proptest::collection::vec(any::<bool>(), 6),
        tags in proptest::collection::btree_map("[a-z]{1,10}", "\\PC{0,20}", 0..5),
    ) {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_default();
        let mut operation = operation();
        operation.version = numbers[0].into();
        operation.fence = flags[0].then(|| numbers[1].into());
        operation.copy = flags[1].then(|| CopyState {
            snapshot_id: text(),
            arn: text(),
            status: text(),
            made_by_us: flags[2],
            percent_progress: u8::try_from(numbers[2] % 101).ok(),
        });
        operation.replaced = flags[3].then(|| Replaced {
            down_since: None,
            arn: text(),
            engine: text(),
            engine_version: text(),
            settings: ClusterSettings {
                port: u16::try_from(numbers[3] % 65536).ok(),
                serverless_v2: flags[4].then(|| ServerlessV2 { min_acu: 0.5, max_acu: f64::from(numbers[4] % 256) }),
                deletion_protection: flags[5],
                ..ClusterSettings::default()
            },
            instances: vec![InstanceSpec { db_instance_class: text(), promotion_tier: Some(15) }],
            tags: tags.clone(),
            final_snapshot_id: flags[5].then(&mut text),
            gone: flags[4],
            resource_id: text(),
            protection_off_at: None,
            deletion_called_at: flags[2].then(&mut text),
            protected_again: flags[0],
        });
        operation.swap = flags[1].then(|| SwapState {
            former_as: flags[3].then(&mut text),
            former_instances: vec![Renaming { from: text(), to: text() }],
            asked: Some(Asked { what: text(), cluster: None, at: text() }),
            ..SwapState::default()
        });
        operation.downtime_seconds = flags[2].then(|| numbers[3].into());
        operation.error = flags[4].then(|| FailedStep { step: Step::CheckRestore, name: text(), message: text() });
        operation.former = operation.executions_so_far();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Wire::new([(200, "{}")]);
            store(&wire).create(&operation).await.unwrap();
            let answer = json!({ "Item": asked(&wire, 0)["Item"] }).to_string();
            let read = store(&Wire::new([(200, &answer)])).load(&operation.operation_id).await.unwrap();
            prop_assert_eq!(read, operation);
            Ok(())
        })?;
    }
}

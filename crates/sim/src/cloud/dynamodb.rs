//! DynamoDB: tables of items, writes under conditions.

use super::expression::{self, Names};
use super::lean;
use super::model::{Item, Table};
use super::wire::{Call, Fault, Reply, fault};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The tables of the target Region.
pub(super) type Tables = BTreeMap<String, Table>;

/// Answers a call.
///
/// With `tells`, each reply says in a few words what it did. A transaction whose token is among the `tokens` was carried
/// out already: the client repeats it because it did not learn so.
pub(super) fn answer(
    tables: &mut Tables,
    tokens: &mut BTreeSet<String>,
    call: &mut Call,
    tells: bool,
) -> Result<Reply, Fault> {
    let body = &mut call.json;
    let brief_of = |item: &Item| if tells { brief_of(item) } else { String::new() };
    let refused = |error: Refused| match error {
        Refused::Condition => Fault {
            status: 400,
            code: "ConditionalCheckFailedException",
            message: "The conditional request failed".into(),
        },
        Refused::Other(fault) => fault,
    };
    match call.action.as_str() {
        "GetItem" => {
            let table = table(tables, body)?;
            let key = table.key(body.get("Key"))?;
            let item = table.items.get(&key);
            let brief = item.map_or("nothing".to_owned(), brief_of);
            Ok(Reply::new(item.map_or_else(|| "{}".to_owned(), found), brief))
        }
        "PutItem" => {
            let brief = body["Item"].as_object().map(brief_of).unwrap_or_default();
            put(tables, body).map_err(refused)?;
            Ok(Reply::new("{}".into(), brief))
        }
        "UpdateItem" => {
            update(tables, body).map_err(refused)?;
            Ok(Reply::new("{}".into(), "updated"))
        }
        "DeleteItem" => {
            delete(tables, body).map_err(refused)?;
            Ok(Reply::new("{}".into(), "deleted"))
        }
        "TransactWriteItems" => {
            let token = body["ClientRequestToken"].as_str().unwrap_or_default().to_owned();
            if tokens.contains(&token) {
                return Ok(Reply::new("{}".into(), "carried out already"));
            }
            let reply = transact(tables, body, brief_of)?;
            tokens.insert(token);
            Ok(reply)
        }
        "Query" => query(tables, body, brief_of),
        action => fault("UnknownOperationException", format!("the simulated DynamoDB has no {action}")),
    }
}

/// The answer with an item.
fn found(item: &Item) -> String {
    format!("{{\"Item\":{}}}", lean::item(item))
}

enum Refused {
    Condition,
    Other(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Other(fault)
    }
}

/// What a transcript tells of an item.
fn brief_of(item: &Item) -> String {
    let text = |name: &str| {
        let value = item.get(name)?;
        let value = value.get("S").or_else(|| value.get("N"))?.as_str()?;
        Some(format!("{name} {value}"))
    };
    let mut told: Vec<String> =
        ["version", "status", "step", "phase", "action", "resource", "outcome", "owner", "fence"]
            .iter()
            .filter_map(|name| text(name))
            .collect();
    if let Some(held) = item.get("held").and_then(|held| held.get("BOOL")) {
        told.push(format!("held {held}"));
    }
    told.join(", ")
}

fn table<'t>(tables: &'t mut Tables, body: &Value) -> Result<&'t mut Table, Fault> {
    let name = body["TableName"].as_str().unwrap_or_default();
    match tables.get_mut(name) {
        Some(table) => Ok(table),
        None => fault("ResourceNotFoundException", format!("Requested resource not found: Table: {name} not found")),
    }
}

/// An attribute as a sort key: numbers padded.
fn sortable(value: &Value) -> Option<String> {
    if let Some(text) = value.get("S").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    Some(format!("{:0>24}", value.get("N")?.as_str()?))
}

impl Table {
    fn key(&self, item: Option<&Value>) -> Result<(String, String), Fault> {
        let part = |name: &&str| item.and_then(|item| sortable(item.get(*name)?));
        let parts: Vec<String> = self.keys.iter().filter_map(part).collect();
        match parts.as_slice() {
            [hash] if self.keys.len() == 1 => Ok((hash.clone(), String::new())),
            [hash, range] => Ok((hash.clone(), range.clone())),
            _ => fault("ValidationException", "One of the required keys was not given a value"),
        }
    }
}

fn condition_holds(item: Option<&Item>, body: &Value) -> Result<bool, Fault> {
    let Some(text) = body["ConditionExpression"].as_str() else { return Ok(true) };
    let empty = Item::new();
    match expression::holds(text, &Names::of(body), item.unwrap_or(&empty)) {
        Ok(holds) => Ok(holds),
        Err(error) => fault("ValidationException", format!("Invalid ConditionExpression: {error}")),
    }
}

/// Takes the item out of the request.
fn put(tables: &mut Tables, body: &mut Value) -> Result<(), Refused> {
    let table = table(tables, body)?;
    let key = table.key(body.get("Item"))?;
    if !condition_holds(table.items.get(&key), body)? {
        return Err(Refused::Condition);
    }
    if let Value::Object(item) = body["Item"].take() {
        table.items.insert(key, item);
    }
    Ok(())
}

fn update(tables: &mut Tables, body: &Value) -> Result<(), Refused> {
    let table = table(tables, body)?;
    let key = table.key(body.get("Key"))?;
    if !condition_holds(table.items.get(&key), body)? {
        return Err(Refused::Condition);
    }
    let mut item =
        table.items.get(&key).cloned().unwrap_or_else(|| body["Key"].as_object().cloned().unwrap_or_default());
    let text = body["UpdateExpression"].as_str().unwrap_or_default();
    if let Err(error) = expression::update(text, &Names::of(body), &mut item) {
        return Err(Refused::Other(Fault {
            status: 400,
            code: "ValidationException",
            message: format!("Invalid UpdateExpression: {error}"),
        }));
    }
    table.items.insert(key, item);
    Ok(())
}

fn delete(tables: &mut Tables, body: &Value) -> Result<(), Refused> {
    let table = table(tables, body)?;
    let key = table.key(body.get("Key"))?;
    if !condition_holds(table.items.get(&key), body)? {
        return Err(Refused::Condition);
    }
    table.items.remove(&key);
    Ok(())
}

/// All or nothing: every condition first, then every write. DynamoDB refuses two of them on one item.
fn transact(tables: &mut Tables, body: &mut Value, brief_of: impl Fn(&Item) -> String) -> Result<Reply, Fault> {
    let mut writes: Vec<(&str, &mut Value)> = Vec::new();
    for item in body["TransactItems"].as_array_mut().into_iter().flatten() {
        match item.as_object_mut().and_then(|item| item.iter_mut().next()) {
            Some((kind, write)) => writes.push((kind.as_str(), write)),
            None => return fault("ValidationException", "an empty item of a transaction"),
        }
    }
    let mut reasons = Vec::new();
    for (kind, write) in &writes {
        let table = table(tables, write)?;
        let key = table.key(write.get(if *kind == "Put" { "Item" } else { "Key" }))?;
        reasons.push(if condition_holds(table.items.get(&key), write)? { "None" } else { "ConditionalCheckFailed" });
    }
    if reasons.iter().any(|reason| *reason != "None") {
        return fault("TransactionCanceledException", cancelled(&reasons));
    }
    let told: Vec<String> = writes.iter().filter_map(|(_, write)| write["Item"].as_object().map(&brief_of)).collect();
    for (kind, write) in &mut writes {
        let done = match *kind {
            "Put" => put(tables, write),
            "Update" => update(tables, write),
            "Delete" => delete(tables, write),
            "ConditionCheck" => Ok(()),
            _ => return fault("ValidationException", "unknown item of a transaction"),
        };
        if let Err(Refused::Other(fault)) = done {
            return Err(fault);
        }
    }
    Ok(Reply::new("{}".into(), told.into_iter().find(|text| !text.is_empty()).unwrap_or_default()))
}

/// The message of a cancelled transaction, which names the reason of each of its items.
pub(super) fn cancelled(reasons: &[&str]) -> String {
    let reasons = reasons.join(", ");
    format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{reasons}]")
}

fn query(tables: &mut Tables, body: &Value, brief_of: impl Fn(&Item) -> String) -> Result<Reply, Fault> {
    let table = table(tables, body)?;
    let text = body["KeyConditionExpression"].as_str().unwrap_or_default();
    let names = Names::of(body);
    let mut found: Vec<&Item> = Vec::new();
    // Of the whole table only one partition, when that is what is asked for.
    let hash = match (body.get("IndexName"), text.split_once(" = ")) {
        (None, Some((_, value))) => body["ExpressionAttributeValues"].get(value).and_then(sortable),
        _ => None,
    };
    let items: Box<dyn Iterator<Item = &Item>> = match hash {
        Some(hash) => Box::new(
            table
                .items
                .range((hash.clone(), String::new())..)
                .take_while(move |((partition, _), _)| *partition == hash)
                .map(|(_, item)| item),
        ),
        None => Box::new(table.items.values()),
    };
    for item in items {
        match expression::holds(text, &names, item) {
            Ok(true) => found.push(item),
            Ok(false) => {}
            Err(error) => return fault("ValidationException", format!("Invalid KeyConditionExpression: {error}")),
        }
    }
    if body.get("IndexName").is_some() {
        found.sort_by_key(|item| item.get("started_at").and_then(sortable));
    }
    if body["ScanIndexForward"].as_bool() == Some(false) {
        found.reverse();
    }
    let limit = body["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    found.truncate(limit);
    let brief = found.first().map_or("nothing".to_owned(), |item| brief_of(item));
    let (count, items) = (found.len(), found.into_iter().map(lean::item).collect::<Vec<_>>().join(","));
    Ok(Reply::new(format!("{{\"Items\":[{items}],\"Count\":{count},\"ScannedCount\":{count}}}"), brief))
}

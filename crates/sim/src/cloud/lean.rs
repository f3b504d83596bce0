//! Bodies of DynamoDB's calls as JSON of which only the surface is taken apart: what stands in maps and lists of an item
//! stays the text that it came as, and goes out as that. Reading and writing state items whole was a tenth of the time
//! of a simulation.

use super::model::Item;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// Types of attributes that stay text.
fn is_nested(kind: &str) -> bool {
    matches!(kind, "M" | "L")
}

/// Reads a body.
///
/// # Errors
/// When it is not JSON.
pub(super) fn read(body: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Surface.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A value as JSON.
pub(super) fn text(value: &Value) -> String {
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// An item as JSON.
pub(super) fn item(item: &Item) -> String {
    let mut bytes = Vec::with_capacity(4096);
    write_map(item, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

fn write(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Object(map) => write_map(map, to),
        Value::Array(list) => write_all(list, *b"[]", to, write),
        leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => write_leaf(leaf, to),
    }
}

fn write_map(map: &Item, to: &mut Vec<u8>) {
    write_all(map, *b"{}", to, |(key, value), to| {
        write_leaf(key, to);
        to.push(b':');
        match value.as_str().filter(|_| is_nested(key)) {
            Some(nested) => to.extend_from_slice(nested.as_bytes()),
            None => write(value, to),
        }
    });
}

fn write_all<T>(
    parts: impl IntoIterator<Item = T>,
    [open, close]: [u8; 2],
    to: &mut Vec<u8>,
    write: impl Fn(T, &mut Vec<u8>),
) {
    to.push(open);
    for (number, part) in parts.into_iter().enumerate() {
        if number > 0 {
            to.push(b',');
        }
        write(part, to);
    }
    to.push(close);
}

fn write_leaf(leaf: &(impl serde::Serialize + ?Sized), to: &mut Vec<u8>) {
    // Writing these to memory does not fail.
    let _ = serde_json::to_writer(to, leaf);
}

/// What stands in a map or a list, taken apart.
pub fn inside(nested: &Value) -> Value {
    nested.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

struct Surface;

impl<'de> DeserializeSeed<'de> for Surface {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Surface {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(Surface)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = match is_nested(&key) {
                true => entries.next_value::<&RawValue>()?.get().into(),
                false => entries.next_value_seed(Surface)?,
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_go_out_as_they_came() {
        let body = json!({
            "Item": {
                "id": { "S": "a \"b\"" },
                "plan": { "M": { "list": { "L": [{ "N": "1" }] }, "text": { "S": "x\\\"y" } } },
                "none": { "L": [] },
            },
            "Limit": 3,
            "Forward": false,
        });
        let read = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(read["Item"]["id"]["S"], "a \"b\"");
        assert!(read["Item"]["plan"]["M"].is_string());
        assert_eq!(inside(&read["Item"]["plan"]["M"]), body["Item"]["plan"]["M"]);
        assert_eq!(serde_json::from_str::<Value>(&text(&read)).unwrap(), body);
        assert!(super::read(b"{} x").is_err());
    }
}

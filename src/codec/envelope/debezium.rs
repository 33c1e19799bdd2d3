//! What Debezium writes: row changes, the events of its outbox router, and the envelope `{schema, payload}`
//! that Kafka Connect's JSON converter may put around either, and around keys.

use super::{Content, Opened};
use crate::domain::poison::Poison;
use crate::domain::value::Value;

/// Where row changes keep a part of an event.
pub(super) fn row_places(part: &str) -> &'static [&'static str] {
    match part {
        "aggregateId" => &["key"],
        "eventType" => &["/op"],
        "time" => &["/source/ts_ms", "/ts_ms"],
        _ => &[],
    }
}

/// Where events of the outbox router keep a part of an event.
pub(super) fn outbox_places(part: &str) -> &'static [&'static str] {
    match part {
        "aggregateId" => &["key"],
        "eventType" => &["header:eventType", "header:type"],
        "eventId" => &["header:id"],
        _ => &[],
    }
}

/// A row change: the event's data is the whole change, with `before`, `after`, `source` and `op`.
pub(super) fn open_row(value: Value, extra_bytes: usize) -> Result<Content, Poison> {
    let root = without_schema(value);
    match root.get("op").and_then(Value::as_str) {
        Some("c" | "u" | "d" | "r") => Ok(Content::Event(Opened { root, attributes: None, extra_bytes })),
        Some("t" | "m") => {
            let detail = "the change is about no row: the table was emptied, or it is a message of the log";
            Ok(Content::Nobodys(Poison::new("debezium-no-row", detail), root))
        }
        _ => Err(Poison::new("bad-debezium", "the value is no row change: `op` is none of c, u, d, r")),
    }
}

/// What Connect's envelope holds; other values are what they are.
pub(super) fn without_schema(value: Value) -> Value {
    match value {
        Value::Object(mut object) if object.len() == 2 && object.contains_key("schema") => {
            match object.remove("payload") {
                Some(payload) => payload,
                None => Value::Object(object),
            }
        }
        other => other,
    }
}

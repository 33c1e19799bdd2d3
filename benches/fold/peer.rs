//! The peer: what one would write first. `serde_json::Value` per event, states as `Value` in a `BTreeMap`,
//! the five event types as code, numbers as `f64`. No chain, no tail, no exact numbers, nothing is checked.

use super::Stage;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(crate) fn stage() -> Stage {
    let mut states: BTreeMap<String, Value> = BTreeMap::new();
    Box::new(move |records| {
        for record in &records {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let event: Value =
                serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("events are JSON");
            let state =
                states.entry(key).or_insert_with(|| json!({ "status": "new", "total": 0, "items": {} }));
            fold(state.as_object_mut().expect("states are objects"), &event);
        }
    })
}

fn fold(state: &mut Map<String, Value>, event: &Value) {
    let data = &event["data"];
    match event["type"].as_str() {
        Some("ItemAdded") => {
            let sku = data["sku"].as_str().unwrap_or_default();
            let item = state["items"]
                .as_object_mut()
                .expect("`items` is an object")
                .entry(sku)
                .or_insert_with(|| json!({ "price": data["price"], "qty": 0 }));
            item["qty"] = sum(&item["qty"], &data["qty"]);
            state["total"] = sum(&state["total"], &data["price"]);
        }
        Some("AddressChanged") => {
            state.insert("address".to_owned(), data.clone());
        }
        Some("OrderPaid") => state["status"] = json!("paid"),
        Some("OrderCancelled") => {
            state["status"] = json!("cancelled");
            state.remove("address");
        }
        _ => {}
    }
    let count = state.entry("eventCount").or_insert(json!(0));
    *count = sum(count, &json!(1));
}

fn sum(a: &Value, b: &Value) -> Value {
    json!(a.as_f64().unwrap_or(0.0) + b.as_f64().unwrap_or(0.0))
}

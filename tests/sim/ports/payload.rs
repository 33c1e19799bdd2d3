//! What events say: types and data for a few kinds of streams, with the numbers and texts that break naive
//! code (scales that must be kept, integers beyond 2^53, unicode, escapes, nulls).

use crate::rng::Rng;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Which reducer a stream's events are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The order events of API.md section 3, for a rules reducer.
    Rules,
    /// RFC 7396 patches, for `merge`.
    Merge,
    /// Whole states, for `replace`.
    Replace,
    /// RFC 6902 patches that apply to any object, for `json-patch`.
    Patch,
}

/// What a payload may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    /// The stream's shape.
    pub(crate) shape: Shape,
    /// Whose event.
    pub(crate) aggregate: &'a str,
    /// Which event of it.
    pub(crate) version: u64,
}

/// Event type, and data as JSON text.
pub(crate) type Payload = (String, String);

/// Makes payloads; the hook by which a test replaces [`draw`].
pub(crate) type Payloads = Arc<dyn Fn(&mut Rng, &Occasion<'_>) -> Payload + Send + Sync>;

/// The payload of one event.
pub(crate) fn draw(rng: &mut Rng, occasion: &Occasion<'_>) -> Payload {
    match occasion.shape {
        Shape::Rules => rules(rng),
        Shape::Merge => ("Patched".to_owned(), object(rng, 2).to_string()),
        Shape::Replace => replace(rng),
        Shape::Patch => patch(rng, occasion.version),
    }
}

fn number(rng: &mut Rng) -> String {
    const ODD: [&str; 8] =
        ["1.10", "0", "-0.0", "9007199254740993", "1e3", "0.1000", "-7.5", "123456789012345678901"];
    if rng.percent(25) { (*rng.pick(&ODD)).to_owned() } else { rng.below(1_000).to_string() }
}

fn text(rng: &mut Rng) -> Value {
    const ODD: [&str; 6] = ["", "ü\u{1F600}", "quote\" and \\", "line\nfeed\u{0}", "\u{2028}", "1.10"];
    if rng.percent(30) { json!(rng.pick(&ODD)) } else { json!(format!("t{}", rng.below(50))) }
}

fn value(rng: &mut Rng, depth: u32) -> Value {
    match rng.below(if depth == 0 { 4 } else { 6 }) {
        0 => serde_json::from_str(&number(rng)).unwrap_or(Value::Null),
        1 => text(rng),
        2 => json!(rng.percent(50)),
        3 => Value::Null,
        4 => object(rng, depth - 1),
        _ => (0..rng.below(4)).map(|_| value(rng, depth - 1)).collect(),
    }
}

fn object(rng: &mut Rng, depth: u32) -> Value {
    let members = (0..=rng.below(3)).map(|_| (format!("m{}", rng.below(8)), value(rng, depth)));
    Value::Object(members.collect::<Map<String, Value>>())
}

fn rules(rng: &mut Rng) -> Payload {
    let (kind, data) = match rng.below(20) {
        0..=11 => {
            let (sku, qty, price) = (rng.below(6), rng.between(1, 5), rng.below(1_000));
            let cents = rng.below(100);
            ("ItemAdded", format!(r#"{{"sku":"s{sku}","qty":{qty},"price":{price}.{cents:02}}}"#))
        }
        12..=14 => ("AddressChanged", json!({ "city": text(rng), "zip": rng.below(99_999) }).to_string()),
        15 => ("OrderCancelled", json!({ "reason": text(rng) }).to_string()),
        16 => ("OrderDeleted", "{}".to_owned()),
        _ => ("Noted", object(rng, 1).to_string()),
    };
    (kind.to_owned(), data)
}

fn replace(rng: &mut Rng) -> Payload {
    if rng.percent(3) {
        return ("Removed".to_owned(), "null".to_owned());
    }
    ("Replaced".to_owned(), object(rng, 2).to_string())
}

/// The first event makes the object; later ones only `add`, which replaces what is there.
fn patch(rng: &mut Rng, version: u64) -> Payload {
    if version <= 1 {
        let made = json!([{ "op": "add", "path": "", "value": object(rng, 1) }]);
        return ("Made".to_owned(), made.to_string());
    }
    let path = format!("/m{}", rng.below(8));
    let changed = json!([{ "op": "add", "path": path, "value": value(rng, 1) }]);
    ("Changed".to_owned(), changed.to_string())
}

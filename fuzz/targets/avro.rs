//! Schemas to plans, and bytes to values by them. Input: the text of a schema, 0xff, then a datum; no UTF-8
//! text has that byte, so schemas stay readable.

use snapfold::codec::avro::Plan;
use snapfold::domain::value::{Limits, Value};

const LIMITS: Limits = Limits { max_bytes: 64 << 10, max_depth: 64, max_members: 2_000 };

pub(crate) fn check(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0xff).unwrap_or(data.len());
    let Ok(schema) = std::str::from_utf8(&data[..end]) else { return };
    let Ok(plan) = Plan::parse(schema, &[""; 0]) else { return };
    assert_eq!(Plan::parse(schema, &[""; 0]).as_ref(), Ok(&plan), "a schema has one plan");
    let datum = data.get(end + 1..).unwrap_or_default();
    let Ok(read) = plan.decode(datum, &LIMITS) else { return };
    let text = read.value.to_json();
    assert_eq!(text.len(), read.json_len, "the limit is on the exact length");
    assert_eq!(
        Value::parse(text.as_bytes(), &LIMITS),
        Ok(read.value),
        "a datum is a JSON document within limits"
    );
    // A datum has one end.
    for shorter in 0..datum.len().min(64) {
        assert!(plan.decode(&datum[..shorter], &LIMITS).is_err(), "a datum within a datum");
    }
}

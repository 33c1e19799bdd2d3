//! Presets fold, and what they refuse leaves the state alone.

use super::*;

fn fold(state: &mut Value, change: &str) -> Result<Outcome, Poison> {
    let data = Value::parse(change.as_bytes(), &Limits::default()).unwrap();
    let event = EventView {
        event_type: "u",
        event_id: None,
        version: Version(1),
        time: Timestamp(0),
        key: None,
        headers: &[],
        data: &data,
    };
    let before = state.json_len();
    let bound = Preset::Debezium.growth_bound(before, change.len(), &event);
    let outcome = Preset::Debezium.apply(state, &event);
    if let Ok(Outcome::Changed { growth }) = outcome {
        assert_eq!(state.json_len(), before.strict_add_signed(growth));
        assert!(state.json_len() <= before + bound);
    }
    outcome
}

#[test]
fn a_row_is_what_its_last_change_left() {
    let mut row = Preset::Debezium.initial();
    assert!(matches!(
        fold(&mut row, r#"{"op":"r","before":null,"after":{"id":1,"n":1.10}}"#),
        Ok(Outcome::Changed { .. })
    ));
    assert_eq!(row.to_json(), r#"{"id":1,"n":1.10}"#);
    // A column that is gone and one that is new: rows follow the table.
    fold(&mut row, r#"{"op":"u","before":{"id":1},"after":{"id":1,"m":[2]}}"#).unwrap();
    assert_eq!(row.to_json(), r#"{"id":1,"m":[2]}"#);
    assert_eq!(fold(&mut row, r#"{"op":"d","before":{"id":1},"after":null}"#), Ok(Outcome::Deleted));
    let mut row = Preset::Debezium.initial();
    fold(&mut row, r#"{"op":"c","after":{"id":2}}"#).unwrap();
    assert_eq!(row.to_json(), r#"{"id":2}"#);
}

#[test]
fn a_column_that_the_change_does_not_tell_stays_as_it_was() {
    let mut row =
        Value::parse(br#"{"id":1,"t":"long","b":"AQI=","a":["x"],"m":{"k":"v"}}"#, &Limits::default())
            .unwrap();
    let change = r#"{"op":"u","before":{"o":"old"},"after":{"id":2,"t":"__debezium_unavailable_value",
        "b":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==","a":["__debezium_unavailable_value"],
        "m":{"__debezium_unavailable_value":"__debezium_unavailable_value"},"o":"__debezium_unavailable_value",
        "never":"__debezium_unavailable_value"}}"#;
    fold(&mut row, change).unwrap();
    assert_eq!(
        row.to_json(),
        r#"{"id":2,"t":"long","b":"AQI=","a":["x"],"m":{"k":"v"},"o":"old","never":"__debezium_unavailable_value"}"#
    );
}

#[test]
fn what_is_no_row_change_leaves_the_row_alone() {
    let mut row = Value::from("row");
    for wrong in [r#"{"op":"t"}"#, r#"{"op":"u"}"#, r#"{"op":"c","after":[1]}"#, "{}", "null", r#"{"op":1}"#]
    {
        assert_eq!(fold(&mut row, wrong).unwrap_err().code, crate::domain::poison::TYPE, "{wrong}");
        assert_eq!(row, Value::from("row"));
    }
}

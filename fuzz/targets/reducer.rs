//! Reducers as a config writes them. Input: YAML text, a reducer or a golden case (`reducer`, `given`).

use snapfold::codec::yaml;
use snapfold::domain::ids::{Timestamp, Version};
use snapfold::domain::reducer::{self, EventView, Outcome, Reducer};
use snapfold::domain::rules::check;
use snapfold::domain::source::{Node, NodeKind, Span};
use snapfold::domain::value::{Limits, Value};

/// Types and data that meet most rules; the fuzzer and the seeds name these.
const EVENTS: [(&str, &str); 10] = [
    ("E", r#"{"x":1,"a":"t","b":[1,2],"sku":"a","qty":2,"price":1.10,"k":0}"#),
    ("E", r#"{"x":[1,{"y":null}],"a":{"b":{"c":2}},"sku":"b","qty":-3,"price":5,"k":-1}"#),
    ("E", "null"),
    ("F", r#"{"x":"long text, longer than the rest","k":"x"}"#),
    ("E", r#"{"x":99999999999999999999999999999999999999,"a":0.00000000000000000000000001,"qty":7}"#),
    ("E", r#"[{"op":"add","path":"/a","value":1},{"op":"copy","from":"/a","path":"/b"}]"#),
    ("G", r#""text""#),
    ("", "[]"),
    ("$tombstone", "null"),
    ("E", r#"{"x":2,"a":3,"y":"\u0000\"","k":1}"#),
];

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(document) = yaml::parse(text) else { return };
    let node = document.get("reducer").unwrap_or(&document);
    let Ok(reducer) = reducer::parse(node) else { return };
    stays_the_same(text, &*reducer);
    fold(&*reducer);
    if let Some(given) = document.get("given") {
        tests(&document, given, &*reducer);
    }
}

/// The same text is the same reducer; so is the text with comments, blank lines and another line ending.
fn stays_the_same(text: &str, reducer: &dyn Reducer) {
    let fingerprint = |text: &str| {
        let document = yaml::parse(text).expect("it was YAML");
        let node = document.get("reducer").unwrap_or(&document);
        reducer::parse(node).expect("it was a reducer").fingerprint_text()
    };
    assert_eq!(fingerprint(text), reducer.fingerprint_text());
    if !text.starts_with(['\u{feff}', '%']) {
        assert_eq!(fingerprint(&format!("# a comment\n\n{text}")), reducer.fingerprint_text());
    }
}

fn fold(reducer: &dyn Reducer) {
    let limits = Limits { max_depth: Limits::DEPTH_MAX, ..Limits::default() };
    let headers = [("h".into(), Some("header".into())), ("none".into(), None)];
    let mut state = reducer.initial();
    for (at, (event_type, data)) in EVENTS.iter().enumerate() {
        let data = Value::parse(data.as_bytes(), &limits).expect("it is JSON");
        let event = EventView {
            event_type,
            event_id: Some("e-1"),
            version: Version(at as u64 + 1),
            time: Timestamp(1_700_000_000_000),
            key: Some("o-1"),
            headers: &headers,
            data: &data,
        };
        let before = state.clone();
        let outcome = reducer.apply(&mut state, &event);
        match outcome {
            Err(_) | Ok(Outcome::NoRule) => assert_eq!(state, before, "a poison event has changed the state"),
            Ok(Outcome::Deleted) => state = reducer.initial(),
            Ok(Outcome::Changed { .. } | Outcome::Unchanged) => {}
        }
        let Ok(Outcome::Changed { growth: told }) = outcome else { continue };
        let (len, len_before) = (state.json_len(), before.json_len());
        let record_bytes = data.json_len() + event_type.len() + "e-1o-1hheadernone".len();
        let growth = reducer.growth_bound(len_before, record_bytes, &event);
        assert!(
            len <= len_before.saturating_add(growth),
            "{len_before} + {growth} bytes were said to be the most, not {len}"
        );
        assert!(len <= len_before.saturating_add_signed(told), "{len_before} + {told} was said, not {len}");
        assert!(state.depth() <= Limits::DEPTH_MAX, "a state too deep to be read");
        if len > 1 << 20 {
            return;
        }
        let text = state.to_json();
        assert_eq!(text.len(), len);
        assert_eq!(Value::parse(text.as_bytes(), &limits).as_ref(), Ok(&state), "a state comes back");
    }
}

fn tests(document: &Node, given: &Node, reducer: &dyn Reducer) {
    let text = |text: &str| Node {
        span: Span::new(1, 1),
        kind: NodeKind::String { text: text.into(), plain: true, origin: None },
    };
    let then = document.get("then").cloned().unwrap_or_else(|| text("x"));
    let members = vec![(text("given"), given.clone()), (text("then"), then)];
    let test = Node { span: given.span, kind: NodeKind::Mapping(members) };
    let tests = Node { span: given.span, kind: NodeKind::Sequence(vec![test]) };
    let Ok(tests) = check::parse(&tests) else { return };
    for test in tests {
        assert_eq!(test.fold(reducer), test.fold(reducer), "the fold is not a function");
        let _ = test.run(reducer);
    }
}

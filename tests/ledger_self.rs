//! The ledger's own promises: hand-computed cases for every rule it answers by, digests computed with
//! Python's `hashlib`, and two real event streams. An oracle that nobody checks proves nothing.

#[path = "ledger/mod.rs"]
mod ledger;
#[path = "ledger_self/real.rs"]
mod real;

use ledger::{Answer, Expected, Ledger, Map, OnPoison, Record, Selector, Spec, Taken, Versions};
use serde_json::Value;

fn places(list: &[&str]) -> Vec<String> {
    list.iter().map(|place| (*place).to_owned()).collect()
}

/// Counted versions, the id in the key, everything else in the value.
fn counted(reducer: &str) -> Spec {
    Spec {
        kind: "order".to_owned(),
        map: Map {
            aggregate_id: places(&["key", "/id"]),
            event_type: places(&["header:type", "/type"]),
            event_id: places(&["/event"]),
            time: places(&["/time"]),
            data: places(&["/data"]),
            version: Vec::new(),
        },
        versions: Versions::Counted,
        reducer_yaml: reducer.to_owned(),
        on_poison: OnPoison::Quarantine,
        max_event_bytes: 1 << 20,
        max_state_bytes: 16 << 20,
        max_depth: 128,
    }
}

fn given(reducer: &str) -> Spec {
    let mut spec = counted(reducer);
    spec.map.version = places(&["/version"]);
    spec.versions = Versions::Given { base: 1 };
    spec
}

/// A ledger of one partition that numbers the records itself; record times are 1,000 ms apart.
struct Feed {
    ledger: Ledger,
    offset: i64,
}

impl Feed {
    fn new(spec: Spec) -> Self {
        Self { ledger: Ledger::new(spec), offset: 0 }
    }

    fn record(&mut self, key: Option<&str>, value: Option<&str>, headers: &[(&str, &str)]) -> Taken {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), Some(bytes(v)))).collect();
        self.offset += 1;
        self.ledger.push(Record {
            partition: 3,
            offset: self.offset,
            record_time_ms: self.offset * 1000,
            key: key.map(bytes),
            value: value.map(bytes),
            headers,
        })
    }

    fn take(&mut self, key: &str, value: &str) -> Taken {
        self.record(Some(key), Some(value), &[])
    }

    /// An event of type `kind` with this data.
    fn event(&mut self, kind: &str, data: &str) -> Taken {
        self.take("a", &format!(r#"{{"type":"{kind}","data":{data}}}"#))
    }

    fn answer(&self, selector: Selector) -> Answer {
        match self.ledger.expect("a", selector) {
            Expected::State(answer) => *answer,
            other => ledger::unsupported(&format!("asking {selector:?} for {other:?}")),
        }
    }

    fn state(&self) -> String {
        self.answer(Selector::Head).state_text
    }
}

fn rules(on: &str) -> Feed {
    Feed::new(counted(on))
}

const POISON: Taken = Taken::Quarantined { code: "reducer" };

#[test]
fn the_example_of_the_contract_folds_as_written() {
    let mut feed = rules(
        r#"
init: { status: new, total: 0, items: {} }
on:
  ItemAdded:
    - upsert: { at: "items[.sku]", new: { price: .price, qty: 0 }, add: { qty: .qty } }
    - add: { total: ".qty * .price" }
  AddressChanged: [ { set: { address: . } } ]
  OrderCancelled: [ { set: { status: cancelled } }, { unset: [hold] } ]
  OrderDeleted:   [ { delete: true } ]
  "*": [ { add: { eventCount: 1 } } ]
"#,
    );
    assert_eq!(feed.event("ItemAdded", r#"{"sku":"a","qty":2,"price":5}"#), Taken::Applied(1));
    let first = r#"{"status":"new","total":10,"items":{"a":{"price":5,"qty":2}},"eventCount":1}"#;
    assert_eq!(feed.state(), first);
    feed.event("ItemAdded", r#"{"sku":"a","qty":3,"price":1.10}"#);
    feed.event("AddressChanged", r#"{"street":"ü"}"#);
    feed.event("OrderCancelled", "null");
    assert_eq!(
        feed.state(),
        r#"{"status":"cancelled","total":13.30,"items":{"a":{"price":5,"qty":5}},"eventCount":4,"address":{"street":"ü"}}"#
    );
    feed.event("OrderDeleted", "{}");
    let deleted = feed.answer(Selector::Head);
    assert_eq!((deleted.version, deleted.deleted, deleted.state_text.as_str()), (5, true, "null"));
    assert_eq!(feed.event("Unknown", "{}"), Taken::Applied(6));
    assert_eq!(feed.state(), r#"{"status":"new","total":0,"items":{},"eventCount":1}"#);
    assert_eq!(feed.answer(Selector::Version(1)).state_text, first);
}

#[test]
fn an_unknown_type_advances_version_and_time_and_nothing_else() {
    let mut feed =
        rules("{ init: { n: 1 }, on: { Add: [ { add: { n: .by } } ], Gone: [ { delete: true } ] } }");
    assert_eq!(feed.event("Other", "{}"), Taken::Applied(1));
    assert_eq!((feed.state().as_str(), feed.answer(Selector::Head).effective_time_ms), (r#"{"n":1}"#, 1000));
    feed.event("Add", r#"{"by":2}"#);
    feed.event("Other", "{}");
    assert_eq!((feed.state().as_str(), feed.answer(Selector::Head).version), (r#"{"n":3}"#, 3));
    feed.event("Gone", "{}");
    feed.event("Other", "{}");
    assert!(feed.answer(Selector::Head).deleted);
    feed.event("Add", r#"{"by":2}"#);
    assert_eq!(feed.state(), r#"{"n":3}"#);
}

#[test]
fn every_operation_does_what_its_line_says() {
    let cases = [
        ("set: { 'a.b': .x, 'l[0]': 1, 'l[1]': two }", r#"{"x":1.0}"#, r#"{"a":{"b":1.0},"l":[1,"two"]}"#),
        ("set: { x: .missing }", "{}", r#"{"x":null}"#),
        ("set: { 'a[\"b.c\"]': { k: [ .x, '=\".t\"' ] } }", r#"{"x":2}"#, r#"{"a":{"b.c":{"k":[2,".t"]}}}"#),
        ("set: { 'm[$event.type]': $event.version, 'm[.x]': 1 }", r#"{"x":7}"#, r#"{"m":{"T":1,"7":1}}"#),
        ("{ set: { a: 1, b: 2, c: 3 }, unset: [ a, z, y.z ] }", "{}", r#"{"b":2,"c":3}"#),
        ("{ set: { a: { b: 1 } }, merge: { a: { b: null, c: .x } } }", r#"{"x":1}"#, r#"{"a":{"c":1}}"#),
        ("mergeAt: { a.b: . }", r#"{"x":1,"y":null}"#, r#"{"a":{"b":{"x":1}}}"#),
        ("{ add: { n: .x, m: .y, k: -0.5 } }", r#"{"x":1.10}"#, r#"{"n":1.10,"k":-0.5}"#),
        ("{ append: { l: .x }, prepend: { l: 0 } }", r#"{"x":[1]}"#, r#"{"l":[0,[1]]}"#),
        ("{ set: { l: [ 1, 2, 1.0 ] }, remove: { l: .x, k: 1 } }", r#"{"x":1.00}"#, r#"{"l":[2]}"#),
        ("{ min: { a: .x, b: .y }, max: { a: 5, c: t } }", r#"{"x":3}"#, r#"{"a":5,"c":"t"}"#),
        ("{ set: { l: [1,2,3], 'l[-1]': 9 }, keepLast: { l: 2, k: 1 } }", "{}", r#"{"l":[2,9]}"#),
        (
            "set: { x: '=if .a > 1 and .b == 1 then .c // 0 else .a - 1 end' }",
            r#"{"a":2,"b":1.0}"#,
            r#"{"x":0}"#,
        ),
        (
            "set: { x: '.c // 7', y: '=null', z: '.n + 2', s: '.a + .a' }",
            r#"{"a":"p"}"#,
            r#"{"x":7,"y":null,"z":2,"s":"pp"}"#,
        ),
        ("{ set: { a: 1, b: $state.a } }", "{}", r#"{"a":1,"b":null}"#),
        (
            "set: { x: . }",
            r#"[1e5,-0,123456789012345678901234567890,1.10]"#,
            r#"{"x":[1e5,-0,123456789012345678901234567890,1.10]}"#,
        ),
    ];
    for (operation, data, state) in cases {
        let operation =
            if operation.starts_with('{') { operation.to_owned() } else { format!("{{ {operation} }}") };
        let mut feed = rules(&format!("on:\n  T:\n    - {operation}\n"));
        assert_eq!(feed.event("T", data), Taken::Applied(1), "{operation}");
        assert_eq!(feed.state(), state, "{operation}");
    }
}

#[test]
fn wrong_types_are_poison_and_leave_nothing_behind() {
    let cases = [
        ("{ set: { s.t: 1 } }", "{}"),
        ("{ set: { 'l[2]': 1 } }", "{}"),
        ("{ set: { 'l[0].x.y': 1, s.t: 1 } }", "{}"),
        ("{ set: { 'm[.x]': 1 } }", "{}"),
        ("{ add: { s: 1 } }", "{}"),
        ("{ add: { n: .x } }", r#"{"x":"1"}"#),
        ("{ append: { s: 1 } }", "{}"),
        ("{ unset: [ s.t ] }", "{}"),
        ("{ mergeAt: { s: . } }", "{}"),
        ("{ max: { s: 1 } }", "{}"),
        ("{ set: { x: '.a.b' } }", r#"{"a":1}"#),
        ("{ set: { x: '.a * 2' } }", "{}"),
        ("{ set: { x: '.a.b // 1' } }", r#"{"a":"t"}"#),
        ("{ add: { n: 99999999999999999999999999999999999999 } }", "{}"),
        ("{ set: { n: 7 }, add: { s: 1 } }", "{}"),
    ];
    let init = r#"{"s":"text","n":1,"l":[0]}"#;
    for (operation, data) in cases {
        let mut feed = rules(&format!("{{ init: {init}, on: {{ Ok: [], T: [ {operation} ] }} }}"));
        feed.event("Ok", "{}");
        assert_eq!(feed.event("T", data), POISON, "{operation}");
        assert_eq!(feed.state(), init, "{operation}");
        assert_eq!(feed.event("Ok", "{}"), Taken::DeadLetter { code: "quarantined" });
        let quarantine = feed.answer(Selector::Head).quarantined.expect("it is quarantined");
        assert_eq!((quarantine.version, quarantine.offset, feed.ledger.dead_letters().len()), (1, 2, 2));
        feed.ledger.restart();
        assert_eq!((feed.ledger.quarantined("a"), feed.ledger.dead_letters().len()), (None, 0));
    }
}

#[test]
fn presets_fold_in_order_and_null_deletes() {
    let mut feed = Feed::new(counted("merge"));
    feed.event("T", r#"{"a":1,"b":{"c":null,"d":2},"e":3}"#);
    feed.event("T", r#"{"a":null,"b":{"x":1.50},"f":4}"#);
    assert_eq!(feed.state(), r#"{"b":{"d":2,"x":1.50},"e":3,"f":4}"#);
    feed.event("T", "null");
    assert!(feed.answer(Selector::Head).deleted);
    feed.event("T", r#"{"z":1}"#);
    assert_eq!(feed.state(), r#"{"z":1}"#);

    let mut feed = Feed::new(counted("replace"));
    feed.event("T", "[1]");
    feed.event("T", "2");
    assert_eq!(feed.state(), "2");

    let mut feed = Feed::new(counted("json-patch"));
    feed.event("T", r#"[{"op":"replace","path":"","value":{"a":1,"b":2,"c":3,"d":[1.0]}}]"#);
    feed.event("T", r#"[{"op":"remove","path":"/a"},{"op":"test","path":"/d/0","value":1}]"#);
    assert_eq!(feed.state(), r#"{"b":2,"c":3,"d":[1.0]}"#);
    feed.event("T", r#"[{"op":"move","from":"/b","path":"/e"},{"op":"add","path":"/d/-","value":1E5}]"#);
    assert_eq!(feed.state(), r#"{"c":3,"d":[1.0,1E5],"e":2}"#);
    let broken = r#"[{"op":"remove","path":"/c"},{"op":"remove","path":"/nothing"}]"#;
    assert_eq!(feed.event("T", broken), POISON);
    assert_eq!(feed.state(), r#"{"c":3,"d":[1.0,1E5],"e":2}"#);
}

#[test]
fn given_versions_are_contiguous_and_the_first_of_two_stays() {
    let mut feed = Feed::new(given("replace"));
    let event = |version: &str, data: &str| format!(r#"{{"type":"T","version":{version},"data":{data}}}"#);
    assert_eq!(feed.take("a", &event("1", "1")), Taken::Applied(1));
    assert_eq!(feed.take("a", &event("2", "2")), Taken::Applied(2));
    assert_eq!(feed.take("a", &event("1", "1")), Taken::Duplicate);
    assert_eq!(feed.take("a", &event("2", "9")), Taken::Conflict);
    assert_eq!(feed.take("a", &event("3", "3")), Taken::Applied(3));
    assert_eq!(feed.take("a", &event("5", "5")), Taken::Quarantined { code: "version-gap" });
    assert_eq!(feed.take("a", &event("4", "4")), Taken::DeadLetter { code: "quarantined" });
    assert_eq!(feed.state(), "3");
    assert_eq!(feed.take("b", &event("2", "1")), Taken::Quarantined { code: "history-incomplete" });
    assert!(matches!(feed.ledger.expect("b", Selector::Head), Expected::NoGoodVersion(_)));
    for bad in ["0", "-1", "1.0", "true", "null"] {
        let key = format!("bad{bad}");
        assert_eq!(feed.take(&key, &event(bad, "1")), Taken::Quarantined { code: "bad-version" }, "{bad}");
    }
    assert_eq!(feed.ledger.aggregates().collect::<Vec<_>>(), ["a"]);

    let mut spec = given("replace");
    spec.versions = Versions::Given { base: 0 };
    let mut feed = Feed::new(spec);
    assert_eq!(feed.take("a", &event("0", "1")), Taken::Applied(1));
    assert_eq!(feed.record(Some("a"), None, &[]), Taken::Applied(2));
    assert_eq!(feed.take("a", &event("2", "1")), Taken::Applied(3));
    assert_eq!(feed.take("b", &event("-1", "1")), Taken::Quarantined { code: "bad-version" });
}

#[test]
fn a_skipped_event_takes_its_version_and_the_state_stays() {
    let mut spec = given("replace");
    spec.on_poison = OnPoison::Skip;
    let mut feed = Feed::new(spec);
    feed.take("a", r#"{"type":"T","version":1,"time":5,"data":1}"#);
    assert_eq!(feed.take("a", r#"{"type":"T","version":2,"time":"never","data":2}"#), Taken::Skipped(2));
    assert_eq!(feed.take("a", "{"), Taken::Skipped(3));
    assert_eq!(feed.take("a", r#"{"type":"T","version":4,"time":7,"data":4}"#), Taken::Applied(4));
    let skipped = feed.answer(Selector::Version(3));
    assert_eq!((skipped.skipped, skipped.state_text.as_str(), skipped.effective_time_ms), (true, "1", 3000));
    assert_eq!((feed.state().as_str(), feed.answer(Selector::Head).effective_time_ms), ("4", 3000));

    let mut spec = counted("replace");
    spec.on_poison = OnPoison::Halt;
    let mut feed = Feed::new(spec);
    feed.event("T", "1");
    assert_eq!(feed.take("a", "{"), Taken::Halt);
    assert_eq!(feed.take("b", r#"{"type":"T"}"#), Taken::Halt);
    assert_eq!((feed.state().as_str(), feed.ledger.dead_letters().len()), ("1", 0));
}

#[test]
fn an_equal_event_id_is_a_duplicate_for_a_thousand_events() {
    let mut spec = counted("replace");
    spec.on_poison = OnPoison::Skip;
    let mut feed = Feed::new(spec);
    let event = |id: u64| format!(r#"{{"type":"T","event":"e{id}","data":{id}}}"#);
    assert_eq!(feed.take("a", r#"{"type":"T","event":"e0","time":[]}"#), Taken::Skipped(1));
    for id in 1..1000 {
        assert_eq!(feed.take("a", &event(id)), Taken::Applied(id + 1));
    }
    assert_eq!(feed.take("a", &event(0)), Taken::Duplicate);
    assert_eq!(feed.take("a", &event(1000)), Taken::Applied(1001));
    assert_eq!(feed.take("a", &event(0)), Taken::Applied(1002));
    assert_eq!(feed.take("b", &event(1000)), Taken::Applied(1));
}

#[test]
fn tombstones_delete_unless_the_id_is_in_the_value() {
    let mut feed = Feed::new(counted("replace"));
    feed.event("T", "1");
    assert_eq!(feed.record(Some("a"), None, &[]), Taken::Applied(2));
    let gone = feed.answer(Selector::Head);
    assert_eq!((gone.deleted, gone.last_event_type.as_deref()), (true, Some("$tombstone")));
    feed.event("T", "3");
    assert_eq!((feed.answer(Selector::Head).version, feed.state().as_str()), (3, "3"));
    assert_eq!(feed.record(None, None, &[]), Taken::DeadLetter { code: "no-aggregate" });

    let mut spec = counted("replace");
    spec.map.aggregate_id = places(&["header:id"]);
    let mut feed = Feed::new(spec.clone());
    assert_eq!(feed.record(None, None, &[("id", "a")]), Taken::Quarantined { code: "null-record" });
    assert_eq!(feed.record(Some("k"), None, &[("id", "b")]), Taken::Applied(1));
    spec.map.aggregate_id = places(&["const:a"]);
    let mut feed = Feed::new(spec);
    assert_eq!(feed.record(Some("k"), None, &[]), Taken::Quarantined { code: "tombstone-without-id" });
}

#[test]
fn ids_types_and_times_come_from_the_first_place_that_answers() {
    let mut spec = counted("replace");
    spec.map.aggregate_id = places(&["key:/k/0", "/id"]);
    spec.map.time = places(&["header:at", "/time"]);
    let mut feed = Feed::new(spec);
    assert_eq!(feed.take(r#"{"k":["a"]}"#, r#"{"id":"b","type":"T"}"#), Taken::Applied(1));
    assert_eq!(
        feed.record(None, Some(r#"{"id":"a","type":"T","time":9}"#), &[("type", "H"), ("at", "8")]),
        Taken::Applied(2)
    );
    let head = feed.answer(Selector::Head);
    assert_eq!((head.last_event_type.as_deref(), head.effective_time_ms), (Some("H"), 1000));
    assert_eq!(feed.ledger.versions("a")[1].time_ms, 8);
    let long = "x".repeat(1025);
    for id in [r#""""#, "true", "null", "{}", &format!("\"{long}\"")] {
        let value = format!(r#"{{"id":{id},"type":"T"}}"#);
        assert_eq!(feed.record(None, Some(&value), &[]), Taken::DeadLetter { code: "no-aggregate" }, "{id}");
    }
    assert_eq!(feed.record(None, Some(r#"{"id":7,"type":"T"}"#), &[]), Taken::Applied(1));
    assert_eq!(feed.record(None, Some(r#"{"id":"n"}"#), &[]), Taken::Quarantined { code: "bad-type" });
}

#[test]
fn times_are_rfc_3339_dates_or_epoch_milliseconds() {
    let cases = [
        ("2026-11-24T10:00:00Z", Some(1_795_514_400_000)),
        ("2026-11-24T10:00:00", Some(1_795_514_400_000)),
        ("2026-11-24t12:00:00.1239+02:00", Some(1_795_514_400_123)),
        ("2026-11-24 04:29:59.9-05:31", Some(1_795_514_459_900)),
        ("2026-11-24", Some(1_795_478_400_000)),
        ("1948-02-29", Some(-689_212_800_000)),
        ("1969-12-31T23:59:59.9999Z", Some(-1)),
        ("0001-01-01", Some(-62_135_596_800_000)),
        ("1700000000000", Some(1_700_000_000_000)),
        ("-5", Some(-5)),
        ("1900-02-29", None),
        ("2026-13-01", None),
        ("2026-11-24T25:00:00Z", None),
        ("2026-11-24T10:00Z", None),
        ("2026-11-24T10:00:00.Z", None),
        ("2026-11-24T10:00:00+0100", None),
        ("24.11.2026", None),
        ("", None),
    ];
    for (text, ms) in cases {
        assert_eq!(ledger::place::as_time(&Value::String(text.to_owned())), ms, "{text}");
    }
    assert_eq!(ledger::place::as_time(&serde_json::json!(1.5)), None);
    assert_eq!(ledger::place::as_time(&serde_json::json!(-7)), Some(-7));
}

#[test]
fn selectors_answer_by_running_maximum_and_inclusive_offset() {
    let mut feed = Feed::new(counted("replace"));
    for (time, data) in [(50, 1), (20, 2), (60, 3)] {
        feed.take("a", &format!(r#"{{"type":"T","time":{time},"data":{data}}}"#));
    }
    let at = |ms| feed.answer(Selector::At(ms)).version;
    assert_eq!([at(50), at(59), at(60), at(i64::MAX)], [2, 2, 3, 3]);
    let ask = |selector| feed.ledger.expect("a", selector);
    assert_eq!(ask(Selector::At(49)), Expected::BeforeFirst { first_time_ms: 50 });
    assert_eq!(ask(Selector::Version(4)), Expected::BeyondHead { head: 3 });
    assert_eq!(ask(Selector::Version(0)), Expected::BadSelector);
    assert_eq!(ask(Selector::Offset(2, 1)), Expected::WrongPartition);
    assert_eq!(ask(Selector::Offset(3, 0)), Expected::BeforeFirst { first_time_ms: 50 });
    assert_eq!(
        [feed.answer(Selector::Offset(3, 2)).version, feed.answer(Selector::Offset(3, 99)).version],
        [2, 3]
    );
    assert_eq!(feed.ledger.expect("z", Selector::Head), Expected::Unknown);
    assert_eq!(feed.ledger.boundary_times("a"), [49, 50, 51, 59, 60, 61]);
    assert_eq!(feed.ledger.head("a"), 3);
}

#[test]
fn input_that_is_not_strict_json_is_poison() {
    let texts: [&[u8]; 14] = [
        br#"{"type":"T","a":1,"a":1}"#,
        br#"{"type":"T","a":{"b":1,"\u0062":2}}"#,
        br#"{"type":"T","a":"\ud800"}"#,
        br#"{"type":"T","a":"\udc00\ud800"}"#,
        b"{\"type\":\"T\",\"a\":\"\xff\"}",
        b"{\"type\":\"T\",\"a\":\"\n\"}",
        br#"{"type":"T","a":01}"#,
        br#"{"type":"T","a":1.}"#,
        br#"{"type":"T","a":+1}"#,
        br#"{"type":"T",}"#,
        br#"{"type":"T"} {}"#,
        br#"{"type":"T","a":"\u+123"}"#,
        b"\xef\xbb\xbf{\"type\":\"T\"}",
        b"",
    ];
    for text in texts {
        assert_eq!(ledger::json::read(text, 128), None, "{}", String::from_utf8_lossy(text));
    }
    let mut feed = Feed::new(counted("replace"));
    assert_eq!(feed.take("a", r#"{"type":"T","data":"\u0000\ud83d\ude00/"}"#), Taken::Applied(1));
    assert_eq!(feed.state(), "\"\\u0000😀/\"");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(feed.take("b", &format!(r#"{{"type":"T","data":{}}}"#, nested(127))), Taken::Applied(1));
    assert_eq!(
        feed.take("c", &format!(r#"{{"type":"T","data":{}}}"#, nested(128))),
        Taken::Quarantined { code: "undecodable" }
    );
    let mut spec = counted("merge");
    (spec.max_event_bytes, spec.max_state_bytes) = (40, 20);
    let mut feed = Feed::new(spec);
    assert_eq!(feed.event("T", r#"{"a":"12345"}"#), Taken::Applied(1));
    assert_eq!(feed.event("T", r#"{"b":"1234"}"#), Taken::Quarantined { code: "state-too-large" });
    assert_eq!(feed.state(), r#"{"a":"12345"}"#);
    assert_eq!(feed.take("b", &" ".repeat(41)), Taken::Quarantined { code: "event-too-large" });
}

/// The constants are Python's `hashlib` over the layout of DESIGN section 6.4.
#[test]
fn chain_and_digests_equal_those_computed_elsewhere() {
    let mut spec = counted("merge");
    spec.map.event_type = places(&["header:b", "/type"]);
    spec.map.time = places(&["header:a"]);
    let mut ledger = Ledger::new(spec);
    let record = |offset, record_time_ms, value: Option<&str>, headers: &[(&str, &str)]| Record {
        partition: 0,
        offset,
        record_time_ms,
        key: Some(b"o-1".to_vec()),
        value: value.map(|v| v.as_bytes().to_vec()),
        headers: headers.iter().map(|(n, v)| ((*n).to_owned(), Some(v.as_bytes().to_vec()))).collect(),
    };
    let event = r#"{"type":"A","data":{"n":1}}"#;
    ledger.push(record(7, 1_700_000_000_000, Some(event), &[("other", "o"), ("a", "12")]));
    ledger.push(record(9, -1, None, &[("b", "z")]));
    assert_eq!(
        ledger::chain::hex(&ledger::chain::genesis("order", "o-1")),
        "1eaa2f6d37fae3701f7d94c11d1e489df43a4f9cf2c954a37f9dd040f7dc2558"
    );
    let answers: Vec<Answer> = [1, 2]
        .map(|v| match ledger.expect("o-1", Selector::Version(v)) {
            Expected::State(answer) => *answer,
            other => panic!("{other:?}"),
        })
        .into();
    let versions = ledger.versions("o-1");
    assert_eq!(ledger::chain::hex(&versions[0].event_digest), EVENT);
    assert_eq!([&answers[0].chain, &answers[1].chain], LINKS);
    assert_eq!(
        [&answers[0].state_digest, &answers[1].state_digest],
        [
            "2bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd",
            "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"
        ]
    );
    // An astral member sorts before U+FB33 (UTF-16), which UTF-8 order would turn round.
    let state = ledger::json::read(
        "{\"\u{fb33}\":\"\\u0001\\n\\/\\u00e9\u{2028}\",\"a\":1.10,\"\\ud83d\\ude00\":[1E5,-0]}".as_bytes(),
        9,
    );
    assert_eq!(
        ledger::json::canonical(&state.expect("it is JSON")),
        "{\"a\":1.10,\"\u{1F600}\":[1E5,-0],\"\u{fb33}\":\"\\u0001\\n/é\u{2028}\"}"
    );
}

#[test]
#[should_panic(expected = "does not support")]
fn forms_beyond_the_ledger_are_refused() {
    drop(Ledger::new(counted("on: { T: [ { set: { x: '.a / 2' } } ] }")));
}

/// The simulator asks a fresh ledger per seed: this bounds the work, the time is printed for who wants to see
/// it.
#[test]
fn six_hundred_events_of_rules_cost_little() {
    let on = "{ init: { n: 0 }, on: { Add: [ { add: { n: '.a * 2 + 1' } } ], '*': [ { set: { 'last.v': .a } } ] } }";
    let values: Vec<String> = (1..=600)
        .map(|n| format!(r#"{{"type":"Add","version":{},"data":{{"a":{n}}}}}"#, (n + 9) / 10))
        .collect();
    let made = started();
    let mut feed = Feed::new(given(on));
    let begun = started();
    for (n, value) in values.iter().enumerate() {
        feed.take(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][n % 10], value);
    }
    eprintln!("600 events: {:?} after {:?} for the spec", begun.elapsed(), begun.duration_since(made));
    assert_eq!(feed.ledger.aggregates().map(|id| feed.ledger.head(id)).sum::<u64>(), 600);
}

#[expect(clippy::disallowed_methods, reason = "it measures the ledger, no promise depends on it")]
fn started() -> std::time::Instant {
    std::time::Instant::now()
}

const EVENT: &str = "b50f91de0922b31393a58e83e1b8a763f6c3e4162f4ba6ec12cebe898bc0d191";
const LINKS: [&str; 2] = [
    "b71c2ad4fa24ccbbc58e438f4acb196fe5059644acfab53e6f07560ae695db60",
    "4355fa1fbe63b7747be75ac0b2d7995af3b22c28955dc2b2ea766584eb5ce9da",
];

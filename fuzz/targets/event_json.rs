//! Records of JSON through decoder and fold. Input: `abc`, three letters that choose the reducer, where
//! versions come from and what happens to poison, then records that end at 0xff. A record is value, key,
//! header `h`, and header `version`, with 0xfe between them; a missing part is null. No UTF-8 text has these
//! two bytes, so values stay readable, and the fuzzer can insert anything anywhere.

use snapfold::codec::body::{decode_full, encode_full};
use snapfold::codec::event_json::JsonDecoder;
use snapfold::codec::yaml;
use snapfold::domain::aggregate::{Aggregate, Folded, OnPoison, Rules, State, Versions};
use snapfold::domain::event::{Decode, Decoded};
use snapfold::domain::ids::{Offset, Timestamp, Version};
use snapfold::domain::mapping::{Mapping, Place};
use snapfold::domain::patch::{self, Budget};
use snapfold::domain::record::{FullBody, RawRecord};
use snapfold::domain::reducer;
use snapfold::domain::value::{Limits, Value};

/// Every operation, on members that records name, with every kind of value.
const RULES: &str = r#"
init: { list: [], items: {}, n: 0 }
on:
  Set: [ { set: { a: .a, "b[.k]": ., "list[0]": $event.key, "c.d[-1]": $state.n, t: '="\(.a) and \(.)"' } } ]
  Unset: [ { unset: [ a, "b[.k]", "list[0]", "items[.k].qty" ] } ]
  Merge: [ { merge: . }, { mergeAt: { "b.m": .a } } ]
  Add: [ { add: { n: .n, "sum[.k]": ".n * .n // 1" } }, { set: { q: "if .n > 0 then 7 / .n else .n % 5 end" } } ]
  Append: [ { append: { list: .a } }, { prepend: { "more[.k]": $state.a } }, { keepLast: { list: 3 } } ]
  Upsert: [ { upsert: { at: "items[.k]", new: { qty: 0, a: .a }, set: { t: $event.time }, add: { qty: .n } } } ]
  Remove: [ { remove: { list: .a } }, { keepLast: { more: .n } } ]
  Least: [ { min: { least: .n, first: $event.time } }, { max: { most: .n, last: .a } } ]
  Delete: [ { set: { a: 1 } }, { delete: true } ]
  Double: [ { set: { s: { x: $state.s, y: [ $state.s, $event.headers.h, $event.id ] } } } ]
  "*": [ { set: { last: [ $event.type, $event.version ] } } ]
"#;

/// Bytes of a state: few, so that the limit is met.
const STATE_BYTES_MAX: usize = 2_048;
/// Records of one input that are folded.
const RECORDS_MAX: usize = 32;

pub(crate) fn check(data: &[u8]) {
    let Some((&[reducer, versions, poison], records)) = data.split_first_chunk::<3>() else { return };
    let Some(rules) = rules(reducer, versions, poison) else { return };
    let limits = Limits { max_bytes: 64 << 10, max_depth: 64, max_members: 2_000 };
    let decoder = JsonDecoder::new(mapping(versions, reducer), limits);
    let genesis = || Aggregate::genesis("order", "o-1");
    let mut world = World { rules, hot: genesis(), idle: genesis(), refolded: Some(genesis()) };
    for (offset, record) in records.split(|byte| *byte == 0xff).take(RECORDS_MAX).enumerate() {
        let record = raw(offset, record);
        let route = decoder.route(&record);
        let decoded = decoder.decode(record);
        assert_eq!(route, (decoded.id().cloned(), decoded.time()));
        value_comes_back(&decoded);
        world.fold(&decoded);
    }
}

fn raw(offset: usize, record: &[u8]) -> RawRecord {
    let mut parts = record.split(|byte| *byte == 0xfe);
    let (value, key) = (parts.next().filter(|value| !value.is_empty()), parts.next());
    let header = |name: &str, part: Option<&[u8]>| part.map(|part| (name.into(), Some(part.into())));
    let headers = [header("h", parts.next()), header("version", parts.next())];
    RawRecord {
        offset: Offset(offset as i64),
        leader_epoch: 0,
        record_time: Timestamp(1_700_000_000_000 + offset as i64),
        key: key.map(Into::into),
        value: value.map(Into::into),
        headers: headers.into_iter().flatten().collect(),
    }
}

/// A mapping with every kind of place.
fn mapping(versions: u8, reducer: u8) -> Mapping {
    let places = |texts: &[&str]| -> Vec<Place> {
        texts.iter().map(|text| Place::parse(text, "shop.orders.v1").expect("a place")).collect()
    };
    Mapping {
        aggregate_id: places(&["key:/id", "/aggregateId", "key"]),
        event_type: places(&["/type", "header:h", "topic:^shop[.](.*)[.]v1$"]),
        version: matches!(versions, b'g' | b'z').then(|| places(&["/version", "header:version"])),
        version_base: u64::from(versions != b'z'),
        event_id: places(&["/id", "header:h"]),
        time: places(&["/timestamp", "/data/0/time"]),
        data: reducer.is_ascii_lowercase().then(|| places(&["/data", "const:nothing"])),
    }
}

fn rules(reducer: u8, versions: u8, poison: u8) -> Option<Rules> {
    let text = match reducer.to_ascii_lowercase() {
        b'r' => RULES,
        b'm' => "merge",
        b's' => "replace",
        b'j' => "json-patch",
        _ => return None,
    };
    let node = yaml::parse(text).expect("it is YAML");
    Some(Rules {
        kind: "order".into(),
        reducer: reducer::parse(&node).expect("it is a reducer"),
        versions: match versions {
            b'g' | b'z' => Versions::Given,
            b'o' => Versions::CountedOnce,
            _ => Versions::Counted,
        },
        on_poison: match poison {
            b'q' => OnPoison::Quarantine,
            b'h' => OnPoison::Halt,
            _ => OnPoison::Skip,
        },
        state_bytes_max: STATE_BYTES_MAX,
        limits: state_limits(),
    })
}

fn state_limits() -> Limits {
    Limits { max_bytes: STATE_BYTES_MAX, max_depth: Limits::DEPTH_MAX, max_members: STATE_BYTES_MAX }
}

/// What is written is read back as the same value.
fn value_comes_back(decoded: &Decoded) {
    let Ok(event) = &decoded.content else { return };
    let text = event.data.to_json();
    let again = Value::parse(text.as_bytes(), &Limits { max_bytes: usize::MAX, ..Limits::default() });
    assert_eq!(again.as_ref(), Ok(&event.data));
    assert_eq!(event.data.json_len(), text.len());
    let mut canonical = Vec::new();
    event.data.canonical(&mut canonical);
    let again = Value::parse(&canonical, &Limits { max_bytes: usize::MAX, ..Limits::default() });
    assert!(again.expect("canonical text is JSON").eq_value(&event.data));
}

/// One aggregate three times: never cooled, cooled after every event, and folded again from what was decided.
struct World {
    rules: Rules,
    hot: Aggregate,
    idle: Aggregate,
    /// None once a record was quarantined or refused: the history ends there.
    refolded: Option<Aggregate>,
}

impl World {
    fn fold(&mut self, decoded: &Decoded) {
        let before = self.hot.to_body();
        let folded = self.rules.fold(&mut self.hot, decoded);
        assert_eq!(folded, self.rules.fold(&mut self.idle, decoded), "what is in memory decides");
        self.idle.state.cool();
        let after = self.hot.to_body();
        assert_eq!(after, self.idle.to_body(), "what is in memory decides");
        self.judge(&folded, &before, &after);
        self.refold(&folded, decoded, &after);
        self.state_comes_back(&before, &after);
    }

    /// Only `Applied` changes a state, and only what takes a version changes the rest.
    fn judge(&self, folded: &Folded, before: &FullBody, after: &FullBody) {
        let initial = Some(self.rules.reducer.initial().to_json().into_bytes().into());
        match folded {
            Folded::Applied => assert_eq!(after.version, before.version.next()),
            Folded::Skipped(_) => {
                assert_eq!(after.version, before.version.next());
                let is_first = before.version == Version(0);
                assert_eq!(after.state, if is_first { initial } else { before.state.clone() });
            }
            Folded::Quarantined(_) => {
                assert!(after.quarantine.is_some());
                assert_eq!(&FullBody { quarantine: before.quarantine.clone(), ..after.clone() }, before);
            }
            Folded::Duplicate | Folded::Refused(_) | Folded::Halt(_) => assert_eq!(after, before),
        }
    }

    fn refold(&mut self, folded: &Folded, decoded: &Decoded, after: &FullBody) {
        let skipped = match folded {
            Folded::Applied => false,
            Folded::Skipped(_) => true,
            _ => return,
        };
        let Some(refolded) = &mut self.refolded else { return };
        let again = self.rules.refold(refolded, after.version, skipped, decoded);
        assert_eq!(again, Ok(()), "history cannot be folded again");
        assert_eq!(&refolded.to_body(), after, "history folds to another state");
    }

    fn state_comes_back(&self, before: &FullBody, after: &FullBody) {
        assert_eq!(decode_full(&encode_full(after)).as_ref(), Ok(after), "a body comes back");
        let Some(text) = &after.state else { return };
        assert!(text.len() <= STATE_BYTES_MAX, "a state over the limit");
        assert!(text.len() <= self.hot.state.bytes_bound(), "the bound of a state is below its length");
        let value = Value::parse(text, &state_limits()).expect("a state can be read back");
        if let State::Hot(tree) = &self.hot.state {
            assert_eq!(*tree.value(), value, "a state is not what its text says");
        }
        let old =
            before.state.as_deref().map(|text| Value::parse(text, &state_limits()).expect("it was a state"));
        if let Some(mut old) = old {
            let budget = Budget { max_bytes: 64 << 20, max_depth: Limits::DEPTH_MAX };
            patch::diff(&old, &value).apply(&mut old, &budget).expect("a difference applies");
            assert!(old.eq_value(&value), "a difference leads elsewhere");
        }
    }
}

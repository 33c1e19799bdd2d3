//! The events of the bench, made from a seed while it runs, so that they are never all in memory.
//!
//! Five types, as the order of API.md section 3 has them: of 20 events 12 `ItemAdded`, 3 `AddressChanged`, 3
//! `Noted` (no rule of its own), one `OrderPaid`, one `OrderCancelled`. A record's value has some 230 bytes:
//! an envelope with event id, type, version, time and correlation id, and the data. The key is the
//! aggregate's id, versions are given and contiguous. Of the aggregates one percent gets `hot_percent` of the
//! events, the rest is drawn evenly.

use snapfold::codec::event_json::JsonDecoder;
use snapfold::domain::aggregate::{OnPoison, Rules, Versions};
use snapfold::domain::ids::{Offset, Timestamp};
use snapfold::domain::mapping::{Mapping, Place, Places};
use snapfold::domain::record::RawRecord;
use snapfold::domain::reducer;
use snapfold::domain::value::Limits;
use std::fmt::Write;

/// How the events fold.
pub(crate) const REDUCER: &str = r#"
init: { status: new, total: 0, items: {} }
on:
  ItemAdded:
    - upsert: { at: "items[.sku]", new: { price: .price, qty: 0 }, add: { qty: .qty } }
    - add: { total: .price }
  AddressChanged: [ { set: { address: . } } ]
  OrderPaid: [ { set: { status: paid } } ]
  OrderCancelled: [ { set: { status: cancelled } }, { unset: [address] } ]
  "*": [ { add: { eventCount: 1 } } ]
"#;

/// Draws events; the same seed draws the same ones.
#[derive(Clone)]
pub(crate) struct Events {
    random: u64,
    versions: Vec<u32>,
    /// Number of the first aggregate.
    first: usize,
    hot_percent: u64,
    in_turn: bool,
    offset: i64,
    text: String,
}

impl Events {
    pub(crate) fn new(aggregates: usize, hot_percent: u64) -> Self {
        let (random, versions) = (0x5eed, vec![0; aggregates]);
        Self { random, versions, first: 0, hot_percent, in_turn: false, offset: 0, text: String::new() }
    }

    /// SplitMix64, reduced to `0..bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn aggregate(&mut self) -> usize {
        let all = self.versions.len() as u64;
        let hot = self.below(100) < self.hot_percent;
        let drawn = self.below(if hot { (all / 100).max(1) } else { all });
        usize::try_from(drawn).expect("it is below a length")
    }

    /// Every aggregate in turn, so that none gets a second event before all have their first.
    pub(crate) fn in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// Aggregates that are numbered from `first` on, with other events: those of another partition.
    pub(crate) fn numbered_from(mut self, first: usize) -> Self {
        self.random += first as u64;
        self.first = first;
        self
    }

    /// How many events each aggregate has had, by the ids of the aggregates.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (String, u64)> {
        let id = |at: usize| format!("order-{:08}", self.first + at);
        self.versions.iter().enumerate().map(move |(at, head)| (id(at), u64::from(*head)))
    }

    pub(crate) fn batch(&mut self, count: usize) -> Vec<RawRecord> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> RawRecord {
        let aggregate = match self.in_turn {
            true => usize::try_from(self.offset).expect("offsets start at 0") % self.versions.len(),
            false => self.aggregate(),
        };
        self.event_of(aggregate)
    }

    fn event_of(&mut self, aggregate: usize) -> RawRecord {
        self.versions[aggregate] += 1;
        let (event_type, data) = self.data();
        let (first, second) = (self.below(1 << 32), self.below(1 << 48));
        let version = self.versions[aggregate];
        let (second_of_minute, ms) = (self.offset / 1_000 % 60, self.offset % 1_000);
        self.text.clear();
        write!(
            self.text,
            r#"{{"id":"{first:08x}-7a1c-4e55-9b0d-{second:012x}","type":"{event_type}","version":{version},"#,
        )
        .and_then(
            |()| write!(self.text, r#""timestamp":"2026-11-24T10:00:{second_of_minute:02}.{ms:03}Z","#,),
        )
        .and_then(|()| write!(self.text, r#""correlationId":"c-{second:012x}","data":{data}}}"#))
        .expect("a String takes all that is written");
        let record = RawRecord {
            offset: Offset(self.offset),
            leader_epoch: 0,
            record_time: Timestamp(1_795_514_400_000 + self.offset),
            key: Some(format!("order-{:08}", self.first + aggregate).as_bytes().into()),
            value: Some(self.text.as_bytes().into()),
            headers: Vec::new(),
        };
        self.offset += 1;
        record
    }

    fn data(&mut self) -> (&'static str, String) {
        let (a, b, c) = (self.below(6), self.below(100_000), self.below(100));
        match self.below(20) {
            0..=11 => {
                let qty = 1 + b % 5;
                let item = format!(r#"{{"sku":"s{a}","qty":{qty},"price":{}.{c:02},"#, b % 1_000);
                ("ItemAdded", item + r#""currency":"EUR","warehouse":"north-2","gift":false}"#)
            }
            12..=14 => {
                let text = format!(r#"{{"street":"Long Street {c}","city":"Town {a}","zip":"{b:05}","#);
                ("AddressChanged", text + r#""country":"NO","validated":true}"#)
            }
            15..=17 => ("Noted", format!(r#"{{"by":"agent-{c}","note":"called about item {a}, is fine"}}"#)),
            18 => ("OrderPaid", format!(r#"{{"method":"card","amount":{b}.{c:02},"currency":"EUR"}}"#)),
            _ => ("OrderCancelled", format!(r#"{{"reason":"customer asked","by":"agent-{c}"}}"#)),
        }
    }
}

pub(crate) fn mapping() -> Mapping {
    let places = |texts: &[&str]| -> Places {
        texts.iter().map(|text| Place::parse(text, "orders").expect("a place")).collect()
    };
    Mapping {
        aggregate_id: places(&["key"]),
        event_type: places(&["/type"]),
        version: Some(places(&["/version"])),
        version_base: 1,
        event_id: places(&["/id"]),
        time: places(&["/timestamp"]),
        data: Some(places(&["/data"])),
    }
}

pub(crate) fn decoder() -> JsonDecoder {
    JsonDecoder::new(mapping(), Limits::default())
}

pub(crate) fn rules() -> Rules {
    let yaml = snapfold::codec::yaml::parse(REDUCER).expect("the reducer is YAML");
    Rules {
        kind: "order".into(),
        reducer: reducer::parse(&yaml).expect("the reducer is one"),
        versions: Versions::Given,
        on_poison: OnPoison::Quarantine,
        state_bytes_max: 16 << 20,
        limits: Limits::default(),
    }
}

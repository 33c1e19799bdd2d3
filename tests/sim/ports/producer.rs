//! The producer: events of a few aggregates, and all that producers do wrong. Its journal (kept by the
//! broker, one entry for each append) is what the ledger is fed by, so that a loss in the log shows as well.
//!
//! A producer goes by what survives in the log: after a truncation it counts on from there (sometimes it does
//! not, which leaves a gap), after a re-creation it starts anew.

use super::Gate;
use super::broker::{Broker, Draft, JournalEntry, Note};
use super::clock::{EPOCH_MS, wall};
use super::payload::{Occasion, Payloads, Shape};
use crate::executor::lock;
use crate::rng::Rng;
use crate::stats::Count;
use snapfold::domain::ids::{PartitionNo, Timestamp};
use snapfold::domain::record::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Whether events carry versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMode {
    /// They do.
    Given,
    /// They are counted.
    Counted,
}

/// One stream: an aggregate type and its topic.
#[derive(Clone, Debug)]
pub(crate) struct StreamSpec {
    /// Aggregate type.
    pub(crate) kind: &'static str,
    /// Topic.
    pub(crate) topic: &'static str,
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// Number of aggregates.
    pub(crate) aggregates: usize,
    /// What its events say.
    pub(crate) shape: Shape,
}

struct Aggregate {
    id: Arc<str>,
    partition: PartitionNo,
    // The version that its last event took.
    version: u64,
}

struct Stream {
    spec: StreamSpec,
    aggregates: Vec<Aggregate>,
    // What may be sent again.
    recent: Vec<(PartitionNo, Draft)>,
}

struct State {
    streams: Vec<Stream>,
    events_made: u64,
}

/// The producer; clones share it.
#[derive(Clone)]
pub(crate) struct Producer {
    gate: Gate,
    broker: Broker,
    versions: VersionMode,
    payloads: Payloads,
    state: Arc<Mutex<State>>,
}

/// Where the default partitioner of these tests puts an id (FNV-1a): like real ones, a function of the bytes
/// alone.
pub(crate) fn partition_of(id: &str, partitions: i32) -> PartitionNo {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let partitions = u64::from(partitions.max(1).unsigned_abs());
    PartitionNo(i32::try_from((hash >> 16) % partitions).unwrap_or(0))
}

fn aggregate_id(number: usize) -> String {
    match number {
        3 => "ü/7@2".to_owned(),
        7 => "a \"quoted\" ~1".to_owned(),
        _ => format!("a-{number}"),
    }
}

fn aggregates_of(spec: &StreamSpec) -> Vec<Aggregate> {
    let made = (0..spec.aggregates).map(aggregate_id).map(|id| Aggregate {
        partition: partition_of(&id, spec.partitions),
        id: id.into(),
        version: 0,
    });
    made.collect()
}

impl Producer {
    /// A producer for these streams, whose topics exist.
    pub(crate) fn new(
        gate: Gate,
        broker: Broker,
        streams: &[StreamSpec],
        versions: VersionMode,
        payloads: Payloads,
    ) -> Self {
        let stream = |spec: &StreamSpec| Stream {
            aggregates: aggregates_of(spec),
            spec: spec.clone(),
            recent: Vec::new(),
        };
        let state = State { streams: streams.iter().map(stream).collect(), events_made: 0 };
        Self { gate, broker, versions, payloads, state: Arc::new(Mutex::new(state)) }
    }

    /// Appends one record of whatever kind the plan gives.
    pub(crate) fn produce(&self) {
        let mut state = lock(&self.state);
        let now = self.gate.sim.now();
        let (partition, draft, topic) = self.gate.sim.draw(|rng| {
            let at = rng.index(state.streams.len());
            state.events_made += 1;
            let number = state.events_made;
            let stream = &mut state.streams[at];
            let (partition, draft) = self.draft(rng, stream, number, now);
            (partition, draft, stream.spec.topic)
        });
        self.count(&draft, now);
        drop(state);
        let appended = self.broker.append(topic, partition, draft);
        if let Err(refused) = appended {
            self.gate.sim.violation(format!("the producer cannot append: {refused}"));
        }
    }

    fn count(&self, draft: &Draft, now: u64) {
        let sim = &self.gate.sim;
        sim.count(match draft.note {
            Note::Event | Note::Injected => Count::Event,
            Note::Duplicate => Count::Duplicate,
            Note::Conflict => Count::Conflict,
            Note::Gap => Count::MissingVersion,
            Note::Poison(_) => Count::Poison,
            Note::Tombstone => Count::Tombstone,
        });
        if draft.record_time != wall(now) && draft.note == Note::Event {
            sim.count(Count::OutOfOrder);
        }
    }

    // Called with the random stream at hand: nothing in here may ask the executor for anything else. The plan
    // is the gate's own lock.
    fn draft(&self, rng: &mut Rng, stream: &mut Stream, number: u64, now: u64) -> (PartitionNo, Draft) {
        let (hot, duplicate, poison, tombstone, out_of_order) =
            self.gate.plan(|p| (p.hot_percent, p.duplicate, p.poison, p.tombstone, p.out_of_order));
        if !stream.recent.is_empty() && rng.hits(duplicate) {
            let (partition, draft) = rng.pick(&stream.recent).clone();
            return (partition, Draft { note: Note::Duplicate, ..draft });
        }
        let at = if rng.percent(hot) { 0 } else { rng.index(stream.aggregates.len()) };
        let time = if rng.hits(out_of_order) { odd_time(rng, now) } else { wall(now) };
        let (partition, id) = (stream.aggregates[at].partition, stream.aggregates[at].id.clone());
        let bare = |value: Option<Bytes>, note| Draft {
            key: Some(id.as_bytes().into()),
            value,
            headers: Vec::new(),
            record_time: time,
            note,
            aggregate: Some(id.clone()),
            version: None,
        };
        if rng.hits(tombstone) {
            return (partition, bare(None, Note::Tombstone));
        }
        let poisoned = rng.hits(poison);
        if poisoned && rng.percent(60) {
            return (partition, poison_record(rng, bare));
        }
        let aggregate = &mut stream.aggregates[at];
        let (version, note) = match (poisoned, self.versions) {
            (true, VersionMode::Given) if rng.percent(50) && aggregate.version > 0 => {
                (aggregate.version, Note::Conflict)
            }
            (true, VersionMode::Given) => {
                let skipped = aggregate.version + rng.between(2, 3);
                aggregate.version = skipped;
                (skipped, Note::Gap)
            }
            _ => {
                aggregate.version += 1;
                (aggregate.version, Note::Event)
            }
        };
        let value = self.event(rng, stream.spec.shape, &id, version, number, time);
        let headers = match rng.below(10) {
            0 => vec![("trace".into(), Some(number.to_string().as_bytes().into())), ("trace".into(), None)],
            _ => Vec::new(),
        };
        let event = Draft { headers, version: Some(version), ..bare(Some(value.as_bytes().into()), note) };
        if event.note == Note::Event {
            if stream.recent.len() >= 20 {
                stream.recent.remove(0);
            }
            stream.recent.push((partition, event.clone()));
        }
        (partition, event)
    }

    fn event(
        &self,
        rng: &mut Rng,
        shape: Shape,
        id: &str,
        version: u64,
        number: u64,
        time: Timestamp,
    ) -> String {
        let (kind, data) = (self.payloads)(rng, &Occasion { shape, aggregate: id, version });
        let versioned = match self.versions {
            VersionMode::Given => format!(r#","version":{version}"#),
            VersionMode::Counted => String::new(),
        };
        let (kind, id, time) = (json_text(&kind), json_text(id), rfc3339(time));
        format!(
            r#"{{"id":"e-{number}","type":{kind},"aggregateId":{id}{versioned},"timestamp":"{time}","data":{data}}}"#
        )
    }

    /// Told of a truncation: counts on from what is left.
    pub(crate) fn truncated(&self, topic: &str, gone: &[JournalEntry]) {
        let mut left: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for entry in gone {
            let (Some(id), Some(version), Note::Event | Note::Gap) =
                (&entry.aggregate, entry.version, &entry.note)
            else {
                continue;
            };
            let before = left.entry(id.clone()).or_insert(version - 1);
            *before = (version - 1).min(*before);
        }
        let mut state = lock(&self.state);
        for stream in state.streams.iter_mut().filter(|stream| stream.spec.topic == topic) {
            // What was cut off cannot come again as a duplicate: its versions will be others' now.
            stream.recent.clear();
            for aggregate in &mut stream.aggregates {
                if let Some(version) = left.get(&aggregate.id) {
                    aggregate.version = *version;
                }
            }
        }
    }

    /// Told of a re-creation: starts anew.
    pub(crate) fn recreated(&self, topic: &str) {
        let mut state = lock(&self.state);
        for stream in state.streams.iter_mut().filter(|stream| stream.spec.topic == topic) {
            stream.recent.clear();
            stream.aggregates.iter_mut().for_each(|aggregate| aggregate.version = 0);
        }
    }
}

fn poison_record(rng: &mut Rng, bare: impl Fn(Option<Bytes>, Note) -> Draft) -> Draft {
    const RECORDS: [(&str, &[u8]); 7] = [
        ("undecodable", b"\xff\xfe{not json"),
        ("cut short", br#"{"id":"e-x","type":"ItemAdded","aggrega"#),
        ("wrong shape", br#"["ItemAdded",1]"#),
        (
            "wrong version",
            br#"{"id":"e-x","type":"ItemAdded","aggregateId":"a-1","version":"two","data":{}}"#,
        ),
        ("version zero", br#"{"id":"e-x","type":"ItemAdded","aggregateId":"a-1","version":0,"data":{}}"#),
        (
            "wrong time",
            br#"{"id":"e-x","type":"Noted","aggregateId":"a-1","timestamp":"yesterday","data":{}}"#,
        ),
        ("nothing", b""),
    ];
    let (how, value) = *rng.pick(&RECORDS);
    if rng.percent(15) {
        return Draft { key: None, aggregate: None, ..bare(None, Note::Poison("null key and null value")) };
    }
    bare(Some(value.into()), Note::Poison(how))
}

fn odd_time(rng: &mut Rng, now: u64) -> Timestamp {
    match rng.below(10) {
        // 1948, as in real logs; and a date far ahead.
        0 => Timestamp(-694_310_400_000),
        1 => Timestamp(EPOCH_MS + 86_400_000_000),
        _ => Timestamp(wall(now).0 - 30_000 + i64::try_from(rng.below(60_000)).unwrap_or(0)),
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A timestamp as RFC 3339 in UTC; the date by Howard Hinnant's `civil_from_days`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let (days, ms) = (time.0.div_euclid(86_400_000), time.0.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(Timestamp(EPOCH_MS)), "2023-11-14T22:13:20.000Z");
        assert_eq!(rfc3339(Timestamp(-694_310_400_000)), "1948-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(951_782_399_999)), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(Timestamp(951_868_799_001)), "2000-02-29T23:59:59.001Z");
    }

    #[test]
    fn ids_are_spread_over_the_partitions() {
        let hit: std::collections::BTreeSet<PartitionNo> =
            (0..15).map(aggregate_id).map(|id| partition_of(&id, 3)).collect();
        assert_eq!(hit.len(), 3);
    }
}

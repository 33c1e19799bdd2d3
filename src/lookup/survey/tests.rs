//! Surveys of a store in memory: what is found, and how fast (`--nocapture` shows it; docs/benchmarks.md).

use super::*;
use crate::codec::event_json::JsonDecoder;
use crate::compute::Inline;
use crate::domain::aggregate::{Aggregate, Folded, OnPoison, Rules, Versions};
use crate::domain::event::Decode as _;
use crate::domain::ids::{Lineage, Offset, PartitionNo, Timestamp};
use crate::domain::mapping::{Mapping, Place};
use crate::domain::outcome::PortResult;
use crate::domain::partition::{Cut, SnapshotItem};
use crate::domain::record::{RawRecord, StoredEvent};
use crate::domain::reducer::Preset;
use crate::domain::row::{PartitionKey, Trigger, WatermarkRow};
use crate::domain::value::Limits;
use crate::kafka::{Log, LogBounds};
use crate::lookup::{Components, LookupSettings, NoCache};
use crate::reconstruct::{NoOwners, Reconstructor};
use crate::store::SnapshotStore;
use crate::store::blobs::{Blobs, MemoryBlobs};
use crate::store::flush::{Flush, FlushLimits};
use crate::store::index::{Index, MemoryIndex};
use crate::store::packs::{CompressionPlan, Packs};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const TOPIC: &str = "orders";

/// Nothing passes but what is counted.
#[derive(Default)]
struct Ticks(AtomicU64);

impl crate::clock::Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
    fn random(&self) -> [u8; 10] {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        random
    }
}

/// A log that has forgotten everything.
struct Forgotten(i64);

impl Log for Forgotten {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        Box::pin(ready(Ok(1)))
    }
    fn bounds(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        let end = Offset(self.0);
        Box::pin(ready(Ok(LogBounds { start: end, end, leader_epoch: 0, topic_id: 1 })))
    }
    fn read(&self, _: PartitionNo, _: Offset, _: Offset) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        Box::pin(ready(Err(PortError::Missing)))
    }
    fn epoch_end(&self, _: PartitionNo, _: i32) -> BoxFuture<'_, PortResult<Offset>> {
        Box::pin(ready(Ok(Offset(self.0))))
    }
    fn committed(&self, _: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        Box::pin(ready(Ok(None)))
    }
    fn commit(&self, _: PartitionNo, _: Offset) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(ready(Ok(())))
    }
}

struct Unwatched;

impl Progress for Unwatched {
    fn advance(&self, _: u64) {}
    fn more(&self, _: u64) {}
}

fn decoder() -> JsonDecoder {
    let mapping = Mapping {
        aggregate_id: vec![Place::Key],
        event_type: vec![Place::Const("Changed".into())],
        version: None,
        version_base: 1,
        event_id: Vec::new(),
        time: Vec::new(),
        data: None,
    };
    JsonDecoder::new(mapping, Limits::default())
}

fn rules() -> Rules {
    Rules {
        kind: "order".into(),
        reducer: Arc::new(Preset::Merge),
        versions: Versions::Counted,
        on_poison: OnPoison::Quarantine,
        state_bytes_max: 1 << 20,
        limits: Limits::default(),
    }
}

/// What is stored of so many aggregates: increments of `events` events each, and now and then a state.
struct Stored {
    lookup: Lookup,
    blobs: Arc<MemoryBlobs>,
    rows: u64,
}

fn stored(aggregates: usize, increments: usize, events: usize, text: &str) -> Stored {
    let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
    let clock = Arc::new(Ticks::default());
    let dynamic = Arc::clone(&index) as Arc<dyn Index>;
    let packs =
        Packs::new(Arc::clone(&dynamic), Arc::clone(&blobs) as _, CompressionPlan::default(), [1; 16]);
    let packs = Arc::new(packs);
    let store = SnapshotStore {
        index: Arc::clone(&dynamic),
        packs: Arc::clone(&packs),
        clock: Arc::clone(&clock) as _,
        compute: Arc::new(Inline),
        limits: FlushLimits { deadline_ms: 1_000, retry_ms: 1 },
        written: Arc::default(),
    };
    let log = PartitionKey { topic: TOPIC.into(), partition: PartitionNo(0), lineage: Lineage(1) };
    let (rules, decoder) = (rules(), decoder());
    let mut live: Vec<Aggregate> =
        (0..aggregates).map(|n| Aggregate::genesis("order", &format!("o-{n:06}"))).collect();
    let (mut offset, mut rows) = (0, 0);
    for round in 0..increments {
        for (part, group) in live.chunks_mut(256).enumerate() {
            let flush = |(nth, aggregate): (usize, &mut Aggregate)| {
                let id: Arc<str> = format!("o-{:06}", part * 256 + nth).into();
                let row = aggregate.version;
                let mut tail = Vec::with_capacity(events);
                for _ in 0..events {
                    let record = numbered(offset, &id, text);
                    offset += 1;
                    let folded = rules.fold(aggregate, &decoder.decode(record.clone()));
                    assert_eq!(folded, Folded::Applied);
                    tail.push(StoredEvent { version: aggregate.version, skipped: false, record });
                }
                let is_full = round % 4 == 3;
                rows += 1 + u64::from(is_full);
                let cut = Cut::of(aggregate, Trigger::Events, None, is_full, 0);
                let item = SnapshotItem {
                    id,
                    row,
                    pending: Vec::new(),
                    tail: tail.into(),
                    increment: true,
                    cuts: vec![Arc::new(cut)],
                    first_offset: None,
                };
                Flush { partition: log.clone(), kind: "order".into(), item }
            };
            let flushes = group.iter_mut().enumerate().map(flush).collect();
            let written = store.put_snapshots(flushes).now_or_never().expect("nothing waits");
            assert!(written.iter().all(Result::is_ok), "memory takes all");
        }
    }
    let mark = WatermarkRow { key: log, topic_id: 1, leader_epoch: 0, low_watermark: Offset(offset) };
    index.put_watermark(mark).now_or_never().expect("nothing waits").expect("memory takes all");
    let log = Arc::new(Forgotten(offset));
    let (decoder, health) = (Arc::new(decoder), Arc::default());
    let reader = Reconstructor { index: dynamic, packs, log, decoder, rules, topic_id: 1, health };
    Stored { lookup: lookup_over(reader, clock), blobs, rows }
}

fn lookup_over(reader: Reconstructor, clock: Arc<Ticks>) -> Lookup {
    Lookup::new(Components {
        reader,
        owners: Arc::new(NoOwners),
        clock,
        cache: Arc::new(NoCache),
        topic: TOPIC.into(),
        lineage: Lineage(1),
        settings: LookupSettings::default(),
    })
}

/// An event that says which it is.
fn numbered(offset: i64, id: &str, text: &str) -> RawRecord {
    let value = format!(r#"{{"n":{offset},"part":"{}","text":"{text}"}}"#, offset % 7);
    RawRecord {
        offset: Offset(offset),
        record_time: Timestamp(1_700_000_000_000 + offset),
        key: Some(id.as_bytes().into()),
        value: Some(value.as_bytes().into()),
        ..RawRecord::default()
    }
}

/// Seconds of one core that this thread has had; wall time where the system does not tell.
fn core_seconds(since: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()));
    nanos.map_or_else(|| since.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Runs to the end, turn by turn.
#[expect(clippy::disallowed_methods, reason = "a speed is measured by a real clock")]
fn surveyed(lookup: &Lookup, tier: Tier) -> (Surveyed, f64) {
    let ask = SurveyAsk { tier, prefix: String::new(), one_in: 1 };
    let (mut out, started) = (Surveyed::default(), Instant::now());
    let before = core_seconds(started);
    let done = {
        let mut survey = std::pin::pin!(lookup.survey(&ask, &Unwatched, &mut out));
        let waker = futures_util::task::noop_waker();
        let mut context = std::task::Context::from_waker(&waker);
        loop {
            if let std::task::Poll::Ready(done) = survey.as_mut().poll(&mut context) {
                break done;
            }
        }
    };
    done.expect("memory answers");
    (out, core_seconds(started) - before)
}

#[test]
fn a_survey_counts_what_it_looks_at_and_finds_a_pack_that_is_gone() {
    let stored = stored(20, 8, 3, "x");
    for tier in [Tier::Structure, Tier::Sample, Tier::Full] {
        let (out, _) = surveyed(&stored.lookup, tier);
        assert_eq!((out.problems, out.aggregates, out.rows), (0, 20, stored.rows), "{tier:?}: {out:?}");
        assert_eq!((out.packs > 0, out.events > 0), (tier == Tier::Full, tier == Tier::Sample), "{tier:?}");
        assert_eq!(out.uncovered, 0);
    }
    let names = stored.blobs.list("v1/history/", None, 100).now_or_never().unwrap().unwrap();
    stored.blobs.delete(&names[0]).now_or_never().unwrap().unwrap();
    for tier in [Tier::Structure, Tier::Sample, Tier::Full] {
        let (out, _) = surveyed(&stored.lookup, tier);
        assert!(out.problems >= 20 && out.findings[0].code == "corrupt", "{tier:?}: {out:?}");
    }
}

/// Figures of one core; asserts only what a busy machine keeps, too.
#[test]
fn structure_and_full_surveys_are_fast() {
    let words = "a text of some length that says what happened to the order and why it did ";
    let stored = stored(2_000, 16, 4, &words.repeat(4));
    let (structure, took) = surveyed(&stored.lookup, Tier::Structure);
    assert_eq!((structure.problems, structure.rows), (0, stored.rows));
    println!("structure: {} rows in {took:.2} s: {:.0} rows/s", structure.rows, structure.rows as f64 / took);
    let (full, took) = surveyed(&stored.lookup, Tier::Full);
    assert_eq!(full.problems, 0);
    let rate = |bytes: u64| bytes as f64 / took / 1e6;
    println!(
        "full: {} packs, {:.1} MB stored, {:.1} MB raw in {took:.2} s: {:.0} MB/s of stored, {:.0} MB/s of raw bytes",
        full.packs,
        full.bytes as f64 / 1e6,
        full.raw_bytes as f64 / 1e6,
        rate(full.bytes),
        rate(full.raw_bytes)
    );
}

//! Refolds over memory: what they write, what they refuse, what is found again, and how fast it goes.

use super::*;
use crate::clock::Clock;
use crate::codec::event_json::JsonDecoder;
use crate::compute::Inline;
use crate::domain::aggregate::{Aggregate, OnPoison, Rules, Versions};
use crate::domain::erasure::Erasure;
use crate::domain::event::Decode;
use crate::domain::ids::{LedgerId, Timestamp, Version};
use crate::domain::mapping::{Mapping, Place};
use crate::domain::partition::{Cut, SnapshotItem, Strategy};
use crate::domain::record::{RawRecord, StoredEvent};
use crate::domain::row::{NoteRow, RecordKind, Trigger};
use crate::domain::value::Limits;
use crate::reconstruct::{AsOf, Found, RestOnly};
use crate::store::blobs::MemoryBlobs;
use crate::store::flush::FlushLimits;
use crate::store::index::suite::erasure;
use crate::store::index::{From, Index, MemoryIndex};
use crate::store::packs::{CompressionPlan, Packs};
use futures_util::FutureExt;
use std::time::Instant;

const TOPIC_ID: u128 = 7;
const OLD: &str = "on: { Added: [ { add: { total: .n } } ] }";
const NEW: &str = "on: { Added: [ { add: { total: \".n * 2\" } }, { set: { last: .n } } ] }";

struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn random(&self) -> [u8; 10] {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        random
    }
}

/// Stores that several lineages share.
struct Site {
    index: Arc<MemoryIndex>,
    packs: Arc<Packs>,
    clock: Arc<Ticking>,
}

fn site() -> Site {
    let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
    let packs = Packs::new(index.clone(), blobs, CompressionPlan::default(), [1; 16]);
    Site { index, packs: Arc::new(packs), clock: Arc::new(Ticking(AtomicU64::new(1))) }
}

fn rules(reducer: &str) -> Rules {
    let yaml = crate::codec::yaml::parse(reducer).expect("it is YAML");
    Rules {
        kind: "order".into(),
        reducer: crate::domain::reducer::parse(&yaml).expect("it is a reducer"),
        versions: Versions::Counted,
        on_poison: OnPoison::Quarantine,
        state_bytes_max: 1 << 20,
        limits: Limits::default(),
    }
}

fn decoder(id: &str) -> Arc<dyn Decode> {
    let place = |text| vec![Place::parse(text, "orders").expect("it is a place")];
    let mapping = Mapping {
        aggregate_id: place(id),
        event_type: place("/type"),
        version: None,
        version_base: 1,
        event_id: Vec::new(),
        time: place("/at"),
        data: Some(place("/data")),
    };
    Arc::new(JsonDecoder::new(mapping, Limits::default()))
}

fn record(id: &str, offset: i64, n: u64) -> RawRecord {
    let at = 1_700_000_000_000_u64 + n;
    let value = format!(
        r#"{{"type":"Added","at":{at},"other":"x","data":{{"n":{n},"sku":"s-{}","note":"as ordered"}}}}"#,
        n % 17
    );
    RawRecord {
        offset: Offset(offset),
        leader_epoch: -1,
        record_time: Timestamp(5),
        key: Some(id.as_bytes().into()),
        value: Some(value.as_bytes().into()),
        headers: Vec::new(),
    }
}

impl Site {
    fn store(&self) -> Arc<SnapshotStore> {
        Arc::new(SnapshotStore {
            index: self.index.clone(),
            packs: Arc::clone(&self.packs),
            clock: self.clock.clone(),
            compute: Arc::new(Inline),
            limits: FlushLimits { deadline_ms: 600_000, retry_ms: 1 },
            written: Arc::default(),
        })
    }

    fn reader(&self, reducer: &str, id: &str) -> Reconstructor {
        Reconstructor {
            index: self.index.clone(),
            packs: Arc::clone(&self.packs),
            log: Arc::new(RestOnly { topic_id: TOPIC_ID, partitions: 1 }),
            decoder: decoder(id),
            rules: rules(reducer),
            topic_id: TOPIC_ID,
            health: Arc::default(),
        }
    }

    fn refold(&self, reducer: &str, id: &str, resumes: bool) -> Refold {
        let cuts =
            Cuts { events_max: 100, bytes_max: 1 << 40, strategy: Strategy::Incremental { full_every: 8 } };
        Refold {
            reader: self.reader(reducer, id),
            store: self.store(),
            topic: "orders".into(),
            from: Lineage(1),
            into: Lineage(2),
            cuts,
            resumes,
            progress: Arc::default(),
        }
    }

    /// Aggregates of `each` events, one after the other in the log, as a worker with the old reducer keeps
    /// them: increments of 100, full records where asked for.
    fn fill(&self, aggregates: u64, each: u64, strategy: Strategy) {
        let low_watermark = self.fill_alone(aggregates, each, strategy);
        self.put_mark(TOPIC_ID, low_watermark);
    }

    fn put_mark(&self, topic_id: u128, low_watermark: Offset) {
        let row = WatermarkRow { key: self.log(1), topic_id, leader_epoch: -1, low_watermark };
        self.index.put_watermark(row).now_or_never().expect("at once").expect("memory does not fail");
    }

    /// The same without the low watermark, which is answered.
    fn fill_alone(&self, aggregates: u64, each: u64, strategy: Strategy) -> Offset {
        let (reader, store) = (self.reader(OLD, "key"), self.store());
        let mut offset = 0;
        for nth in 0..aggregates {
            let id: Arc<str> = format!("o-{nth:06}").into();
            let mut aggregate = Aggregate::genesis("order", &id);
            let (mut events, mut cuts) = (Vec::new(), Vec::new());
            for n in 1..=each {
                let record = record(&id, offset, n);
                offset += 1;
                reader.rules.fold(&mut aggregate, &reader.decoder.decode(record.clone()));
                events.push(StoredEvent { version: Version(n), skipped: false, record });
                if n % 100 == 0 || n == each {
                    let is_full = strategy == Strategy::Full || n == each;
                    cuts.push(Arc::new(Cut::of(&aggregate, Trigger::Events, None, is_full, 0)));
                }
            }
            let increment = strategy != Strategy::Full;
            let (row, pending, first_offset) = (Version(0), Vec::new(), None);
            let item = SnapshotItem { id, row, pending, tail: events.into(), increment, cuts, first_offset };
            let flush = Flush { partition: self.log(1), kind: "order".into(), item };
            let stored = store.put_snapshots(vec![flush]).now_or_never().expect("memory answers at once");
            assert!(stored[0].is_ok(), "{stored:?}");
        }
        Offset(offset)
    }

    fn log(&self, lineage: u32) -> PartitionKey {
        PartitionKey { topic: "orders".into(), partition: PartitionNo(0), lineage: Lineage(lineage) }
    }

    fn run(&self, refold: &Refold) -> Result<BTreeMap<PartitionNo, Offset>> {
        refold.partitions(&[PartitionNo(0)]).now_or_never().expect("memory answers at once")
    }

    fn mark(&self, lineage: u32) -> Option<Offset> {
        let key = self.log(lineage);
        let rows =
            self.index.watermarks(&key).now_or_never().expect("at once").expect("memory does not fail");
        rows.iter().map(|row| row.low_watermark).max()
    }
}

/// Goal: every version of the new lineage is what the new reducer makes of the same events, its chain is the
/// old one, and a second run finds all of it. Also how many events a core folds in a second.
#[test]
#[expect(clippy::disallowed_methods, reason = "a real clock measures the cost")]
fn a_refold_is_the_new_fold_of_the_same_events() {
    let site = site();
    let (aggregates, each) = (200, 1_000);
    site.fill(aggregates, each, Strategy::Incremental { full_every: 8 });
    let refold = site.refold(NEW, "key", false);
    let started = Instant::now();
    assert_eq!(site.run(&refold), Ok([(PartitionNo(0), Offset(200_000))].into()));
    let took = started.elapsed();
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let events = count(&refold.progress.events);
    println!("{events} events refolded and written in {took:?}: {:.0}/s", events as f64 / took.as_secs_f64());
    assert_eq!((events, count(&refold.progress.aggregates)), (aggregates * each, aggregates));
    assert_eq!(site.mark(2), Some(Offset(200_000)));
    let (old, new) = (site.reader(OLD, "key"), &refold.reader);
    for (id, version) in [("o-000000", 1), ("o-000007", 100), ("o-000008", 777), ("o-000199", 1_000)] {
        let key = AggregateKey { kind: "order".into(), id: id.into() };
        let at = |reader: &Reconstructor, lineage| {
            let (log, as_of) = (site.log(lineage), AsOf::Version(Version(version)));
            match reader.state(&log, &key, as_of).now_or_never().expect("at once").expect("it is stored") {
                Found::State(aggregate, _) => *aggregate,
                other => panic!("{id} {version}: {other:?}"),
            }
        };
        let (before, after) = (at(&old, 1), at(new, 2));
        assert_eq!((before.chain, before.offset), (after.chain, after.offset), "{id} {version}");
        let total = version * (version + 1);
        let text =
            |aggregate: &Aggregate| String::from_utf8(aggregate.state.to_json().unwrap().into()).unwrap();
        assert_eq!(text(&before), format!("{{\"total\":{}}}", total / 2));
        assert_eq!(text(&after), format!("{{\"total\":{total},\"last\":{version}}}"));
    }
    // Again, as after a crash before the watermark: everything is found as it was left.
    let key = AggregateKey { kind: "order".into(), id: "o-000003".into() };
    let rows = |site: &Site| {
        let rows = site.index.snapshots(&key, Lineage(2), From::Newest, 100).now_or_never().expect("at once");
        rows.expect("memory does not fail")
    };
    let before = rows(&site);
    assert_eq!(before.iter().filter(|row| row.kind == RecordKind::Increment).count(), 10);
    let again = Refold { into: Lineage(2), ..site.refold(NEW, "key", true) };
    assert_eq!(site.run(&again), Ok(BTreeMap::new()), "the partition is done");
    site.put_mark(TOPIC_ID, Offset(200_001));
    assert_eq!(site.run(&again), Ok([(PartitionNo(0), Offset(200_001))].into()));
    assert_eq!(count(&again.progress.kept), aggregates);
    assert_eq!(rows(&site), before, "nothing was written twice");
}

/// Goal: where events are not stored, or the mapping is another one, nothing is activated by accident: no
/// watermark is written, and the reason is told.
#[test]
fn what_cannot_be_refolded_is_refused_and_says_why() {
    let full = site();
    full.fill(3, 10, Strategy::Full);
    let error = full.run(&full.refold(NEW, "key", false)).expect_err("events are the topic's");
    assert_eq!((error.kind, error.code), (ErrorKind::Gone, "history-gone"));
    assert!(error.detail.contains("refold `order/o-000000`: events after version 0"), "{error}");
    assert_eq!(full.mark(2), None);
    let site = site();
    site.fill(3, 10, Strategy::Incremental { full_every: 8 });
    let error = site.run(&site.refold(NEW, "/other", false)).expect_err("they belong to another");
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "lineage-changed"));
    assert_eq!(site.mark(2), None);
    // An index that was rebuilt has rows and does not know how far they reach; the log has forgotten them.
    let rebuilt = self::site();
    rebuilt.fill_alone(3, 10, Strategy::Incremental { full_every: 8 });
    rebuilt.put_mark(WatermarkRow::NO_TOPIC, Offset(0));
    let error = rebuilt.run(&rebuilt.refold(NEW, "key", false)).expect_err("nobody knows where it ends");
    assert_eq!((error.kind, error.code), (ErrorKind::Gone, "history-gone"));
    assert!(error.detail.contains("the index was rebuilt"), "{error}");
    assert_eq!(rebuilt.mark(2), None);
}

/// Goal: what is noted on a snapshot is noted on the snapshot of the same event in the new lineage, once.
/// Method: labels and pins at versions where the new lineage would have no snapshot; a second run.
#[test]
fn labels_and_pins_come_along_with_the_event() {
    let site = site();
    site.fill(2, 250, Strategy::Incremental { full_every: 8 });
    let key = AggregateKey { kind: "order".into(), id: "o-000001".into() };
    let note = |version: u64, label: Option<&str>, pinned| NoteRow {
        key: key.clone(),
        lineage: Lineage(1),
        version: Version(version),
        at: LedgerId::mint(Timestamp(i64::try_from(version).unwrap()), [3; 10]),
        label: label.map(Into::into),
        pinned,
        reason: None,
    };
    for row in [note(7, Some("first"), None), note(130, None, Some(true)), note(200, None, Some(false))] {
        site.index.put_note(row).now_or_never().expect("at once").expect("memory does not fail");
    }
    let told = |site: &Site| {
        let all = (Version(0), Version(u64::MAX));
        let rows =
            site.index.notes(&key, Lineage(2), all).now_or_never().expect("at once").expect("it is there");
        rows.iter().map(|row| (row.version.0, row.label.clone(), row.pinned)).collect::<Vec<_>>()
    };
    let expected = vec![(7, Some("first".into()), Some(false)), (130, None, Some(true))];
    let refold = site.refold(NEW, "key", false);
    site.run(&refold).expect("all is stored");
    assert_eq!(told(&site), expected);
    assert_eq!(refold.progress.notes.load(Ordering::Relaxed), 2);
    let rows = site.index.snapshots(&key, Lineage(2), From::Newest, 100).now_or_never().expect("at once");
    let rows = rows.expect("memory does not fail");
    let full =
        |version| rows.iter().any(|row| row.kind == RecordKind::Full && row.version == Version(version));
    assert!(full(7) && full(130) && !full(200), "what is noted has a snapshot");
    let row =
        WatermarkRow { key: site.log(1), topic_id: TOPIC_ID, leader_epoch: -1, low_watermark: Offset(501) };
    site.index.put_watermark(row).now_or_never().expect("at once").expect("memory does not fail");
    site.run(&site.refold(NEW, "key", true)).expect("all is stored");
    assert_eq!(told(&site), expected, "nothing is noted twice");
}

/// Goal: an erasure in the middle of a refold takes one aggregate out of it and stops nothing. Method: it
/// comes between folding and writing, then between the view and reading, when its rows are gone.
#[test]
fn who_is_erased_meanwhile_is_left_out_and_the_refold_goes_on() {
    let site = site();
    site.fill(3, 250, Strategy::Incremental { full_every: 8 });
    let refold = site.refold(NEW, "key", false);
    let key = |nth: u64| AggregateKey { kind: "order".into(), id: format!("o-{nth:06}").into() };
    let now = |folded: BoxFuture<'_, Result<Option<Flush>>>| folded.now_or_never().expect("at once");
    let source = refold.source(PartitionNo(0)).now_or_never().expect("at once").unwrap().unwrap();
    let batch: Vec<Flush> =
        (0..2).map(|nth| now(Box::pin(refold.one(&key(nth), &source, false))).unwrap().unwrap()).collect();
    site.packs.erasures.keep(erasure("o-000000")).now_or_never().expect("at once").unwrap();
    assert_eq!(refold.write(batch).now_or_never().expect("at once"), Ok(()));
    let rows = |nth, lineage| {
        let key = key(nth);
        let rows = site.index.snapshots(&key, Lineage(lineage), From::Newest, 99);
        rows.now_or_never().expect("at once").unwrap()
    };
    assert!(rows(0, 2).is_empty() && !rows(1, 2).is_empty());

    // Somebody else erases: this process has not heard of it when rows begin to be missing.
    let others = crate::store::erasures::Erasures::new(Arc::clone(&site.packs.blobs));
    let last = Erasure { at: LedgerId::mint(Timestamp(6), [4; 10]), ..erasure("o-000002") };
    others.keep(last).now_or_never().expect("at once").unwrap();
    for row in rows(2, 1).iter().filter(|row| row.version == Version(100)) {
        let gone = crate::domain::ledger::DeletedRow::of(row);
        site.index.delete_snapshot(&gone, LedgerId([1; 16])).now_or_never().expect("at once").unwrap();
    }
    assert!(site.packs.erasures.check(&key(2)).is_ok());
    assert!(now(Box::pin(refold.one(&key(2), &source, false))).unwrap().is_none());
    assert_eq!(site.run(&refold), Ok([(PartitionNo(0), Offset(750))].into()));
    assert!(rows(2, 2).is_empty() && rows(0, 2).is_empty() && !rows(1, 2).is_empty());
}

//! Directed scenarios of the store's write side over the world's ports.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use crate::executor::lock;
use crate::plan::FaultPlan;
use crate::ports::Fate;
use crate::ports::blobs::Damage;
use crate::ports::producer::VersionMode;
use crate::subject::{Active, Fleet, Subject, topic_id};
use crate::world::{Parts, Ports, Setup, World};
use snapfold::codec::compress::Compression;
use snapfold::codec::dictionary::Privacy;
use snapfold::codec::pack::{Frames, Locator, OpenTail, open_tail, read_entry};
use snapfold::compute::Inline;
use snapfold::domain::aggregate::{Aggregate, State};
use snapfold::domain::error::ErrorKind;
use snapfold::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use snapfold::domain::partition::{CheckpointItem, Cut, EntryRef, LiveCheckpoint, SnapshotItem, Strategy};
use snapfold::domain::record::{RawRecord, StoredEvent};
use snapfold::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow, Trigger};
use snapfold::store::SnapshotStore;
use snapfold::store::flush::{CheckpointPart, Flush, FlushLimits};
use snapfold::store::index::From;
use snapfold::store::packs::{CompressionPlan, Packs};
use snapfold::worker::Components;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const KIND: &str = "order";

fn world() -> World {
    World::planned(7, Setup::orders(VersionMode::Given), FaultPlan::calm())
}

/// The components of a worker that is not started, over these ports.
fn components(world: &Parts, ports: &Ports) -> Components {
    let active = Active { lineage: Lineage(1), topic_id: topic_id(world) };
    Subject::drawn(3, VersionMode::Given).components(ports, active)
}

fn log(partition: i32) -> PartitionKey {
    PartitionKey { topic: "orders".into(), partition: PartitionNo(partition), lineage: Lineage(1) }
}

fn key(id: &str) -> AggregateKey {
    AggregateKey { kind: KIND.into(), id: id.into() }
}

/// An event whose value tells where it lies.
fn event(partition: i32, offset: i64, version: u64) -> StoredEvent {
    let value = format!(r#"{{"partition":{partition},"offset":{offset}}}"#);
    StoredEvent {
        version: Version(version),
        skipped: false,
        record: RawRecord {
            offset: Offset(offset),
            record_time: Timestamp(1_700_000_000_000 + offset),
            key: Some(b"o-1"[..].into()),
            value: Some(value.as_bytes().into()),
            ..RawRecord::default()
        },
    }
}

/// The snapshot of an aggregate with two events, the second at `offset`.
fn flush(partition: i32, id: &str, offset: i64) -> Flush {
    let mut aggregate = Aggregate::genesis(KIND, id);
    (aggregate.version, aggregate.offset) = (Version(2), Offset(offset));
    aggregate.effective_time = Timestamp(1_700_000_000_000 + offset);
    let state = format!(r#"{{"partition":{partition}}}"#);
    aggregate.state = State::Idle(state.as_bytes().into());
    Flush {
        partition: log(partition),
        kind: KIND.into(),
        item: SnapshotItem {
            id: id.into(),
            row: Version(0),
            pending: Vec::new(),
            tail: vec![event(partition, offset - 1, 1), event(partition, offset, 2)].into(),
            increment: true,
            cuts: vec![Arc::new(Cut::of(&aggregate, Trigger::Events, None, true, 0))],
            first_offset: None,
        },
    }
}

/// Goal: an id that occurs in two partitions with equal versions is two aggregates. Method: one flush with
/// both, then everything read back by its row.
#[test]
fn snapshots_of_one_id_in_two_partitions_are_both_kept() {
    let world = world();
    let read: Vec<(SnapshotRow, Option<StoredEvent>)> = world
        .ask(60_000, |ports| {
            let components = components(&world, &ports);
            async move {
                let flushes = vec![flush(0, "o-1", 8), flush(1, "o-1", 95)];
                let stored = components.store.put_snapshots(flushes).await;
                assert!(stored.iter().all(|stored| stored.as_ref().is_ok_and(|s| s.full_bytes.is_some())));
                let rows = ports.index.snapshots(&key("o-1"), Lineage(1), From::Newest, 10).await.unwrap();
                let mut read = Vec::new();
                for row in rows {
                    let last = match row.kind {
                        RecordKind::Full => {
                            let body = components.store.packs.full(&row).await.unwrap();
                            assert_eq!(body.offset, row.last_offset);
                            None
                        }
                        RecordKind::Increment | RecordKind::Segment => {
                            components.store.packs.events(&row).await.unwrap().events.pop()
                        }
                    };
                    read.push((row, last));
                }
                read
            }
        })
        .unwrap();
    let mut found: Vec<_> = read
        .into_iter()
        .map(|(row, last)| {
            if let Some(last) = last {
                assert_eq!(last, event(row.partition.0, row.last_offset.0, 2));
            }
            (row.partition.0, row.kind, row.last_offset.0)
        })
        .collect();
    found.sort_unstable();
    let (increment, full) = (RecordKind::Increment, RecordKind::Full);
    assert_eq!(found, [(0, increment, 8), (0, full, 8), (1, increment, 95), (1, full, 95)]);
    assert_eq!(world.finish().violations, Vec::<String>::new());
}

/// Goal: neither the rows of one of them nor its checkpoint entries answer for the other. Method: both in one
/// checkpoint, each read through its partition's table; then an aggregate in one partition only, asked for in
/// the other.
#[test]
fn a_checkpoint_of_one_id_in_two_partitions_tells_them_apart() {
    let world = world();
    let part = |partition: i32, offset: i64| CheckpointPart {
        partition: log(partition),
        kind: KIND.into(),
        items: vec![CheckpointItem {
            id: "o-1".into(),
            from: Version(0),
            events: vec![event(partition, offset, 1)].into(),
            mark: None,
            effective_time: Timestamp(5),
        }],
        mark: None,
    };
    let answered = world.ask(60_000, |ports| {
        let components = components(&world, &ports);
        async move {
            let parts = vec![part(1, 95), part(0, 7)];
            let written = components.store.put_checkpoint(parts).await.unwrap();
            for (partition, offset, own) in [(1, 95, &written[0]), (0, 7, &written[1])] {
                let rows = ports.index.checkpoints(&log(partition)).await.unwrap();
                let [row]: [CheckpointRow; 1] = rows.try_into().unwrap();
                let read: LiveCheckpoint = components.reader.packs.table(&row).await.unwrap();
                assert_eq!(read.entries.len(), own.entries.len());
                let entry = read.entries.find("o-1").unwrap().1;
                assert_eq!(entry.first_offset, Offset(offset));
                let entry = EntryRef::of(row.pack, row.object_bytes, &entry);
                let body = components.store.packs.entry(&log(partition), &key("o-1"), &entry).await.unwrap();
                assert_eq!(body.events, [event(partition, offset, 1)]);
            }
            let stored = components.store.put_snapshots(vec![flush(1, "o-2", 31)]).await;
            assert!(stored[0].is_ok());
            let load = components.reader.load(&log(0), &key("o-2"), &[], Offset(0)).await.unwrap();
            assert_eq!((load.aggregate.version, load.rows), (Version(0), Vec::new()));
            true
        }
    });
    assert_eq!(answered, Some(true));
    assert_eq!(world.finish().violations, Vec::<String>::new());
}

/// Runs a task over ports that fail as the plan and the script say.
fn drive<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    world: &World,
    task: impl FnOnce(Ports) -> F,
) -> T {
    let ports = world.process("writer");
    let (sim, process) = (world.sim.clone(), ports.process);
    let (task, result) = (task(ports), Arc::new(Mutex::new(None)));
    let slot = Arc::clone(&result);
    sim.spawn(process, async move {
        let ended = task.await;
        *lock(&slot) = Some(ended);
    });
    assert!(world.settle(100_000, &mut |_| lock(&result).is_some()), "the task does not end");
    lock(&result).take().unwrap()
}

fn snapshot_store(ports: &Ports, dictionary: Option<Privacy>) -> Arc<SnapshotStore> {
    let plan = CompressionPlan {
        compression: Compression { threshold: 0, ..Compression::default() },
        dictionary,
        train_at: [50, 1_000, 10_000],
    };
    Arc::new(SnapshotStore {
        index: Arc::clone(&ports.index),
        packs: Arc::new(Packs::new(Arc::clone(&ports.index), Arc::clone(&ports.blobs), plan, [0; 16])),
        clock: Arc::clone(&ports.clock),
        compute: Arc::new(Inline),
        limits: FlushLimits { deadline_ms: 60_000, retry_ms: 20 },
        written: Arc::default(),
    })
}

/// Flushes `count` new aggregates at once and answers their rows.
async fn flush_some(
    store: &SnapshotStore,
    first: usize,
    count: usize,
) -> Result<Vec<SnapshotRow>, snapfold::domain::error::Error> {
    let ids: Vec<String> = (first..first + count).map(|n| format!("o-{n}")).collect();
    let flushes = ids.iter().enumerate().map(|(n, id)| flush(0, id, 10 * n as i64 + 5)).collect();
    for stored in store.put_snapshots(flushes).await {
        stored?;
    }
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(store.index.snapshots(&key(&id), Lineage(1), From::Newest, 10).await.unwrap());
    }
    Ok(rows)
}

fn listed(rows: &[SnapshotRow]) -> BTreeSet<Digest> {
    rows.iter().filter_map(|row| Locator::decode(&row.locator).unwrap().dictionary).collect()
}

async fn read_all(packs: &Packs, rows: &[SnapshotRow]) -> Result<(), snapfold::domain::error::Error> {
    for row in rows {
        match row.kind {
            RecordKind::Full => drop(packs.full(row).await?),
            RecordKind::Increment | RecordKind::Segment => drop(packs.events(row).await?),
        }
    }
    Ok(())
}

/// Goal: no pack lists a dictionary that is not acknowledged in index and blob store, and either place is
/// enough to read. Method: the index refuses dictionaries at first; then each place is taken away in turn
/// from readers that know nothing.
#[test]
fn a_dictionary_is_used_only_when_it_is_durable_and_is_read_from_either_place() {
    let world = world();
    world.script(Some(Box::new(|op| (op.what == "put_dictionary").then_some(Fate::Refused))));
    let (store, refused) = drive(&world, |ports| async move {
        let store = snapshot_store(&ports, Some(Privacy::Off));
        let mut rows = flush_some(&store, 0, 60).await.unwrap();
        rows.extend(flush_some(&store, 60, 20).await.unwrap());
        (store, listed(&rows))
    });
    assert_eq!(refused, BTreeSet::new(), "a dictionary is listed that the index does not have");
    world.script(None);
    // The next flush writes the candidate again, the one after it uses it.
    let rows = drive(&world, |_| async move {
        assert_eq!(listed(&flush_some(&store, 80, 20).await.unwrap()), BTreeSet::new());
        flush_some(&store, 100, 20).await.unwrap()
    });
    let dictionaries = listed(&rows);
    assert!(!dictionaries.is_empty(), "nothing was learnt");

    let read = |what: &'static str, fate: Option<Fate>, rows: Vec<SnapshotRow>| {
        world.script(Some(Box::new(move |op| fate.filter(|_| op.what == what))));
        drive(&world, |ports| async move {
            read_all(&snapshot_store(&ports, None).packs, &rows).await.map_err(|error| error.kind)
        })
    };
    assert_eq!(read("none", None, rows.clone()), Ok(()));
    assert_eq!(read("dictionary", Some(Fate::Refused), rows.clone()), Ok(()), "the blobs are enough");
    while world.bucket.damage("v1/dict/", Damage::Loss).is_some() {}
    assert_eq!(read("none", None, rows.clone()), Ok(()), "the index is enough");
    let unanswered = read("dictionary", Some(Fate::Refused), rows.clone());
    assert_eq!(unanswered, Err(ErrorKind::Unavailable), "no answer is not absence");
    let mut lost = rows[0].clone();
    let mut locator = Locator::decode(&lost.locator).unwrap();
    locator.dictionary = Some(Digest([7; 32]));
    lost.locator = locator.encode();
    assert_eq!(read("none", None, vec![lost]), Err(ErrorKind::Corrupt), "missing in both places");
}

/// Goal: an index that is lost never takes a dictionary with it. Method: as long as its object is refused no
/// row of it is written.
#[test]
fn a_dictionary_has_no_row_before_it_has_an_object() {
    let world = world();
    let counted = |refused: bool| {
        let (objects, rows) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (tried, written) = (Arc::clone(&objects), Arc::clone(&rows));
        world.script(Some(Box::new(move |op| {
            let is_object = op.target.starts_with("v1/dict/");
            tried.fetch_add(u64::from(is_object), Ordering::Relaxed);
            written.fetch_add(u64::from(op.what == "put_dictionary"), Ordering::Relaxed);
            (refused && is_object).then_some(Fate::Refused)
        })));
        move || (objects.load(Ordering::Relaxed), rows.load(Ordering::Relaxed))
    };
    let counts = counted(true);
    let store = drive(&world, |ports| async move {
        let store = snapshot_store(&ports, Some(Privacy::Off));
        flush_some(&store, 0, 60).await.unwrap();
        flush_some(&store, 60, 20).await.unwrap();
        store
    });
    assert!(matches!(counts(), (1.., 0)), "{:?}", counts());
    let counts = counted(false);
    drive(&world, |_| async move { flush_some(&store, 80, 20).await.map(drop) }).unwrap();
    assert!(matches!(counts(), (objects @ 1.., rows) if objects == rows), "{:?}", counts());
}

/// Goal: the trail of a stored row is the offsets of its events. Method: workers that die and move, with the
/// strategy that keeps trails; then every row against the journal of the broker.
#[test]
fn trails_are_the_offsets_of_the_events_they_cover() {
    let full = |seed: &u64| Subject::drawn(*seed, VersionMode::Given).strategy == Strategy::Full;
    let (mut trails, mut offsets) = (0, 0);
    for seed in (0..60).filter(full) {
        let subject = Subject::drawn(seed, VersionMode::Given);
        let mut setup = Setup::orders(VersionMode::Given);
        setup.streams[0].shape = subject.shape;
        let plan = FaultPlan { kill_every_ms: 1_500, restless: true, ..FaultPlan::calm() };
        let world = World::planned(seed, setup, plan);
        let fleet = Fleet::new(&world);
        world.start_workers(subject.boot(&fleet));
        world.chaos(5_000, &mut |_| Ok(()));
        let mut of_versions: BTreeMap<(String, u64), Offset> = BTreeMap::new();
        world.broker.with_journal(|journal| {
            for entry in journal {
                if let (Some(id), Some(version)) = (&entry.aggregate, entry.version) {
                    of_versions.entry((id.to_string(), version)).or_insert(entry.record.offset);
                }
            }
        });
        for row in world.index.union().all_snapshots().filter(|row| row.kind == RecordKind::Full) {
            let Some(trail) = Locator::decode(&row.locator).unwrap().trail else { continue };
            let versions = row.from_version.0 + 1..=row.version.0;
            let expected: Vec<Offset> =
                versions.map(|version| of_versions[&(row.key.id.to_string(), version)]).collect();
            assert_eq!(trail, expected, "seed {seed}: {row:?}");
            (trails, offsets) = (trails + 1, offsets + trail.len());
        }
        assert_eq!(world.finish().violations, Vec::<String>::new());
    }
    println!("{trails} trails with {offsets} offsets");
    assert!(trails > 100, "{trails} trails");
}

/// What the proof costs that a checkpoint of 10,000 entries reads back: by entry, as it was, and by block.
#[test]
#[expect(clippy::disallowed_methods, reason = "a real clock measures the cost")]
fn a_block_is_decoded_once_for_all_of_its_entries() {
    let world = world();
    let ports = world.process("writer");
    let item = |n: i64| CheckpointItem {
        id: format!("o-{n}").as_str().into(),
        from: Version(0),
        events: vec![event(0, n, 1)].into(),
        mark: None,
        effective_time: Timestamp(n),
    };
    let items = (0..10_000).map(item).collect();
    let part = CheckpointPart { partition: log(0), kind: KIND.into(), items, mark: None };
    let packs = snapshot_store(&ports, None);
    let started = Instant::now();
    let pack = packs.packs.encode_checkpoint(PackId([9; 16]), Timestamp(0), vec![part]).unwrap();
    let whole = started.elapsed();
    let OpenTail::Ready(opened) = open_tail(PackId([9; 16]), &pack.bytes, pack.bytes.len() as u64).unwrap()
    else {
        unreachable!("the object is whole")
    };
    let footer = opened.1;
    let records: Vec<_> =
        (0..footer.len()).map(|at| (footer.id(at).unwrap(), footer.locator(at).unwrap())).collect();
    let started = Instant::now();
    for (id, locator) in &records {
        let range = locator.range();
        let frame = &pack.bytes[range.start as usize..range.end as usize];
        read_entry(id, locator, frame, None).unwrap();
    }
    let by_entry = started.elapsed();
    let started = Instant::now();
    let mut frames = Frames::new(&pack.bytes);
    for (id, locator) in &records {
        frames.body(id, locator, None).unwrap();
    }
    let by_block = started.elapsed();
    println!("10,000 entries: encode {whole:?}; reading back by entry {by_entry:?}, by block {by_block:?}");
    assert!(by_block * 3 < by_entry, "by entry {by_entry:?}, by block {by_block:?}");
}

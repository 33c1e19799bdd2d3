//! Directed scenarios of the store's write side over the world's ports.

use crate::plan::FaultPlan;
use crate::ports::producer::VersionMode;
use crate::subject::{Active, Subject, topic_id};
use crate::world::{Parts, Ports, Setup, World};
use snapfold::domain::aggregate::{Aggregate, State};
use snapfold::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo, Timestamp, Version};
use snapfold::domain::partition::{CheckpointItem, EntryRef, LiveCheckpoint, SnapshotItem};
use snapfold::domain::record::{RawRecord, StoredEvent};
use snapfold::domain::row::{CheckpointRow, PartitionKey, RecordKind, SnapshotRow, Trigger};
use snapfold::store::flush::{CheckpointPart, Flush};
use snapfold::store::index::From;
use snapfold::worker::Components;

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
            trigger: Trigger::Events,
            aggregate,
            row: Version(0),
            pending: Vec::new(),
            tail: vec![event(partition, offset - 1, 1), event(partition, offset, 2)],
            increment: true,
            full: true,
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
                        RecordKind::Increment => {
                            components.store.packs.increment(&row).await.unwrap().events.pop()
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
            events: vec![event(partition, offset, 1)],
            mark: None,
            effective_time: Timestamp(5),
        }],
    };
    let answered = world.ask(60_000, |ports| {
        let components = components(&world, &ports);
        async move {
            let parts = vec![part(1, 95), part(0, 7)];
            let written = components.store.put_checkpoint(parts).await.unwrap();
            for (partition, offset, own) in [(1, 95, &written[0]), (0, 7, &written[1])] {
                let rows = ports.index.checkpoints(&log(partition)).await.unwrap();
                let [row]: [CheckpointRow; 1] = rows.try_into().unwrap();
                let read: LiveCheckpoint = components.reader.packs.checkpoint(&row).await.unwrap();
                assert_eq!(read.entries.len(), own.entries.len());
                let entry = read.entries.get(read.entries.find("o-1").unwrap());
                assert_eq!(entry.first_offset, Offset(offset));
                let entry = EntryRef {
                    pack: row.pack,
                    object_bytes: row.object_bytes,
                    from: entry.from,
                    upto: entry.upto,
                    first_offset: entry.first_offset,
                    last_offset: entry.last_offset,
                    marked: entry.marked,
                    ignore_from: None,
                };
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

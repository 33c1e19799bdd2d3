//! What a purge says it waits for, and which erasures it calls complete.

use super::*;
use crate::clock::Still;
use crate::codec::compress::{Compression, Encoder};
use crate::codec::pack::{Header, PackWriter, pack_name};
use crate::compute::Inline;
use crate::domain::ids::{Offset, PartitionNo, Version};
use crate::domain::record::RecordMeta;
use crate::domain::row::{CheckpointRow, WatermarkRow};
use crate::store::blobs::{Blobs as _, MemoryBlobs};
use crate::store::flush::FlushLimits;
use crate::store::index::suite::{erasure, increment, snapshot};
use crate::store::index::{Index as _, MemoryIndex};
use crate::store::lineages::{Permission, Wish};
use crate::store::packs::{CompressionPlan, Packs};
use futures_util::FutureExt;
use std::future::Future;

const HISTORY: PackId = PackId([1; 16]);
const CHECKPOINT: PackId = PackId([2; 16]);

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

fn key(id: &str) -> AggregateKey {
    AggregateKey { kind: "order".into(), id: id.into() }
}

fn log(lineage: u32) -> PartitionKey {
    PartitionKey { topic: "orders".into(), partition: PartitionNo(3), lineage: Lineage(lineage) }
}

fn meta(id: &str) -> RecordMeta {
    RecordMeta { first_offset: Offset(3), last_offset: Offset(30), ..increment(id, 1, 3) }
}

/// `gone` is erased, and so is nobody else. Lineage 1 is old, lineage 2 is active.
struct Site {
    index: Arc<MemoryIndex>,
    blobs: Arc<MemoryBlobs>,
    erasure: LedgerId,
}

impl Site {
    fn new() -> Self {
        let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
        for number in [1, 2] {
            let fingerprint = Digest([number; 32]);
            let wish = Wish { topic_id: 7, fingerprint, mapping: Digest([0; 32]), partitions: 4 };
            let may = Permission { new_lineage: true, more_partitions: false };
            now(lineages::activate(&*blobs, "orders", wish, may)).unwrap();
        }
        let site = Self { index, blobs, erasure: LedgerId::mint(Timestamp(5), [3; 10]) };
        let (lineage, version, offset) = (Lineage(2), Version(3), Offset(30));
        let erasure = Erasure { at: site.erasure, lineage, version, offset, ..erasure("gone") };
        now(site.purge("order").store.packs.erasures.keep(erasure)).unwrap();
        site
    }

    /// A purge of which the configuration has this type.
    fn purge(&self, kind: &str) -> Purge {
        let (index, blobs) = (self.index.clone(), self.blobs.clone());
        let packs = Packs::new(index.clone(), blobs, CompressionPlan::default(), [2; 16]);
        let store = SnapshotStore {
            index,
            packs: Arc::new(packs),
            clock: Arc::new(Still),
            compute: Arc::new(Inline),
            limits: FlushLimits { deadline_ms: 1, retry_ms: 1 },
            written: Arc::default(),
        };
        let settings = PurgeSettings { settle_ms: 0, ..PurgeSettings::default() };
        let topics = [(kind.into(), "orders".into())].into();
        Purge::new(Arc::new(store), topics, BTreeSet::new(), settings)
    }

    fn pass(&self) -> Report {
        now(self.purge("order").pass(Mode::Purge)).unwrap().expect("nobody else is at work")
    }

    /// A pack with a record of `gone` and one of `other`.
    fn put(&self, class: Class, pack: PackId) -> Box<str> {
        let mut writer = PackWriter::new(Header::new(class, pack, [1; 16], Timestamp(1), "a test"));
        let mut encoder = Encoder::new(Compression::default(), None).unwrap();
        for id in ["gone", "other"] {
            writer.add(meta(id), b"events", &mut encoder).unwrap();
        }
        let name = pack_name(class, pack);
        now(self.blobs.put_new(&name, &writer.finish().unwrap().bytes)).unwrap();
        name.into()
    }

    fn drop_the_old(&self) {
        let at = LedgerId::mint(Timestamp(9), [9; 10]);
        now(lineages::drop_lineage(&*self.blobs, "orders", Lineage(1), at, false)).unwrap();
    }

    fn packs(&self) -> Vec<String> {
        let of = |class| now(self.blobs.list(class, None, 9)).unwrap();
        ["v1/full/", "v1/history/", "v1/checkpoint/"].into_iter().flat_map(of).collect()
    }
}

fn waits_for(standing: lineages::Standing, names: &[&str]) -> BTreeMap<(Arc<str>, Lineage), Waiting> {
    let packs = names.iter().map(|name| Box::from(*name)).collect();
    let waiting = Waiting { standing: Some(standing), count: names.len() as u64, packs };
    [(("orders".into(), Lineage(1)), waiting)].into()
}

/// Goal: who does not know where an aggregate's rows would be never says that none is left.
#[test]
fn an_erasure_of_a_type_that_is_not_configured_is_not_complete() {
    let site = Site::new();
    for _ in 0..2 {
        let report = now(site.purge("invoice").pass(Mode::Purge)).unwrap().unwrap();
        assert_eq!((report.completed, report.incomplete), (0, 1));
        assert_eq!(report.foreign, ["order".into()].into());
        assert!(now(purges::standing(&*site.blobs)).unwrap().is_empty(), "nothing is told");
    }
    let report = site.pass();
    assert_eq!((report.completed, report.incomplete, report.foreign.len()), (1, 0, 0));
    // It is known now, by whoever can tell.
    let report = now(site.purge("invoice").pass(Mode::Purge)).unwrap().unwrap();
    assert_eq!((report.completed, report.incomplete, report.foreign.len()), (0, 0, 0));
}

/// Goal: what is of a dropped lineage keeps no pack: it is not waited for, and not copied.
#[test]
fn records_of_a_dropped_lineage_go_like_those_of_the_erased() {
    let site = Site::new();
    let name = site.put(Class::History, HISTORY);
    // Version 3 of the suite's rows is what the footer says: an increment from version 1 on.
    now(site.index.put_snapshot(snapshot(&key("other"), 1, 3, HISTORY))).unwrap();
    let report = site.pass();
    assert_eq!((report.holding, report.waiting, report.garbage), (1, 1, 0), "no low watermark");
    assert_eq!(report.waits, waits_for(lineages::Standing::Old, &[&name]));
    site.drop_the_old();
    // Even if its records were settled.
    let mark = WatermarkRow { key: log(1), topic_id: 7, leader_epoch: -1, low_watermark: Offset(99) };
    for _ in 0..2 {
        let report = site.pass();
        assert_eq!((report.holding, report.waiting, report.garbage, report.moved), (1, 0, 1, 0));
        assert!(report.waits.is_empty());
        assert_eq!(site.packs(), [&*name], "no copy");
        now(site.index.put_watermark(mark.clone())).unwrap();
    }
}

/// Goal: a checkpoint that nobody retires is named, with its lineage, until that was dropped.
#[test]
fn a_listed_checkpoint_of_an_old_lineage_is_named() {
    let site = Site::new();
    let name = site.put(Class::Checkpoint, CHECKPOINT);
    let (first_offset, end_offset) = (Offset(3), Offset(31));
    let (key, pack, entries, object_bytes) = (log(1), CHECKPOINT, 2, 9);
    let row = CheckpointRow { key, pack, first_offset, end_offset, entries, object_bytes };
    now(site.index.put_checkpoint(row)).unwrap();
    let report = site.pass();
    assert_eq!((report.waiting, report.incomplete), (1, 1));
    assert_eq!(report.waits, waits_for(lineages::Standing::Old, &[&name]));
    site.drop_the_old();
    assert!(site.pass().waits.is_empty(), "the collector takes it");
}

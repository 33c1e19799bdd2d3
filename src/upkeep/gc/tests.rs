//! Which packs go, and how many at once.

use super::*;
use crate::clock::Still;
use crate::codec::compress::{Compression, Encoder};
use crate::codec::pack::{Header, PackWriter, pack_name};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo, Version};
use crate::domain::row::WatermarkRow;
use crate::store::blobs::Blobs as _;
use crate::store::blobs::MemoryBlobs;
use crate::store::index::MemoryIndex;
use crate::store::index::suite::{erasure, increment, snapshot};
use crate::store::packs::CompressionPlan;
use futures_util::FutureExt;
use std::future::Future;

/// More than go unless somebody says so.
const PACKS: u64 = DOOMED_MAX + 20;

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

/// Whether so many doomed packs are too many of so many.
fn are_too_many(class: Class, why: Why, doomed: u64, packs: u64) -> bool {
    let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
    let mut before = Condemned::default();
    for nth in 0..packs {
        let name = format!("{}{nth:06}.sfp", prefix(class));
        blobs.put_new(&name, b"pack").now_or_never().expect("memory answers at once").unwrap();
        if nth < doomed {
            before.add(name, Timestamp(0), why);
        }
    }
    let packs = Packs::new(index.clone(), blobs, CompressionPlan::default(), [0; 16]);
    let of = Collector {
        index,
        packs: Arc::new(packs),
        clock: Arc::new(Still),
        topics: BTreeMap::new(),
        thinned: BTreeSet::new(),
        settings: GcSettings::default(),
    };
    let pass = Pass {
        of: &of,
        mode: Mode::DryRun,
        now: Timestamp(1_700_000_000_000),
        lease: None,
        settled: Settled::default(),
        dropped: BTreeMap::new(),
        before,
        after: Condemned::default(),
        withholds: false,
        report: Report::default(),
    };
    pass.are_too_many().now_or_never().expect("memory answers at once").unwrap()
}

#[test]
fn a_fifth_of_all_packs_does_not_go_unless_they_are_few() {
    assert!(!are_too_many(Class::Full, Why::NoRows, 100, 100), "few");
    assert!(are_too_many(Class::Full, Why::NoRows, 101, 101));
    assert!(are_too_many(Class::History, Why::NoRows, 300, 1_400));
    assert!(!are_too_many(Class::History, Why::NoRows, 300, 1_500));
    assert!(!are_too_many(Class::Checkpoint, Why::NoRows, 101, 101), "those come and go");
    assert!(!are_too_many(Class::Full, Why::Facts, 101, 101), "somebody meant that");
}

fn key(id: &str) -> AggregateKey {
    AggregateKey { kind: "order".into(), id: id.into() }
}

fn pack(nth: u64) -> PackId {
    PackId::mint(Timestamp(1), [u8::try_from(nth).unwrap(); 10])
}

/// Many packs with a record of `a` and one of `b` each, of versions of their own, below the low watermark.
/// No row names them; rows of other packs tell of the same versions.
struct Site {
    index: Arc<MemoryIndex>,
    of: Collector,
}

impl Site {
    fn new() -> Self {
        let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
        for nth in 0..PACKS {
            let header = Header::new(Class::History, pack(nth), [1; 16], Timestamp(1), "a test");
            let mut writer = PackWriter::new(header);
            for id in ["a", "b"] {
                writer.add(increment(id, nth, nth + 1), b"events", &mut encoder()).unwrap();
                now(index.put_snapshot(snapshot(&key(id), 1, nth + 1, PackId([9; 16])))).unwrap();
            }
            let name = pack_name(Class::History, pack(nth));
            now(blobs.put_new(&name, &writer.finish().unwrap().bytes)).unwrap();
        }
        let log = PartitionKey { topic: "orders".into(), partition: PartitionNo(3), lineage: Lineage(1) };
        let mark = WatermarkRow { key: log, topic_id: 7, leader_epoch: -1, low_watermark: Offset(10) };
        now(index.put_watermark(mark)).unwrap();
        let packs = Packs::new(index.clone(), blobs, CompressionPlan::default(), [0; 16]);
        let of = Collector {
            index: index.clone(),
            packs: Arc::new(packs),
            clock: Arc::new(Still),
            topics: [("order".into(), "orders".into())].into(),
            thinned: BTreeSet::new(),
            settings: GcSettings { age_ms_min: 0, distance_ms: 0, ..GcSettings::default() },
        };
        Self { index, of }
    }

    /// The ledger deletes the row that told of it.
    fn delete(&self, id: &str, nth: u64) {
        let (version, lineage) = (Version(nth + 1), Lineage(1));
        let row = DeletedRow { key: key(id), lineage, version, pack: pack(nth) };
        now(self.index.delete_snapshot(&row, LedgerId([1; 16]))).unwrap();
    }

    fn erase(&self, id: &str) {
        now(self.of.packs.erasures.keep(erasure(id))).unwrap();
    }

    fn pass(&self) -> Report {
        now(self.of.pass(Mode::Collect)).unwrap().expect("nobody else is at work")
    }
}

fn encoder() -> Encoder {
    Encoder::new(Compression::default(), None).unwrap()
}

/// Goal: an erasure, or rows that went by the ledger, need nobody's word, however many packs go; what may be
/// a loss does. Method: packs with two records each, whose rows are gone for all pairs of reasons.
#[test]
fn packs_whose_records_go_by_facts_are_never_too_many_and_those_of_missing_rows_are() {
    let deleted = |site: &Site, id: &str| (0..PACKS).for_each(|nth| site.delete(id, nth));
    type Cause<'a> = &'a dyn Fn(&Site, &str);
    let (ledger, erasure, loss): (Cause<'_>, Cause<'_>, Cause<'_>) =
        (&deleted, &|site, id| site.erase(id), &|_, _| {});
    let cases = [
        ("both by the ledger", ledger, ledger, true),
        ("one erased, the other moved", erasure, ledger, true),
        ("both are missing", loss, loss, false),
        ("one erased, the other missing", erasure, loss, false),
        ("one moved, the other missing", ledger, loss, false),
    ];
    for (case, of_a, of_b, goes) in cases {
        let site = Site::new();
        of_a(&site, "a");
        of_b(&site, "b");
        let first = site.pass();
        assert_eq!((first.condemned, first.withheld, first.deleted), (PACKS, 0, 0), "{case}");
        let second = site.pass();
        let (deleted, withheld) = if goes { (PACKS, 0) } else { (0, PACKS) };
        assert_eq!((second.deleted, second.withheld), (deleted, withheld), "{case}");
    }
}

/// Goal: what an older version withheld goes once it is found to go by facts, and a mark alone takes nothing.
#[test]
fn a_pack_is_judged_anew_whatever_the_list_says_of_it() {
    let site = Site::new();
    site.pass();
    assert_eq!(site.pass().withheld, PACKS, "rows are missing");
    (0..PACKS).for_each(|nth| ["a", "b"].iter().for_each(|id| site.delete(id, nth)));
    assert_eq!(site.pass().deleted, PACKS);

    let site = Site::new();
    let mut list = Condemned::default();
    for nth in 0..PACKS {
        list.add(pack_name(Class::History, pack(nth)), Timestamp(0), Why::Facts);
        let row = snapshot(&key("a"), 1, nth + 1, pack(nth));
        now(site.index.put_snapshot(row)).unwrap();
    }
    now(list.write(&*site.of.packs.blobs, &Still)).unwrap();
    let report = site.pass();
    assert_eq!((report.live, report.deleted), (PACKS, 0));
}

//! What a reader meets of checkpoints at rest, without a partition.

use super::*;
use crate::codec::body::encode_increment;
use crate::codec::compress::{Compression, Encoder};
use crate::codec::pack::{Class, PackWriter, pack_name};
use crate::domain::erasure::Erasure;
use crate::domain::error::ErrorKind;
use crate::domain::ids::{LedgerId, Version};
use crate::domain::partition::CheckpointItem;
use crate::domain::record::{IncrementBody, RawRecord, RecordId, RecordMeta, StoredEvent};
use crate::domain::row::PartitionKey;
use crate::store::blobs::{Blobs, MemoryBlobs};
use crate::store::flush::CheckpointPart;
use crate::store::index::MemoryIndex;
use crate::store::packs::CompressionPlan;
use futures_util::FutureExt;

fn log(partition: i32) -> PartitionKey {
    PartitionKey { topic: "orders".into(), partition: PartitionNo(partition), lineage: Lineage(1) }
}

fn item(n: i64) -> CheckpointItem {
    let record = RawRecord { offset: Offset(n), value: Some(b"{}"[..].into()), ..RawRecord::default() };
    CheckpointItem {
        id: format!("o-{n:04}").as_str().into(),
        from: Version(n as u64),
        events: vec![StoredEvent { version: Version(n as u64 + 1), skipped: false, record }].into(),
        mark: None,
        effective_time: Timestamp(n * 7),
    }
}

/// Goal: what a probe of the footer says is what the table says, whatever is kept. Method: one pack of
/// two partitions that share ids; every id is asked for, some that are not there, and rows that lie.
#[test]
fn a_probe_answers_as_the_table_does() {
    let blobs = Arc::new(MemoryBlobs::new());
    let packs = || {
        let blobs = Arc::clone(&blobs) as Arc<dyn Blobs>;
        Packs::new(Arc::new(MemoryIndex::new()), blobs, CompressionPlan::default(), [7; 16])
    };
    let (pack, kind) = (PackId([3; 16]), Arc::<str>::from("order"));
    let sizes = [(0, 500), (1, 40)];
    let part = |(partition, count)| CheckpointPart {
        partition: log(partition),
        kind: Arc::clone(&kind),
        items: (0..count).map(item).collect(),
        mark: None,
    };
    let encoded = packs().encode_checkpoint(pack, Timestamp(0), sizes.map(part).into()).unwrap();
    blobs.put_new(&encoded.name, &encoded.bytes).now_or_never().unwrap().unwrap();
    let row = |partition, entries| CheckpointRow {
        key: log(partition),
        pack,
        first_offset: Offset(0),
        end_offset: Offset(500),
        entries,
        object_bytes: 9,
    };
    for (partition, count) in sizes {
        let (row, packs) = (row(partition, count as u32), packs());
        let held = |n: i64| {
            let key = AggregateKey { kind: Arc::clone(&kind), id: item(n).id };
            let held = packs.held(&row, &key).now_or_never().unwrap().unwrap();
            held.map(|(held, epochs)| {
                assert_eq!(epochs, Epochs::from([(0, Offset(count - 1))]));
                held
            })
        };
        let probed: Vec<Option<Held>> = (0..600).map(held).collect();
        let table = packs.table(&row).now_or_never().unwrap().unwrap();
        let told: Vec<Option<Held>> = (0..600).map(|n| Held::of(&table, &item(n).id)).collect();
        assert_eq!(probed, told);
        assert_eq!(probed.iter().flatten().count(), count as usize);
    }
    let key = AggregateKey { kind: Arc::clone(&kind), id: item(1).id };
    let packs = packs();
    for lie in [row(0, 499), row(1, 41), row(2, 1)] {
        let held = packs.held(&lie, &key).now_or_never().unwrap();
        let table = packs.table(&lie).now_or_never().unwrap();
        assert_eq!(held.unwrap_err(), table.unwrap_err());
    }
    let gone = CheckpointRow { pack: PackId([4; 16]), ..row(0, 500) };
    let held = packs.held(&gone, &key).now_or_never().unwrap();
    assert_eq!(held.unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn who_is_erased_is_left_out_of_a_checkpoint_that_holds_others() {
    let blobs = Arc::new(MemoryBlobs::new()) as Arc<dyn Blobs>;
    let packs = Packs::new(Arc::new(MemoryIndex::new()), blobs, CompressionPlan::default(), [7; 16]);
    let kind = Arc::<str>::from("order");
    let erasure = Erasure {
        key: AggregateKey { kind: Arc::clone(&kind), id: item(1).id },
        at: LedgerId::mint(Timestamp(5), [1; 10]),
        reason: "asked for".into(),
        request: None,
        lineage: Lineage(1),
        partition: None,
        version: Version(1),
        offset: Offset(1),
        packs: Default::default(),
    };
    packs.erasures.keep(erasure).now_or_never().expect("memory answers at once").unwrap();
    let part = |partition, range: std::ops::Range<i64>| CheckpointPart {
        partition: log(partition),
        kind: Arc::clone(&kind),
        items: range.map(item).collect(),
        mark: None,
    };
    let parts = vec![part(0, 0..3), part(1, 1..2)];
    let encoded = packs.encode_checkpoint(PackId([3; 16]), Timestamp(0), parts).unwrap();
    let told = |at: usize| {
        let row = &encoded.rows[at];
        let ids: Vec<String> = (0..3).map(|n| item(n).id.to_string()).collect();
        let there = ids.into_iter().filter(|id| encoded.tables[at].1.find(id).is_some());
        ((row.entries, row.first_offset, row.end_offset), there.collect::<Vec<_>>())
    };
    assert_eq!(told(0), ((2, Offset(0), Offset(3)), vec!["o-0000".to_owned(), "o-0002".to_owned()]));
    assert_eq!(told(1), ((1, Offset(1), Offset(2)), vec!["o-0001".to_owned()]), "of nobody else");
}

#[test]
fn a_filter_finds_all_that_is_there_and_little_else() {
    let count = 5_000;
    let mut filter = vec![0; (count * FILTER_BITS).div_ceil(64)];
    let id = |n: usize| format!("order-{n:08}");
    for n in 0..count {
        for (word, bit) in filter_bits(filter.len(), "order", &id(n)) {
            filter[word] |= bit;
        }
    }
    let summary = Summary { parts: Ok(BTreeMap::new()), filter: filter.into() };
    let may_hold =
        |n: usize| summary.may_hold(&AggregateKey { kind: "order".into(), id: id(n).as_str().into() });
    assert!((0..count).all(may_hold));
    let wrong = (count..10 * count).filter(|n| may_hold(*n)).count();
    assert!(wrong < count * 9 / 50, "{wrong} of {}", 9 * count);
    assert_eq!(filter_bits(0, "order", "x").count(), 0);
}

fn meta(kind: &str, n: i64, from: Version) -> RecordMeta {
    RecordMeta {
        id: RecordId {
            key: AggregateKey { kind: kind.into(), id: item(n).id },
            lineage: Lineage(1),
            upto_version: from.next(),
            kind: RecordKind::Increment,
            from_version: from,
        },
        partition: PartitionNo(0),
        first_offset: Offset(n),
        last_offset: Offset(n),
        leader_epoch: 0,
        effective_time: Timestamp(0),
        chain: None,
        state_digest: None,
        is_deleted: false,
        is_quarantined: false,
        trail: None,
    }
}

/// Goal: a footer that no worker wrote is refused as a whole. Method: one partition's part with an id twice,
/// then with two types.
#[test]
fn a_part_has_one_type_and_each_id_once() {
    let at = |kind: &str, n, from: u64| (kind.to_owned(), n, Version(from));
    let twice = || vec![at("order", 1, 1), at("order", 1, 2), at("order", 2, 1)];
    let types = || vec![at("invoice", 1, 1), at("order", 2, 1), at("order", 3, 1)];
    let sound = || vec![at("order", 1, 1), at("order", 2, 1), at("order", 3, 1)];
    for (entries, is_sound) in [(sound(), true), (twice(), false), (types(), false)] {
        let blobs = Arc::new(MemoryBlobs::new());
        let port = Arc::clone(&blobs) as Arc<dyn Blobs>;
        let packs = Packs::new(Arc::new(MemoryIndex::new()), port, CompressionPlan::default(), [7; 16]);
        let pack = PackId([3; 16]);
        let mut writer = PackWriter::new(packs.header(Class::Checkpoint, pack, Timestamp(0)));
        let mut encoder = Encoder::new(Compression::default(), None).unwrap();
        for (kind, n, from) in entries {
            let body = IncrementBody { events: item(n).events.to_vec(), quarantine: None };
            let body = encode_increment(&body, &item(n).id).unwrap();
            writer.add(meta(&kind, n, from), &body, &mut encoder).unwrap();
        }
        let name = pack_name(Class::Checkpoint, pack);
        blobs.put_new(&name, &writer.finish().unwrap().bytes).now_or_never().unwrap().unwrap();
        let (first_offset, end_offset) = (Offset(0), Offset(500));
        let row = CheckpointRow { key: log(0), pack, first_offset, end_offset, entries: 3, object_bytes: 9 };
        let key = AggregateKey { kind: "order".into(), id: item(2).id };
        let held = packs.held(&row, &key).now_or_never().unwrap();
        assert_eq!(held.is_ok_and(|held| held.is_some()), is_sound);
        let table = packs.table(&row).now_or_never().unwrap();
        assert_eq!(table.map(|table| table.entries.len()).ok(), is_sound.then_some(3));
    }
}

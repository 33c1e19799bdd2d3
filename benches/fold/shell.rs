//! A shell around `Partition` that answers every effect at once: loads find nothing, writes succeed. With an
//! encoder it also packs what comes out, as the store would, without reading it back.

use snapfold::codec::body::{encode_full, put_increment};
use snapfold::codec::compress::{Compression, Encoder};
use snapfold::codec::pack::{BlockWriter, Class, Header, PackWriter};
use snapfold::domain::aggregate::Aggregate;
use snapfold::domain::event::Decoded;
use snapfold::domain::ids::{AggregateKey, Lineage, Offset, PackId, PartitionNo, Timestamp};
use snapfold::domain::partition::{
    BackOff, CheckpointItem, Cut, Effect, Entries, Input, LiveCheckpoint, Load, Loaded, Now, Partition,
    Settings, SnapshotItem, Strategy,
};
use snapfold::domain::record::{RecordId, RecordKind, RecordMeta};
use snapfold::domain::row::PartitionKey;
use std::sync::Arc;

/// `checkpoint.flushBytes`.
const FLUSH_BYTES: usize = 8 << 20;

pub(crate) struct Shell {
    partition: Partition,
    compression: Option<Compression>,
    steps: u64,
    unflushed: usize,
    /// Bytes of the packs.
    pub(crate) packed: u64,
    /// Records in them.
    pub(crate) records: u64,
}

/// The defaults of API.md, with the given memory.
fn settings(memory_bytes_max: usize) -> Settings {
    Settings {
        events_max: 100,
        age_ms_max: 600_000,
        bytes_max: 64 << 10,
        write_amplification_permille: 1_000,
        strategy: Strategy::Incremental { full_every: 8 },
        memory_bytes_max,
        uncovered_bytes_max: usize::MAX,
        loads_max: 256,
        snapshots_max: 64,
        live_bytes_max: 256 << 20,
        hot_max: 1_024,
        adaptive_us: None,
        back_off: BackOff { records_max: u64::MAX, ms_max: u64::MAX },
    }
}

impl Shell {
    pub(crate) fn new(memory_bytes_max: usize, compression: Option<Compression>) -> Self {
        let key = PartitionKey { topic: "orders".into(), partition: PartitionNo(0), lineage: Lineage(1) };
        let partition =
            Partition::new(key, super::events::rules(), settings(memory_bytes_max), Offset(0), Vec::new());
        Self { partition, compression, steps: 0, unflushed: 0, packed: 0, records: 0 }
    }

    pub(crate) fn take(&mut self, batch: Vec<Decoded>) {
        self.unflushed += batch.iter().map(|decoded| decoded.record.bytes()).sum::<usize>();
        self.step(Input::Records(batch));
        if self.unflushed >= FLUSH_BYTES {
            self.step(Input::TakeCheckpoint);
        }
        self.step(Input::Tick);
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(1_795_514_400_000 + self.wall_ms()), monotonic_ms: self.steps }
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.steps).expect("a bench takes fewer than 2^63 steps")
    }

    /// Takes one input and all that follows from it.
    fn step(&mut self, input: Input) {
        let (mut inputs, mut effects) = (vec![input], Vec::new());
        while let Some(input) = inputs.pop() {
            self.steps += 1;
            self.partition.step(input, self.now(), &mut effects);
            for effect in effects.drain(..).rev() {
                inputs.extend(self.perform(effect));
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Load { id, .. } => {
                let aggregate = Aggregate::genesis("order", &id);
                let loaded = Loaded { aggregate, rows: Vec::new(), trail: None };
                Some(Input::Loaded(Load { id, result: Ok(Box::new(loaded)), took_us: None }))
            }
            Effect::Snapshot(flight, item) => {
                let fulls = item.cuts.iter().filter(|cut| cut.full);
                let full_bytes = fulls.map(|cut| self.pack_snapshot(&item, cut)).last();
                Some(Input::SnapshotStored { flight, full_bytes, increment_bytes: 0 })
            }
            Effect::Checkpoint(flight, items) => {
                self.unflushed = 0;
                if items.is_empty() {
                    return None;
                }
                Some(Input::CheckpointStored(flight, self.pack_checkpoint(items)))
            }
            Effect::Commit(offset) => Some(Input::Committed(Ok(offset))),
            Effect::WantCheckpoint => Some(Input::TakeCheckpoint),
            Effect::Retire(_) => None,
            other => unreachable!("good events and instant answers lead to no {other:?}"),
        }
    }

    fn writer(&self, class: Class, pack: PackId) -> PackWriter {
        PackWriter::new(Header::new(class, pack, [0; 16], self.now().wall, "bench"))
    }

    fn pack_id(&self) -> PackId {
        PackId::mint(self.now().wall, [0; 10])
    }

    fn finish(&mut self, writer: PackWriter) -> u64 {
        let bytes = writer.finish().expect("the entries are sound").bytes.len() as u64;
        self.packed += bytes;
        bytes
    }

    /// Stored bytes of the full record. Each snapshot is a pack of its own here.
    fn pack_snapshot(&mut self, item: &SnapshotItem, cut: &Cut) -> u64 {
        let body = encode_full(&cut.aggregate.to_body());
        let Some(compression) = self.compression else { return body.len() as u64 };
        let mut encoder = Encoder::new(compression, None).expect("zstd takes this level");
        let mut writer = self.writer(Class::Full, self.pack_id());
        let meta = meta_of(&item.id, RecordKind::Full, item.row.0, cut.version().0);
        writer.add(meta, &body, &mut encoder).expect("the record is sound");
        self.records += 1;
        self.finish(writer)
    }

    fn pack_checkpoint(&mut self, mut items: Vec<CheckpointItem>) -> LiveCheckpoint {
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let entry = |item: &CheckpointItem| {
            let bytes: usize = item.events.iter().map(|event| event.record.bytes()).sum();
            let mut entry = item.entry();
            entry.body.len = bytes as u32;
            entry
        };
        let entries = Arc::new(Entries::from_sorted(items.iter().map(entry)));
        let pack = self.pack_id();
        let Some(compression) = self.compression else {
            let raw: u64 = entries.iter().map(|entry| u64::from(entry.body.len)).sum();
            return LiveCheckpoint { pack, object_bytes: raw / 4, entries, cut: None };
        };
        let header = Header::new(Class::Checkpoint, pack, [0; 16], self.now().wall, "bench");
        let mut writer =
            BlockWriter::new(header, compression, 1, items.len()).expect("zstd takes this level");
        self.records += items.len() as u64;
        for item in items {
            let meta = meta_of(&item.id, RecordKind::Increment, item.from.0, item.entry().upto.0);
            let write =
                |block: &mut Vec<u8>| put_increment(block, &item.events, item.mark.as_ref(), &item.id);
            if writer.add(0, &meta, write).expect("the record is sound") {
                writer.close(0).expect("the block reads back");
            }
        }
        writer.close(0).expect("the block reads back");
        let object_bytes = writer.finish().expect("the entries are sound").bytes.len() as u64;
        self.packed += object_bytes;
        LiveCheckpoint { pack, object_bytes, entries, cut: None }
    }
}

fn meta_of(id: &Arc<str>, kind: RecordKind, from: u64, upto: u64) -> RecordMeta {
    use snapfold::domain::ids::Version;
    RecordMeta {
        id: RecordId {
            key: AggregateKey { kind: "order".into(), id: Arc::clone(id) },
            lineage: Lineage(1),
            upto_version: Version(upto),
            kind,
            from_version: Version(from),
        },
        partition: PartitionNo(0),
        first_offset: Offset(0),
        last_offset: Offset(0),
        leader_epoch: 0,
        effective_time: Timestamp(0),
        chain: None,
        state_digest: None,
        is_deleted: false,
        is_quarantined: false,
        trail: None,
    }
}

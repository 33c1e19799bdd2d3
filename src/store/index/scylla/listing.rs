//! Lists that are spread over several CQL partitions, so that none of them grows for ever: aggregates of a
//! type in slots by the CRC32C of their ids, each slot in id order, merged when they are listed; dead letters
//! in buckets of offsets, with a row for each bucket that holds any.
//!
//! COST: a listing reads all slots, [`SLOTS_AT_ONCE`] at a time, and from each about twice its share of the
//! page. The first letter of a bucket in this process writes two rows, every further one writes one.

use super::columns::{aggregate_crc, differs};
use super::outcome::damaged;
use super::{ScyllaIndex, log, typed};
use crate::codec::row::Row;
use crate::domain::ids::{AggregateKey, Offset, PartitionNo};
use crate::domain::outcome::PortResult;
use crate::domain::row::{DeadLetter, PartitionKey};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// Slots of a type. Stored: it never changes.
const SLOTS: u32 = 128;
const SLOTS_AT_ONCE: usize = 32;
/// Rows of one slot that are read at a time.
const SLOT_ROWS_MAX: usize = 1_000;
const SLOT_ROWS_MIN: usize = 4;
/// Offsets of a bucket, as a power of two. Stored: it never changes.
const BUCKET_BITS: u32 = 13;
/// Buckets that are remembered as written.
const BUCKETS_KNOWN_MAX: usize = 1_024;
/// Bytes of a letter's sentence in its key.
const DETAIL_BYTES_MAX: usize = 1_024;

/// An id and its partition, as they stand in a slot.
type Listed = (Box<str>, i32);

/// Buckets whose rows were acknowledged.
#[derive(Default)]
pub(super) struct Buckets(Mutex<BTreeSet<(PartitionKey, i64)>>);

impl Buckets {
    fn has(&self, bucket: &(PartitionKey, i64)) -> bool {
        self.0.lock().expect("no panic while it is held").contains(bucket)
    }

    fn add(&self, bucket: (PartitionKey, i64)) {
        let mut known = self.0.lock().expect("no panic while it is held");
        if known.len() >= BUCKETS_KNOWN_MAX {
            known.clear();
        }
        known.insert(bucket);
    }
}

/// One slot being merged: what was read of it, and where its next read starts if there may be more.
struct Slot {
    number: i32,
    rows: VecDeque<Listed>,
    next: Option<Listed>,
}

fn slot_of(id: &str) -> i32 {
    i32::try_from(crc32c::crc32c(id.as_bytes()) % SLOTS).expect("there are few slots")
}

fn bucket_of(offset: Offset) -> i64 {
    offset.0 >> BUCKET_BITS
}

/// The start of a sentence, in whole characters.
fn start_of(detail: &str) -> &str {
    let mut end = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    &detail[..end]
}

impl ScyllaIndex {
    pub(super) async fn list_aggregate(&self, key: &AggregateKey, partition: PartitionNo) -> PortResult<()> {
        let (kind, id) = (&*key.kind, &*key.id);
        let values = (kind, slot_of(id), id, partition.0, aggregate_crc(kind, id, partition));
        self.write(&self.statements.put_aggregate, values).await
    }

    pub(super) async fn listed(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> PortResult<Vec<(AggregateKey, PartitionNo)>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // Ids are not empty, so all of them are behind the empty one.
        let start = after.map_or((Box::default(), i32::MIN), |id| (id.into(), i32::MAX));
        let share = limit.div_ceil(SLOTS as usize).saturating_mul(2);
        let at_once = share.clamp(SLOT_ROWS_MIN, SLOT_ROWS_MAX);
        let fresh = |number| Slot { number, rows: VecDeque::new(), next: Some(start.clone()) };
        let read = |mut slot: Slot| async move {
            self.read_slot(kind, &mut slot, at_once).await?;
            Ok(slot)
        };
        let numbers = 0..i32::try_from(SLOTS).expect("there are few slots");
        let slots = stream::iter(numbers.map(fresh)).map(read).buffered(SLOTS_AT_ONCE);
        let mut slots: Vec<Slot> = slots.try_collect().await?;
        let heads = slots.iter_mut().enumerate();
        let mut heads: BinaryHeap<Reverse<(Listed, usize)>> =
            heads.filter_map(|(nth, slot)| Some(Reverse((slot.rows.pop_front()?, nth)))).collect();
        let (mut found, kind_of_all) = (Vec::new(), Arc::<str>::from(kind));
        while let Some(Reverse(((id, partition), nth))) = heads.pop() {
            let key = AggregateKey { kind: Arc::clone(&kind_of_all), id: id.into() };
            found.push((key, PartitionNo(partition)));
            if found.len() == limit {
                break;
            }
            let slot = &mut slots[nth];
            if slot.rows.is_empty() {
                self.read_slot(kind, slot, at_once).await?;
            }
            heads.extend(slot.rows.pop_front().map(|head| Reverse((head, nth))));
        }
        Ok(found)
    }

    /// Reads the next rows of a slot, if there are any.
    async fn read_slot(&self, kind: &str, slot: &mut Slot, at_once: usize) -> PortResult<()> {
        let Some((id, partition)) = slot.next.take() else { return Ok(()) };
        let most = i32::try_from(at_once).expect("a read has few rows");
        let values = (kind, slot.number, &*id, partition, most);
        let rows = &mut slot.rows;
        self.pages(&self.statements.aggregates, values, |page| {
            for columns in typed::<(&str, i32, i32)>(page)? {
                let (id, partition, crc) = columns?;
                if aggregate_crc(kind, id, PartitionNo(partition)) != crc {
                    return Err(differs("row of a listing"));
                }
                rows.push_back((id.into(), partition));
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        if rows.len() == at_once {
            slot.next = rows.back().cloned();
        }
        Ok(())
    }

    pub(super) async fn keep_letter(&self, letter: DeadLetter) -> PortResult<()> {
        let bucket = (letter.key.clone(), bucket_of(letter.offset));
        let (topic, partition, lineage) = log(&letter.key);
        if !self.buckets.has(&bucket) {
            self.write(&self.statements.put_bucket, (topic, partition, lineage, bucket.1)).await?;
        }
        let number = bucket.1;
        self.buckets.add(bucket);
        // Two letters of one offset stand beside each other, in the order in which they count.
        let (epoch, code, detail) = (letter.record.leader_epoch, &*letter.code, start_of(&letter.detail));
        let offset = letter.offset.0;
        let of = letter.aggregate.as_ref();
        let kind = super::columns::Perhaps(of.map(|key| &*key.kind));
        let id = super::columns::Perhaps(of.map(|key| &*key.id));
        let form = letter.encode();
        let values = (topic, partition, lineage, number, offset, epoch, code, detail, kind, id, &form[..]);
        self.write(&self.statements.put_dead_letter, values).await
    }

    pub(super) async fn letters(
        &self,
        key: &PartitionKey,
        from: Offset,
        limit: usize,
    ) -> PortResult<Vec<DeadLetter>> {
        let mut found: Vec<DeadLetter> = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let (topic, partition, lineage) = log(key);
        let buckets = (topic, partition, lineage, bucket_of(from));
        let buckets = self.all(&self.statements.buckets, buckets, |(bucket,): (i64,)| Ok(bucket)).await?;
        for bucket in buckets {
            let values = (topic, partition, lineage, bucket, from.0);
            self.pages(&self.statements.dead_letters, values, |page| {
                for columns in typed::<(i64, &[u8])>(page)? {
                    let (offset, form) = columns?;
                    if found.last().is_some_and(|last| last.offset.0 == offset) {
                        continue;
                    }
                    if found.len() == limit {
                        return Ok(ControlFlow::Break(()));
                    }
                    let letter = DeadLetter::decode(form).map_err(|error| damaged(&error))?;
                    if letter.offset.0 != offset || letter.key != *key {
                        return Err(damaged(&"a dead letter stands under the key of another"));
                    }
                    found.push(letter);
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }
}

//! The partition in which an aggregate lives: where its rows say, else where the stream's partitioner points,
//! else wherever a checkpoint, an owner or the log's end knows it.
//!
//! *Order*: of each partition the low watermark, the owner, the checkpoints, the log from the owner's
//! position (or the low watermark) on; rows last. Whatever moves meanwhile moves from the first of these to
//! the last, so what is in none of them did not exist when the question was asked.

use super::state::Owner;
use super::{Asked, Lookup, Refusal};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Offset, PartitionNo, Version};
use crate::domain::outcome::PortError;
use crate::domain::row::PartitionKey;
use crate::store::index::From;
use crate::store::unavailable;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Where producers put an id: only a hint for where to look first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// `murmur2`: Java's default.
    Murmur2,
    /// `crc32` or `consistent`: librdkafka's `consistent`.
    Crc32,
    /// `none`.
    #[default]
    Unknown,
}

impl Partitioner {
    /// As the configuration writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "murmur2" => Some(Self::Murmur2),
            "crc32" | "consistent" => Some(Self::Crc32),
            "none" => Some(Self::Unknown),
            _ => None,
        }
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition(self, key: &[u8], partitions: u32) -> Option<PartitionNo> {
        let hash = match self {
            Self::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Self::Crc32 => {
                let mut crc = flate2::Crc::new();
                crc.update(key);
                crc.sum()
            }
            Self::Unknown => return None,
        };
        i32::try_from(hash.checked_rem(partitions)?).ok().map(PartitionNo)
    }
}

/// MurmurHash2 with Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` has it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ len;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[derive(Default)]
struct Places {
    known: BTreeMap<Arc<str>, PartitionNo>,
    order: VecDeque<Arc<str>>,
}

/// Partitions that were found, the oldest forgotten first. An aggregate never moves within a lineage.
pub(super) struct Memo {
    places_max: usize,
    places: Mutex<Places>,
}

impl Memo {
    pub(super) fn new(places_max: usize) -> Self {
        Self { places_max, places: Mutex::default() }
    }

    fn get(&self, id: &str) -> Option<PartitionNo> {
        self.places.lock().expect("no panic while the memo is held").known.get(id).copied()
    }

    /// The same, unless another place is known.
    pub(super) fn keep_new(&self, id: &Arc<str>, partition: PartitionNo) {
        if self.get(id).is_none() {
            self.keep(id, partition);
        }
    }

    fn keep(&self, id: &Arc<str>, partition: PartitionNo) {
        let mut places = self.places.lock().expect("no panic while the memo is held");
        if self.places_max == 0 || places.known.insert(Arc::clone(id), partition).is_some() {
            return;
        }
        places.order.push_back(Arc::clone(id));
        if places.order.len() > self.places_max
            && let Some(oldest) = places.order.pop_front()
        {
            places.known.remove(&oldest);
        }
    }
}

impl Lookup {
    /// The partition of an aggregate; none if nobody knows it.
    pub(super) async fn locate(&self, key: &AggregateKey) -> Asked<Option<PartitionNo>> {
        self.reader().packs.erasures.check(key)?;
        if let Some(known) = self.0.memo.get(&key.id) {
            return Ok(Some(known));
        }
        let mut found = self.in_rows(key).await?;
        if found.is_none() {
            found = self.search(key).await?;
        }
        if let Some(partition) = found {
            self.0.memo.keep(&key.id, partition);
        }
        Ok(found)
    }

    async fn in_rows(&self, key: &AggregateKey) -> Asked<Option<PartitionNo>> {
        let rows = self.reader().index.snapshots(key, self.0.parts.lineage, From::Newest, 1).await;
        let rows = rows.map_err(|error| unavailable("find the aggregate's rows", &error))?;
        Ok(rows.first().map(|row| row.partition))
    }

    async fn search(&self, key: &AggregateKey) -> Asked<Option<PartitionNo>> {
        let count = self.partition_count().await?;
        let hint = self.0.parts.settings.partitioner.partition(key.id.as_bytes(), count);
        let all = (0..i32::try_from(count).unwrap_or(i32::MAX)).map(PartitionNo);
        let mut unsure = None;
        for partition in hint.into_iter().chain(all.filter(|partition| Some(*partition) != hint)) {
            match self.is_here(key, partition).await {
                Ok(true) => return Ok(Some(partition)),
                Ok(false) => {}
                // Another partition may know it for sure.
                Err(Refusal::Failed(error)) if error.kind == ErrorKind::Corrupt => unsure = Some(error),
                Err(refusal) => return Err(refusal),
            }
        }
        match (self.in_rows(key).await?, unsure) {
            (None, Some(error)) => Err(Refusal::Failed(error)),
            (found, _) => Ok(found),
        }
    }

    pub(super) async fn partition_count(&self) -> Asked<u32> {
        let count = self.reader().log.partition_count().await;
        Ok(count.map_err(|error| unavailable("count the topic's partitions", &error))?)
    }

    /// Whether a partition knows an aggregate that has no rows.
    async fn is_here(&self, key: &AggregateKey, partition: PartitionNo) -> Asked<bool> {
        let log = self.log_of(partition);
        let owner = self.ask_owner(&log, &key.id).await?;
        if matches!(owner, Owner::Here(..)) {
            return Ok(true);
        }
        let _turn = self.admit().await?;
        // An owner that holds nothing of it may know that checkpoints do not either.
        if let Owner::Absent(position, Some(pending)) = &owner
            && pending.upto == Version(0)
        {
            return self.is_in_log(&log, key, *position).await;
        }
        let view = self.reader().view_of(&log, key).await?;
        if !view.checkpoints.is_empty() {
            return Ok(true);
        }
        // What the owner has folded and does not hold is covered: the checkpoints and rows would tell of it.
        let from = match owner {
            Owner::Absent(position, _) if view.is_whole() => position,
            _ => view.low_watermark,
        };
        let is_in_log = self.is_in_log(&log, key, from).await?;
        if !is_in_log && view.lost_below.is_some() {
            let detail =
                format!("a live checkpoint of partition {partition} cannot be read, which may hold it");
            return Err(Refusal::Failed(Error::corrupt(detail)));
        }
        Ok(is_in_log)
    }

    async fn is_in_log(&self, log: &PartitionKey, key: &AggregateKey, from: Offset) -> Asked<bool> {
        let reader = self.reader();
        let bounds = reader.log.bounds(log.partition).await;
        let end = bounds.map_err(|error| unavailable("read the log's bounds", &error))?.end;
        let (mut next, mut looked_at) = (from, 0);
        while next < end {
            let records = match reader.log.read(log.partition, next, end).await {
                Ok(records) => records,
                Err(PortError::Missing) => {
                    let detail = format!("the log's start has passed {next} while it was searched");
                    let error = Error::new(ErrorKind::Unavailable, "dependency-down", detail);
                    return Err(Refusal::Failed(error));
                }
                Err(error) => return Err(unavailable("read the log", &error).into()),
            };
            let Some(last) = records.last() else { return Ok(false) };
            next = last.offset.next();
            looked_at += records.len() as u64;
            if records.into_iter().any(|record| reader.decoder.decode(record).id() == Some(&key.id)) {
                return Ok(true);
            }
            if looked_at > self.0.parts.settings.events_max {
                let ahead = u64::try_from(end.0.saturating_sub(next.0)).unwrap_or(0);
                return Err(self.too_much(looked_at + ahead));
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own UtilsTest.
    #[test]
    fn murmur2_is_that_of_kafka() {
        let signed = |text: &str| murmur2(text.as_bytes()).cast_signed();
        assert_eq!(signed("21"), -973_932_308);
        assert_eq!(signed("foobar"), -790_332_482);
        assert_eq!(signed("a-little-bit-long-string"), -985_981_536);
        assert_eq!(signed("a-little-bit-longer-string"), -1_486_304_829);
        assert_eq!(signed("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58_897_971);
        assert_eq!(signed("abc"), 479_470_107);
    }

    #[test]
    fn partitioners_point_where_producers_put() {
        let at = |partitioner: Partitioner, key: &str| partitioner.partition(key.as_bytes(), 12);
        // The check value of CRC-32 is 0xcbf43926.
        assert_eq!(at(Partitioner::Crc32, "123456789"), Some(PartitionNo((0xcbf4_3926_u32 % 12) as i32)));
        let hash = (-790_332_482_i32).cast_unsigned() & 0x7fff_ffff;
        assert_eq!(at(Partitioner::Murmur2, "foobar"), Some(PartitionNo((hash % 12) as i32)));
        assert_eq!(at(Partitioner::Unknown, "foobar"), None);
        assert_eq!(Partitioner::Murmur2.partition(b"foobar", 0), None);
        assert_eq!(Partitioner::from_name("consistent"), Some(Partitioner::Crc32));
    }

    #[test]
    fn the_memo_forgets_the_oldest_place() {
        let memo = Memo::new(2);
        let ids: Vec<Arc<str>> = ["a", "b", "a", "c"].map(Arc::from).to_vec();
        ids.iter().for_each(|id| memo.keep(id, PartitionNo(1)));
        assert_eq!(memo.get("a"), None);
        assert_eq!((memo.get("b"), memo.get("c")), (Some(PartitionNo(1)), Some(PartitionNo(1))));
    }
}

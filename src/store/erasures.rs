//! The erasures of a store: a deny list that everybody who folds or answers has in memory.
//!
//! `v1/erasures/<uuidv7>`, one small object each: a line of JSON and its CRC32C. There is no row: the list is
//! read from the objects, so an index that was lost, restored or built anew forgets no erasure.
//!
//! *Order*: the object first; whatever else is done to erase follows and may be repeated.
//! *If it fails*: whether it counts is unknown; to erase again is harmless. A list that cannot be read keeps
//!   a process from starting, and what was read before stays in force.
//! *If cancelled*: the same. *What may leak*: nothing.
//!
//! INVARIANT: nothing is ever taken off the list.

use super::blobs::Blobs;
use super::unavailable;
use crate::codec::pack::erasure_name;
use crate::codec::wire::from_hex;
use crate::domain::erasure::{ErasedIds, Erasure};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Offset, PartitionNo, Timestamp, Version};
use crate::domain::number::Number;
use crate::domain::outcome::PortError;
use crate::domain::value::{Limits, Object, Value};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

const FOLDER: &str = "v1/erasures/";
const PAGE: usize = 1_000;
/// How often a call that failed is repeated at once.
const TRIES: usize = 4;
const READS_AT_ONCE: usize = 16;
/// No erasure is longer: names of a hundred thousand packs.
const OBJECT_BYTES_MAX: u64 = 16 << 20;
/// Names are ordered by their writers' clocks: one that is so much behind is found all the same.
const SKEW_MS: i64 = 3_600_000;
const FORMAT: &str = "snapfold erasure 1";

/// See the module.
pub struct Erasures {
    blobs: Arc<dyn Blobs>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    of: BTreeMap<AggregateKey, Arc<Erasure>>,
    ids: BTreeMap<Arc<str>, ErasedIds>,
    names: BTreeSet<String>,
}

impl Known {
    fn take(&mut self, name: String, erasure: Erasure) {
        if !self.names.insert(name) {
            return;
        }
        let key = erasure.key.clone();
        // COST: the set is copied once for each look that finds something, because whoever folds holds it.
        Arc::make_mut(self.ids.entry(Arc::clone(&key.kind)).or_default()).insert(Arc::clone(&key.id));
        // Of several the first counts: what it found is what there was.
        self.of.entry(key).or_insert_with(|| Arc::new(erasure));
    }
}

impl Erasures {
    /// The erasures of a store; none is known until they are read.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, known: RwLock::default() }
    }

    /// Reads those that are new; true if there were any.
    ///
    /// # Errors
    /// `Unavailable` if the store did not answer, `Corrupt` if one is damaged.
    pub async fn refresh(&self) -> Result<bool> {
        let newest = self.known.read().expect("no panic while it is held").names.last().cloned();
        let mut after = newest.and_then(|name| since(&name));
        let mut is_more = false;
        loop {
            let names = self.list(after.as_deref()).await?;
            is_more |= self.read_new(&names).await?;
            match names.last() {
                Some(last) if names.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(is_more),
            }
        }
    }

    /// Reads those that are not known yet, in the order of their names; true if there were any. Those before
    /// one that cannot be read are in force all the same.
    async fn read_new(&self, names: &[String]) -> Result<bool> {
        let new: Vec<&String> = {
            let known = self.known.read().expect("no panic while it is held");
            names.iter().filter(|name| !known.names.contains(*name)).collect()
        };
        let reads = new.iter().map(|name| -> BoxFuture<'_, _> { Box::pin(self.read(name)) });
        let reads: Vec<_> = reads.collect();
        let read: Vec<Result<Erasure>> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        let mut known = self.known.write().expect("no panic while it is held");
        for (name, erasure) in new.iter().zip(read) {
            known.take((*name).clone(), erasure?);
        }
        Ok(!new.is_empty())
    }

    /// The erasure of an aggregate, if it was erased.
    #[must_use]
    pub fn of(&self, key: &AggregateKey) -> Option<Arc<Erasure>> {
        self.known.read().expect("no panic while it is held").of.get(key).cloned()
    }

    /// All that are known, by aggregate.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Erasure>> {
        self.known.read().expect("no panic while it is held").of.values().cloned().collect()
    }

    /// The ids of a type that are erased.
    #[must_use]
    pub fn ids(&self, kind: &str) -> ErasedIds {
        self.known.read().expect("no panic while it is held").ids.get(kind).cloned().unwrap_or_default()
    }

    /// Fails if an aggregate was erased.
    ///
    /// # Errors
    /// `Gone` with the code `erased`.
    pub fn check(&self, key: &AggregateKey) -> Result<()> {
        let Some(erasure) = self.of(key) else { return Ok(()) };
        let detail = format!("it was erased (`{}`): `GET …/erasure` tells what became of it", erasure.at);
        Err(Error::new(ErrorKind::Gone, "erased", detail))
    }

    /// Keeps an erasure; from now on it is on the list.
    ///
    /// # Errors
    /// `Unavailable`: whether it counts is unknown.
    pub async fn keep(&self, erasure: Erasure) -> Result<()> {
        let (name, bytes) = (erasure_name(erasure.at), encode(&erasure));
        let mut last = PortError::Missing;
        for _ in 0..TRIES {
            match self.blobs.put_new(&name, &bytes).await {
                // Nobody else has this name: it was an earlier try.
                Ok(()) | Err(PortError::Exists) => {
                    self.known.write().expect("no panic while it is held").take(name, erasure);
                    return Ok(());
                }
                Err(error @ PortError::Permanent(_)) => {
                    return Err(unavailable(&format!("write `{name}`"), &error));
                }
                Err(error) => last = error,
            }
        }
        Err(unavailable(&format!("write `{name}`"), &last))
    }

    /// Of these objects, those that are still there.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn left(&self, names: &BTreeSet<Box<str>>) -> Result<BTreeSet<Box<str>>> {
        let looks = names.iter().map(|name| -> BoxFuture<'_, _> {
            Box::pin(async move {
                match self.blobs.get_range(name, 0, 1).await {
                    Ok(_) => Ok(Some(name.clone())),
                    Err(PortError::Missing) => Ok(None),
                    Err(error) => Err(unavailable(&format!("read `{name}`"), &error)),
                }
            })
        });
        let looks: Vec<_> = looks.collect();
        let left: Vec<Option<Box<str>>> =
            stream::iter(looks).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        Ok(left.into_iter().flatten().collect())
    }

    async fn list(&self, after: Option<&str>) -> Result<Vec<String>> {
        let mut last = PortError::Missing;
        for _ in 0..TRIES {
            match self.blobs.list(FOLDER, after, PAGE).await {
                Ok(names) => return Ok(names),
                Err(error) => last = error,
            }
        }
        Err(unavailable("list erasures", &last))
    }

    async fn read(&self, name: &str) -> Result<Erasure> {
        let mut last = Error::corrupt("no read");
        for _ in 0..TRIES {
            match self.blobs.get_range(name, 0, OBJECT_BYTES_MAX).await {
                Ok(bytes) => match decode(&bytes) {
                    Some(erasure) => return Ok(erasure),
                    None => last = Error::corrupt("it disagrees with its checksum: restore it from a backup"),
                },
                Err(error) => last = unavailable("read it", &error),
            }
        }
        Err(last.context(&format!("read `{name}`")))
    }
}

/// A name before which none that is new can be.
fn since(newest: &str) -> Option<String> {
    let id = LedgerId(from_hex(newest.strip_prefix(FOLDER)?)?);
    let then = Timestamp(id.minted_at().0.saturating_sub(SKEW_MS).max(0));
    Some(erasure_name(LedgerId::mint(then, [0; 10])))
}

fn encode(erasure: &Erasure) -> Vec<u8> {
    let Erasure { key, at, reason, request, lineage, partition, version, offset, packs } = erasure;
    let text = |text: &str| Value::from(text);
    // Numbers of JSON are not signed here, and -1 stands for what could not be told.
    let whole = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok());
    let number = |number: Option<u64>| number.map_or(Value::Null, |n| Value::Number(Number::from(n)));
    let mut object = Object::new();
    object.insert("format", text(FORMAT));
    object.insert("aggregateType", text(&key.kind));
    object.insert("aggregateId", text(&key.id));
    object.insert("erasure", text(&at.to_string()));
    object.insert("reason", text(reason));
    object.insert("request", request.as_deref().map_or(Value::Null, text));
    object.insert("lineage", number(Some(u64::from(lineage.0))));
    object.insert("partition", number(whole(partition.map(|partition| i64::from(partition.0)))));
    object.insert("version", number(Some(version.0)));
    object.insert("offset", number(whole(Some(offset.0))));
    object.insert("packs", Value::Array(packs.iter().map(|name| text(name)).collect()));
    lined(object)
}

/// A line of JSON, and its CRC32C on the next.
pub(super) fn lined(object: Object) -> Vec<u8> {
    let line = Value::Object(object).to_json();
    format!("{line}\n{:08x}\n", crc32c::crc32c(line.as_bytes())).into_bytes()
}

/// What the first line says; whether the second agrees is seen by writing it again.
pub(super) fn first_line(bytes: &[u8]) -> Option<Value> {
    let line = std::str::from_utf8(bytes).ok()?.split('\n').next()?;
    let limits = Limits { max_bytes: usize::MAX, max_depth: 4, max_members: usize::MAX };
    Value::parse(line.as_bytes(), &limits).ok()
}

/// None for anything but what `encode` wrote.
fn decode(bytes: &[u8]) -> Option<Erasure> {
    let value = first_line(bytes)?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let whole = |name: &str| value.get(name).and_then(Value::as_i64);
    let packs = value.get("packs")?.as_array()?.iter().map(|name| name.as_str().map(Box::from));
    let erasure = Erasure {
        key: AggregateKey { kind: text("aggregateType")?.into(), id: text("aggregateId")?.into() },
        at: LedgerId(from_hex(text("erasure")?)?),
        reason: text("reason")?.into(),
        request: text("request").map(Into::into),
        lineage: Lineage(whole("lineage")?.try_into().ok()?),
        partition: whole("partition").and_then(|n| n.try_into().ok()).map(PartitionNo),
        version: Version(whole("version")?.try_into().ok()?),
        offset: Offset(whole("offset").unwrap_or(-1)),
        packs: packs.collect::<Option<_>>()?,
    };
    (encode(&erasure) == bytes).then_some(erasure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blobs::MemoryBlobs;
    use futures_util::FutureExt;
    use std::future::Future;

    fn erasure(id: &str, ms: i64) -> Erasure {
        Erasure {
            key: AggregateKey { kind: "order".into(), id: id.into() },
            at: LedgerId::mint(Timestamp(ms), [7; 10]),
            reason: "a \"request\"\n".into(),
            request: Some("GDPR-1".into()),
            lineage: Lineage(2),
            partition: Some(PartitionNo(3)),
            version: Version(7),
            offset: Offset(41),
            packs: ["v1/full/a.sfp", "v1/history/b.sfp"].map(Box::from).into(),
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    #[test]
    fn an_erasure_reads_back_and_every_flipped_bit_and_every_cut_is_found() {
        let unknown = Erasure { partition: None, request: None, offset: Offset(-1), ..erasure("ü/\n", 5) };
        for erasure in [erasure("a", 1_700_000_000_000), unknown] {
            let bytes = encode(&erasure);
            assert_eq!(decode(&bytes), Some(erasure));
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&damaged), None, "bit {bit}");
            }
            assert!((0..bytes.len()).all(|len| decode(&bytes[..len]).is_none()));
        }
    }

    /// Goal: whoever looks again finds all that are new, also those of clocks that are behind.
    #[test]
    fn everybody_hears_of_every_erasure_and_the_first_of_two_counts() {
        let blobs = Arc::new(MemoryBlobs::new());
        let (one, other) = (Erasures::new(blobs.clone()), Erasures::new(blobs));
        assert_eq!(now(other.refresh()), Ok(false));
        let first = erasure("a", 1_700_000_000_000);
        now(one.keep(first.clone())).unwrap();
        assert!(one.check(&first.key).is_err_and(|error| error.code == "erased"));
        assert_eq!(other.check(&first.key), Ok(()), "it has not looked");
        assert_eq!((now(other.refresh()), now(other.refresh())), (Ok(true), Ok(false)));
        assert_eq!(other.of(&first.key).as_deref(), Some(&first));
        now(one.keep(erasure("b", 1_700_000_000_000 - SKEW_MS / 2))).unwrap();
        now(one.keep(erasure("a", 1_700_000_000_001))).unwrap();
        assert_eq!(now(other.refresh()), Ok(true));
        assert_eq!(other.ids("order").iter().map(|id| &**id).collect::<Vec<_>>(), ["a", "b"]);
        assert!(other.ids("invoice").is_empty());
        assert_eq!(other.of(&first.key).as_deref(), Some(&first));
    }
}

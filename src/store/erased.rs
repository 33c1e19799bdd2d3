//! What the index still tells of erased aggregates: found, and taken away.
//!
//! *Order*: a row's deletion is in the ledger before the row goes; a dead letter is written again without its
//!   record.
//! *If it fails*, or *is cancelled*: some of it is done, and all of it may be repeated.
//! *What may leak*: what a writer that had not heard of an erasure writes later: it is found the next time.
//!
//! INVARIANT: nobody's rows go but those of the aggregate that was asked for.

use super::blobs::Blobs;
use super::index::{From, Index, RowWalk};
use super::ledger::Ledger;
use super::{lineages, unavailable};
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::ledger::DeletedRow;
use crate::domain::row::{DeadLetter, PartitionKey, SnapshotRow};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PAGE: usize = 256;
/// Rows that one object of the ledger names.
const DELETED_AT_ONCE: usize = 10_000;

/// The logs of a topic: every partition of every lineage that was ever activated.
///
/// # Errors
/// `Unavailable`, or `Corrupt` where the list of lineages is.
pub async fn logs_of(blobs: &dyn Blobs, topic: &Arc<str>) -> Result<BTreeSet<PartitionKey>> {
    let mut logs = BTreeSet::new();
    for known in lineages::history(blobs, topic).await? {
        for number in 0..i32::try_from(known.partitions.unwrap_or_default()).unwrap_or(i32::MAX) {
            let (topic, partition) = (Arc::clone(topic), PartitionNo(number));
            logs.insert(PartitionKey { topic, partition, lineage: known.lineage });
        }
    }
    Ok(logs)
}

/// The rows that tell of an aggregate in the lineages of these logs, whatever partition they are of.
///
/// # Errors
/// `Unavailable`.
pub async fn rows_of(
    index: &dyn Index,
    logs: &BTreeSet<PartitionKey>,
    key: &AggregateKey,
) -> Result<Vec<SnapshotRow>> {
    let lineages: BTreeSet<Lineage> = logs.iter().map(|log| log.lineage).collect();
    let mut rows: BTreeMap<(Lineage, Version, PackId), SnapshotRow> = BTreeMap::new();
    for lineage in lineages {
        // A row of version 0 tells of a quarantine before the first event.
        for start in [From::AtOrBelow(Version(0)), From::Above(Version(0))] {
            let read = RowWalk::new(index, key, lineage, start, PAGE).rest().await?;
            rows.extend(read.into_iter().map(|row| ((lineage, row.version, row.pack), row)));
        }
    }
    Ok(rows.into_values().collect())
}

/// Deletes rows, each named by the ledger first.
///
/// # Errors
/// `Unavailable`: some may be gone.
pub async fn delete_rows(ledger: &Ledger, rows: &[SnapshotRow]) -> Result<()> {
    for some in rows.chunks(DELETED_AT_ONCE) {
        for named in ledger.delete(some.iter().map(DeletedRow::of).collect(), "erasure").await? {
            for row in &named.rows {
                ledger.delete_row(row, named.at).await?;
            }
        }
    }
    Ok(())
}

/// The dead letters with a record in them whose aggregate `is_erased`.
///
/// COST: all dead letters of these logs are read, by pages.
///
/// # Errors
/// `Unavailable`.
pub async fn letters_of(
    index: &dyn Index,
    logs: &BTreeSet<PartitionKey>,
    is_erased: impl Fn(&AggregateKey) -> bool,
) -> Result<Vec<DeadLetter>> {
    let mut found = Vec::new();
    for log in logs {
        let mut from = Offset(0);
        loop {
            let page = index.dead_letters(log, from, PAGE).await;
            let page = page.map_err(|error| unavailable("read dead letters", &error))?;
            let Some(last) = page.last() else { break };
            from = last.offset.next();
            let is_last = page.len() < PAGE;
            let theirs = |letter: &DeadLetter| letter.aggregate.as_ref().is_some_and(&is_erased);
            found.extend(page.into_iter().filter(|letter| !letter.is_blank() && theirs(letter)));
            if is_last {
                break;
            }
        }
    }
    Ok(found)
}

/// Writes dead letters again without their records.
///
/// # Errors
/// `Unavailable`: some may be as they were.
pub async fn blank(index: &dyn Index, letters: Vec<DeadLetter>) -> Result<()> {
    for letter in letters {
        let written = index.put_dead_letter(letter.blank()).await;
        written.map_err(|error| unavailable("write a dead letter without its record", &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::RawRecord;
    use crate::store::index::MemoryIndex;
    use crate::store::index::suite::snapshot;
    use futures_util::FutureExt;
    use std::future::Future;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    fn key(id: &str) -> AggregateKey {
        AggregateKey { kind: "order".into(), id: id.into() }
    }

    fn log(lineage: u32) -> PartitionKey {
        PartitionKey { topic: "orders".into(), partition: PartitionNo(0), lineage: Lineage(lineage) }
    }

    fn pack(number: u64) -> PackId {
        let mut pack = [0; 16];
        pack[8..].copy_from_slice(&number.to_be_bytes());
        PackId(pack)
    }

    /// Goal: not one row is missed. Method: copies of one version lie across the end of a page, fill several
    /// pages alone, and stand at version 0; each lineage is asked.
    #[test]
    fn all_rows_are_found_wherever_a_page_ends() {
        let index = MemoryIndex::new();
        let put = |id: &str, lineage: u32, version: u64, number: u64| {
            now(index.put_snapshot(snapshot(&key(id), lineage, version, pack(number)))).unwrap();
        };
        let copies = [(0, 300), (1, 250), (2, 10), (3, 3 * PAGE as u64), (9, 1)];
        let mut number = 0;
        for (version, many) in copies {
            for _ in 0..many {
                number += 1;
                put("a", 1, version, number);
                put("b", 1, version, number);
            }
        }
        put("a", 2, 5, 1);
        let logs = [log(1), log(2)].into();
        let rows = now(rows_of(&index, &logs, &key("a"))).unwrap();
        assert_eq!(rows.len() as u64, number + 1);
        assert!(rows.iter().all(|row| row.key == key("a")));
        assert!(now(rows_of(&index, &logs, &key("c"))).unwrap().is_empty());
    }

    #[test]
    fn of_an_erased_aggregate_dead_letters_lose_their_records_and_no_others_do() {
        let index = MemoryIndex::new();
        let logs: BTreeSet<PartitionKey> = [log(1), log(2)].into();
        for log in &logs {
            for offset in 0..3 * PAGE as i64 {
                let id = ["a", "b"][usize::from(offset % 2 == 1)];
                let record = RawRecord {
                    offset: Offset(offset),
                    leader_epoch: 4,
                    value: Some(b"secret"[..].into()),
                    ..RawRecord::default()
                };
                let (key, aggregate) = (log.clone(), Some(key(id)));
                let (offset, code) = (Offset(offset), "bad-json".into());
                let letter = DeadLetter { key, offset, aggregate, code, detail: "d".into(), record };
                now(index.put_dead_letter(letter)).unwrap();
            }
        }
        let find = || now(letters_of(&index, &logs, |of| *of == key("a"))).unwrap();
        let found = find();
        assert_eq!(found.len(), 3 * PAGE);
        now(blank(&index, found.clone())).unwrap();
        assert!(find().is_empty());
        assert_eq!(now(letters_of(&index, &logs, |of| *of == key("b"))).unwrap().len(), 3 * PAGE);
        let first = now(index.dead_letters(&log(1), Offset(0), 1)).unwrap();
        assert_eq!((first[0].record.leader_epoch, &*first[0].code), (4, "bad-json"));
        // A repetition that comes late brings nothing back.
        now(index.put_dead_letter(found[0].clone())).unwrap();
        assert!(find().is_empty());
    }
}

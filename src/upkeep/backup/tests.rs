//! Backups of stores that others work on, and what may not be restored.

use super::*;
use crate::domain::outcome::PortResult;
use crate::store::blobs::MemoryBlobs;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Mutex;

fn put_now(blobs: &MemoryBlobs, name: &str, bytes: &[u8]) {
    blobs.put_new(name, bytes).now_or_never().expect("memory answers at once").unwrap();
}

fn dictionary(bytes: &[u8]) -> String {
    format!("v1/dict/{}", Digest(Sha256::digest(bytes).into()))
}

async fn backed_up(from: &MemoryBlobs, to: &MemoryBlobs, mode: Mode) -> Report {
    backup(from, to, Timestamp(5), mode, &Progress::default()).await.unwrap()
}

#[tokio::test]
async fn a_backup_copies_what_is_new_and_comes_back_whole() {
    let (from, to, back) = (MemoryBlobs::new(), MemoryBlobs::new(), MemoryBlobs::new());
    put_now(&from, &dictionary(b"one"), b"one");
    put_now(&from, "v1/lineages/topic-t/0000000001", b"a lineage");
    put_now(&from, "v1/check", b"snapfold\n");
    let dry = backed_up(&from, &to, Mode::DryRun).await;
    assert_eq!((dry.copied, list(&to, "").await.unwrap().len()), (2, 0));
    let full = backed_up(&from, &to, Mode::Write).await;
    assert_eq!((full.objects, full.copied, full.copied_bytes, full.problems.len()), (2, 2, 12, 0));
    put_now(&from, &dictionary(b"two"), b"two");
    // The clock has not moved on, and yet the second is the later one.
    let more = backed_up(&from, &to, Mode::Write).await;
    assert_eq!((more.objects, more.copied, more.copied_bytes), (3, 1, 3));
    assert!(more.manifest > full.manifest, "{} {}", more.manifest, full.manifest);

    let progress = Progress::default();
    let restored = restore(&to, &back, None, Mode::Write, &progress).await.unwrap();
    assert_eq!((restored.objects, restored.copied, restored.manifest), (3, 3, more.manifest));
    assert_eq!(list(&back, "v1/").await.unwrap().len(), 3);
    let again = restore(&to, &back, None, Mode::Write, &progress).await.unwrap();
    assert_eq!(again.copied, 0);
    let older = restore(&to, &back, Some(&full.manifest), Mode::Write, &progress).await;
    assert_eq!(older.unwrap_err().kind, ErrorKind::Conflict, "it would mix two histories");
    let none = restore(&to, &back, Some("backups/other"), Mode::Write, &progress).await;
    assert_eq!(none.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn damage_is_named_on_the_way_in_and_on_the_way_out() {
    let (from, to, back) = (MemoryBlobs::new(), MemoryBlobs::new(), MemoryBlobs::new());
    put_now(&from, &dictionary(b"one"), b"other bytes");
    put_now(&from, "v1/ledger/0", b"no checksum");
    put_now(&from, &dictionary(b"two"), b"two");
    let report = backed_up(&from, &to, Mode::Write).await;
    assert_eq!((report.objects, report.problems.len()), (1, 2), "{:?}", report.problems);
    assert!(report.problems[0].contains(&dictionary(b"one")), "{:?}", report.problems);
    to.delete(&dictionary(b"two")).await.unwrap();
    put_now(&to, &dictionary(b"two"), b"too");
    let restored = restore(&to, &back, None, Mode::Write, &Progress::default()).await.unwrap();
    assert_eq!((restored.copied, restored.problems.len()), (0, 3), "{:?}", restored.problems);
    assert_eq!(list(&back, "").await.unwrap(), Vec::<String>::new());
}

/// A store that others work on: after a prefix is listed for the first time, something happens.
struct Busy {
    blobs: MemoryBlobs,
    after: &'static str,
    then: Mutex<Option<fn(&MemoryBlobs)>>,
}

impl Busy {
    fn new(after: &'static str, then: fn(&MemoryBlobs)) -> Self {
        Self { blobs: MemoryBlobs::new(), after, then: Mutex::new(Some(then)) }
    }
}

impl Blobs for Busy {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        self.blobs.put_new(name, bytes)
    }
    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        self.blobs.get_range(name, start, len)
    }
    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        self.blobs.get_tail(name, len)
    }
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        let names = self.blobs.list(prefix, after, limit).now_or_never().expect("memory answers at once");
        if prefix == self.after
            && let Some(then) = self.then.lock().unwrap().take()
        {
            then(&self.blobs);
        }
        Box::pin(std::future::ready(names))
    }
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        self.blobs.delete(name)
    }
}

fn fact() -> Vec<u8> {
    [&b"a deletion"[..], &crc32c::crc32c(b"a deletion").to_le_bytes()].concat()
}

async fn names_of(from: &Busy, to: &MemoryBlobs) -> (Report, Vec<String>) {
    let report = backup(from, to, Timestamp(5), Mode::Write, &Progress::default()).await.unwrap();
    let named = manifest(to, &report.manifest).await.unwrap().objects.into_keys().collect();
    (report, named)
}

#[tokio::test]
async fn a_deletion_is_in_a_backup_only_with_what_took_the_place_of_what_it_deletes() {
    let from = Busy::new("v1/history/", |blobs| {
        put_now(blobs, "v1/history/segment", b"events");
        put_now(blobs, "v1/ledger/deletion", &fact());
    });
    put_now(&from.blobs, "v1/history/increment", b"events");
    let (_, named) = names_of(&from, &MemoryBlobs::new()).await;
    assert_eq!(named, ["v1/history/increment"]);
}

#[tokio::test]
async fn what_took_the_place_of_an_object_that_went_meanwhile_is_copied_too() {
    let from = Busy::new("schemas/", |blobs| {
        put_now(blobs, "v1/history/segment", b"events");
        put_now(blobs, "v1/ledger/deletion", &fact());
        blobs.delete("v1/history/increment").now_or_never().expect("memory answers at once").unwrap();
    });
    put_now(&from.blobs, "v1/history/increment", b"events");
    put_now(&from.blobs, "v1/history/other", b"events");
    let (report, named) = names_of(&from, &MemoryBlobs::new()).await;
    assert_eq!(named, ["v1/history/other", "v1/history/segment", "v1/ledger/deletion"]);
    assert_eq!((report.objects, report.copied, report.problems), (3, 3, Vec::new()));
}

#[tokio::test]
async fn an_index_that_is_in_use_is_not_restored_into() {
    use crate::domain::ids::{AggregateKey, Lineage, Offset};
    use crate::domain::row::WatermarkRow;
    use crate::store::index::MemoryIndex;
    let (from, to, index) = (MemoryBlobs::new(), MemoryBlobs::new(), MemoryIndex::new());
    let streams = [("order".into(), "orders".into())];
    let wish =
        lineages::Wish { topic_id: 1, fingerprint: Digest([1; 32]), mapping: Digest([2; 32]), partitions: 1 };
    lineages::activate(&from, "orders", wish, lineages::Permission::default()).await.unwrap();
    assert_eq!(refuse_used_index(&index, (&from, &to), &streams).await, Ok(()));
    let key = AggregateKey { kind: "order".into(), id: "a".into() };
    index.put_aggregate(&key, PartitionNo(0)).await.unwrap();
    let refused = refuse_used_index(&index, (&from, &to), &streams).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    // Copied, and the rebuilding was cut short.
    put_now(&to, "v1/lineages/x/0000000001", b"a lineage");
    assert_eq!(refuse_used_index(&index, (&from, &to), &streams).await, Ok(()));
    let key = PartitionKey { topic: "orders".into(), partition: PartitionNo(0), lineage: Lineage(1) };
    let mark = WatermarkRow { key, topic_id: 1, leader_epoch: 0, low_watermark: Offset(9) };
    index.put_watermark(mark).await.unwrap();
    assert!(refuse_used_index(&index, (&from, &to), &streams).await.is_err());
}

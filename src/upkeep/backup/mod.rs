//! Backups: all objects of a blob store under their own names in another one, and a manifest that says what
//! belongs to it. Objects never change, so a backup copies what the target lacks; and what it made is itself
//! a blob store.
//!
//! *Order*: names are listed so that whatever an object relies on is listed after it: the ledger (whose
//!   deletions rely on the packs that took the place of what they delete), checkpoints (whose low watermarks
//!   rely on all snapshots acknowledged before), full records (which rely on increments beside them),
//!   increments, dictionaries, lineages and what they fold with, erasures. What was listed and is gone when
//!   its turn comes was collected as garbage, and what it was relied on for is in packs that the list may not
//!   have: all is listed again, until nothing is gone. So a backup beside live workers is one that an index
//!   can be rebuilt from. The manifest comes last: without it nothing counts as a backup.
//! *If it fails*: what was copied stays, and the next run goes on. An object that is damaged where it lies is
//!   named and not copied; the manifest says so.
//! *If cancelled*: as if it failed. *What may leak*: objects in the target that no manifest names.

use super::manifest::{Copied, FOLDER, Manifest};
use crate::codec::pack::intact;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Digest, Offset, PackId, PartitionNo, Timestamp};
use crate::domain::outcome::PortError;
use crate::domain::row::PartitionKey;
use crate::store::blobs::{Blob, Blobs};
use crate::store::index::Index;
use crate::store::{lineages, unavailable};
use futures_util::stream::{self, StreamExt};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is copied, in this order (see the module).
const PREFIXES: [&str; 9] = [
    "v1/ledger/",
    "v1/checkpoint/",
    "v1/full/",
    "v1/history/",
    "v1/dict/",
    "v1/lineages/",
    "v1/definitions/",
    "v1/erasures/",
    "schemas/",
];
/// Objects that are copied at the same time; each is in memory meanwhile.
const COPIES: usize = 8;
/// Names in one answer.
const PAGE: usize = 1_000;
/// How often all is listed: each time there is less left to copy, so that less of it goes meanwhile.
const ROUNDS: usize = 8;
/// How often a call that failed, or bytes that are damaged, are tried.
const TRIES: usize = 4;

/// Whether anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Yes.
    Write,
    /// No: only what would be.
    DryRun,
}

/// What copying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects that belong to the backup.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were copied by this run, or would be.
    pub copied: u64,
    /// Bytes of those.
    pub copied_bytes: u64,
    /// Objects that are damaged or missing, and what is wrong with each.
    pub problems: Vec<String>,
    /// The manifest's name.
    pub manifest: String,
}

/// How far copying is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Objects there are.
    pub total: AtomicU64,
    /// Objects dealt with.
    pub done: AtomicU64,
}

/// Copies all objects of `from` that `to` lacks, and writes the manifest.
///
/// # Errors
/// `Unavailable` if a store does not answer; run it again.
pub async fn backup(
    from: &dyn Blobs,
    to: &dyn Blobs,
    begun: Timestamp,
    mode: Mode,
    progress: &Progress,
) -> Result<Report> {
    let known = manifests(to).await?;
    let (mut before, mut there) = (BTreeMap::new(), BTreeSet::new());
    for name in &known {
        before.extend(manifest(to, name).await?.objects);
    }
    for prefix in PREFIXES {
        there.extend(list(to, prefix).await?);
    }
    before.retain(|name, _| there.contains(name));
    // Of two manifests the larger name must be the later one, whatever the clock says.
    let last = known.last().and_then(|name| name.strip_prefix(FOLDER)?.split('.').next()?.parse().ok());
    let begun = begun.max(Timestamp(last.map_or(0, |last: i64| last + 1)));
    let mut report = Report::default();
    let mut made = Manifest::default();
    for round in 1..=ROUNDS {
        made = Manifest { begun, ..Manifest::default() };
        report.problems.clear();
        let gone = copied((from, to), &mut before, (&mut made, &mut report), mode, progress).await?;
        if gone.is_empty() {
            break;
        }
        if round == ROUNDS {
            report.problems.extend(gone.iter().map(|name| format!("`{name}` is listed, and it is missing")));
            made.damaged.extend(gone);
        }
    }
    made.damaged.sort();
    report.problems.sort();
    (report.objects, report.bytes, report.manifest) = (made.objects.len() as u64, made.bytes(), made.name());
    if mode == Mode::Write {
        put(to, &made.name(), made.encode().as_bytes()).await?;
    }
    Ok(report)
}

/// Lists all there is and copies what is not known to be copied; tells what went in between.
async fn copied(
    (from, to): (&dyn Blobs, &dyn Blobs),
    before: &mut BTreeMap<String, Copied>,
    (made, report): (&mut Manifest, &mut Report),
    mode: Mode,
    progress: &Progress,
) -> Result<Vec<String>> {
    let (mut names, mut gone) = (Vec::new(), Vec::new());
    for prefix in PREFIXES {
        names.extend(list(from, prefix).await?);
    }
    progress.total.store(names.len() as u64, Ordering::Relaxed);
    progress.done.store(0, Ordering::Relaxed);
    let copy = |name: String| {
        let kept = before.get(&name).copied();
        async move {
            let copied = match kept {
                Some(kept) => Ok((kept, false)),
                None => take(from, to, &name, mode).await.map(|copied| (copied, true)),
            };
            progress.done.fetch_add(1, Ordering::Relaxed);
            (name, copied)
        }
    };
    let mut copies = stream::iter(names).map(copy).buffer_unordered(COPIES);
    while let Some((name, copied)) = copies.next().await {
        match copied {
            Ok((object, is_new)) => {
                report.copied += u64::from(is_new);
                report.copied_bytes += if is_new { object.bytes } else { 0 };
                made.objects.insert(name, object);
            }
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
            Err(error) if error.kind == ErrorKind::NotFound => gone.push(name),
            Err(error) => {
                report.problems.push(format!("`{name}`: {}", error.detail));
                made.damaged.push(name);
            }
        }
    }
    drop(copies);
    before.extend(made.objects.iter().map(|(name, object)| (name.clone(), *object)));
    Ok(gone)
}

/// Copies all objects of a backup in `from` into `to`: the backup named, or the last one.
///
/// # Errors
/// `NotFound` if there is no such backup, `Conflict` if `to` holds objects that do not belong to it,
/// `Unavailable` if a store does not answer; run it again.
pub async fn restore(
    from: &dyn Blobs,
    to: &dyn Blobs,
    named: Option<&str>,
    mode: Mode,
    progress: &Progress,
) -> Result<Report> {
    let known = manifests(from).await?;
    let wanted =
        |name: &&String| named.is_none_or(|named| **name == named || name.ends_with(&format!("/{named}")));
    let Some(name) = known.iter().rfind(wanted) else {
        let detail = format!("there is no such backup; there are {}", told(&known));
        return Err(Error::new(ErrorKind::NotFound, "bad-selector", detail));
    };
    let manifest = manifest(from, name).await?;
    let mut there = BTreeSet::new();
    for prefix in PREFIXES {
        there.extend(list(to, prefix).await?);
    }
    if let Some(other) = there.iter().find(|name| !manifest.objects.contains_key(*name)) {
        let detail = format!(
            "the blob store holds `{other}`, which is not of this backup: restore into an empty one, so that no two \
             histories mix"
        );
        return Err(Error::new(ErrorKind::Conflict, "conflict", detail));
    }
    progress.total.store(manifest.objects.len() as u64, Ordering::Relaxed);
    let mut report = Report {
        objects: manifest.objects.len() as u64,
        bytes: manifest.bytes(),
        manifest: name.clone(),
        problems: manifest
            .damaged
            .iter()
            .map(|name| format!("`{name}` was damaged when it was backed up"))
            .collect(),
        ..Report::default()
    };
    let copy = |(name, object): (String, Copied)| {
        let is_there = there.contains(&name);
        async move {
            let copied =
                if is_there { Ok(false) } else { give(from, to, &name, object, mode).await.map(|()| true) };
            progress.done.fetch_add(1, Ordering::Relaxed);
            (name, object.bytes, copied)
        }
    };
    let mut copies = stream::iter(manifest.objects).map(copy).buffer_unordered(COPIES);
    while let Some((name, bytes, copied)) = copies.next().await {
        match copied {
            Ok(is_new) => {
                report.copied += u64::from(is_new);
                report.copied_bytes += if is_new { bytes } else { 0 };
            }
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
            Err(error) => report.problems.push(format!("`{name}`: {}", error.detail)),
        }
    }
    report.problems.sort();
    Ok(report)
}

/// Fails if an index knows anything of these streams (their types and topics) that a backup to be restored
/// from `from` into `to` may not: of two low watermarks the larger counts, so what lies between would never
/// be folded. A rebuilding that was cut short, which wrote no low watermark, may be gone on with.
///
/// # Errors
/// `Conflict`; `Unavailable` if a store does not answer.
pub async fn refuse_used_index(
    index: &dyn Index,
    (from, to): (&dyn Blobs, &dyn Blobs),
    streams: &[(Arc<str>, Arc<str>)],
) -> Result<()> {
    let refused = |kind: &str| {
        let detail = format!(
            "the index already knows snapshots of type `{kind}`, perhaps from later than the backup: restore \
             into an empty index (another keyspace or folder). If the objects are all there, and only the \
             index was lost, run `snapfold rebuild-index`"
        );
        Err(Error::new(ErrorKind::Conflict, "conflict", detail))
    };
    let is_begun = !list(to, "v1/lineages/").await?.is_empty();
    for (kind, topic) in streams {
        let known = index.aggregates(kind, None, 1).await;
        let known = known.map_err(|error| unavailable("list aggregates", &error))?;
        if !known.is_empty() && !is_begun {
            return refused(kind);
        }
        let history = match lineages::history(from, topic).await {
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
            // What is damaged is told when it is copied.
            read => read.unwrap_or_default(),
        };
        for active in history {
            let last = active.partitions.and_then(|count| i32::try_from(count).ok()).unwrap_or(1);
            for partition in (0..last).map(PartitionNo) {
                let log = PartitionKey { topic: Arc::clone(topic), partition, lineage: active.lineage };
                let marks = index.watermarks(&log).await;
                let marks = marks.map_err(|error| unavailable("read low watermarks", &error))?;
                // That of a worker that has only started hides nothing.
                if marks.iter().any(|mark| mark.low_watermark > Offset(0)) {
                    return refused(kind);
                }
            }
        }
    }
    Ok(())
}

/// Names of all backups in a store, oldest first.
///
/// # Errors
/// `Unavailable` if the store does not answer.
pub async fn manifests(blobs: &dyn Blobs) -> Result<Vec<String>> {
    list(blobs, FOLDER).await
}

fn told(known: &[String]) -> String {
    let names: Vec<String> = known.iter().rev().take(5).map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

async fn manifest(blobs: &dyn Blobs, name: &str) -> Result<Manifest> {
    let bytes = whole(blobs, name).await?;
    Manifest::decode(&bytes).map_err(|error| error.context(&format!("read `{name}`")))
}

/// Reads an object that is sound, and writes it to the target unless it is there.
async fn take(from: &dyn Blobs, to: &dyn Blobs, name: &str, mode: Mode) -> Result<Copied> {
    let mut last = Error::corrupt("no read");
    for _ in 0..TRIES {
        let bytes = whole(from, name).await?;
        match sound(name, &bytes) {
            Ok(root) => {
                let sha256 = Digest(Sha256::digest(&bytes).into());
                if mode == Mode::Write {
                    put(to, name, &bytes).await?;
                }
                return Ok(Copied { bytes: bytes.len() as u64, sha256, root });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads an object of a backup that is what the manifest says, and writes it where it belongs.
async fn give(from: &dyn Blobs, to: &dyn Blobs, name: &str, object: Copied, mode: Mode) -> Result<()> {
    for _ in 0..TRIES {
        let bytes = whole(from, name).await?;
        if Sha256::digest(&bytes)[..] == object.sha256.0 {
            return if mode == Mode::Write { put(to, name, &bytes).await } else { Ok(()) };
        }
    }
    Err(Error::corrupt("it disagrees with the manifest"))
}

/// The Merkle root of a pack; fails for what is not what its name says.
fn sound(name: &str, bytes: &[u8]) -> Result<Option<Digest>> {
    let last = name.rsplit('/').next().unwrap_or_default();
    if let Some(id) = last.strip_suffix(".sfp") {
        let id: Option<[u8; 16]> =
            data_encoding::HEXLOWER.decode(id.as_bytes()).ok().and_then(|id| id.try_into().ok());
        let id = id.ok_or_else(|| Error::corrupt("it is not named like a pack"))?;
        return intact(PackId(id), bytes).map(Some);
    }
    if name.starts_with("v1/dict/") && Digest(Sha256::digest(bytes).into()).to_string() != last {
        return Err(Error::corrupt("it disagrees with its digest"));
    }
    let crc_at = bytes.len().saturating_sub(4);
    if name.starts_with("v1/ledger/") && crc32c::crc32c(&bytes[..crc_at]).to_le_bytes() != bytes[crc_at..] {
        return Err(Error::corrupt("it disagrees with its checksum"));
    }
    Ok(None)
}

async fn list(blobs: &dyn Blobs, prefix: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let after = names.last().cloned();
        let page = tried(&format!("list `{prefix}`"), || blobs.list(prefix, after.as_deref(), PAGE)).await?;
        let is_last = page.len() < PAGE;
        names.extend(page);
        if is_last {
            return Ok(names);
        }
    }
}

async fn whole(blobs: &dyn Blobs, name: &str) -> Result<Blob> {
    tried(&format!("read `{name}`"), || blobs.get_tail(name, u64::MAX)).await.map(|(bytes, _)| bytes)
}

async fn put(blobs: &dyn Blobs, name: &str, bytes: &[u8]) -> Result<()> {
    let doing = format!("write `{name}`");
    let put = async || match blobs.put_new(name, bytes).await {
        Err(PortError::Exists) if blobs.get_tail(name, u64::MAX).await?.0 == bytes => Ok(()),
        Err(PortError::Exists) => Err(PortError::Permanent("it is there with other bytes".to_owned())),
        other => other,
    };
    tried(&doing, put).await
}

async fn tried<T, F: Future<Output = std::result::Result<T, PortError>>>(
    doing: &str,
    call: impl Fn() -> F,
) -> Result<T> {
    let mut last = PortError::Missing;
    for _ in 0..TRIES {
        match call().await {
            Ok(done) => return Ok(done),
            Err(PortError::Missing) => {
                return Err(Error::new(ErrorKind::NotFound, "corrupt", format!("{doing}: it is missing")));
            }
            Err(PortError::Permanent(what)) if what.ends_with("with other bytes") => {
                return Err(Error::corrupt(format!("{doing}: {what}")));
            }
            Err(error) => last = error,
        }
    }
    Err(unavailable(doing, &last))
}

#[cfg(test)]
mod tests;

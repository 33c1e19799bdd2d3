//! Calls of ports that are repeated until they are answered.

use super::Rebuild;
use crate::codec::pack::{Class, Footer};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Lineage, PackId, Version};
use crate::domain::outcome::{PortError, PortResult};
use crate::store::blobs::Blob;
use crate::store::index::From;
use crate::store::unavailable;
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::future::Future;

/// How long a port may be silent.
const DEADLINE_MS: u64 = 60_000;
/// Pause before a failed call is repeated.
const RETRY_MS: u64 = 100;
/// Names and rows in one answer.
const PAGE: usize = 1_000;

impl Rebuild {
    /// Writes until it is acknowledged; a dry run writes nothing.
    pub(super) async fn written<'a>(
        &self,
        doing: &str,
        write: impl Fn() -> BoxFuture<'a, PortResult<()>>,
    ) -> Result<()> {
        if self.settings.dry_run {
            return Ok(());
        }
        self.until_read(doing, write).await
    }

    /// Asks until there is an answer.
    pub(super) async fn until_read<'a, T>(
        &self,
        doing: &str,
        ask: impl Fn() -> BoxFuture<'a, PortResult<T>>,
    ) -> Result<T> {
        let started = self.clock.monotonic_ms();
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let late = self.clock.monotonic_ms().saturating_sub(started) > DEADLINE_MS;
            if late || matches!(error, PortError::Permanent(_) | PortError::Missing) {
                return Err(unavailable(doing, &error));
            }
            self.clock.sleep(RETRY_MS).await;
        }
    }

    /// The same for reads that check what they read: only silence is tried again.
    pub(super) async fn until_sound<T, F: Future<Output = Result<T>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T> {
        let started = self.clock.monotonic_ms();
        loop {
            match read().await {
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    if self.clock.monotonic_ms().saturating_sub(started) > DEADLINE_MS {
                        return Err(error);
                    }
                    self.clock.sleep(RETRY_MS).await;
                }
                other => return other,
            }
        }
    }

    /// The footer of a pack that is what its name says.
    pub(super) async fn footer(&self, class: Class, pack: PackId) -> Result<(Footer, u64)> {
        let read = self.until_sound(|| self.packs.footer_of(class, pack)).await?;
        match read.0.header().class == class {
            true => Ok(read),
            false => Err(Error::corrupt("its header says that it is of another class")),
        }
    }

    /// All names of objects that start with `prefix`.
    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let after = names.last().cloned();
            let list = || self.packs.blobs.list(prefix, after.as_deref(), PAGE);
            let page = self.until_read("list objects", list).await?;
            let is_last = page.len() < PAGE;
            names.extend(page);
            if is_last {
                return Ok(names);
            }
        }
    }

    /// The bytes of an object of the ledger, however long: older versions of snapfold did not bound them.
    pub(super) async fn object(&self, name: &str) -> Result<Blob> {
        let read = || self.packs.blobs.get_tail(name, u64::MAX);
        Ok(self.until_read("read an object of the ledger", read).await?.0)
    }

    /// Version and pack of all rows that the index has of an aggregate.
    pub(super) async fn there(
        &self,
        key: &AggregateKey,
        lineage: Lineage,
    ) -> Result<BTreeSet<(Version, PackId)>> {
        let (mut there, mut above, mut limit) = (BTreeSet::new(), Some(Version(0)), PAGE);
        // Nothing is below version 1 but the mark of an aggregate whose first event was poison.
        let lowest = || self.index.snapshots(key, lineage, From::AtOrBelow(Version(0)), PAGE);
        let lowest = self.until_read("read snapshot rows", lowest).await?;
        there.extend(lowest.iter().map(|row| (row.version, row.pack)));
        while let Some(from) = above {
            let read = || self.index.snapshots(key, lineage, From::Above(from), limit);
            let rows = self.until_read("read snapshot rows", read).await?;
            there.extend(rows.iter().map(|row| (row.version, row.pack)));
            let last = rows.last().map(|row| row.version);
            above = last.filter(|_| rows.len() == limit).map(|last| Version(last.0 - 1));
            // A page that ends where it started is full of copies of one version.
            limit = if above == Some(from) { limit * 2 } else { PAGE };
        }
        Ok(there)
    }
}

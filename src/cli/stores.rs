//! The stores of a process, by its configuration: which index, which blobs, which cache.

use super::failure::Done;
use super::run::{fault, first_answer};
use crate::clock::{Clock, SystemClock};
use crate::compute::Threads;
use crate::config::{self, Config};
use crate::domain::error::ErrorKind;
use crate::lookup::{Cache, KeptStates, NoCache};
use crate::store::SnapshotStore;
use crate::store::blobs::pair;
use crate::store::blobs::s3::{Bounds, S3Blobs};
use crate::store::blobs::{ArchivedBlobs, Blobs, LocalBlobs};
use crate::store::flush::{FlushLimits, Written};
use crate::store::index::{EmbeddedIndex, Index, ScyllaIndex};
use crate::store::metered::{MeteredBlobs, MeteredIndex};
use crate::store::packs::Packs;
use std::path::Path;
use std::sync::Arc;

/// The stores that all streams of a process share.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) index: Arc<dyn Index>,
    pub(super) blobs: Arc<dyn Blobs>,
    /// The same without its meter, where it has an archive.
    pub(super) archive: Option<Arc<ArchivedBlobs>>,
    pub(super) clock: Arc<SystemClock>,
    /// Bounded for all streams together.
    pub(super) cache: Arc<dyn Cache>,
    /// The meters before both stores: the same objects.
    pub(super) meters: Meters,
}

/// What index and blobs are seen through.
#[derive(Clone)]
pub(super) struct Meters {
    pub(super) index: Arc<MeteredIndex>,
    pub(super) blobs: Arc<MeteredBlobs>,
}

impl Stores {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// What could not be opened, and what to do about it.
    pub(super) async fn open(config: &Config) -> Done<Self> {
        let cache: Arc<dyn Cache> = match config.cache {
            Some(cache) => Arc::new(KeptStates::new(config.budget.cache, cache.ttl_ms)),
            None => Arc::new(NoCache),
        };
        let clock = Arc::new(SystemClock::start());
        let (objects, archive) = opened(config).await?;
        let meters = Meters {
            index: Arc::new(MeteredIndex::new(index(config).await?, Arc::clone(&clock) as Arc<dyn Clock>)),
            blobs: Arc::new(MeteredBlobs::new(objects, Arc::clone(&clock) as Arc<dyn Clock>)),
        };
        let (index, blobs) = (Arc::clone(&meters.index), Arc::clone(&meters.blobs));
        Ok(Self { index, blobs, archive, clock, cache, meters })
    }

    /// What a worker writes snapshots with.
    pub(super) fn snapshots(
        &self,
        packs: &Arc<Packs>,
        threads: Threads,
        limits: FlushLimits,
        written: &Arc<Written>,
    ) -> SnapshotStore {
        SnapshotStore {
            index: Arc::clone(&self.index),
            packs: Arc::clone(packs),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            compute: Arc::new(threads),
            limits,
            written: Arc::clone(written),
        }
    }
}

pub(super) async fn index(config: &Config) -> Done<Arc<dyn Index>> {
    match &config.index {
        config::Index::Embedded { path } => {
            Ok(Arc::new(EmbeddedIndex::open(Path::new(path), config.budget.index).map_err(fault)?))
        }
        config::Index::Scylla(settings) => Ok(Arc::new(ScyllaIndex::open(settings).await.map_err(fault)?)),
    }
}

/// Objects, wherever they are: in the blob store, or in its archive if it has one.
pub(super) async fn blobs(config: &Config) -> Done<Arc<dyn Blobs>> {
    Ok(opened(config).await?.0)
}

pub(super) async fn opened(config: &Config) -> Done<(Arc<dyn Blobs>, Option<Arc<ArchivedBlobs>>)> {
    let live = place(&config.blobs, "blobs").await?;
    let Some(archive) = &config.archive else {
        pair::check(&*live, None).await.map_err(fault)?;
        return Ok((live, None));
    };
    // It is not waited for: only what it holds is missing while it does not answer.
    let archive = reached(&archive.place, None).await?;
    match pair::check(&*live, Some(&*archive)).await {
        Err(error) if error.kind == ErrorKind::Unavailable => {
            tracing::warn!(%error, "the archive does not answer: packs that were moved to it cannot be read");
        }
        checked => checked.map_err(fault)?,
    }
    let both = Arc::new(ArchivedBlobs::new(live, archive));
    Ok((Arc::clone(&both) as Arc<dyn Blobs>, Some(both)))
}

/// One place of objects, which answers; `section` is what names it in the configuration.
pub(super) async fn place(place: &config::Blobs, section: &str) -> Done<Arc<dyn Blobs>> {
    reached(place, Some(section)).await
}

/// One place of objects. A bucket is asked for only in the name of the section that it is in.
async fn reached(place: &config::Blobs, asked_as: Option<&str>) -> Done<Arc<dyn Blobs>> {
    match place {
        config::Blobs::Directory { path } => Ok(Arc::new(LocalBlobs::open(Path::new(path)).map_err(fault)?)),
        config::Blobs::S3(s3) => {
            let blobs = S3Blobs::open(s3, Bounds::default()).await;
            if let Some(section) = asked_as {
                let hint = format!("check `{section}.s3`, and that the store is up");
                first_answer("ask for the bucket", &hint, || blobs.check()).await?;
            }
            Ok(Arc::new(blobs))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;
    use crate::cli::source::load_text;
    use crate::testing::server;

    #[tokio::test]
    async fn a_bucket_that_is_missing_is_told_at_start_with_the_command_that_creates_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (endpoint, index) = (server("seaweedfs"), folder.path().join("index"));
        let text = format!(
            "index: {{ embedded: {{ path: {index:?} }} }}\n\
             blobs: {{ s3: {{ bucket: nowhere, pathStyle: true, endpoint: \"{endpoint}\", accessKey: snapfold, \
             secretKey: secretsecret }} }}\n\
             streams: [ {{ type: a, topic: a, map: {{ aggregateId: key, eventType: /t }}, reducer: merge }} ]\n"
        );
        let config = load_text("f.yaml", &text, &[]).expect("it is sound");
        let failure = Stores::open(&config).await.err().expect("there is no such bucket");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("`snapfold migrate`"), "{}", failure.message);
    }
}

//! The partitions of one stream as whoever executes schedules sees them: the worker's, over lookups. Starts
//! those who execute them.

use super::stores::Stores;
use crate::clock::Clock;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::PartitionNo;
use crate::lookup::Streams;
use crate::lookup::{Lookup, Made, Refusal};
use crate::upkeep::schedules::{Book, BookParts, Duty, Tallies};
use crate::upkeep::schedules::{Page, Takes, Took};
use crate::worker::Handle;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long one snapshot may take.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Topic and number of partitions of each aggregate type.
pub(super) type Topics = BTreeMap<Arc<str>, (Arc<str>, u32)>;

/// The schedules of a process.
pub(super) struct Schedules {
    /// What is said about them.
    pub(super) book: Arc<Book>,
    /// What the duty of each stream has done.
    pub(super) tallies: BTreeMap<Arc<str>, Arc<Tallies>>,
}

impl Schedules {
    /// Those of a process without streams.
    pub(super) fn none(stores: &Stores) -> Self {
        Self { book: Arc::new(Self::book(stores, Topics::new())), tallies: BTreeMap::new() }
    }

    /// Starts to execute schedules, stream by stream.
    pub(super) fn start(
        serving: &mut JoinSet<()>,
        stores: &Stores,
        topics: Topics,
        (streams, workers): (&Streams, &BTreeMap<Arc<str>, Handle>),
    ) -> Self {
        let book = Self::book(stores, topics.clone());
        let mut tallies = BTreeMap::new();
        for (kind, (topic, _)) in topics {
            let (Some(worker), Some(lookup)) = (workers.get(&kind), streams.by_type.get(&kind)) else {
                continue;
            };
            let tally: Arc<Tallies> = Arc::default();
            tallies.insert(Arc::clone(&kind), Arc::clone(&tally));
            let duty = Duty {
                takes: Arc::new(OwnStream { worker: worker.clone(), lookup: Arc::clone(lookup) }),
                index: Arc::clone(&stores.index),
                clock: Arc::clone(&stores.clock) as Arc<dyn Clock>,
                kind,
                topic,
                changes: book.changes(),
                tallies: tally,
            };
            serving.spawn(duty.run());
        }
        Self { book: Arc::new(book), tallies }
    }

    fn book(stores: &Stores, topics: Topics) -> Book {
        let (index, blobs) = (Arc::clone(&stores.index), Arc::clone(&stores.blobs));
        Book::new(BookParts { index, blobs, clock: Arc::clone(&stores.clock) as Arc<dyn Clock>, topics })
    }
}

/// One stream of this process.
pub(super) struct OwnStream {
    pub(super) worker: Handle,
    pub(super) lookup: Arc<Lookup>,
}

/// What keeps a snapshot from being taken, told as an error.
fn fault(refusal: Refusal) -> Error {
    let not_yet = |detail| Error::new(ErrorKind::Unavailable, "not-caught-up", detail);
    match refusal {
        Refusal::Failed(error) => error,
        Refusal::NotCaughtUp { .. } => not_yet("its owner has not folded it yet"),
        Refusal::UnknownAggregate => {
            Error::new(ErrorKind::NotFound, "unknown-aggregate", "no event of this aggregate is known")
        }
        other => Error::new(ErrorKind::Gone, "history-gone", format!("it cannot be read: {other:?}")),
    }
}

impl Takes for OwnStream {
    fn owned(&self) -> Vec<PartitionNo> {
        self.worker.folding()
    }

    fn is_held_back(&self, partition: PartitionNo) -> bool {
        self.worker.is_held_back(partition)
    }

    fn place<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<PartitionNo>>> {
        Box::pin(async move { self.lookup.place(id).await.map_err(fault) })
    }

    fn ids<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>> {
        Box::pin(async move { self.lookup.ids(prefix, after, limit).await.map_err(fault) })
    }

    fn take<'a>(&'a self, partition: PartitionNo, id: &'a str) -> BoxFuture<'a, Took> {
        Box::pin(async move {
            let taking = self.lookup.create_due(&self.worker, partition, id);
            match tokio::time::timeout(TAKE_TIMEOUT, taking).await {
                Ok(Ok(Some(Made { created: true, .. }))) => Took::Created,
                Ok(Ok(Some(_))) => Took::Exists,
                Ok(Ok(None)) => Took::Elsewhere,
                Ok(Err(refusal)) => Took::Failed(fault(refusal)),
                Err(_) => {
                    let detail = "the snapshot was not acknowledged in time; it may still be written";
                    Took::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail))
                }
            }
        })
    }
}

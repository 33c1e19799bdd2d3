//! The port behind which settled states are kept, and flights: equal questions at the same time read once.
//!
//! INVARIANT: only what can never change is kept: states whose events all lie below the low watermark, read
//! without damage, of an aggregate that is not quarantined. A kept state is a base for later questions and
//! the answer to the question for its very version; it never answers for a head.

use super::Asked;
use crate::domain::aggregate::Aggregate;
use crate::domain::ids::{AggregateKey, Lineage, Version};
use crate::reconstruct::Read;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Whose states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    /// Under which lineage.
    pub lineage: Lineage,
    /// Of which aggregate.
    pub key: AggregateKey,
}

/// What a cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Questions for which something was kept.
    pub hits: u64,
    /// Questions for which nothing was.
    pub misses: u64,
    /// Bytes kept now.
    pub bytes: u64,
}

/// States of earlier answers. Implementations: none at all, and the one of the full build.
pub trait Cache: Send + Sync {
    /// The newest kept state at or below `version`.
    fn newest<'a>(&'a self, key: &'a CacheKey, version: Version) -> BoxFuture<'a, Option<Arc<Aggregate>>>;
    /// Keeps a settled state, with its state as bytes.
    fn keep(&self, key: CacheKey, aggregate: Arc<Aggregate>) -> BoxFuture<'_, ()>;
    /// What it has done so far.
    fn stats(&self) -> CacheStats;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl Cache for NoCache {
    fn newest<'a>(&'a self, _: &'a CacheKey, _: Version) -> BoxFuture<'a, Option<Arc<Aggregate>>> {
        Box::pin(std::future::ready(None))
    }

    fn keep(&self, _: CacheKey, _: Arc<Aggregate>) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

type Flown = Asked<Arc<Read>>;
pub(super) type Flight = BoxFuture<'static, Flown>;
type Flying = BTreeMap<(Arc<str>, Version), WeakShared<Flight>>;

/// Reads of versions that are on their way.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Mutex<Flying>>);

impl Flights {
    /// Joins the read of this version, or starts it. Only for what can never change: who joins late would
    /// else hear of an earlier moment than it asked at.
    pub(super) fn join(
        &self,
        id: &Arc<str>,
        version: Version,
        start: impl FnOnce() -> Flight,
    ) -> (Shared<Flight>, Joined) {
        let mut flying = self.0.lock().expect("no panic while the flights are held");
        let at = (Arc::clone(id), version);
        if let Some(flight) = flying.get(&at).and_then(WeakShared::upgrade) {
            return (flight, Joined::Others);
        }
        flying.retain(|_, flight| flight.upgrade().is_some_and(|flight| flight.peek().is_none()));
        let flight = start().shared();
        if let Some(weak) = flight.downgrade() {
            flying.insert(at, weak);
        }
        (flight, Joined::Own)
    }
}

/// Whose flight it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It was started for this question.
    Own,
    /// It was on its way before this question was asked.
    Others,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::Refusal;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn equal_questions_at_the_same_time_read_once() {
        let flights = Flights::default();
        let reads = Arc::new(AtomicU32::new(0));
        let (sender, wait) = futures_channel::oneshot::channel::<()>();
        let id: Arc<str> = "a".into();
        let counted = Arc::clone(&reads);
        let (first, own) = flights.join(&id, Version(1), || {
            Box::pin(async move {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = wait.await;
                Err(Refusal::UnknownAggregate)
            })
        });
        assert_eq!(own, Joined::Own);
        assert!(first.clone().now_or_never().is_none());
        let never = || -> Flight { Box::pin(async { Err(Refusal::NoSnapshot) }) };
        let (second, joined) = flights.join(&id, Version(1), never);
        assert_eq!(joined, Joined::Others);
        assert_eq!(flights.join(&id, Version(2), never).1, Joined::Own);
        let _ = sender.send(());
        assert!(matches!(second.now_or_never(), Some(Err(Refusal::UnknownAggregate))));
        assert!(matches!(first.now_or_never(), Some(Err(Refusal::UnknownAggregate))));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        // It has landed: the next question reads anew.
        assert_eq!(flights.join(&id, Version(1), never).1, Joined::Own);
    }
}

//! The cache of the full build: per aggregate the states of its last few questions, within a budget of bytes
//! and for a time.

use super::cache::{Cache, CacheKey, CacheStats};
use crate::domain::aggregate::Aggregate;
use crate::domain::ids::Version;
use futures_util::future::BoxFuture;
use moka::future::Cache as Moka;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// States kept of one aggregate.
const VERSIONS_MAX: usize = 64;
/// One aggregate takes so small a part of the budget at the most, unless one state of it is larger.
const EACH: u64 = 8;
/// Bytes that one kept state takes beside its contents.
const STATE_BYTES: usize = 256;

/// States of one aggregate, each with its place in the order in which they came.
#[derive(Clone, Default)]
struct States {
    of: BTreeMap<Version, (u64, Arc<Aggregate>)>,
    came: u64,
}

impl States {
    fn bytes(&self) -> usize {
        self.of.values().map(|(_, state)| state.heap_bytes() + STATE_BYTES).sum()
    }

    fn keep(&mut self, aggregate: Arc<Aggregate>, bytes_max: usize) {
        self.came += 1;
        self.of.insert(aggregate.version, (self.came, aggregate));
        while self.of.len() > VERSIONS_MAX || (self.of.len() > 1 && self.bytes() > bytes_max) {
            let Some(longest) = self.longest_kept() else { break };
            self.of.remove(&longest);
        }
    }

    /// Who goes: never who came last, which is asked for again before others are; neither end as long as
    /// there are others: the newest serves most questions, the oldest is the hardest to come by.
    fn longest_kept(&self) -> Option<Version> {
        let ends = [self.of.first_key_value(), self.of.last_key_value()].map(|end| end.map(|(at, _)| *at));
        let others = self.of.iter().filter(|(_, (came, _))| *came != self.came);
        let (at, _) = others.min_by_key(|(at, (came, _))| (ends.contains(&Some(**at)), *came))?;
        Some(*at)
    }
}

/// Settled states, bounded in bytes and time.
pub struct KeptStates {
    states: Moka<CacheKey, Arc<States>>,
    /// Bytes that the states of one aggregate may take, unless it is one alone.
    each_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

fn weigh(key: &CacheKey, states: &Arc<States>) -> u32 {
    u32::try_from(states.bytes() + key.key.id.len()).unwrap_or(u32::MAX)
}

impl KeptStates {
    /// A cache of at most so many bytes, in which a state stays for `ttl_ms` after the last one of its
    /// aggregate came.
    #[must_use]
    pub fn new(bytes_max: u64, ttl_ms: u64) -> Self {
        let states = Moka::builder().max_capacity(bytes_max).weigher(weigh);
        let states = states.time_to_live(Duration::from_millis(ttl_ms)).build();
        let each_max = usize::try_from(bytes_max / EACH).unwrap_or(usize::MAX);
        Self { states, each_max, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }
}

impl Cache for KeptStates {
    fn newest<'a>(&'a self, key: &'a CacheKey, version: Version) -> BoxFuture<'a, Option<Arc<Aggregate>>> {
        Box::pin(async move {
            let states = self.states.get(key).await;
            let newest = |states: Arc<States>| {
                states.of.range(..=version).next_back().map(|(_, (_, at))| Arc::clone(at))
            };
            let found = states.and_then(newest);
            let counter = if found.is_some() { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
            found
        })
    }

    fn keep(&self, key: CacheKey, aggregate: Arc<Aggregate>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let entry = self.states.entry(key);
            let with = |before: Option<moka::Entry<CacheKey, Arc<States>>>| {
                let mut states = before.map_or_else(States::default, |entry| (**entry.value()).clone());
                states.keep(aggregate, self.each_max);
                std::future::ready(Arc::new(states))
            };
            entry.and_upsert_with(with).await;
        })
    }

    fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.states.weighted_size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::aggregate::State;
    use crate::domain::ids::{AggregateKey, Lineage};

    fn key() -> CacheKey {
        CacheKey { lineage: Lineage(1), key: AggregateKey { kind: "order".into(), id: "a".into() } }
    }

    fn at(version: u64) -> Arc<Aggregate> {
        Arc::new(Aggregate { version: Version(version), ..Aggregate::genesis("order", "a") })
    }

    #[tokio::test]
    async fn the_newest_state_at_or_below_a_version_is_found() {
        let cache = KeptStates::new(1 << 20, 60_000);
        let kept = VERSIONS_MAX as u64 + 20;
        for version in 1..=kept {
            cache.keep(key(), at(version * 10)).await;
        }
        let newest = async |version| cache.newest(&key(), Version(version)).await.map(|at| at.version.0);
        assert_eq!(newest(9).await, None);
        assert_eq!(newest(15).await, Some(10));
        assert_eq!(newest(10_000).await, Some(kept * 10));
        let other = CacheKey { lineage: Lineage(2), ..key() };
        assert!(cache.newest(&other, Version(10_000)).await.is_none());
        cache.states.run_pending_tasks().await;
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses), (2, 2));
        assert!(stats.bytes > 0 && stats.bytes < VERSIONS_MAX as u64 * 1_024, "{stats:?}");
    }

    #[tokio::test]
    async fn what_was_asked_for_last_is_found_again_among_many() {
        let cache = KeptStates::new(1 << 20, 60_000);
        let asked: Vec<u64> = (0..300).map(|nth| 1 + nth * 7_919 % 10_000).collect();
        for (nth, version) in asked.iter().enumerate() {
            cache.keep(key(), at(*version)).await;
            for last in &asked[nth.saturating_sub(20)..=nth] {
                let found = cache.newest(&key(), Version(*last)).await.map(|at| at.version.0);
                assert_eq!(found, Some(*last), "after {nth}");
            }
        }
    }

    #[tokio::test]
    async fn large_states_of_one_aggregate_leave_room_for_others() {
        let cache = KeptStates::new(64 << 10, 60_000);
        let large = |version| {
            let state = State::Idle(vec![b' '; 3_000].into());
            Arc::new(Aggregate { state, ..Aggregate::clone(&at(version)) })
        };
        for version in 1..=20 {
            cache.keep(key(), large(version)).await;
        }
        cache.states.run_pending_tasks().await;
        assert!((3_000..=8 << 10).contains(&cache.stats().bytes), "{:?}", cache.stats());
        assert_eq!(cache.newest(&key(), Version(15)).await.map(|at| at.version.0), Some(1), "the oldest");
        assert_eq!(cache.newest(&key(), Version(20)).await.map(|at| at.version.0), Some(20), "the last");
    }

    #[tokio::test]
    async fn a_state_that_exceeds_the_budget_is_not_kept() {
        let cache = KeptStates::new(100, 60_000);
        cache.keep(key(), at(1)).await;
        cache.states.run_pending_tasks().await;
        assert!(cache.newest(&key(), Version(1)).await.is_none());
    }
}

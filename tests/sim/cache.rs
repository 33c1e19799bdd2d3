//! States that readers of a simulated process keep.

use crate::executor::lock;
use futures_util::future::BoxFuture;
use snapfold::domain::aggregate::Aggregate;
use snapfold::domain::ids::Version;
use snapfold::lookup::{Cache, CacheKey, CacheStats};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The twin of the full build's cache: the same promise, without clock and budget.
#[derive(Default)]
pub(crate) struct TinyCache(Mutex<BTreeMap<CacheKey, BTreeMap<Version, Arc<Aggregate>>>>);

impl Cache for TinyCache {
    fn newest<'a>(&'a self, key: &'a CacheKey, version: Version) -> BoxFuture<'a, Option<Arc<Aggregate>>> {
        let states = lock(&self.0);
        let newest = states.get(key).and_then(|states| states.range(..=version).next_back());
        Box::pin(std::future::ready(newest.map(|(_, at)| Arc::clone(at))))
    }

    fn keep(&self, key: CacheKey, aggregate: Arc<Aggregate>) -> BoxFuture<'_, ()> {
        let mut states = lock(&self.0);
        let states = states.entry(key).or_default();
        states.insert(aggregate.version, aggregate);
        if states.len() > 3 {
            states.pop_first();
        }
        Box::pin(std::future::ready(()))
    }

    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

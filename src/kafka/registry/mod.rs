//! The schemas of a Confluent-compatible registry, compiled, and their durable copies.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Registry`: what is known, what is being fetched, when to ask again |
//! | `fetch.rs` | asking the registry: one schema and all that it refers to |
//! | `kept.rs` | the copy of a schema as it is stored |
//! | `tests.rs` | a registry that answers wrongly, and a real one |
//!
//! *Order*: a schema is stored before the first event is decoded by it. So whatever was folded can be read
//!   again without the registry.
//! *If it fails*: the id is asked for again, later and later (a quarter of a second to ten). An id that the
//!   registry does not know fails so too: it may be registered in a moment, or the registry may be the wrong
//!   one. Meanwhile records wait, and questions are told that a dependency is down.
//! *If cancelled*: fetching goes on in a task of its own, once for all who wait.
//! *What may leak*: nothing; a copy that was stored and not used is used by the next one.

mod fetch;
mod kept;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::codec::avro::{Plan, SchemaId, Schemas};
use crate::domain::event::Preparing;
use crate::domain::outcome::{PortError, PortResult};
use arc_swap::ArcSwap;
use fetch::Source;
use futures_util::future::{BoxFuture, FutureExt, Shared, join_all};
use kept::KeptSchema;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// The first pause before a schema is asked for again; it doubles.
const PAUSE_MS_MIN: u64 = 250;
/// The longest.
const PAUSE_MS_MAX: u64 = 10_000;
/// How long a failure is remembered that nobody asks about any more.
const FORGOTTEN_AFTER_MS: u64 = 60_000;

/// Where schemas are kept for good.
pub trait SchemaCopies: Send + Sync {
    /// The copy of a schema; none if there is none.
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, PortResult<Option<Vec<u8>>>>;
    /// Stores a copy; `Exists` if there is one.
    fn put<'a>(&'a self, id: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>>;
}

/// A user and the password.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password: never shown.
    pub password: String,
}

/// Where the registry is.
#[derive(Clone)]
pub struct RegistrySettings {
    /// Base URL, without a `/` at its end.
    pub url: String,
    /// Who asks.
    pub login: Option<Login>,
}

/// The schemas of one registry.
pub struct Registry {
    source: Source,
    copies: Arc<dyn SchemaCopies>,
    clock: Arc<dyn Clock>,
    /// COST: read by every event that is decoded, without a lock.
    plans: ArcSwap<BTreeMap<SchemaId, Arc<Plan>>>,
    tries: Mutex<BTreeMap<SchemaId, Try>>,
    runtime: tokio::runtime::Handle,
    me: Weak<Self>,
}

type Fetching = Shared<BoxFuture<'static, PortResult<()>>>;

enum Try {
    UnderWay(Fetching),
    Failed { why: PortError, pause_ms: u64, until_ms: u64 },
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({})", self.source.url())
    }
}

impl Registry {
    /// Nothing is asked before the first schema is needed. Must be called within a runtime, where it fetches.
    ///
    /// # Errors
    /// `Permanent` if there can be no client with these settings.
    pub fn new(
        settings: &RegistrySettings,
        copies: Arc<dyn SchemaCopies>,
        clock: Arc<dyn Clock>,
    ) -> PortResult<Arc<Self>> {
        let source = Source::new(settings)?;
        let runtime = tokio::runtime::Handle::current();
        Ok(Arc::new_cyclic(|me| Self {
            source,
            copies,
            clock,
            plans: ArcSwap::default(),
            tries: Mutex::default(),
            runtime,
            me: me.clone(),
        }))
    }

    fn tries(&self) -> MutexGuard<'_, BTreeMap<SchemaId, Try>> {
        self.tries.lock().expect("no panic while the map is held")
    }

    /// Waits for one schema, which is fetched at most once at a time.
    fn one(&self, id: SchemaId) -> BoxFuture<'static, PortResult<()>> {
        let mut tries = self.tries();
        if self.plans.load().contains_key(&id) {
            return std::future::ready(Ok(())).boxed();
        }
        let pause_ms = match tries.get(&id) {
            Some(Try::UnderWay(fetching)) => return fetching.clone().boxed(),
            Some(Try::Failed { why, until_ms, .. }) if self.clock.monotonic_ms() < *until_ms => {
                return std::future::ready(Err(why.clone())).boxed();
            }
            Some(Try::Failed { pause_ms, .. }) => (*pause_ms * 2).min(PAUSE_MS_MAX),
            None => PAUSE_MS_MIN,
        };
        let me = self.me.upgrade().expect("whoever calls it holds it");
        let task = self.runtime.spawn(async move { me.learn(id, pause_ms).await });
        let fetching = async move {
            task.await.unwrap_or_else(|error| Err(PortError::NotDone(format!("fetch schema {id}: {error}"))))
        };
        let fetching = fetching.boxed().shared();
        tries.insert(id, Try::UnderWay(fetching.clone()));
        fetching.boxed()
    }

    async fn learn(&self, id: SchemaId, pause_ms: u64) -> PortResult<()> {
        let obtained = self.obtain(id).await;
        let mut tries = self.tries();
        match obtained {
            Ok(plan) => {
                let plan = Arc::new(plan);
                self.plans.rcu(|known| {
                    let mut known = BTreeMap::clone(known);
                    known.insert(id, Arc::clone(&plan));
                    known
                });
                tries.remove(&id);
                tracing::info!(schema = %id, "schema known");
                Ok(())
            }
            Err(why) => {
                let now_ms = self.clock.monotonic_ms();
                if pause_ms == PAUSE_MS_MIN || pause_ms == PAUSE_MS_MAX {
                    tracing::warn!(schema = %id, %why, "schema cannot be had");
                }
                tries.retain(|_, other| {
                    !matches!(other, Try::Failed { until_ms, .. } if *until_ms + FORGOTTEN_AFTER_MS < now_ms)
                });
                let until_ms = now_ms + pause_ms;
                tries.insert(id, Try::Failed { why: why.clone(), pause_ms, until_ms });
                Err(why)
            }
        }
    }

    /// From its copy, or else from the registry, and then there is a copy.
    async fn obtain(&self, id: SchemaId) -> PortResult<Plan> {
        let name = id.to_string();
        let copy = self.copies.get(&name).await;
        let copy = copy.map_err(|error| failed(id, &format!("read its copy: {error}")))?;
        match copy.map(|bytes| KeptSchema::read(&bytes).and_then(|kept| kept.plan())) {
            Some(Ok(plan)) => return Ok(plan),
            Some(Err(why)) => tracing::warn!(schema = %id, why, "the copy of a schema is damaged"),
            None => {}
        }
        let kept = self.source.fetch(id).await.map_err(|why| failed(id, &why))?;
        let plan = kept.plan().map_err(|why| failed(id, &why))?;
        match self.copies.put(&name, &kept.write()).await {
            // The other one is of the same schema: a registry gives no id twice.
            Ok(()) | Err(PortError::Exists) => Ok(plan),
            Err(error) => Err(failed(id, &format!("store its copy: {error}"))),
        }
    }
}

fn failed(id: SchemaId, why: &str) -> PortError {
    PortError::NotDone(format!("schema id {id}: {why}"))
}

impl Schemas for Registry {
    fn get(&self, id: SchemaId) -> Option<Arc<Plan>> {
        self.plans.load().get(&id).cloned()
    }

    fn fetch(&self, ids: Vec<SchemaId>) -> Preparing<'_> {
        let each = join_all(ids.into_iter().map(|id| self.one(id)));
        Box::pin(async move { each.await.into_iter().collect() })
    }
}

//! The lineages of a running process: which one it folds, and how the others are read.
//!
//! *Order*: what a fingerprint is of is kept before the log of lineages names it. *If it fails*: a process
//!   whose own lineage was dropped ends at once: it has nothing to save, and what it would answer from now on
//!   may be wrong.

use super::failure::{Done, Exit, Failure};
use super::run::fault;
use super::schemas::SchemaSource;
use super::stack::Options;
use super::stores::Stores;
use crate::config::{self, Stream};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Lineage, Offset, PartitionNo};
use crate::domain::outcome::PortError;
use crate::domain::row::PartitionKey;
use crate::lookup::{Asked, LineageView, Lineages, Lookup, OldLineage, Refusal, Streams};
use crate::store::blobs::Blobs;
use crate::store::index::Index;
use crate::store::lineages::{self, Activated, Activation, Known, Standing, definitions};
use crate::store::unavailable;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Between two looks at whether the own lineages are still there.
const HEED_EVERY: Duration = Duration::from_secs(2);
/// Partitions whose low watermarks are read at the same time.
const MARKS_AT_ONCE: usize = 16;

/// Questions about old lineages, by type and number.
type Opened = BTreeMap<(Arc<str>, Lineage), Arc<Lookup>>;

/// See the module.
pub(super) struct OldLineages {
    index: Arc<dyn Index>,
    blobs: Arc<dyn Blobs>,
    schemas: SchemaSource,
    streams: Arc<Streams>,
    /// By aggregate type.
    topics: BTreeMap<Arc<str>, Arc<str>>,
    /// Those that somebody asked about.
    lookups: Mutex<Opened>,
}

impl OldLineages {
    pub(super) fn new(
        stores: &Stores,
        schemas: SchemaSource,
        streams: &Arc<Streams>,
        names: Vec<(Arc<str>, Arc<str>)>,
    ) -> Self {
        let (index, blobs) = (Arc::clone(&stores.index), Arc::clone(&stores.blobs));
        let (streams, topics) = (Arc::clone(streams), names.into_iter().collect());
        Self { index, blobs, schemas, streams, topics, lookups: Mutex::default() }
    }

    fn stream(&self, kind: &str) -> Asked<(Arc<str>, &Arc<Lookup>, &Arc<str>)> {
        let found = self.streams.by_type.get_key_value(kind).zip(self.topics.get(kind));
        found.map(|((kind, lookup), topic)| (Arc::clone(kind), lookup, topic)).ok_or_else(|| {
            let detail = "no stream has this type";
            Refusal::Failed(Error::new(ErrorKind::NotFound, "unknown-aggregate", detail))
        })
    }

    async fn known(&self, topic: &str) -> Result<Vec<Known>> {
        Ok(lineages::known(&lineages::history(&*self.blobs, topic).await?))
    }

    /// How a lineage folded; none where nobody kept it.
    async fn defined(&self, known: &Known) -> Result<Option<Stream>> {
        let text = definitions::read(&*self.blobs, known.fingerprint).await?;
        Ok(text.and_then(|text| config::defined(&text, known.fingerprint)))
    }

    async fn open(&self, kind: &str, lineage: Lineage) -> Asked<Arc<Lookup>> {
        let (kind, active, topic) = self.stream(kind)?;
        let all = self.known(topic).await?;
        let Some(known) = all.iter().find(|known| known.lineage == lineage) else {
            return Err(unknown(&kind, lineage, &all));
        };
        match known.standing {
            Standing::Dropped(at) => return Err(dropped(&kind, lineage, at.minted_at())),
            Standing::Prepared => {
                let detail = format!("lineage {lineage} of `{kind}` is being written by a refold");
                return Err(Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail)));
            }
            Standing::Active if active.lineage() != lineage => {
                let detail = format!(
                    "lineage {lineage} of `{kind}` is the active one, this server folds lineage {}: ask one that \
                     was started since",
                    active.lineage()
                );
                return Err(Refusal::Failed(Error::new(ErrorKind::Conflict, "lineage-changed", detail)));
            }
            Standing::Active => return Ok(Arc::clone(active)),
            Standing::Old => {}
        }
        let place = (Arc::clone(&kind), lineage);
        if let Some(known) = self.lookups.lock().expect("no panic while it is held").get(&place) {
            return Ok(Arc::clone(known));
        }
        let Some(stream) = self.defined(known).await? else {
            let detail = format!(
                "how lineage {lineage} of `{kind}` was folded is not known: it was started before that was kept. \
                 `snapfold lineages define --config OLD` keeps it"
            );
            return Err(Refusal::Failed(Error::new(ErrorKind::Gone, "history-gone", detail)));
        };
        let lookup = Arc::new(active.of_old(OldLineage {
            lineage,
            topic_id: known.topic_id,
            partitions: known.partitions.unwrap_or(1),
            rules: stream.rules(),
            decoder: self.schemas.decoder(&stream),
        }));
        let mut lookups = self.lookups.lock().expect("no panic while it is held");
        Ok(Arc::clone(lookups.entry(place).or_insert(lookup)))
    }

    async fn views(&self, kind: &str) -> Asked<Vec<LineageView>> {
        let (_, active, topic) = self.stream(kind)?;
        let all = self.known(topic).await?;
        let mut views = Vec::with_capacity(all.len());
        for known in all {
            let activated_at = match known.activated {
                None => None,
                Some(number) => {
                    let name = lineages::name(topic, number);
                    let at = self.blobs.modified(&name).await;
                    Some(at.map_err(|error| unavailable("ask when a lineage was activated", &error))?)
                }
            };
            let readable = match known.standing {
                Standing::Active => known.lineage == active.lineage(),
                Standing::Old => self.defined(&known).await?.is_some(),
                Standing::Prepared | Standing::Dropped(_) => false,
            };
            views.push(LineageView {
                lineage: known.lineage,
                topic_id: known.topic_id,
                fingerprint: known.fingerprint,
                standing: known.standing,
                activated_at,
                readable,
                low_watermarks: self.marks(topic, &known).await?,
            });
        }
        Ok(views)
    }

    async fn marks(&self, topic: &Arc<str>, known: &Known) -> Result<Vec<(PartitionNo, Offset)>> {
        let numbers = 0..i32::try_from(known.partitions.unwrap_or_default()).unwrap_or(i32::MAX);
        let (topic_id, lineage) = (known.topic_id, known.lineage);
        let read = |partition| async move {
            let key = PartitionKey { topic: Arc::clone(topic), partition, lineage };
            let rows = self.index.watermarks(&key).await?;
            let ours = rows.into_iter().filter(|row| row.topic_id == topic_id);
            Ok::<_, PortError>(ours.map(|row| row.low_watermark).max().map(|mark| (partition, mark)))
        };
        let marks: std::result::Result<Vec<_>, PortError> =
            stream::iter(numbers.map(PartitionNo)).map(read).buffered(MARKS_AT_ONCE).try_collect().await;
        let marks = marks.map_err(|error| unavailable("read low watermarks", &error))?;
        Ok(marks.into_iter().flatten().collect())
    }

    /// Ends the process once a lineage that it folds is dropped, by whomever.
    pub(super) async fn heed(self: Arc<Self>) {
        let mut histories: BTreeMap<Arc<str>, Vec<Activation>> = BTreeMap::new();
        loop {
            for (kind, lookup) in &self.streams.by_type {
                let Some(topic) = self.topics.get(kind) else { continue };
                let history = histories.entry(Arc::clone(kind)).or_default();
                if let Err(error) = lineages::read_on(&*self.blobs, topic, history).await {
                    tracing::warn!(%error, "read the log of lineages");
                }
                if lineages::Dropped::of(history).has(lookup.lineage()) {
                    let lineage = lookup.lineage().0;
                    tracing::error!(
                        stream = &**kind,
                        lineage,
                        "the lineage was dropped: start with the active reducer"
                    );
                    std::process::exit(Exit::Conflict as i32);
                }
            }
            tokio::time::sleep(HEED_EVERY).await;
        }
    }
}

impl Lineages for OldLineages {
    fn all<'a>(&'a self, kind: &'a str) -> BoxFuture<'a, Asked<Vec<LineageView>>> {
        Box::pin(self.views(kind))
    }

    fn lookup<'a>(&'a self, kind: &'a str, lineage: Lineage) -> BoxFuture<'a, Asked<Arc<Lookup>>> {
        Box::pin(self.open(kind, lineage))
    }
}

fn dropped(kind: &str, lineage: Lineage, at: crate::domain::ids::Timestamp) -> Refusal {
    let at = crate::domain::moment::format(at);
    let detail = format!("lineage {lineage} of `{kind}` was dropped at {at}");
    Refusal::Failed(Error::new(ErrorKind::Gone, "lineage-dropped", detail))
}

fn unknown(kind: &str, lineage: Lineage, all: &[Known]) -> Refusal {
    let told: Vec<String> = all.iter().map(told).collect();
    let detail = format!("`{kind}` has no lineage {lineage}: it has {}", told.join(", "));
    Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail))
}

/// `1 (old)`
pub(super) fn told(known: &Known) -> String {
    let standing = match known.standing {
        Standing::Prepared => "prepared",
        Standing::Active => "active",
        Standing::Old => "old",
        Standing::Dropped(_) => "dropped",
    };
    format!("{} ({standing})", known.lineage)
}

/// The lineage of this topic and this fold; a changed fold is refused (rule 2).
pub(super) async fn active_lineage(
    stream: &Stream,
    stores: &Stores,
    topic_id: u128,
    partitions: u32,
    options: Options,
) -> Done<Lineage> {
    let (fingerprint, mapping) = (stream.fingerprint(), stream.mapping_digest());
    let wish = lineages::Wish { topic_id, fingerprint, mapping, partitions };
    let permission =
        lineages::Permission { new_lineage: options.new_lineage, more_partitions: options.more_partitions };
    definitions::keep(&*stores.blobs, fingerprint, &stream.definition).await.map_err(fault)?;
    let activated = lineages::activate(&*stores.blobs, &stream.topic, wish, permission).await;
    match activated.map_err(fault)? {
        Activated::Ready(lineage) => Ok(lineage),
        Activated::Changed { what } => {
            let hint = "see `lineage-changed` and `partitions-changed` in docs/ERRORS.md";
            Err(Failure::new(Exit::Config, what).hint(hint))
        }
    }
}

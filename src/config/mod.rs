//! The configuration: plain data, read from a file with the environment and `--set` arguments over it. It
//! builds no component and knows no I/O: whoever loads it hands in the texts.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `Config` and its parts, `load` |
//! | `keys.rs` | the table of all keys: shapes, defaults, what they are for |
//! | `reader.rs` | reading values by that table, noting every problem |
//! | `properties.rs` | librdkafka properties that are not the user's |
//! | `layers.rs` | environment and `--set` over the file |
//! | `blobs.rs` | the blob store and its archive |
//! | `s3.rs` | the bucket of `blobs` |
//! | `scylla.rs` | the cluster of `index` |
//! | `definition.rs` | a stream out of what was kept of its fold |
//! | `stream.rs` | one stream: mapping, reducer, thresholds, checks across keys |
//! | `compaction.rs` | merging in the background |
//! | `budget.rs` | how `memory.limit` is shared out |
//! | `problems.rs` | problems with place, excerpt and hint |
//! | `schema.rs` | the JSON Schema and the reference, from the table |
//! | `show.rs` | the configuration in force, with where each value comes from |
//! | `units.rs` | durations and sizes |

mod blobs;
mod budget;
mod compaction;
mod definition;
mod keys;
mod layers;
mod problems;
mod properties;
mod reader;
mod s3;
mod schema;
mod scylla;
mod show;
mod stream;
#[cfg(test)]
mod tests;
mod thresholds;
mod units;

pub use blobs::{Archive, Blobs, S3};
pub use budget::Budget;
pub use compaction::Compaction;
pub use definition::defined;
pub use layers::PREFIX;
pub use problems::{Origin, Problems};
pub use schema::{json_schema, reference};
pub use show::show;
pub use stream::{Dictionaries, Format, History, Partitioner, Retention, Stream};
pub use units::show_bytes;

use crate::codec::yaml;
use crate::domain::source::{Node, NodeKind, Span};
use budget::Sized;
use problems::Origins;
use reader::{Reading, Section};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// What a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of the file; none reads the defaults.
    pub file: Option<(String, String)>,
    /// Environment variables; only those that start with `SNAPFOLD__` count.
    pub env: Vec<(String, String)>,
    /// `--set` arguments, `path=value`.
    pub sets: Vec<String>,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// `{ fromFile: PATH }`.
    File(String),
    /// `{ fromEnv: NAME }`.
    Environment(String),
}

/// A text that may be secret: it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    from: Option<SecretRef>,
}

/// The whole configuration, every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The brokers.
    pub kafka: Kafka,
    /// Where rows are kept.
    pub index: Index,
    /// Where packs are kept.
    pub blobs: Blobs,
    /// Where old packs go.
    pub archive: Option<Archive>,
    /// The schema registry.
    pub registry: Option<Registry>,
    /// The API.
    pub http: Http,
    /// `memory.limit` in bytes.
    pub memory_bytes_max: u64,
    /// Threads; none is one a core.
    pub threads: Option<usize>,
    /// Packs written at the same time.
    pub flushes: usize,
    /// Checkpoints.
    pub checkpoint: Checkpoint,
    /// Milliseconds that a snapshot waits for others.
    pub linger_ms: u64,
    /// Bytes of snapshots that end the wait.
    pub flush_bytes_max: u64,
    /// The cache; none if it is off.
    pub cache: Option<Cache>,
    /// Reading what is stored in the background.
    pub scrub: Scrub,
    /// Garbage collection.
    pub gc: Gc,
    /// Merging in the background.
    pub compaction: Compaction,
    /// A topic that gets dead letters as well.
    pub dead_letter_topic: Option<String>,
    /// The streams, at least one.
    pub streams: Vec<Stream>,
    /// How `memory.limit` is shared out.
    pub budget: Budget,
    warnings: Vec<String>,
    read: Read,
}

/// The tree that was read and where its values come from, for `show`. It may hold secrets, so
/// `Debug` is silent.
#[derive(Clone)]
struct Read {
    root: Node,
    origins: Origins,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Config {
    /// What is allowed, but hardly meant, each with its place.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// `gc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gc {
    /// `enabled`.
    pub enabled: bool,
    /// `interval` in milliseconds.
    pub interval_ms: u64,
    /// `minAge` in milliseconds.
    pub age_ms_min: u64,
    /// `distance` in milliseconds.
    pub distance_ms: u64,
    /// `orphanAge` in milliseconds.
    pub orphan_ms: u64,
}

/// `kafka`.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `brokers`.
    pub brokers: String,
    /// `group`.
    pub group: String,
    /// `properties`.
    pub properties: BTreeMap<String, Secret>,
}

/// `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index {
    /// `scylla`.
    Scylla(Scylla),
    /// `embedded`.
    Embedded {
        /// `path`.
        path: String,
    },
}

/// `index.scylla`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scylla {
    /// `nodes`.
    pub nodes: Vec<String>,
    /// `keyspace`.
    pub keyspace: String,
    /// `datacenter`.
    pub datacenter: String,
    /// `replicationFactor`.
    pub replication_factor: u64,
    /// `username` and `password`.
    pub login: Option<(String, Secret)>,
    /// `tls`; none where it is not enabled.
    pub tls: Option<Tls>,
}

/// `index.scylla.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `ca`; none trusts what the system trusts.
    pub ca: Option<String>,
}

/// `registry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// `url`.
    pub url: String,
    /// `username` and `password`.
    pub login: Option<(String, Secret)>,
}

/// `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `listen`.
    pub listen: String,
    /// `admin`.
    pub admin: String,
    /// `advertise`.
    pub advertise: Option<String>,
}

/// `checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// `interval` in milliseconds.
    pub interval_ms: u64,
    /// `flushBytes`.
    pub flush_bytes: u64,
    /// `maxLiveBytes`.
    pub live_bytes_max: u64,
}

/// `scrub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// `interval` in milliseconds; 0 turns it off.
    pub interval_ms: u64,
    /// `bytesPerSecond`.
    pub bytes_per_second: u64,
}

/// `cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// `ttl` in milliseconds.
    pub ttl_ms: u64,
    /// `maxBytes`.
    pub bytes_max: u64,
}

impl Secret {
    pub(crate) fn plain(text: String) -> Self {
        Self { text, from: None }
    }

    fn fetched(text: String, from: SecretRef) -> Self {
        Self { text, from: Some(from) }
    }

    /// The text itself: for the client that needs it, never for a log or an answer.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::plain(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{from}"),
            None => f.write_str("***"),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file `{path}`"),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
        }
    }
}

/// Reads a configuration. `fetch` answers the text behind a reference to a secret.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    sources: &Sources,
    fetch: &dyn Fn(&SecretRef) -> Result<String, String>,
) -> Result<Config, Problems> {
    let (name, text) = sources.file.clone().unwrap_or_else(|| ("defaults".to_owned(), String::new()));
    let mut problems = Problems::new(&name, &text);
    let mut origins = Origins::default();
    let mut root = match yaml::parse(&text) {
        Ok(root) => root,
        Err(found) => {
            found.into_iter().for_each(|problem| problems.add(Origin::File, problem));
            return Err(problems);
        }
    };
    if root.kind == NodeKind::Null {
        root = Node { span: Span::new(1, 1), kind: NodeKind::Mapping(Vec::new()) };
    }
    layers::apply(&mut root, &sources.env, &sources.sets, &mut origins, &mut problems);
    let (problems, warnings) = (RefCell::new(problems), RefCell::default());
    let reading = Reading { origins: &origins, problems, warnings, fetch };
    let config = read(&reading, &root);
    let (mut problems, warnings) = (reading.problems.into_inner(), reading.warnings.into_inner());
    problems.sort();
    match config {
        Some(config) if problems.is_empty() => {
            Ok(Config { warnings, read: Read { root, origins }, ..config })
        }
        _ => Err(problems),
    }
}

/// Delays of garbage collection below this are for tests: flushes end ten minutes after they began.
const GC_DELAY_MS_MIN: u64 = 3_600_000;

/// `None` only where a problem was noted. Everything is read before anything is given up, so that one run
/// finds all problems.
fn read(reading: &Reading<'_>, node: &Node) -> Option<Config> {
    let root = Section::root(reading, node, keys::ROOT);
    let streams = root.sections("streams", stream::read);
    if streams.is_empty() {
        root.problem(
            "streams",
            "there is no stream",
            "add one: `streams: [ { type: …, topic: …, map: …, reducer: … } ]`",
        );
    }
    stream::check_together(root);
    let registry = root.section("registry", read_registry);
    let (cache, is_cache_sized) = root.section("cache", |it| {
        let settings = Cache { ttl_ms: it.ms("ttl"), bytes_max: it.bytes("maxBytes") };
        (it.flag("enabled").then_some(settings), it.given("maxBytes").is_some())
    });
    let (index, blobs) = (read_index(root), blobs::read(root));
    let archive = blobs::read_archive(root, blobs.as_ref());
    let (checkpoint, is_checkpoint_sized) = root.section("checkpoint", |it| {
        let settings = Checkpoint {
            interval_ms: it.ms("interval"),
            flush_bytes: it.bytes("flushBytes"),
            live_bytes_max: it.bytes("maxLiveBytes"),
        };
        (settings, it.given("flushBytes").is_some())
    });
    let kafka = root.section("kafka", |it| {
        let text = |name| it.text(name).unwrap_or_default();
        Kafka { brokers: text("brokers"), group: text("group"), properties: properties::read(it) }
    });
    let http = root.section("http", read_http);
    let (threads, flushes) =
        root.section("parallelism", |it| (it.auto_whole("threads"), it.whole("flushes")));
    let (linger_ms, flush_bytes_max, is_flush_sized) =
        root.section("flush", |it| (it.ms("linger"), it.bytes("maxBytes"), it.given("maxBytes").is_some()));
    let mut config = Config {
        kafka,
        http,
        registry,
        memory_bytes_max: root.section("memory", |it| it.bytes("limit")),
        threads: threads.and_then(|threads| usize::try_from(threads).ok()),
        flushes: usize::try_from(flushes).unwrap_or(1),
        checkpoint,
        linger_ms,
        flush_bytes_max,
        cache,
        scrub: root.section("scrub", |it| Scrub {
            interval_ms: it.ms("interval"),
            bytes_per_second: it.bytes("bytesPerSecond"),
        }),
        gc: root.section("gc", read_gc),
        compaction: root.section("compaction", compaction::read),
        dead_letter_topic: root
            .section("deadLetters", |it| it.text("topic").inspect(|topic| stream::check_topic(it, topic))),
        // What does not need these is read; without them there is nothing to share memory between.
        index: index?,
        blobs: blobs?,
        archive,
        streams: streams.into_iter().collect::<Option<_>>()?,
        budget: Budget::default(),
        warnings: Vec::new(),
        read: Read { root: node.clone(), origins: reading.origins.clone() },
    };
    let sized = Sized { cache: is_cache_sized, flush: is_flush_sized, checkpoint: is_checkpoint_sized };
    config.share_memory(sized, root);
    Some(config)
}

fn read_gc(it: Section<'_>) -> Gc {
    let gc = Gc {
        enabled: it.flag("enabled"),
        interval_ms: it.ms("interval"),
        age_ms_min: it.ms("minAge"),
        distance_ms: it.ms("distance"),
        orphan_ms: it.ms("orphanAge"),
    };
    for (name, ms) in [("minAge", gc.age_ms_min), ("distance", gc.distance_ms)] {
        if ms < GC_DELAY_MS_MIN {
            it.warn(name, "less than an hour: a paused worker may lose what it is writing");
        }
    }
    gc
}

fn read_registry(it: Section<'_>) -> Option<Registry> {
    if !it.is_given() {
        return None;
    }
    let url = it.required("url")?;
    let hint = "write `https://HOST:PORT` or `http://HOST:PORT`, and `username` and `password` beside it";
    if !(url.starts_with("http://") || url.starts_with("https://")) || url.contains('@') {
        it.problem("url", "this is not the plain URL of a registry", hint);
    }
    let login = match (it.text("username"), it.secret_text("password")) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        (Some(_), None) => {
            it.problem("username", "`username` without `password`", "give both or none");
            None
        }
        (None, Some(_)) => {
            it.problem("password", "`password` without `username`", "give both or none");
            None
        }
    };
    Some(Registry { url: url.trim_end_matches('/').to_owned(), login })
}

fn read_http(it: Section<'_>) -> Http {
    let text = |name| it.text(name).unwrap_or_default();
    let http = Http { listen: text("listen"), admin: text("admin"), advertise: it.text("advertise") };
    let given = [("listen", &http.listen), ("admin", &http.admin)];
    // An empty one is told already.
    for (name, address) in given.into_iter().filter(|(_, address)| !address.is_empty()) {
        let Some((host, _)) = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) else {
            it.problem(
                name,
                format!("`{address}` is not an address"),
                "write HOST:PORT, as in `127.0.0.1:8080`",
            );
            continue;
        };
        let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
        if host != "localhost" && !host.trim_matches(['[', ']']).parse().is_ok_and(is_loopback) {
            it.warn(
                name,
                format!("`{address}` can be reached from other machines, and nothing asks who is there"),
            );
        }
    }
    http
}

fn read_index(root: Section<'_>) -> Option<Index> {
    root.section("index", |it| {
        let (scylla, embedded) = (it.given("scylla").is_some(), it.given("embedded").is_some());
        if scylla && embedded {
            it.problem("embedded", "two indexes: `scylla` and `embedded`", "keep one of them");
        }
        if embedded {
            let path = it.section("embedded", |it| it.required("path"))?;
            return Some(Index::Embedded { path });
        }
        it.section("scylla", scylla::read).map(Index::Scylla)
    })
}

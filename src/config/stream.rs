//! One stream: mapping, reducer, thresholds, and what must hold between its keys.

use super::reader::Section;
use super::thresholds::Thresholds;
use super::units::duration_ms;
use crate::codec::avro::Schemas;
use crate::codec::compress::{Algorithm, Compression};
use crate::codec::envelope::{Envelope, EnvelopeDecoder};
use crate::codec::event_json::JsonDecoder;
use crate::domain::aggregate::{OnPoison, Rules, Versions};
use crate::domain::event::Decode;
use crate::domain::ids::Digest;
use crate::domain::mapping::{Mapping, Place, Places};
use crate::domain::partition::Strategy;
use crate::domain::reducer::{self, Preset, Reducer};
use crate::domain::rules::check::{self, Test};
use crate::domain::source::Node;
use crate::domain::value::Limits;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Below this packs move while their flushes may go on: harmless, but of no use.
const ARCHIVE_MS_MIN: u64 = 3_600_000;
/// The keys that say what becomes of a record.
const DEFINING: [&str; 7] = ["type", "topic", "format", "map", "reducer", "limits", "onPoison"];
/// Most members and elements of an event and of a state.
const MEMBERS_MAX: usize = 1_000_000;

/// One entry of `streams`.
#[derive(Clone, Debug)]
pub struct Stream {
    /// `type`.
    pub kind: Arc<str>,
    /// `topic`.
    pub topic: Arc<str>,
    /// `partitioner`.
    pub partitioner: Partitioner,
    /// `format`.
    pub format: Format,
    /// `map`.
    pub mapping: Mapping,
    /// `reducer`.
    pub reducer: Arc<dyn Reducer>,
    /// `snapshot.eventThreshold`.
    pub events_max: u64,
    /// `snapshot.timeThreshold` in milliseconds.
    pub age_ms_max: u64,
    /// `snapshot.sizeThreshold`.
    pub bytes_max: u64,
    /// `snapshot.strategy` and `fullEvery`.
    pub strategy: Strategy,
    /// `snapshot.maxWriteAmplification` in thousandths.
    pub write_amplification_permille: u64,
    /// `snapshot.adaptive.targetReconstruct` in microseconds.
    pub adaptive_us: Option<u64>,
    /// `compression`.
    pub compression: Compression,
    /// `compression.dictionary`.
    pub dictionary: Dictionaries,
    /// `history`.
    pub history: History,
    /// `retention`.
    pub retention: Retention,
    /// `onPoison`.
    pub on_poison: OnPoison,
    /// Bounds of an event.
    pub event_limits: Limits,
    /// `limits.maxStateBytes`.
    pub state_bytes_max: usize,
    /// `tests`.
    pub tests: Vec<Test>,
    /// What was given of all that the fingerprint is of, as JSON; see [`super::defined`].
    pub definition: Arc<str>,
}

/// How producers choose the partition of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// Java clients.
    Murmur2,
    /// librdkafka's default.
    Crc32,
    /// Unknown.
    None,
}

/// How records are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON value.
    Json,
    /// Avro, or an event in an envelope.
    In(Envelope),
}

impl Format {
    const ENVELOPES: [Envelope; 4] =
        [Envelope::Avro, Envelope::CloudEvents, Envelope::Debezium, Envelope::DebeziumOutbox];

    fn named(name: &str) -> Self {
        Self::ENVELOPES.into_iter().find(|envelope| envelope.name() == name).map_or(Self::Json, Self::In)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::In(envelope) => envelope.name(),
        }
    }

    /// Where it keeps a part of an event.
    fn places(self, part: &str) -> &'static [&'static str] {
        match self {
            Self::Json => &[],
            Self::In(envelope) => envelope.places(part),
        }
    }
}

/// Which versions must stay answerable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// All.
    Forever,
    /// Those of the last milliseconds.
    Ms(u64),
    /// Snapshots only.
    Snapshots,
}

/// `retention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `maxSnapshots`.
    pub snapshots_max: Option<u32>,
    /// `retentionPeriod` in milliseconds.
    pub period_ms: Option<u64>,
    /// `archiveAfter` in milliseconds.
    pub archive_after_ms: Option<u64>,
    /// `interval` in milliseconds.
    pub interval_ms: u64,
    /// `aggregatesPerSecond`.
    pub per_second: u64,
}

impl Retention {
    fn read(it: Section<'_>) -> Self {
        let snapshots_max = it.whole_if_given("maxSnapshots");
        let archive_after_ms = it.ms_if_given("archiveAfter");
        if archive_after_ms.is_some_and(|ms| ms < ARCHIVE_MS_MIN) {
            it.warn("archiveAfter", "less than an hour: packs move while they are still being written");
        }
        Self {
            snapshots_max: snapshots_max.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            period_ms: it.ms_if_given("retentionPeriod"),
            archive_after_ms,
            interval_ms: it.ms("interval"),
            per_second: it.whole("aggregatesPerSecond"),
        }
    }
}

/// Which dictionaries are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dictionaries {
    /// On strings that several aggregates have in common.
    Strict,
    /// On everything.
    Off,
    /// None.
    None,
}

impl Stream {
    /// How it folds.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let versions = match (&self.mapping.version, self.mapping.event_id.is_empty()) {
            (Some(_), _) => Versions::Given,
            (None, true) => Versions::Counted,
            (None, false) => Versions::CountedOnce,
        };
        Rules {
            kind: Arc::clone(&self.kind),
            reducer: Arc::clone(&self.reducer),
            versions,
            on_poison: self.on_poison,
            state_bytes_max: self.state_bytes_max,
            limits: Limits { max_bytes: self.state_bytes_max, ..self.event_limits },
        }
    }

    /// What turns its records into events. `schemas` are those of the registry, where there is one.
    #[must_use]
    pub fn decoder(&self, schemas: Option<Arc<dyn Schemas>>) -> Arc<dyn Decode> {
        let (mapping, limits) = (self.mapping.clone(), self.event_limits);
        match self.format {
            Format::Json => Arc::new(JsonDecoder::new(mapping, limits)),
            Format::In(envelope) => Arc::new(EnvelopeDecoder::new(envelope, mapping, limits, schemas)),
        }
    }

    /// SHA-256 of what makes events of records: a part of what the fingerprint is of. Where it stays the
    /// same, stored events are the same events for another reducer.
    #[must_use]
    pub fn mapping_digest(&self) -> Digest {
        let format = self.format.name();
        let text = format!("snapfold.mapping.v1\ntype {}\nformat {format}\n{}", self.kind, self.mapping);
        Digest(Sha256::digest(text.as_bytes()).into())
    }

    /// SHA-256 of what a state depends on besides the events: reducer, mapping, versions, limits and policy.
    /// Tests, thresholds, compression and retention are not part of it.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let policy = match self.on_poison {
            OnPoison::Skip => "skip",
            // Both leave the state where it was.
            OnPoison::Quarantine | OnPoison::Halt => "stop",
        };
        let format = self.format.name();
        let (event, state, depth) =
            (self.event_limits.max_bytes, self.state_bytes_max, self.event_limits.max_depth);
        let text = format!(
            "snapfold.fingerprint.v1\ntype {}\nformat {format}\n{}poison {policy}\nlimits {event} {state} {depth}\n{}",
            self.kind,
            self.mapping,
            self.reducer.fingerprint_text()
        );
        Digest(Sha256::digest(text.as_bytes()).into())
    }
}

/// Reads one stream; `None` only where a problem was noted.
pub(super) fn read(it: Section<'_>) -> Option<Stream> {
    let (kind, topic) = (it.required("type"), it.required("topic"));
    if let Some(kind) = kind.as_deref()
        && (kind.len() > 200 || kind.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()))
    {
        let message = "a type has no `/`, no blanks and at most 200 bytes";
        it.problem("type", message, "use a short name such as `order`");
    }
    if let Some(topic) = &topic {
        check_topic(it, topic);
    }
    let format = Format::named(&it.choice("format"));
    let mapping = it.section("map", |map| read_mapping(map, topic.as_deref().unwrap_or_default(), format));
    let reducer = read_reducer(it, format);
    let tests = match it.given("tests").map(check::parse) {
        Some(Err(found)) => {
            it.problems("tests", found);
            Vec::new()
        }
        Some(Ok(tests)) => tests,
        None => Vec::new(),
    };
    let (event_limits, state_bytes_max) = it.section("limits", read_limits);
    let snapshot = it.section("snapshot", Thresholds::read);
    let retention = it.section("retention", Retention::read);
    let (compression, dictionary) = it.section("compression", read_compression);
    let partitioner = match it.choice("partitioner").as_str() {
        "murmur2" => Partitioner::Murmur2,
        "crc32" => Partitioner::Crc32,
        _ => Partitioner::None,
    };
    let history = match it.choice("history").as_str() {
        "forever" => History::Forever,
        "snapshots" => History::Snapshots,
        text => History::Ms(duration_ms(text).unwrap_or(0)),
    };
    let on_poison = match it.choice("onPoison").as_str() {
        "skip" => OnPoison::Skip,
        "halt" => OnPoison::Halt,
        _ => OnPoison::Quarantine,
    };
    check(it, snapshot.strategy, history);
    Some(Stream {
        partitioner,
        format,
        events_max: snapshot.events_max,
        age_ms_max: snapshot.age_ms_max,
        bytes_max: snapshot.bytes_max,
        strategy: snapshot.strategy_for(history),
        write_amplification_permille: snapshot.write_amplification_permille,
        adaptive_us: snapshot.adaptive_us,
        compression,
        dictionary,
        history,
        retention,
        on_poison,
        event_limits,
        state_bytes_max,
        tests,
        definition: it.json_of(&DEFINING).into(),
        kind: kind?.into(),
        topic: topic?.into(),
        mapping,
        reducer: reducer?,
    })
}

fn read_reducer(it: Section<'_>, format: Format) -> Option<Arc<dyn Reducer>> {
    let Some(node) = it.given("reducer") else {
        if format == Format::In(Envelope::Debezium) {
            return Some(Arc::new(Preset::Debezium));
        }
        let hint = "add a preset (`merge`, `replace`, `json-patch`, `debezium`) or rules";
        it.problem("reducer", "`reducer` is missing", hint);
        return None;
    };
    reducer::parse(node).map_err(|found| it.problems("reducer", found)).ok()
}

/// Bounds of an event, and bytes of a state.
fn read_limits(limits: Section<'_>) -> (Limits, usize) {
    let bytes = |name| usize::try_from(limits.bytes(name)).unwrap_or(usize::MAX);
    let (event, state) = (bytes("maxEventBytes"), bytes("maxStateBytes"));
    if state < event {
        let hint = "raise `maxStateBytes` or lower `maxEventBytes`";
        limits.problem("maxStateBytes", "a state may be smaller than one event", hint);
    }
    let max_depth = usize::try_from(limits.whole("maxDepth")).unwrap_or(1);
    (Limits { max_bytes: event, max_depth, max_members: MEMBERS_MAX }, state)
}

/// What must hold between the parts of one stream.
fn check(it: Section<'_>, strategy: Strategy, history: History) {
    if strategy == Strategy::Full && history != History::Snapshots {
        let hint = "use `strategy: incremental`, which keeps every event, or say `history: snapshots`";
        it.problem("history", "`strategy: full` keeps no events, so it cannot keep this history", hint);
    }
}

/// Notes a topic that Kafka would not have.
pub(super) fn check_topic(it: Section<'_>, topic: &str) {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.len() > 249 || matches!(topic, "." | "..") || !topic.chars().all(is_legal) {
        let hint = "a topic has at most 249 letters, digits, `.`, `_` and `-`";
        it.problem("topic", format!("`{topic}` cannot be the name of a topic"), hint);
    }
}

/// What must hold between streams, also between those that have problems of their own.
pub(super) fn check_together(root: Section<'_>) {
    let (mut kinds, mut topics) = (BTreeMap::new(), BTreeMap::new());
    root.sections("streams", |it| {
        let text = |name| it.given(name).and_then(Node::text).map(str::to_owned);
        let place = |name| it.given(name).map_or_else(|| it.span(), |node| node.span);
        if let Some(kind) = text("type")
            && let Some(first) = kinds.insert(kind.clone(), place("type"))
        {
            let message = format!("a second stream of type `{kind}`; the first is at {first}");
            it.problem("type", message, "give each stream a type of its own");
        }
        if text("format").as_deref() == Some(Envelope::Avro.name()) && root.given("registry").is_none() {
            let message = "`format: avro` without `registry`";
            it.problem("format", message, "say where schemas are: `registry: { url: … }`");
        }
        if let Some(topic) = text("topic")
            && let Some(first) = topics.insert(topic.clone(), place("topic"))
        {
            let message = format!("a second stream on topic `{topic}`; the first is at {first}");
            it.problem("topic", message, "one stream reads a topic: map the type's parts in one of them");
        }
    });
}

/// Places that the file names; for parts that it does not name those of the format.
fn read_mapping(map: Section<'_>, topic: &str, format: Format) -> Mapping {
    let places = |name: &str| -> Option<Places> {
        if map.given(name).is_none() {
            let places = format.places(name).iter().map(|place| Place::parse(place, topic));
            let places = places.map(|place| place.expect("a format's places are places"));
            return Some(places.collect()).filter(|places: &Places| !places.is_empty());
        }
        let mut places = Places::new();
        for (text, _) in map.texts(name) {
            match Place::parse(&text, topic) {
                Ok(place) => places.push(place),
                Err(why) => map.problem(name, why, "see `map` in docs/CONFIG.md"),
            }
        }
        Some(places)
    };
    let needed = |name: &str, hint: &str| {
        places(name).unwrap_or_else(|| {
            map.problem(name, format!("`map.{name}` is missing"), hint);
            Places::new()
        })
    };
    let mapping = Mapping {
        aggregate_id: needed("aggregateId", "say where it is: `key`, or `/some/pointer` into the value"),
        event_type: needed("eventType", "say where it is, or give all events one type: `const:Changed`"),
        version: places("version"),
        version_base: map.whole("versionBase"),
        event_id: places("eventId").unwrap_or_default(),
        time: places("time").unwrap_or_default(),
        data: places("data"),
    };
    if map.given("versionBase").is_some() && map.given("version").is_none() {
        map.problem(
            "versionBase",
            "`versionBase` without `version`",
            "map `version`, or remove `versionBase`",
        );
    }
    mapping
}

fn read_compression(it: Section<'_>) -> (Compression, Dictionaries) {
    let algorithm = Algorithm::from_name(&it.choice("algorithm")).unwrap_or_default();
    let algorithm = if it.flag("enabled") { algorithm } else { Algorithm::None };
    let level = u8::try_from(it.whole("level")).unwrap_or(3);
    let threshold = usize::try_from(it.whole("threshold")).unwrap_or(64);
    let dictionary = match it.choice("dictionary").as_str() {
        "strict" => Dictionaries::Strict,
        "off" => Dictionaries::Off,
        _ => Dictionaries::None,
    };
    if algorithm == Algorithm::Lz4 && it.given("level").is_some() {
        it.warn("level", "lz4 has one level: every `level` from 1 to 9 compresses the same");
    }
    if algorithm != Algorithm::Zstd && it.given("dictionary").is_some() {
        it.warn("dictionary", "only zstd has dictionaries: this value makes no difference");
    }
    if algorithm == Algorithm::None && it.given("level").is_some() {
        it.warn("level", "nothing is compressed: this value makes no difference");
    }
    // Only zstd has dictionaries.
    let dictionary = if algorithm == Algorithm::Zstd { dictionary } else { Dictionaries::None };
    (Compression { algorithm, level, threshold }, dictionary)
}

//! Every key of the configuration file in one table: its shape, its default and what it is for.
//! Reading, the JSON Schema, `config show` and the reference in `docs/CONFIG.md` all come from here, so
//! they cannot disagree.

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Whole(u64, u64),
    /// A whole number within bounds, or `auto`.
    AutoWhole(u64, u64),
    /// A decimal number, not negative.
    Decimal,
    /// A number with a unit of time, more than nothing.
    Duration,
    /// A number with a unit of time; nothing is a choice too.
    DurationOrNone,
    /// A number with a unit of bytes, more than nothing.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a duration.
    ChoiceOrDuration(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// Names and texts of the user's choice; a text may be secret, so it is never shown, and `{ fromFile: …
    /// }` and `{ fromEnv: … }` stand for it as well.
    Map,
    /// One text that is secret: never shown, and `{ fromFile: … }` and `{ fromEnv: … }` stand for it as well.
    Secret,
    /// One place or a list of places (`Mapping`).
    Places,
    /// A reducer: read by the domain.
    Reducer,
    /// Tests of a reducer: read by the domain.
    Tests,
    /// A mapping with these keys.
    Section(&'static [Key]),
    /// A list of mappings with these keys.
    Sections(&'static [Key]),
    /// Part of the interface, but not of this version: using it is an error that says so.
    Later,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) shape: Shape,
    /// The value where it is left out, as YAML; none where there is no default.
    pub(super) default: Option<&'static str>,
    /// What it is for, when to change it.
    pub(super) doc: &'static str,
}

const fn key(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Key {
    Key { name, shape, default: Some(default), doc }
}

const fn open(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, default: None, doc }
}

/// The root of the file.
pub(super) const ROOT: &[Key] = &[
    open("kafka", Shape::Section(KAFKA), "the brokers that the events come from"),
    open("index", Shape::Section(INDEX), "where rows are kept: exactly one of `scylla` and `embedded`"),
    open("blobs", Shape::Section(BLOBS), "where packs are kept: exactly one of `s3` and `directory`"),
    open(
        "registry",
        Shape::Section(REGISTRY),
        "the schema registry: needed for `format: avro`, and where other formats hold Avro",
    ),
    open("http", Shape::Section(HTTP), "the HTTP API"),
    open("memory", Shape::Section(MEMORY), "the memory budget of the process"),
    open("parallelism", Shape::Section(PARALLELISM), "threads and concurrent writes"),
    open("checkpoint", Shape::Section(CHECKPOINT), "how often the low watermark moves"),
    open("flush", Shape::Section(FLUSH), "how snapshots are gathered into packs"),
    open("cache", Shape::Section(CACHE), "reconstructed states kept for later questions"),
    open(
        "scrub",
        Shape::Section(SCRUB),
        "reading what is stored in the background, and writing anew what is damaged",
    ),
    open("gc", Shape::Section(GC), "when packs go that no row names any more"),
    open("compaction", Shape::Section(COMPACTION), "merging of history that is stored already"),
    open("deadLetters", Shape::Section(DEAD_LETTERS), "where events go that cannot be folded"),
    open("streams", Shape::Sections(STREAM), "one entry for each topic: how its events fold"),
];

const KAFKA: &[Key] = &[
    key("brokers", Shape::Text, "localhost:9092", "host:port of one or more brokers, separated by commas"),
    key("group", Shape::Text, "snapfold", "the consumer group that all workers of a deployment share"),
    key(
        "properties",
        Shape::Map,
        "{}",
        "librdkafka properties, passed on as they are (TLS, SASL, tuning); those that the protocol depends on \
         are refused",
    ),
];

const INDEX: &[Key] = &[
    open("scylla", Shape::Section(SCYLLA), "ScyllaDB or Apache Cassandra"),
    open("embedded", Shape::Section(PATH), "a folder on a persistent volume, for one worker"),
];

const SCYLLA: &[Key] = &[
    key("nodes", Shape::Texts, "[\"localhost:9042\"]", "contact points, host:port"),
    key("keyspace", Shape::Text, "snapfold", "the keyspace; `snapfold migrate` creates it"),
    key("datacenter", Shape::Text, "datacenter1", "the local data centre: reads and writes need its quorum"),
    key(
        "replicationFactor",
        Shape::Whole(1, 9),
        "3",
        "used by `snapfold migrate` when it creates the keyspace",
    ),
    open("username", Shape::Text, "the user to log in as; left out, nobody logs in"),
    open("password", Shape::Secret, "the password of `username`"),
    open("tls", Shape::Section(TLS), "whether connections are encrypted"),
];

const TLS: &[Key] = &[
    key("enabled", Shape::Bool, "false", "encrypt, and verify the certificates of all nodes"),
    open(
        "ca",
        Shape::Text,
        "a file with the certificates (PEM) that those of the nodes are signed with; left out, the system's",
    ),
];

const PATH: &[Key] = &[open("path", Shape::Text, "a folder; created if its parent exists")];

const BLOBS: &[Key] = &[
    open("s3", Shape::Section(S3), "Amazon S3 or a store that speaks its protocol"),
    open("directory", Shape::Section(PATH), "a folder on a persistent volume"),
    open(
        "archive",
        Shape::Section(ARCHIVE),
        "where packs go that are older than `retention.archiveAfter`; they are read there like all others, so leave \
         it in the file as long as anything is in it",
    ),
];

const ARCHIVE: &[Key] = &[
    open("s3", Shape::Section(ARCHIVE_S3), "another bucket, or another prefix in the same one"),
    open("directory", Shape::Section(PATH), "a folder on another volume"),
    key("interval", Shape::Duration, "1h", "time between two looks for packs that are old enough"),
];

/// Storage classes whose objects can be read at once.
pub(super) const STORAGE_CLASSES: &[&str] =
    &["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"];

const ARCHIVE_S3: &[Key] = &[
    open(
        "bucket",
        Shape::Text,
        "the bucket; that of `blobs.s3` where left out; `snapfold migrate` creates it",
    ),
    key("prefix", Shape::Text, "\"\"", "put before every object's name as it is"),
    open(
        "storageClass",
        Shape::Choice(STORAGE_CLASSES),
        "what archived packs are stored as; left out, the bucket's default. Classes that have to be restored \
         before they are read (GLACIER, DEEP_ARCHIVE) are refused",
    ),
    open(
        "endpoint",
        Shape::Text,
        "URL of the store; that of `blobs.s3` where left out, like all that follow",
    ),
    open("region", Shape::Text, "the region that requests are signed for"),
    open("pathStyle", Shape::Bool, "the bucket in the path instead of the host name"),
    open(
        "checksums",
        Shape::Choice(&["sha256", "none"]),
        "what the store verifies before it takes an object",
    ),
    open("accessKey", Shape::Secret, "with `secretKey`"),
    open("secretKey", Shape::Secret, "the other half of `accessKey`"),
];

const S3: &[Key] = &[
    key("bucket", Shape::Text, "snapfold", "the bucket; `snapfold migrate` creates it"),
    key(
        "prefix",
        Shape::Text,
        "\"\"",
        "put before every object's name as it is: end it with `/` to make a folder",
    ),
    open("endpoint", Shape::Text, "URL of the store where it is not Amazon's"),
    key("region", Shape::Text, "us-east-1", "the region that requests are signed for"),
    key("pathStyle", Shape::Bool, "false", "the bucket in the path instead of the host name"),
    key(
        "checksums",
        Shape::Choice(&["sha256", "none"]),
        "sha256",
        "what the store verifies before it takes an object: its SHA-256, or no more than the signature of the request, \
         for stores that refuse `x-amz-checksum-sha256`",
    ),
    open(
        "accessKey",
        Shape::Secret,
        "with `secretKey`, instead of what the environment, a profile, a web identity or the machine's role gives",
    ),
    open("secretKey", Shape::Secret, "the other half of `accessKey`"),
];

const REGISTRY: &[Key] = &[
    open("url", Shape::Text, "base URL of a Confluent-compatible schema registry"),
    open("username", Shape::Text, "the user to log in as; left out, nobody logs in"),
    open("password", Shape::Secret, "the password of `username`"),
];

const HTTP: &[Key] = &[
    key("listen", Shape::Text, "127.0.0.1:8080", "address and port of the API; port 0 takes any free one"),
    key(
        "admin",
        Shape::Text,
        "127.0.0.1:9090",
        "address and port of health and metrics alone; the same as `listen` has one port for all. `dev` has one",
    ),
    open("advertise", Shape::Text, "URL under which other workers reach this one"),
    open("auth", Shape::Later, "who may ask what; reserved"),
];

const MEMORY: &[Key] = &[key(
    "limit",
    Shape::Size,
    "1GiB",
    "all that the process allocates: states, events in flight, caches, Kafka's queues. Fetching stops before it",
)];

const PARALLELISM: &[Key] = &[
    key(
        "threads",
        Shape::AutoWhole(1, 1_024),
        "auto",
        "threads that fold, encode and answer; `auto` is one a core",
    ),
    key("flushes", Shape::Whole(1, 64), "4", "packs that are written at the same time"),
];

const CHECKPOINT: &[Key] = &[
    key(
        "interval",
        Shape::Duration,
        "10s",
        "time between checkpoints: how far the low watermark lags at the most",
    ),
    key("flushBytes", Shape::Size, "8MiB", "uncovered event bytes that end the interval early"),
    key(
        "maxLiveBytes",
        Shape::Size,
        "256MiB",
        "stored bytes of live checkpoints; beyond it what they hold becomes snapshots",
    ),
];

const FLUSH: &[Key] = &[
    key(
        "linger",
        Shape::DurationOrNone,
        "25ms",
        "how long a snapshot waits for others to share its pack; 250ms suits S3",
    ),
    key("maxBytes", Shape::Size, "8MiB", "bytes of snapshots that end the wait"),
];

const CACHE: &[Key] = &[
    key("enabled", Shape::Bool, "true", "keep reconstructed states"),
    key("ttl", Shape::Duration, "60s", "how long one is kept after it was last made"),
    key("maxBytes", Shape::Size, "128MiB", "bytes of states kept; part of `memory.limit`"),
];

const SCRUB: &[Key] = &[
    key(
        "interval",
        Shape::DurationOrNone,
        "7d",
        "time between the starts of two passes over everything that a worker's partitions have stored; 0s turns it off",
    ),
    key(
        "bytesPerSecond",
        Shape::Size,
        "2MiB",
        "how fast a worker reads meanwhile: a pass should be over well before the next one",
    ),
];

const GC: &[Key] = &[
    key("enabled", Shape::Bool, "true", "one worker at a time looks for such packs in the background"),
    key("interval", Shape::Duration, "1h", "time between two looks"),
    key(
        "minAge",
        Shape::Duration,
        "24h",
        "age of a pack below which it stays, whatever names it; at least an hour, so that no flush goes on",
    ),
    key(
        "distance",
        Shape::Duration,
        "1h",
        "time between finding a pack unnamed and finding it so again, when it goes",
    ),
    key(
        "orphanAge",
        Shape::Duration,
        "30d",
        "how long a pack stays after it was first found that the index knows nothing of its versions: rows may be \
         lost, and `rebuild-index` makes them from packs",
    ),
];

const COMPACTION: &[Key] = &[
    key(
        "enabled",
        Shape::Bool,
        "false",
        "merge history in the background: increments below the newest full snapshot become segments, which are \
         smaller and quicker to read; `snapshot compact` does it for one aggregate at any time",
    ),
    key("interval", Shape::Duration, "1h", "time from the end of one walk over all aggregates to the next"),
    key(
        "keepSnapshots",
        Shape::Whole(1, 1_000_000),
        "8",
        "full snapshots of an aggregate that merging leaves, the newest first; pinned and named ones stay as well",
    ),
];

const DEAD_LETTERS: &[Key] =
    &[open("topic", Shape::Text, "a topic that gets them as well; they are in the index in any case")];

const STREAM: &[Key] = &[
    open("type", Shape::Text, "the aggregate type, first part of every address: `order` in `order/o-42`"),
    open("topic", Shape::Text, "the topic; one stream for each"),
    key(
        "partitioner",
        Shape::Choice(&["murmur2", "crc32", "none"]),
        "murmur2",
        "how producers choose the partition (Java clients: murmur2, librdkafka: crc32): where to look first for an \
         aggregate that has no snapshot yet",
    ),
    key(
        "format",
        Shape::Choice(&["json", "avro", "cloudevents", "debezium", "debezium-outbox"]),
        "json",
        "how records are encoded; docs/FORMATS.md says what each of them maps by itself",
    ),
    open("map", Shape::Section(MAP), "where the parts of an event are"),
    open("reducer", Shape::Reducer, "how events fold: a preset's name or rules (docs/REDUCERS.md)"),
    open("snapshot", Shape::Section(SNAPSHOT), "when a snapshot is taken, and how it is stored"),
    open("compression", Shape::Section(COMPRESSION), "how packs are compressed"),
    key(
        "history",
        Shape::ChoiceOrDuration(&["forever", "snapshots"]),
        "forever",
        "which versions must stay answerable: all, those of the last days, or snapshots only",
    ),
    open("retention", Shape::Section(RETENTION), "which full snapshots are thinned out; left out, none"),
    key(
        "onPoison",
        Shape::Choice(&["skip", "quarantine", "halt"]),
        "quarantine",
        "what happens to an event that cannot be folded: it takes its version and changes nothing; its aggregate \
         stands still; the partition stops before it",
    ),
    open("limits", Shape::Section(LIMITS), "bounds of what is foreign; beyond them an event is poison"),
    key("tests", Shape::Tests, "[]", "examples of the fold, run by `config check` and `reducer test`"),
];

const MAP: &[Key] = &[
    open(
        "aggregateId",
        Shape::Places,
        "the aggregate an event belongs to; may be left out where the format knows the place, like the next ones",
    ),
    open("eventType", Shape::Places, "what happened"),
    open("version", Shape::Places, "the event's version in its aggregate; left out, versions are counted"),
    key("versionBase", Shape::Whole(0, 1), "1", "what the source gives the first version"),
    open("eventId", Shape::Places, "an id: equal ones are duplicates where versions are counted"),
    open("time", Shape::Places, "when it happened; left out, the record's timestamp"),
    open("data", Shape::Places, "what the reducer reads; left out, the whole value"),
];

const SNAPSHOT: &[Key] = &[
    key("eventThreshold", Shape::Whole(1, 1_000_000), "100", "events since the last snapshot"),
    key("timeThreshold", Shape::Duration, "10m", "age of the oldest event that no snapshot covers"),
    key("sizeThreshold", Shape::Size, "64KiB", "event bytes since the last snapshot"),
    key(
        "strategy",
        Shape::Choice(&["incremental", "full", "auto"]),
        "incremental",
        "keep the events (any version for ever), states only (needs `history: snapshots`), or `auto`: events, but with `history: snapshots` what takes fewer bytes",
    ),
    key(
        "fullEvery",
        Shape::Whole(1, 1_000),
        "8",
        "with `incremental`: increments between two full snapshots at the most",
    ),
    key(
        "maxWriteAmplification",
        Shape::Decimal,
        "1.0",
        "holds a count back until the event bytes since the last full snapshot are this share of its size",
    ),
    open("adaptive", Shape::Section(ADAPTIVE), "snapshots by predicted time to reconstruct"),
];

const RETENTION: &[Key] = &[
    open(
        "maxSnapshots",
        Shape::Whole(1, 1_000_000),
        "how many full snapshots of an aggregate are kept, the newest; with `history: snapshots` how many snapshots",
    ),
    open(
        "retentionPeriod",
        Shape::Duration,
        "full snapshots that were taken longer ago go; the newest one stays, and so does what `history` promises",
    ),
    open(
        "archiveAfter",
        Shape::Duration,
        "packs that are older go to `blobs.archive`, unless they hold another type that stays longer; they stay \
         readable, and nothing is deleted. Left out, none go",
    ),
    key("interval", Shape::Duration, "1h", "time between two looks at each aggregate that a worker folds"),
    key(
        "aggregatesPerSecond",
        Shape::Whole(1, 100_000),
        "200",
        "how many aggregates a worker looks at in a second: what it costs the index at the most",
    ),
];
const ADAPTIVE: &[Key] = &[open(
    "targetReconstruct",
    Shape::Duration,
    "a full record is taken where reconstructing the head would take longer than this by what loads have taken",
)];

const COMPRESSION: &[Key] = &[
    key("enabled", Shape::Bool, "true", "compress at all"),
    key("algorithm", Shape::Choice(&["zstd", "gzip", "brotli", "lz4", "none"]), "zstd", "how"),
    key("level", Shape::Whole(1, 9), "3", "1 is fastest, 9 is smallest; makes no difference for lz4"),
    key("threshold", Shape::Whole(0, 1 << 20), "64", "bytes below which a record is stored plain"),
    key(
        "dictionary",
        Shape::Choice(&["strict", "off", "none"]),
        "strict",
        "trained dictionaries for zstd: `strict` keeps to strings seen in at least five aggregates, `off` trains on \
         everything (may hold personal data), `none` uses none",
    ),
];

const LIMITS: &[Key] = &[
    key("maxEventBytes", Shape::Size, "1MiB", "longest value of a record"),
    key("maxStateBytes", Shape::Size, "16MiB", "longest state"),
    key("maxDepth", Shape::Whole(1, 512), "128", "deepest nesting of an event and of a state"),
];

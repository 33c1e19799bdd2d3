//! The command line as clap reads it. What is said here is the help text, so it is written for users.

mod import;
mod schedule;
mod snapshot;

use super::archive::ArchiveArgs;
pub use super::args_refold::{
    EraseArgs, LineagesCommand, LineagesDefineArgs, LineagesDropArgs, LineagesLsArgs, ReducerBenchArgs,
    ReducerDiffArgs, RefoldArgs,
};
use super::audit_args::{DoctorArgs, ProofArgs, VerifyArgs};
pub use super::compact::SnapshotCompactArgs;
use super::duties::GcArgs;
pub use super::keeping::{SnapshotHoldArgs, SnapshotReleaseArgs, SnapshotRmArgs};
use super::recovery::{BackupArgs, RebuildIndexArgs, RestoreArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use import::{ImportCommand, ImportCsvArgs, ImportGitArgs, ImportNdjsonArgs, ImportRows, ImportSource};
pub use schedule::{ScheduleCommand, ScheduleLsArgs, SchedulePutArgs, ScheduleRef, StatsArgs};
pub use snapshot::{
    SnapshotCommand, SnapshotCreateArgs, SnapshotLabelArgs, SnapshotLsArgs, SnapshotNoteArgs,
    SnapshotShowArgs, SnapshotVerifyArgs, VerifyMode,
};
use std::path::PathBuf;

/// Time travel for Kafka event topics: fold, snapshot, and ask for any version of any aggregate
#[derive(Debug, Parser)]
#[command(name = "snapfold", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 verification failed, \
                          5 dependency unreachable, 6 configuration invalid, 7 conflict.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try it: broker, stores, worker and API in one process, fed with a sample or with your events
    Dev(DevArgs),
    /// Fold a topic as a worker of the group, and serve the API
    Run(RunArgs),
    /// Create what the stores need (keyspace, tables, bucket) where it is missing; may be repeated
    Migrate(MigrateArgs),
    /// Look once for packs that nothing names, and delete those found so before
    Gc(GcArgs),
    /// Move packs that are older than `archiveAfter` to the archive, where they stay readable
    Archive(ArchiveArgs),
    /// Write the rows of an index that was lost again, from the packs and the ledger alone
    RebuildIndex(RebuildIndexArgs),
    /// Copy the blob store to a folder or another bucket; what is there already is not copied again
    Backup(BackupArgs),
    /// Bring a backup back into empty stores, and rebuild the index
    Restore(RestoreArgs),
    /// Print the state of an aggregate, now or at any earlier moment
    Get(GetArgs),
    /// List the events of an aggregate, newest first
    Log(LogArgs),
    /// Show what changed between two versions of an aggregate
    Diff(DiffArgs),
    /// Show which event wrote each field of an aggregate last
    Blame(BlameArgs),
    /// Follow the changes of an aggregate as they happen
    Watch(WatchArgs),
    /// Print what proves a version to somebody who does not trust the server, or check such a proof
    Proof(ProofArgs),
    /// Check all that is stored, in tiers; exit 4 if anything is wrong
    Verify(VerifyArgs),
    /// Take, list, show, label and verify stored snapshots
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Take snapshots at due times: make, list, run, pause and remove schedules
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Show how much is stored: by stream, by class of packs, or of one aggregate day by day
    Stats(StatsArgs),
    /// Turn history that exists elsewhere into events, one record a line on stdout
    #[command(subcommand)]
    Import(ImportCommand),
    /// Find out what a worker with this configuration will meet, and what could not be kept
    Doctor(DoctorArgs),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Test reducers, measure them, and see what a new one would change
    #[command(subcommand)]
    Reducer(ReducerCommand),
    /// Fold stored history again with a new reducer, beside the workers that go on with the old one
    Refold(RefoldArgs),
    /// List, define and drop lineages: what older reducers folded
    #[command(subcommand)]
    Lineages(LineagesCommand),
    /// Erase an aggregate for good, or show what became of an erasure
    Erase(EraseArgs),
    /// Explain a code that an error or a dead letter carries
    Explain(ExplainArgs),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Which server to ask and how to print what it answers.
#[derive(Args, Clone, Debug)]
pub struct Asking {
    /// URL of the server
    #[arg(long, env = "SNAPFOLD_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub server: String,
    /// How to print: `json` is the answer of the API, unchanged
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// The answer of the API, unchanged
    Json,
    /// One JSON value a line
    Ndjson,
    /// YAML, numbers with their exact digits
    Yaml,
}

/// `get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// TYPE/ID, with @VERSION, @TIME or ~N (N versions before the head) at its end for an earlier moment
    #[arg(value_name = "TYPE/ID[@VERSION|@TIME|~N]")]
    pub address: String,
    /// The state at this version; the address is then TYPE/ID alone
    #[arg(long, value_name = "N", group = "moment")]
    pub version: Option<u64>,
    /// The state at this time: RFC 3339, a date, or epoch milliseconds
    #[arg(long, value_name = "TIME", group = "moment", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// The state as of this record of the topic
    #[arg(long, value_name = "PARTITION:OFFSET", group = "moment")]
    pub offset: Option<String>,
    /// Within what this had seen, as an earlier answer gave it: the same answer for ever
    #[arg(long, value_name = "BASIS", conflicts_with_all = ["min_version", "wait"])]
    pub basis: Option<String>,
    /// Answer only once this version has been folded
    #[arg(long, value_name = "N")]
    pub min_version: Option<u64>,
    /// How long to wait for that, as in `2s`
    #[arg(long, value_name = "DURATION", requires = "min_version")]
    pub wait: Option<String>,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// Show what each event changed
    #[arg(short, long)]
    pub patch: bool,
    /// Only the changes of this field, as in `/items/0/price`
    #[arg(long, value_name = "POINTER", conflicts_with = "patch")]
    pub path: Option<String>,
    /// At most so many events
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `blame`.
#[derive(Args, Clone, Debug)]
pub struct BlameArgs {
    /// The aggregate, with @VERSION, @TIME or ~N at its end for an earlier moment
    #[arg(value_name = "TYPE/ID[@VERSION|@TIME|~N]")]
    pub address: String,
    /// Only this field and what is in it, as in `/items`
    #[arg(value_name = "POINTER")]
    pub path: Option<String>,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// Start with this version instead of the next one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub from_version: Option<u64>,
    /// End after so many changes
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `diff`.
#[derive(Args, Clone, Debug)]
pub struct DiffArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// Two moments: versions, -N (versions before the head) or @TIME; `A..` ends at the head
    #[arg(value_name = "A..B", allow_hyphen_values = true)]
    pub range: String,
    /// Exit with 1 if there is a difference
    #[arg(long)]
    pub exit_code: bool,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// The configuration file and what is set over it.
#[derive(Args, Clone, Debug)]
pub struct ConfigSource {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set one value over file and environment, as in `kafka.brokers=localhost:9092`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

/// `migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Find everything that is wrong with a configuration, and run its tests
    Check(ConfigSource),
    /// Print the configuration in force and where each value comes from; secrets stay hidden
    Show(ConfigSource),
    /// Print the JSON Schema of the configuration
    Schema,
}

/// `reducer`.
#[derive(Debug, Subcommand)]
pub enum ReducerCommand {
    /// Run the tests of all streams; exit 1 if one fails
    Test(ConfigSource),
    /// Show which states a new reducer would change, over the history that is there
    Diff(ReducerDiffArgs),
    /// Measure what an event costs, over stored history
    Bench(ReducerBenchArgs),
}

/// `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The code, as in `history-gone`
    pub code: String,
}

/// `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `run`: a worker of the group.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Start a new lineage where the reducer, the mapping or the topic is another one than before
    #[arg(long)]
    pub new_lineage: bool,
    /// Fold partitions that were added to a topic: only where no aggregate has moved to another one
    #[arg(long)]
    pub accept_partitions: bool,
}

/// `dev`: broker, stores, worker and API in one process.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// The configuration file; its `kafka`, `index`, `blobs`, `registry` and `http` are replaced. Left out, a
    /// bundled sample of real data
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one value over file and environment, as in `memory.limit=2GiB`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Events to feed, one JSON value a line, `-` for stdin; TYPE names the stream where there are several
    #[arg(long, value_name = "[TYPE=]FILE", num_args = 1.., requires = "config")]
    pub events: Vec<String>,
    /// Each line of the events is a whole record: {"key":…,"value":…,"headers":{…},"timestamp":…}
    #[arg(long, requires = "events")]
    pub records: bool,
    /// Port of the API on this machine; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Partitions of each topic
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub partitions: u16,
    /// Keep index and blobs in this folder; left out, nothing outlives the process
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// End once all events are fed and folded, instead of serving until Ctrl-C
    #[arg(long)]
    pub exit: bool,
}

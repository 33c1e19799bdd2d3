//! The command line of what changes history's reading: `reducer diff`, `reducer bench`, `refold`, `lineages`,
//! `erase`.

use super::args::{Asking, ConfigSource, Format};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `reducer diff`.
#[derive(Args, Clone, Debug)]
pub struct ReducerDiffArgs {
    /// The configuration with the new reducer.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only this type; left out, all streams of the configuration
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Look at so many aggregates of a type, drawn from all of them, the same ones each time
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: u64,
    /// Look at all aggregates
    #[arg(long, conflicts_with = "sample")]
    pub all: bool,
    /// Ask a server for states and events (those have the mapping of the server); SNAPFOLD_SERVER or
    /// http://127.0.0.1:8080 where neither this nor `--offline` is given
    #[arg(long, env = "SNAPFOLD_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub server: String,
    /// Read the stores that the configuration names, without a server and without brokers
    #[arg(long)]
    pub offline: bool,
    /// With `--offline`: the configuration with the old reducer, to compare every version; else states are
    /// compared where full snapshots are stored
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub before: Option<PathBuf>,
    /// Show what changes in so many aggregates
    #[arg(short = 'n', long, default_value_t = 20)]
    pub limit: usize,
    /// Exit with 1 if a state would change or an event would be refused
    #[arg(long)]
    pub exit_code: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `reducer bench`.
#[derive(Args, Clone, Debug)]
pub struct ReducerBenchArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only this type; left out, all streams of the configuration
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Fold at least so many events of stored history
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `refold`.
#[derive(Args, Clone, Debug)]
pub struct RefoldArgs {
    /// The configuration with the new reducer.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only this type; left out, all streams whose reducer is another one
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Write the new lineage and leave the old one active: run `refold` again to take over
    #[arg(long)]
    pub prepare: bool,
    /// Drop the old lineage once the new one is active: what is stored of it goes, and nothing brings it back
    #[arg(long, conflicts_with_all = ["dry_run", "prepare"])]
    pub drop_old: bool,
    /// The mapping is the same as that of the active lineage, which was started before that was noted
    #[arg(long)]
    pub same_mapping: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `lineages`.
#[derive(Debug, Subcommand)]
pub enum LineagesCommand {
    /// List the lineages of a server's streams
    Ls(LineagesLsArgs),
    /// Keep how the streams of a configuration fold, so that a lineage of before that was kept can be read
    Define(LineagesDefineArgs),
    /// Drop a lineage that nobody folds any more; without `--yes`, say what would go
    Drop(LineagesDropArgs),
}

/// `lineages ls`.
#[derive(Args, Clone, Debug)]
pub struct LineagesLsArgs {
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `lineages define`.
#[derive(Args, Clone, Debug)]
pub struct LineagesDefineArgs {
    /// The configuration with the reducer of then.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only this type; left out, all streams
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
}

/// `lineages drop`.
#[derive(Args, Clone, Debug)]
pub struct LineagesDropArgs {
    /// Its number
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub lineage: u32,
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Of this type; may be left out where the configuration has one stream
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Do it
    #[arg(long)]
    pub yes: bool,
    /// Also a lineage that was prepared: no refold is writing it, and none will go on
    #[arg(long)]
    pub abandon: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `erase`.
#[derive(Args, Clone, Debug)]
pub struct EraseArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// Why; it stays on record. Left out, what became of an erasure is shown
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// What the request is called elsewhere; stays on record
    #[arg(long, value_name = "TEXT", requires = "reason")]
    pub request_id: Option<String>,
    /// Do not ask again
    #[arg(long)]
    pub yes: bool,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

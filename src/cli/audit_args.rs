//! What can be typed for the commands that check things: `proof`, `verify` and `doctor`.

use super::args::{Asking, ConfigSource, Format};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `proof`.
#[derive(Args, Clone, Debug)]
pub struct ProofArgs {
    /// The aggregate, and the version to prove: the head without
    #[arg(value_name = "TYPE/ID[@VERSION]", required_unless_present = "check")]
    pub address: Option<String>,
    /// The version; the address is then TYPE/ID alone
    #[arg(long, value_name = "N", requires = "address", value_parser = clap::value_parser!(u64).range(1..))]
    pub version: Option<u64>,
    /// Only the links after this version
    #[arg(long, value_name = "N", conflicts_with = "check", value_parser = clap::value_parser!(u64).range(1..))]
    pub after: Option<u64>,
    /// Check the proof in this file, `-` for stdin, without any server; exit 4 if it does not hold
    #[arg(long, value_name = "FILE")]
    pub check: Option<String>,
    /// With `--check`: the topic's records as you have them, one a line (`kcat -J`, or `dev --records`)
    #[arg(long, value_name = "FILE", requires = "check")]
    pub events: Option<String>,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// How thoroughly
    #[arg(long, value_enum, default_value_t = Tier::Structure)]
    pub tier: Tier,
    /// Only aggregates of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only of those whose ids start with this
    #[arg(long, value_name = "TEXT", requires = "kind")]
    pub prefix: Option<String>,
    /// With `--tier sample`: read one of so many aggregates (100 without)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Read every byte and fold every history from the blob store alone: no server, no index, no topic
    #[arg(long, requires = "config", conflicts_with_all = ["tier", "kind", "prefix", "sample"])]
    pub offline: bool,
    /// With `--offline`: the configuration file
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub config: Option<PathBuf>,
    /// With `--offline`: set one value over file and environment
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "offline")]
    pub sets: Vec<String>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// How thoroughly `verify` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Every row against the footer of its pack; no record is read
    Structure,
    /// The same, and some aggregates with all their records
    Sample,
    /// Every row, and every stored byte
    Full,
    /// Every row, and the topic folded again
    Replay,
}

/// `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// How to print what was found
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

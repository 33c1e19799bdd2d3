//! What can be typed after `snapshot`, but for what other commands own.

use super::{Asking, SnapshotCompactArgs, SnapshotHoldArgs, SnapshotReleaseArgs, SnapshotRmArgs};
use clap::{Args, Subcommand, ValueEnum};

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// List the snapshots of an aggregate, oldest first
    Ls(SnapshotLsArgs),
    /// Print the state in a snapshot: the newest one, or that of a version
    Show(SnapshotShowArgs),
    /// Check what is stored against checksums, hash chain and fold; exit 4 if anything is wrong
    Verify(SnapshotVerifyArgs),
    /// Take a snapshot of an aggregate now, or of all whose ids start with a prefix
    Create(SnapshotCreateArgs),
    /// Merge the history of an aggregate into segments, or thin what is stored of it
    Compact(SnapshotCompactArgs),
    /// Keep a snapshot, whatever retention says
    Pin(SnapshotNoteArgs),
    /// Leave a snapshot to retention again
    Unpin(SnapshotNoteArgs),
    /// Give a snapshot a name, or take it away
    Label(SnapshotLabelArgs),
    /// Delete a snapshot, or all older ones that nothing needs
    Rm(SnapshotRmArgs),
    /// Let nothing of an aggregate be deleted
    Hold(SnapshotHoldArgs),
    /// Let what was held be deleted again
    Release(SnapshotReleaseArgs),
}

/// `snapshot create`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotCreateArgs {
    /// The aggregate; left out, all of `--type`
    #[arg(value_name = "TYPE/ID", required_unless_present = "kind", conflicts_with = "kind")]
    pub address: Option<String>,
    /// Take snapshots of all aggregates of this type
    #[arg(long = "type", id = "kind", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only of those whose ids start with this
    #[arg(long, value_name = "TEXT", requires = "kind")]
    pub prefix: Option<String>,
    /// Of this version instead of the head
    #[arg(long, value_name = "N", conflicts_with = "kind", value_parser = clap::value_parser!(u64).range(1..))]
    pub version: Option<u64>,
    /// What to call the snapshot
    #[arg(long, value_name = "TEXT", conflicts_with = "kind")]
    pub label: Option<String>,
    /// Only if the state is that of this JSON file, `-` for stdin; exit 7 if it is another one
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    pub state: Option<String>,
    /// Why it is taken
    #[arg(long, value_name = "TEXT", conflicts_with = "kind")]
    pub reason: Option<String>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `snapshot pin` and `snapshot unpin`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotNoteArgs {
    /// The aggregate, and the snapshot's version
    #[arg(value_name = "TYPE/ID@VERSION")]
    pub address: String,
    /// The snapshot's version; the address is then TYPE/ID alone
    #[arg(long, value_name = "N")]
    pub version: Option<u64>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `snapshot label`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotLabelArgs {
    /// The snapshot.
    #[command(flatten)]
    pub note: SnapshotNoteArgs,
    /// The name; left out, it has none afterwards
    #[arg(value_name = "LABEL")]
    pub label: Option<String>,
}

/// `snapshot ls`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotLsArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// At most so many snapshots
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `snapshot show`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotShowArgs {
    /// The aggregate, and the snapshot's version
    #[arg(value_name = "TYPE/ID[@VERSION]")]
    pub address: String,
    /// The snapshot's version; the address is then TYPE/ID alone
    #[arg(long, value_name = "N")]
    pub version: Option<u64>,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `snapshot verify`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotVerifyArgs {
    /// The aggregate; with a version, all that leads to it
    #[arg(value_name = "TYPE/ID[@VERSION]")]
    pub address: String,
    /// Verify up to this version; the address is then TYPE/ID alone
    #[arg(long, value_name = "N")]
    pub version: Option<u64>,
    /// How thoroughly
    #[arg(long, value_enum, default_value_t = VerifyMode::Checksum)]
    pub mode: VerifyMode,
    /// As an older lineage had it, folded by the reducer of then; see `lineages ls`
    #[arg(long, value_name = "N")]
    pub lineage: Option<u32>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// How thoroughly stored history is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyMode {
    /// Every stored record against its checksums, the chain and the fold
    Checksum,
    /// The same, and every byte of the packs that hold them
    Pack,
    /// The same as `checksum`, and against the topic as far back as it reaches
    Replay,
}

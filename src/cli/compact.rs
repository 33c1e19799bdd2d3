//! `snapshot compact`: the history of one aggregate merged, thinned or rebased.

use super::address::Address;
use super::args::Asking;
use super::client::{Body, Client};
use super::create::{follow, members, text};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::{Screen, printable};
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};
use clap::{Args, ValueEnum};

/// `snapshot compact`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotCompactArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// What to do
    #[arg(long, value_enum, default_value_t = CompactStrategy::Merge)]
    pub strategy: CompactStrategy,
    /// Full snapshots that stay, the newest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep: Option<u64>,
    /// With `rebase`: the first version that must stay without what is before it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub from_version: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// What compaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompactStrategy {
    /// Merge increments into segments
    Merge,
    /// Let go of full snapshots that events lead to
    Thin,
    /// Write a full snapshot that needs nothing before it
    Rebase,
}

pub(super) fn run(args: &SnapshotCompactArgs, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let strategy = match args.strategy {
        CompactStrategy::Merge => "merge",
        CompactStrategy::Thin => "thin",
        CompactStrategy::Rebase => "rebase",
    };
    let mut keep = Object::new();
    let number = |value: u64| Value::Number(Number::from(value));
    args.keep.into_iter().for_each(|count| drop(keep.insert("snapshots", number(count))));
    args.from_version.into_iter().for_each(|version| drop(keep.insert("fromVersion", number(version))));
    let request = members(&[
        ("strategy", text(strategy)),
        ("keep", Value::Object(keep)),
        ("dryRun", Value::Bool(args.dry_run)),
    ]);
    let client = Client::new(&args.asking.server)?;
    let answer = client.post_at(&Client::path(&address, "/snapshots:compact"), &request)?;
    if args.dry_run {
        return planned(&answer, args, screen);
    }
    let job = follow(&client, &answer, screen)?;
    let is_done = job.value.get("status").and_then(Value::as_str) == Some("done");
    if !print::body(screen, args.asking.output, &job)? && is_done {
        told(&job, args.strategy, screen)?;
    }
    if is_done {
        return Ok(());
    }
    let why = printable(&cell(&job.value, &["error", "detail"]));
    let status = printable(&cell(&job.value, &["status"]));
    let code = job.value.get("error").and_then(|error| error.get("code")).and_then(Value::as_str);
    let exit = if code == Some("state-mismatch") { Exit::Verification } else { Exit::Failure };
    Err(Failure::new(exit, format!("the job is {status}: {why}")))
}

fn planned(answer: &Body, args: &SnapshotCompactArgs, screen: &mut Screen<'_>) -> Done {
    if print::body(screen, args.asking.output, answer)? {
        return Ok(());
    }
    let count = |name: &str| cell(&answer.value, &[name]);
    let (reads, writes, freed) = (count("reads"), count("writes"), count("freedBytes"));
    screen.line(&format!("would read {reads} records, write {writes} and free {freed} bytes"))
}

fn told(job: &Body, strategy: CompactStrategy, screen: &mut Screen<'_>) -> Done {
    let count = |name: &str| cell(&job.value, &["result", name]);
    if strategy == CompactStrategy::Rebase {
        let is_new = count("created") == "true";
        let how = if is_new { "written" } else { "there already" };
        let (version, bytes) = (count("version"), count("freeableBytes"));
        return screen
            .line(&format!("a full snapshot of version {version} is {how}; {bytes} bytes before it may go"));
    }
    let (segments, events, stored) = (count("segments"), count("events"), count("storedBytes"));
    let (superseded, deleted, freed) = (count("superseded"), count("deleted"), count("freedBytes"));
    screen.line(&format!(
        "{events} events in {segments} segments of {stored} bytes; {deleted} of {superseded} redundant rows \
         deleted, {freed} bytes freed"
    ))
}

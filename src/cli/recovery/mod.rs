//! `rebuild-index`, `backup`, `restore`, `verify --offline`: what brings stored history back, and what tells
//! that it is whole. They work on the stores that a configuration names, without a server.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | what can be typed, the bar, the end of a report |
//! | `rebuild.rs` | `rebuild-index` |
//! | `backup.rs` | `backup` and `restore` |
//! | `verify.rs` | `verify --offline` |

mod backup;
mod rebuild;
mod verify;

pub(super) use backup::{backup, restore};
pub(super) use rebuild::{rebuild_index, refuse_lost_index};
pub(super) use verify::verify;

use super::args::ConfigSource;
use super::failure::{Done, Exit, Failure};
use super::screen::{Screen, printable};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

/// Problems that are told one by one.
const PROBLEMS_TOLD: usize = 50;

/// `rebuild-index`.
#[derive(Args, Clone, Debug)]
pub struct RebuildIndexArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Only read and count: write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Aggregates whose rows are written at the same time
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub concurrency: u32,
    /// Make the index usable though objects are missing or damaged: what they held is lost
    #[arg(long)]
    pub accept_losses: bool,
}

/// `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// File and arguments.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Where to: a folder, or a bucket of the configured store or of `--endpoint`
    #[arg(value_name = "DIRECTORY|s3://BUCKET[/PREFIX]")]
    pub target: String,
    /// Only say what would be copied
    #[arg(long)]
    pub dry_run: bool,
    /// How a bucket is reached.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// `restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// File and arguments: the stores to restore into, which must be empty.
    #[command(flatten)]
    pub source: ConfigSource,
    /// Where from: what `backup` wrote to
    #[arg(value_name = "DIRECTORY|s3://BUCKET[/PREFIX]")]
    pub from: String,
    /// Which backup, as its manifest is named; the last one without
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// Only read and compare: write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Make the index usable though objects are missing or damaged: what they held is lost
    #[arg(long)]
    pub accept_losses: bool,
    /// How a bucket is reached.
    #[command(flatten)]
    pub bucket: BucketArgs,
}

/// A bucket that is not the configured one.
#[derive(Args, Clone, Debug)]
pub struct BucketArgs {
    /// URL of the bucket's store; that of `blobs.s3` without
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the bucket; that of `blobs.s3` without
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// The bucket's name is a part of the path, as with `blobs.s3.pathStyle`
    #[arg(long)]
    pub path_style: bool,
}

/// Runs work, and draws a bar meanwhile where stderr is a terminal. `look` tells what is done, what there is,
/// and what it is.
async fn beside<T>(work: impl Future<Output = T>, look: impl Fn() -> (u64, u64, String)) -> T {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}").expect("the template is one");
    let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_millis(200), &mut work).await {
            Ok(done) => {
                bar.finish_and_clear();
                return done;
            }
            Err(_) => {
                let (done, total, what) = look();
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(what);
            }
        }
    }
}

/// Tells what is wrong, and fails if anything is.
fn told(problems: &[String], hint: &str, screen: &mut Screen<'_>) -> Done {
    if problems.is_empty() {
        return Ok(());
    }
    problems.iter().take(PROBLEMS_TOLD).for_each(|problem| screen.say(&printable(problem)));
    if let Some(more @ 1..) = problems.len().checked_sub(PROBLEMS_TOLD) {
        screen.say(&format!("... and {more} more"));
    }
    Err(Failure::new(Exit::Verification, format!("{} problems", problems.len())).hint(hint))
}

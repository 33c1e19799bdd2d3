//! What can be typed after `schedule` and `stats`.

use super::Asking;
use clap::{Args, Subcommand};

/// `schedule`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List schedules with their next and last runs
    Ls(ScheduleLsArgs),
    /// Make a schedule, or change the one of this name
    Put(SchedulePutArgs),
    /// Remove a schedule; snapshots that it took stay
    Rm(ScheduleRef),
    /// Run a schedule now, paused or not
    Run(ScheduleRef),
    /// Let due times pass
    Pause(ScheduleRef),
    /// Let due times count again, from now on
    Resume(ScheduleRef),
}

/// A schedule that is there.
#[derive(Args, Clone, Debug)]
pub struct ScheduleRef {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `schedule ls`.
#[derive(Args, Clone, Debug)]
pub struct ScheduleLsArgs {
    /// At most so many schedules
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `schedule put`.
#[derive(Args, Clone, Debug)]
pub struct SchedulePutArgs {
    /// Its name: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Of this aggregate; left out, all of `--type`
    #[arg(value_name = "TYPE/ID", required_unless_present = "kind", conflicts_with = "kind")]
    pub address: Option<String>,
    /// Of all aggregates of this type
    #[arg(long = "type", id = "kind", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only of those whose ids start with this
    #[arg(long, value_name = "TEXT", requires = "kind")]
    pub prefix: Option<String>,
    /// When: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "EXPRESSION")]
    pub cron: String,
    /// The time zone in which that is read, by its IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub timezone: String,
    /// Start up to so much later, as in `30s`, so that not everything starts at once
    #[arg(long, value_name = "DURATION")]
    pub jitter: Option<String>,
    /// Make it, but let due times pass until it is resumed
    #[arg(long)]
    pub paused: bool,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `stats`.
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    /// Of this aggregate, day by day; left out, of all streams
    #[arg(value_name = "TYPE/ID")]
    pub address: Option<String>,
    /// Only snapshots that were taken at this time or later
    #[arg(long, value_name = "TIME", requires = "address", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only snapshots that were taken at this time or earlier
    #[arg(long, value_name = "TIME", requires = "address", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// What packs hold, by class
    #[arg(long, conflicts_with = "address")]
    pub storage: bool,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

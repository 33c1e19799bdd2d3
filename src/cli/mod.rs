//! The command line. Data goes to stdout, everything else to stderr; every command ends with an exit code
//! that scripts can rely on.
//!
//! | file | owns |
//! |---|---|
//! | `args.rs` | what can be typed, and the help |
//! | `audit_args.rs` | the same for `proof`, `verify` and `doctor` |
//! | `address.rs` | `TYPE/ID@MOMENT` and `A..B` |
//! | `failure.rs` | failures and exit codes |
//! | `screen.rs` | stdout, stderr, colours, columns |
//! | `yaml.rs` | values as YAML |
//! | `client.rs` | the HTTP client, its errors and pages |
//! | `print.rs` | answers of the API in the format asked for |
//! | `changes.rs` | a JSON patch as lines for people |
//! | `get.rs`, `log.rs`, `diff.rs`, `blame.rs`, `watch.rs`, `snapshot.rs` | the commands that ask a server |
//! | `verify.rs` | all that is stored, by a job |
//! | `proof/` | what proves a version, and checking it offline |
//! | `checks.rs` | checks as lines: `ok`, `warn`, `fail` |
//! | `create.rs` | `snapshot create`, `pin`, `unpin`, `label` |
//! | `keeping.rs` | `snapshot rm`, `hold`, `release` |
//! | `schedule.rs` | `schedule ls`, `put`, `rm`, `run`, `pause`, `resume` |
//! | `stats.rs` | `stats` |
//! | `takes.rs` | what schedules need of a worker |
//! | `source.rs` | reading the configuration: file, environment, arguments, secrets |
//! | `config.rs` | `config check`, `show` and `schema` |
//! | `reducer.rs` | `reducer test` |
//! | `reducer_diff.rs`, `reducer_bench.rs` | `reducer diff` and `reducer bench` |
//! | `reducer_history.rs` | the history that they fold |
//! | `refold.rs`, `erase.rs` | `refold`, `erase` |
//! | `args_refold.rs` | what can be typed of these |
//! | `explain.rs` | `explain` |
//! | `run.rs` | `run`, and what every process shares: runtime, signals, first answers of servers |
//! | `stack.rs` | the composition root of every worker process |
//! | `listen.rs` | where a process listens |
//! | `settings.rs` | what a configuration means for the parts of a process |
//! | `compact.rs` | `snapshot compact` |
//! | `compaction.rs` | whether a topic is compacted |
//! | `health.rs` | what the process knows of its own health: readiness, liveness |
//! | `samples.rs` | what a scrape shows beside workers and health |
//! | `schemas.rs` | the schema registry of a process, and the streams that wait for it |
//! | `upkeep.rs` | background duties, by the configuration |
//! | `archive.rs` | `archive`, and the duty that does the same |
//! | `duties.rs` | background duties of a worker, and `gc` |
//! | `purge.rs` | the purge, which goes with both |
//! | `migrate.rs` | `migrate` |
//! | `doctor/` | what a worker will meet: topics, rights, stores, coverage |
//! | `recovery/` | `rebuild-index`, `backup`, `restore`, `verify --offline` |
//! | `stores.rs` | which index, blobs and cache a configuration means |
//! | `dev.rs` | `dev`: broker, stores, worker, API and sample in one process |
//! | `import/` | `import`: history from elsewhere as records |
//! | `feed.rs` | events from files and pipes into the broker of `dev` |

mod address;
mod archive;
pub mod args;
mod args_refold;
pub mod audit_args;
mod blame;
mod changes;
mod checks;
mod client;
mod compact;
mod compaction;
mod config;
mod create;
mod dev;
mod diff;
mod doctor;
mod duties;
mod erase;
mod explain;
pub mod failure;
mod feed;
mod get;
mod health;
mod import;
mod keeping;
mod lineages;
mod listen;
mod log;
mod migrate;
mod old_lineages;
mod print;
mod proof;
mod purge;
pub mod recovery;
mod reducer;
mod reducer_bench;
mod reducer_diff;
mod reducer_history;
mod refold;
mod run;
mod samples;
mod schedule;
mod schemas;
pub mod screen;
#[cfg(test)]
mod serve;
mod settings;
mod snapshot;
pub mod source;
mod stack;
mod stats;
mod stores;
mod takes;
mod upkeep;
mod verify;
mod watch;
mod yaml;

use args::{Command, CommandLine};
use clap::{CommandFactory, Parser};
use failure::{Done, Exit};
use screen::Screen;
use std::io::{self, BufWriter};
use std::process::ExitCode;

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(line) => line.command,
        Err(error) => {
            // Help and version are no errors; where they go is gone if this fails.
            error.print().unwrap_or_default();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    let (mut out, mut err) = (BufWriter::new(io::stdout().lock()), io::stderr());
    let mut screen = Screen { out: &mut out, err: &mut err, is_coloured: screen::wants_colour() };
    let done = run(command, &mut screen).and_then(|()| Ok(screen.out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What was printed before the failure is data all the same.
            screen.out.flush().unwrap_or_default();
            screen.fail(&failure);
            failure.code()
        }
    }
}

fn run(command: Command, screen: &mut Screen<'_>) -> Done {
    match command {
        Command::Dev(args) => dev::run(&args, screen),
        Command::Run(args) => run::run(&args, screen),
        Command::Migrate(args) => migrate::run(&args, screen),
        Command::Gc(args) => duties::gc(&args, screen),
        Command::Archive(args) => archive::run(&args, screen),
        Command::RebuildIndex(args) => recovery::rebuild_index(&args, screen),
        Command::Backup(args) => recovery::backup(&args, screen),
        Command::Restore(args) => recovery::restore(&args, screen),
        Command::Get(args) => get::run(&args, screen),
        Command::Log(args) => log::run(&args, screen),
        Command::Diff(args) => diff::run(&args, screen),
        Command::Blame(args) => blame::run(&args, screen),
        Command::Watch(args) => watch::run(&args, screen),
        Command::Verify(args) => verify::run(&args, screen),
        Command::Proof(args) => proof::run(&args, screen),
        Command::Snapshot(command) => snapshot::run(&command, screen),
        Command::Stats(args) => stats::run(&args, screen),
        Command::Schedule(command) => schedule::run(&command, screen),
        Command::Import(command) => import::run(&command, screen),
        Command::Doctor(args) => doctor::run(&args, screen),
        Command::Config(command) => config::run(&command, screen),
        Command::Reducer(args::ReducerCommand::Test(source)) => reducer::test(&source, screen),
        Command::Reducer(args::ReducerCommand::Diff(args)) => reducer_diff::run(&args, screen),
        Command::Reducer(args::ReducerCommand::Bench(args)) => reducer_bench::run(&args, screen),
        Command::Refold(args) => refold::run(&args, screen),
        Command::Lineages(command) => lineages::run(&command, screen),
        Command::Erase(args) => erase::run(&args, screen),
        Command::Explain(args) => explain::run(&args, screen),
        Command::Openapi => Ok(screen.out.write_all(crate::http::openapi_document().as_bytes())?),
        Command::Version => screen.line(concat!("snapfold ", env!("CARGO_PKG_VERSION"))),
        Command::Completions(args) => {
            // Written to memory first: clap_complete panics where a pipe is closed.
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut CommandLine::command(), "snapfold", &mut script);
            Ok(screen.out.write_all(&script)?)
        }
    }
}

#[cfg(test)]
mod tests;

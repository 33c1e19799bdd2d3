//! `run`: a worker process from start to stop, and what every process shares: its runtime, its signals, the
//! first answer of its servers.

use super::args::RunArgs;
use super::failure::{Done, Exit, Failure};
use super::screen::Screen;
use super::source::load_config;
use super::stack::{Options, Stack};
use crate::clock::SystemClock;
use crate::compute::FILE_THREADS_MAX;
use crate::config::Config;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::outcome::{PortError, PortResult};
use crate::http::date;
use crate::telemetry::logging;
use futures_util::FutureExt;
use std::future::Future;
use std::time::Duration;

/// Before a failed write or read is repeated.
pub(super) const RETRY_MS: u64 = 200;
/// How long servers may take to answer for the first time.
const FIRST_ANSWER_MS: u64 = 30_000;

/// The `run` command.
pub(super) fn run(args: &RunArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    runtime(&config)?.block_on(async {
        let options = Options {
            new_lineage: args.new_lineage,
            more_partitions: args.accept_partitions,
            own_broker: false,
        };
        let stack = Stack::start(&config, options).await?;
        if let Some(admin) = stack.admin {
            screen.say(&format!("health and metrics on http://{admin}"));
        }
        screen.say(&format!("serving on http://{}", stack.address));
        until_told_to_stop().await;
        screen.say("stopping: covering what is not yet covered ...");
        stack.stop().await;
        Ok(())
    })
}

/// Logs as the environment says.
pub(super) fn start_logging() -> Done {
    logging::start().map_err(|why| Failure::usage(why, "see `SNAPFOLD_LOG` in docs/OPERATIONS.md"))
}

/// The runtime of a process, whose threads can all serve.
pub(super) fn runtime(config: &Config) -> Done<tokio::runtime::Runtime> {
    if !date::can_tell(SystemClock::told()) {
        let why = "the clock of this machine says a time before 1970 or after 9999".to_owned();
        return Err(Failure::new(Exit::Failure, why).hint("set the clock; it may go wrong later"));
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.max_blocking_threads(FILE_THREADS_MAX).on_thread_start(date::prepare_thread);
    if let Some(threads) = config.threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(|error| {
        Failure::new(Exit::Failure, format!("start the runtime: {error}")).hint("check the limits of threads")
    })
}

/// Waits for Ctrl-C or SIGTERM; the second one ends the process at once.
pub(super) async fn until_told_to_stop() {
    signal().await;
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    futures_util::future::select(terminate.boxed(), tokio::signal::ctrl_c().boxed()).await;
}

/// A fault that keeps the process from starting.
pub(super) fn fault(error: Error) -> Failure {
    let exit = match error.kind {
        ErrorKind::Unavailable => Exit::Unreachable,
        ErrorKind::Invalid => Exit::Config,
        ErrorKind::Conflict => Exit::Conflict,
        _ => Exit::Failure,
    };
    Failure::new(exit, error.detail)
}

/// Repeats a question until it is answered, for as long as servers may take to come up.
pub(super) async fn first_answer<T, F>(doing: &str, hint: &str, mut ask: impl FnMut() -> F) -> Done<T>
where
    F: Future<Output = PortResult<T>>,
{
    let mut last = String::new();
    let asking = async {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(PortError::Permanent(why)) => return Err(why),
                Err(PortError::Missing) => return Err("there is no such topic".to_owned()),
                Err(error) => {
                    tracing::warn!(%error, "{doing}");
                    last = format!("; the last one: {error}");
                    tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                }
            }
        }
    };
    match tokio::time::timeout(Duration::from_millis(FIRST_ANSWER_MS), asking).await {
        Ok(answer) => {
            answer.map_err(|why| Failure::new(Exit::Unreachable, format!("{doing}: {why}")).hint(hint))
        }
        Err(_) => {
            let late = format!("{doing}: no answer within {} s{last}", FIRST_ANSWER_MS / 1_000);
            Err(Failure::new(Exit::Unreachable, late).hint(hint))
        }
    }
}

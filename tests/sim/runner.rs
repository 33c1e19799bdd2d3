//! Runs many seeds on two threads, each in both version modes, and says what was tried and what failed.
//!
//! Environment: `SNAPFOLD_SIM_SEEDS` how many seeds, `SNAPFOLD_SIM_FIRST` the first of them,
//! `SNAPFOLD_SIM_SEED` one seed alone, with its trace printed (run with `-- --nocapture`);
//! `SNAPFOLD_SIM_VERSIONS` is `given` or `counted` for one mode alone.

use crate::ports::producer::VersionMode;
use crate::stats::{Count, Totals};
use crate::world::Outcome;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::executor::lock;

/// One run of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    /// The seed.
    pub(crate) seed: u64,
    /// The version mode.
    pub(crate) versions: VersionMode,
    /// Whether to print the trace.
    pub(crate) verbose: bool,
}

impl PartialOrd for VersionMode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VersionMode {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds {
    /// The first.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u64,
    /// Print traces.
    pub(crate) verbose: bool,
}

impl Seeds {
    /// What the environment asks for, else `count` seeds from 0.
    pub(crate) fn from_env(count: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        match number("SNAPFOLD_SIM_SEED") {
            Some(first) => Self { first, count: 1, verbose: true },
            None => Self {
                first: number("SNAPFOLD_SIM_FIRST").unwrap_or(0),
                count: number("SNAPFOLD_SIM_SEEDS").unwrap_or(count),
                verbose: false,
            },
        }
    }
}

/// What became of all seeds.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Figures.
    pub(crate) totals: Totals,
    /// Cases that failed, with what they said.
    pub(crate) failures: Vec<(Case, Vec<String>)>,
    /// Wall-clock seconds.
    pub(crate) seconds: f64,
    /// Sum of all traces' hashes: what only makes the simulator faster leaves it as it is.
    pub(crate) traces: u64,
}

/// Every so many cases one is run twice, and must leave the same trace.
const TWICE_EVERY: u64 = 19;

/// Runs the seeds; `run` builds a world, drives it and finishes it.
#[expect(clippy::disallowed_methods, reason = "the speed of the simulator is measured by a real clock")]
pub(crate) fn run(seeds: Seeds, run: impl Fn(Case) -> Outcome + Sync) -> Verdict {
    let (next, verdict) = (AtomicU64::new(0), Mutex::new(Verdict::default()));
    let only = match std::env::var("SNAPFOLD_SIM_VERSIONS").as_deref() {
        Ok("given") => Some(VersionMode::Given),
        Ok("counted") => Some(VersionMode::Counted),
        _ => None,
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 2 * seeds.count {
                        return;
                    }
                    let versions = if number % 2 == 0 { VersionMode::Given } else { VersionMode::Counted };
                    if only.is_some_and(|only| only != versions) {
                        continue;
                    }
                    let case = Case { seed: seeds.first + number / 2, versions, verbose: seeds.verbose };
                    one(case, number % TWICE_EVERY == 0 && !seeds.verbose, &run, &verdict);
                }
            });
        }
    });
    let mut verdict = verdict.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    verdict.seconds = started.elapsed().as_secs_f64();
    verdict.failures.sort();
    verdict
}

fn one(case: Case, twice: bool, run: &(impl Fn(Case) -> Outcome + Sync), verdict: &Mutex<Verdict>) {
    let attempt = || catch_unwind(AssertUnwindSafe(|| run(case)));
    let failures = match attempt() {
        Ok(outcome) => {
            let mut failures = outcome.violations.clone();
            let same = twice && matches!(attempt(), Ok(again) if again.trace_hash == outcome.trace_hash);
            if twice && !same {
                failures.push("the same seed left another trace: something is not deterministic".to_owned());
            }
            let mut verdict = lock(verdict);
            verdict.totals.add(&outcome.stats);
            verdict.traces = verdict.traces.wrapping_add(outcome.trace_hash);
            verdict.totals.twice += u64::from(same);
            failures
        }
        Err(panic) => vec![format!("panic: {}", panic_text(&*panic))],
    };
    if !failures.is_empty() {
        lock(verdict).failures.push((case, failures));
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}

impl Verdict {
    /// Prints the figures and the first failures, and how to see one of them again.
    pub(crate) fn print(&self, test: &str) {
        println!("{}", self.totals);
        let rate = self.totals.seeds as f64 / self.seconds.max(0.001);
        println!("{} runs in {:.1} s: {rate:.1} a second", self.totals.seeds, self.seconds);
        println!("all traces together: {:016x}", self.traces);
        let asked = [Count::ChaosAnswer, Count::FinalAnswer, Count::SurfaceAnswer];
        let compared: u64 = asked.iter().map(|what| self.totals.sum(*what)).sum();
        println!("{compared} answers were compared with the ledger");
        for (case, failures) in self.failures.iter().take(10) {
            println!("seed {} ({:?}): {}", case.seed, case.versions, failures.join("; "));
            println!(
                "    SNAPFOLD_SIM_SEED={} cargo test --no-default-features --test sim {test} -- --nocapture",
                case.seed
            );
        }
        if self.failures.len() > 10 {
            println!("... and {} more", self.failures.len() - 10);
        }
    }

    /// Prints, and fails the test if any seed failed, or if too little was tried for that to mean much.
    pub(crate) fn expect_clean(&self, test: &str) {
        self.print(test);
        assert!(self.failures.is_empty(), "{} of {} runs failed", self.failures.len(), self.totals.seeds);
        let below = self.totals.below_floors();
        assert!(below.is_empty(), "too rare: {}", below.join("; "));
    }
}

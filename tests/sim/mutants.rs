//! The simulator is tested by wrong protocols: every mutant of `domain::mutant` must be caught, by random
//! seeds or, where those are too rare, by a directed scenario that is clean without it.
//!
//! Environment: `SNAPFOLD_MUTANTS` names of the mutants to try (all without it), `SNAPFOLD_MUTANT_SEEDS` how
//! many seeds of each version mode, `SNAPFOLD_MUTANT_FIRST` the first of them. Run with `-- --nocapture` to
//! see the table.

use crate::directed::{self, Scenario};
use crate::executor::lock;
use crate::ports::producer::VersionMode;
use crate::protocol::play;
use crate::runner::{Case, panic_text};
use crate::world::Outcome;
use snapfold::domain::mutant::{Mutant, activate};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

/// Seeds of each version mode after which a mutant without a scenario counts as not caught.
const SEEDS_MAX: u64 = 120;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What caught a mutant.
struct Catch {
    mutant: Mutant,
    /// Version mode and place among the seeds, or the scenario.
    by: String,
    /// Runs until then.
    runs: u64,
    /// What was said.
    said: Result<String, String>,
}

/// Panics of mutants are expected: a thread that is quiet only notes where they were.
fn quiet_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                return loud(panic);
            }
            let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
            PANICKED_AT.set(place.unwrap_or_default());
        }));
    });
    QUIET.set(true);
}

/// Runs with a mutant, or none; the first thing that went wrong.
fn attempt(mutant: Option<Mutant>, run: impl FnOnce() -> Outcome) -> Option<String> {
    activate(mutant);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    activate(None);
    match outcome {
        Ok(outcome) => outcome.violations.into_iter().next(),
        Err(panic) => Some(format!("panic: {} ({})", panic_text(&*panic), PANICKED_AT.take())),
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn by_seeds(mutant: Mutant) -> Catch {
    let (first, most) = (number("SNAPFOLD_MUTANT_FIRST", 0), number("SNAPFOLD_MUTANT_SEEDS", SEEDS_MAX));
    let mut runs = 0;
    for seed in first..first + most {
        for versions in [VersionMode::Given, VersionMode::Counted] {
            runs += 1;
            let case = Case { seed, versions, verbose: false };
            if let Some(said) = attempt(Some(mutant), || play(case)) {
                return Catch { mutant, by: format!("seed {seed} {versions:?}"), runs, said: Ok(said) };
            }
        }
    }
    Catch { mutant, by: "nothing".to_owned(), runs, said: Err("not caught".to_owned()) }
}

fn by_scenario(mutant: Mutant, scenario: &Scenario) -> Catch {
    let by = scenario.name.to_owned();
    if let Some(said) = attempt(None, scenario.play) {
        let said = Err(format!("the scenario fails without the mutant: {said}"));
        return Catch { mutant, by, runs: 1, said };
    }
    let said = attempt(Some(mutant), scenario.play).ok_or_else(|| "not caught".to_owned());
    Catch { mutant, by, runs: 2, said }
}

fn chosen() -> Vec<Mutant> {
    let names = std::env::var("SNAPFOLD_MUTANTS").unwrap_or_default();
    let names: Vec<&str> = names.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    let all = Mutant::ALL.iter().copied();
    all.filter(|mutant| names.is_empty() || names.contains(&format!("{mutant:?}").as_str())).collect()
}

/// Goal: the simulator sees every wrong version of a rule. Method: one mutant at a time, until something is
/// said that must never be said.
#[test]
fn every_mutant_is_caught() {
    let mutants = chosen();
    let (next, catches) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                quiet_panics();
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let catch = match directed::scenario_of(*mutant) {
                        Some(scenario) => by_scenario(*mutant, scenario),
                        None => by_seeds(*mutant),
                    };
                    println!("{}", catch.line());
                    lock(&catches).push(catch);
                }
            });
        }
    });
    let mut catches = catches.into_inner().expect("no thread has panicked");
    catches.sort_by_key(|catch| catch.mutant);
    println!("\n{:<28} {:<34} {:>5}  what caught it", "mutant", "by", "runs");
    catches.iter().for_each(|catch| println!("{}", catch.line()));
    let missed: Vec<Mutant> = catches.iter().filter(|c| c.said.is_err()).map(|c| c.mutant).collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

impl Catch {
    fn line(&self) -> String {
        let said = match &self.said {
            Ok(said) => said.replace('\n', " "),
            Err(said) => format!("NOT CAUGHT: {said}"),
        };
        let said: String = said.chars().take(150).collect();
        format!("{:<28} {:<34} {:>5}  {said}", format!("{:?}", self.mutant), self.by, self.runs)
    }
}

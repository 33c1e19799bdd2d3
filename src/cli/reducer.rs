//! `reducer test`: the tests that stand in the configuration.

use super::args::ConfigSource;
use super::failure::{Done, Exit, Failure};
use super::screen::{Ink, Screen, printable};
use super::source::load_config;
use crate::config::Config;
use crate::domain::rules::check::Verdict;
use std::fmt;

/// A test that was run.
#[derive(Debug)]
pub(super) struct Tested {
    place: String,
    kind: String,
    verdict: Verdict,
}

impl Tested {
    pub(super) fn is_passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// `poison` and `differs` are told apart at a glance.
    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Poison(..) => "POISON",
            Verdict::Differs(_) => "DIFFERS",
        }
    }
}

impl fmt::Display for Tested {
    /// `FILE:LINE:COLUMN TYPE VERDICT`, and under it what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}", self.place, self.kind, self.word())?;
        if !self.is_passed() {
            for line in self.verdict.to_string().lines() {
                write!(f, "\n    {}", printable(line))?;
            }
        }
        Ok(())
    }
}

/// Runs all tests of all streams, in the order they are written.
pub(super) fn run_tests(file: &str, config: &Config) -> Vec<Tested> {
    let of_stream =
        config.streams.iter().flat_map(|stream| stream.tests.iter().map(move |test| (stream, test)));
    of_stream
        .map(|(stream, test)| Tested {
            place: format!("{file}:{}", test.span),
            kind: stream.kind.to_string(),
            verdict: test.run(&*stream.reducer),
        })
        .collect()
}

/// `1 test`, `2 tests`.
pub(super) fn tests(count: usize) -> String {
    if count == 1 { "1 test".to_owned() } else { format!("{count} tests") }
}

pub(super) fn test(source: &ConfigSource, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&source.config, &source.sets)?;
    let tested = run_tests(&source.config.display().to_string(), &config);
    for test in &tested {
        let ink = if test.is_passed() { Ink::Added } else { Ink::Removed };
        screen.line(&screen.ink(ink, &test.to_string()))?;
    }
    let failed = tested.iter().filter(|test| !test.is_passed()).count();
    screen.say(&format!("{}, {failed} failed", tests(tested.len())));
    if failed == 0 { Ok(()) } else { Err(Failure::told(Exit::Failure)) }
}

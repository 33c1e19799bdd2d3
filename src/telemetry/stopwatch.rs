//! How long something took, to be shown. Never for a decision: those take their time from a `Clock`.

use std::time::Instant;

/// A moment to measure from.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From here on.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "it is only shown, and measures less than a `Clock` can tell apart"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since then, with their fractions.
    #[must_use]
    pub fn ms(self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1_000.0
    }
}

//! Directed scenarios: for mutants that random seeds meet too rarely. Each is clean without its mutant and
//! fails with it.

use crate::world::Outcome;
use snapfold::domain::mutant::Mutant;

/// One scenario, for one mutant.
pub(crate) struct Scenario {
    /// What is staged.
    pub(crate) name: &'static str,
    /// Whom it catches.
    pub(crate) mutant: Mutant,
    /// Stages it.
    pub(crate) play: fn() -> Outcome,
}

const SCENARIOS: &[Scenario] = &[];

/// The scenario of a mutant that seeds are too rare for.
pub(crate) fn scenario_of(mutant: Mutant) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.mutant == mutant)
}

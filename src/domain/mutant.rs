//! Protocol mutants: one-line wrong versions of single rules, which the simulator must catch. They are run-time switches
//! in the bare build only (the simulator's build); with `runtime` every question is the constant `false`.

/// One wrong version of one rule; the doc comment says what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// The position is committed instead of the low watermark.
    CommitPosition,
    /// The low watermark is the last uncovered offset instead of the first.
    WatermarkFromLastDirty,
    /// The low watermark passes an event whose dead letter is not recorded.
    CommitPastDeadLetter,
}

#[cfg(not(feature = "runtime"))]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! { static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) }; }

    /// True if this mutant is switched on in this thread.
    pub(crate) fn mutant(which: Mutant) -> bool {
        ACTIVE.get() == Some(which)
    }

    /// Switches this thread to one mutant, or to the real protocol.
    pub fn activate(which: Option<Mutant>) {
        ACTIVE.set(which);
    }
}

#[cfg(feature = "runtime")]
mod switch {
    /// Always false: production has no mutants.
    #[inline(always)]
    pub(crate) const fn mutant(_: super::Mutant) -> bool {
        false
    }
}

#[cfg(not(feature = "runtime"))]
pub use switch::activate;
pub(crate) use switch::mutant;

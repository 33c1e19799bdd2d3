//! Whether a store answers: since when it has been asked without an answer that helps, and why.
//!
//! A store is silent from the moment at which a call is open or the last one failed, until one is answered.
//! "There is none" and "it exists" are answers. One call that hangs beside others that are answered does not
//! make a store silent. Time is an argument.

use crate::domain::outcome::PortError;
use std::sync::{Mutex, MutexGuard};

/// What calls of one store came to lately.
#[derive(Debug, Default)]
pub struct Answers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    failures: u64,
    silent_since_ms: Option<u64>,
    answered_ms: u64,
    why: String,
}

/// A store that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Milliseconds since it was first asked without an answer.
    pub ms: u64,
    /// Calls in a row that failed.
    pub failures: u64,
    /// What the last of them said; empty if none has ended.
    pub why: String,
}

impl Answers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the state is held")
    }

    /// A call starts.
    pub fn asked(&self, now_ms: u64) {
        let mut state = self.state();
        state.open += 1;
        state.silent_since_ms.get_or_insert(now_ms);
    }

    /// A call has ended.
    pub fn ended(&self, now_ms: u64, failure: Option<&PortError>) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        match failure {
            None | Some(PortError::Missing | PortError::Exists) => {
                state.failures = 0;
                state.answered_ms = now_ms;
                state.silent_since_ms = (state.open > 0).then_some(now_ms);
                state.why.clear();
            }
            Some(error) => {
                state.failures += 1;
                state.why = error.to_string();
            }
        }
    }

    /// Nobody waits for a call any more: it says nothing about the store.
    pub fn dropped(&self) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 && state.failures == 0 {
            state.silent_since_ms = None;
        }
    }

    /// Since when there is no answer, if there is none.
    #[must_use]
    pub fn silence(&self, now_ms: u64) -> Option<Silence> {
        let state = self.state();
        let ms = now_ms.saturating_sub(state.silent_since_ms?);
        Some(Silence { ms, failures: state.failures, why: state.why.clone() })
    }

    /// Nobody has heard from the store for so long, and nobody waits for it now.
    #[must_use]
    pub fn is_unheard_for(&self, now_ms: u64, ms: u64) -> bool {
        let state = self.state();
        state.open == 0 && now_ms.saturating_sub(state.answered_ms) >= ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> PortError {
        PortError::Unknown("no route".into())
    }

    #[test]
    fn a_store_is_silent_from_the_first_call_without_an_answer_to_the_next_answer() {
        let answers = Answers::default();
        assert_eq!(answers.silence(5), None, "nobody asked");
        answers.asked(10);
        assert_eq!(answers.silence(40), Some(Silence { ms: 30, failures: 0, why: String::new() }));
        answers.ended(50, Some(&failed()));
        answers.asked(60);
        answers.ended(70, Some(&failed()));
        let why = "outcome unknown: no route".to_owned();
        assert_eq!(answers.silence(110), Some(Silence { ms: 100, failures: 2, why }));
        answers.asked(120);
        answers.ended(130, Some(&PortError::Missing));
        assert_eq!(answers.silence(200), None, "that there is none is an answer");
    }

    #[test]
    fn a_call_that_hangs_is_silence_unless_others_are_answered() {
        let answers = Answers::default();
        answers.asked(0);
        answers.asked(50);
        answers.ended(60, None);
        assert_eq!(answers.silence(70).unwrap().ms, 10);
        answers.dropped();
        assert_eq!(answers.silence(80), None, "nobody waits for the one that hung");
        assert!(answers.is_unheard_for(160, 100) && !answers.is_unheard_for(159, 100));
    }
}

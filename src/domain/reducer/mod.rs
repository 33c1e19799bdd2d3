//! Reducers: (state, event) -> state, pure and deterministic. The presets are here, rules in
//! [`super::rules`]; Rust
//! users implement [`Reducer`] themselves.
//!
//! INVARIANTS of every implementation: on `Err` the state is exactly what it was, member order too; equal
//! states and events give equal states, byte for byte; growth by one event is bounded ([`APPLY_BYTES_MAX`],
//! [`STATE_DEPTH_MAX`]).

mod presets;
#[cfg(test)]
mod tests;

pub use presets::Preset;

use crate::domain::ids::{Timestamp, Version};
use crate::domain::poison::Poison;
use crate::domain::rules::Rules;
use crate::domain::source::{Node, NodeKind, Problem};
use crate::domain::value::{Limits, Value};
use std::fmt::Debug;
use std::sync::Arc;

/// Event type of a record with a key and a null value. It deletes, whatever the reducer.
pub const TOMBSTONE: &str = "$tombstone";
/// Bytes of JSON that the folding of one event may copy or build: four times the default `maxStateBytes`.
pub const APPLY_BYTES_MAX: usize = 64 << 20;
/// Levels of nesting that a reducer builds. States are read back with the same limit.
pub const STATE_DEPTH_MAX: usize = Limits::DEPTH_MAX;

/// What a reducer sees of an event.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// Event type.
    pub event_type: &'a str,
    /// Event id, if the stream maps one.
    pub event_id: Option<&'a str>,
    /// The version the aggregate has after this event.
    pub version: Version,
    /// The event's own time, not the effective one.
    pub time: Timestamp,
    /// The record's key, if it is text.
    pub key: Option<&'a str>,
    /// The record's headers in order; the last of one name counts.
    pub headers: &'a [(Box<str>, Option<Box<str>>)],
    /// The event's data.
    pub data: &'a Value,
}

/// What an event did. All of these are versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Rules ran; the state may be another.
    Changed {
        /// Bytes by which the state's JSON text is longer now, exact or from above.
        growth: isize,
    },
    /// Rules ran and every operation was skipped.
    Unchanged,
    /// No rule is about events of this type. A deleted aggregate stays deleted.
    NoRule,
    /// The aggregate is deleted. What is left in the state means nothing: the next event that is not `NoRule`
    /// starts from [`Reducer::initial`].
    Deleted,
}

/// The fold of one stream: (state, event) -> state. No clock, no randomness, no I/O.
pub trait Reducer: Send + Sync + Debug {
    /// The state before the first event, and after a deletion.
    fn initial(&self) -> Value;

    /// Folds one event into the state.
    ///
    /// # Errors
    /// [`Poison`]; the state is then exactly what it was.
    fn apply(&self, state: &mut Value, event: &EventView<'_>) -> Result<Outcome, Poison>;

    /// How many bytes the state's JSON text can grow by this event at the most: cheap, from above.
    /// `state_bytes` is the length of that text now, `event_bytes` that of the event's record.
    fn growth_bound(&self, state_bytes: usize, event_bytes: usize, event: &EventView<'_>) -> usize;

    /// What the reducer means, as text: equal for equal meaning (comments, blanks and YAML style do not
    /// count), and another for another meaning. It goes into the stream's fingerprint.
    fn fingerprint_text(&self) -> String;
}

/// Reads the `reducer` of a stream.
///
/// # Errors
/// All problems, each with its place and a hint.
pub fn parse(node: &Node) -> Result<Arc<dyn Reducer>, Vec<Problem>> {
    const PRESETS: &str =
        "presets are `merge`, `replace`, `json-patch` and `debezium`; rules are a mapping of `init` and `on`";
    match &node.kind {
        NodeKind::String { text, .. } => match Preset::named(text) {
            Some(preset) => Ok(Arc::new(preset)),
            None => Err(vec![Problem::new(node.span, format!("`{text}` is not a reducer"), PRESETS)]),
        },
        NodeKind::Mapping(_) => Ok(Arc::new(Rules::parse(node)?)),
        _ => Err(vec![Problem::new(node.span, format!("{} is not a reducer", node.noun()), PRESETS)]),
    }
}

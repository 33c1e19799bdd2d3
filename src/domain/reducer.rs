//! The port that reducers implement: (state, event) -> state, pure and deterministic.

use super::ids::{Timestamp, Version};
use super::poison::Poison;
use super::record::RawRecord;
use super::value::Value;
use std::fmt;

/// What a reducer sees of an event.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// Event type.
    pub event_type: &'a str,
    /// Event id.
    pub event_id: Option<&'a str>,
    /// The version it takes.
    pub version: Version,
    /// Its time.
    pub time: Timestamp,
    /// The record: key and headers.
    pub record: &'a RawRecord,
    /// Its data.
    pub data: &'a Value,
}

/// What a reducer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The state may have changed, and its JSON text grown by at most this many bytes.
    Changed {
        /// Upper bound of the growth.
        growth: usize,
    },
    /// The state is as before.
    Unchanged,
    /// There is no rule for this type of event.
    NoRule,
    /// The aggregate is deleted.
    Deleted,
}

/// A fold: pure, deterministic, total.
pub trait Reducer: Send + Sync + fmt::Debug {
    /// The state before the first event.
    fn initial(&self) -> Value;
    /// Applies one event; on an error the state is as it was.
    fn apply(&self, state: &mut Value, event: &EventView<'_>, bytes_max: usize) -> Result<Outcome, Poison>;
    /// The normalised reducer, for the fingerprint.
    fn fingerprint_text(&self) -> String;
}

//! What is true: events, states, reducers, the fold, the partition state machine. Pure: no clock, no randomness,
//! no I/O, no tasks; time is an argument.
//!
//! | file | owns |
//! |---|---|
//! | [`error`] | `Error`, `ErrorKind`, the closed list of problem codes |
//! | [`ids`] | newtypes for every number and digest that could be mixed up |
//! | [`outcome`] | what a port can say when it fails: surely not done, or perhaps |
//! | [`record`] | what is kept of an event and of a state: raw records, increments, full snapshots |
//! | [`row`] | rows of the index as plain facts |

pub mod error;
pub mod ids;
pub mod outcome;
pub mod record;
pub mod row;

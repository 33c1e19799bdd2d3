//! What is true: events, states, reducers, the fold, the partition state machine. Pure: no clock, no randomness,
//! no I/O, no tasks; time is an argument.
//!
//! | file | owns |
//! |---|---|
//! | [`error`] | `Error`, `ErrorKind`, the closed list of problem codes |
//! | [`ids`] | newtypes for every number and digest that could be mixed up |
//! | [`record`] | what a snapshot record says: events (D) or a state (F) |

pub mod error;
pub mod ids;
pub mod record;

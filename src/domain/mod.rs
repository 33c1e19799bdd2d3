//! What is true: events, states, reducers, the fold, the partition state machine. Pure: no clock, no randomness,
//! no I/O, no tasks; time is an argument.
//!
//! | file | owns |
//! |---|---|
//! | [`error`] | `Error`, `ErrorKind`, the closed list of problem codes |
//! | [`decimal`] | decimals of up to 38 digits with their scale, the arithmetic of reducers |
//! | [`ids`] | newtypes for every number and digest that could be mixed up |
//! | [`number`] | JSON numbers by their exact text |
//! | [`patch`] | RFC 6902 patches, RFC 7396 merge patches, and the differences that produce them |
//! | [`value`] | JSON documents: states and event data; parsing, writing, canonical form, pointers |

pub mod decimal;
pub mod error;
pub mod ids;
pub mod number;
pub mod patch;
pub mod value;

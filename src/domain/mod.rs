//! What is true: events, states, reducers, the fold, the partition state machine. Pure: no clock, no randomness,
//! no I/O, no tasks; time is an argument.
//!
//! | file | owns |
//! |---|---|
//! | [`error`] | `Error`, `ErrorKind`, the closed list of problem codes |
//! | [`decimal`] | decimals of up to 38 digits with their scale, the arithmetic of reducers |
//! | [`expr`] | expressions: jq's syntax over the event's data, `$event` and `$state` |
//! | [`ids`] | newtypes for every number and digest that could be mixed up |
//! | [`moment`] | times as RFC 3339 text |
//! | [`number`] | JSON numbers by their exact text |
//! | [`patch`] | RFC 6902 patches, RFC 7396 merge patches, and the differences that produce them |
//! | [`poison`] | why an event cannot be folded |
//! | [`reducer`] | the fold of one event: the trait and the presets |
//! | [`rules`] | reducers written in the config, and their tests |
//! | [`source`] | what a person wrote, with places; problems |
//! | [`value`] | JSON documents: states and event data; parsing, writing, canonical form, pointers |

pub mod decimal;
pub mod error;
pub mod expr;
pub mod ids;
pub mod moment;
pub mod number;
pub mod patch;
pub mod poison;
pub mod reducer;
pub mod rules;
pub mod source;
pub mod value;

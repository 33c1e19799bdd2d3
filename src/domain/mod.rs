//! What is true: events, states, reducers, the fold, the partition state machine. Pure: no clock, no
//! randomness, no I/O, no tasks; time is an argument.
//!
//! | file | owns |
//! |---|---|
//! | [`aggregate`] | `Aggregate`, `Rules` and the fold: the only code that changes a state |
//! | [`archive`] | which packs go to the archive |
//! | [`chain`] | event digests and the hash chain over them |
//! | [`compaction`] | which rows are merged into which segments |
//! | [`decimal`] | decimals of up to 38 digits with their scale, the arithmetic of reducers |
//! | [`error`] | `Error`, `ErrorKind`, the closed list of problem codes |
//! | [`event`] | events, and the port that decoders of every format implement |
//! | [`expr`] | the expressions of rules |
//! | [`ids`] | newtypes for every number and digest that could be mixed up |
//! | [`ledger`] | facts that no fold yields: deletions, holds
//! | [`mapping`] | where in a record the parts of an event are |
//! | [`moment`] | times as text |
//! | [`mutant`] | wrong versions of single protocol rules, for the simulator's build |
//! | [`number`] | JSON numbers by their exact text |
//! | [`outcome`] | what a port can say when it fails: surely not done, or perhaps |
//! | [`partition`] | the state machine of one Kafka partition |
//! | [`patch`] | RFC 6902 patches, RFC 7396 merge patches, and the differences that produce them |
//! | [`poison`] | why an event cannot be folded |
//! | [`record`] | what is kept of an event and of a state: raw records, increments, full snapshots |
//! | [`reducer`] | the port that reducers implement, and the presets |
//! | [`rules`] | reducers written as rules: paths, operations, config tests |
//! | [`retention`] | which snapshots of an aggregate may go, and why the others stay
//! | [`row`] | rows of the index as plain facts |
//! | [`schedule`] | which snapshots are taken at which times |
//! | [`source`] | text that somebody wrote, as a tree that knows where everything stands |
//! | [`spread`] | how many durations took at most so long |
//! | [`state`] | the state of an aggregate: bytes while idle, a tree while hot, and how large |
//! | [`text`] | the text type of documents: short ones are held in place |
//! | [`value`] | JSON documents: states and event data; parsing, writing, canonical form, pointers |

pub mod aggregate;
pub mod archive;
pub mod chain;
pub mod compaction;
pub mod coverage;
pub mod decimal;
pub mod erasure;
pub mod error;
pub mod event;
pub mod expr;
pub mod ids;
pub mod ledger;
pub mod mapping;
pub mod moment;
pub mod mutant;
pub mod number;
pub mod outcome;
pub mod partition;
pub mod patch;
pub mod poison;
pub mod record;
pub mod reducer;
pub mod retention;
pub mod row;
pub mod rules;
pub mod schedule;
pub mod source;
pub mod spread;
pub mod state;
pub mod text;
pub mod value;

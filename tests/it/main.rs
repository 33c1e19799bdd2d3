//! Through the public surface, with the embedded stack: librdkafka against its mock cluster on loopback, and
//! the binary itself as a child process.
//!
//! `SNAPFOLD_DATA` names the folder with real data, and `SNAPFOLD_TEST_FULL=1` asks about all of it
//! (`versions`). `SNAPFOLD_FLIPS` is the number of damages of each field at rest (`flips`): 20 without it,
//! 100 in closing runs; `SNAPFOLD_KILLS` that of killed workers (`kill`): 12 without it, 200 in closing runs.
//! `SNAPFOLD_SOAK_MINUTES` is how long everything dies at random (`real::soak`, `make soak`).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "the whole file tree is tests, and they wait for threads and processes in real time"
)]

mod archive;
mod avro;
mod backup;
mod bad_input;
mod bench;
mod broker_errors;
mod clock;
mod compaction;
#[path = "../proxy/cql.rs"]
#[expect(dead_code, reason = "errors of the driver are forged in tests of the library")]
mod cql_proxy;
mod creation;
mod deletion;
mod dev;
mod doctor;
mod erasure;
mod faults;
mod flips;
mod group;
mod health;
mod kill;
#[path = "../ledger/mod.rs"]
#[expect(dead_code, reason = "its own tests use the rest")]
mod ledger;
mod lineages;
mod log;
mod process;
mod proof;
#[path = "../proxy/mod.rs"]
#[expect(dead_code, reason = "most faults are for the tests of the library")]
mod proxy;
mod purge;
mod readme;
mod real;
mod rebuild_speed;
mod refold;
mod schedules;
mod scrub;
mod servers;
mod site;
mod speed;
mod travel;
mod truth;
mod versions;

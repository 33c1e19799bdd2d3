//! Through the public surface, with the embedded stack: librdkafka against its mock cluster on loopback, and
//! the binary itself as a child process.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "the whole file tree is tests, and they wait for threads and processes in real time"
)]

mod bad_input;
mod bench;
mod dev;
mod faults;
mod group;
mod kill;
#[path = "../ledger/mod.rs"]
#[expect(dead_code, reason = "its own tests use the rest")]
mod ledger;
mod log;
mod process;
mod readme;
mod site;
mod speed;
mod truth;
mod versions;

//! Through the public surface, with the embedded stack: librdkafka against its mock cluster on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "the whole file tree is tests, and they wait for threads of librdkafka in real time"
)]

mod bench;
mod faults;
mod group;
mod log;
mod readme;
mod speed;

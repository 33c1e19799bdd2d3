//! Through the public surface, with the embedded stack: librdkafka against its mock cluster on loopback.

mod bench;
mod faults;
mod group;
mod log;
mod speed;

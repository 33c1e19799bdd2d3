//! snapfold: time travel for Kafka event topics.
//!
//! Two spines, one `fold`:
//!
//! ```text
//! write  Kafka -> partition task -> Partition::step -> SnapshotStore (pack, then rows) -> commit LW
//! read   HTTP  -> Lookup -> owner's head | cache | plan -> packs and tail -> fold -> answer
//! ```
//!
//! Folders are the map; imports go left only (checked by `tests/tidy.rs`): `domain -> codec -> store, kafka
//! -> reconstruct -> worker, lookup, upkeep -> http -> cli`. Start reading at [`domain`].

#[cfg(feature = "runtime")]
pub mod cli;
pub mod clock;
pub mod codec;
pub mod compute;
#[cfg(feature = "runtime")]
pub mod config;
pub mod domain;
#[cfg(feature = "runtime")]
pub mod http;
pub mod kafka;
pub mod lookup;
pub mod reconstruct;
pub mod store;
#[cfg(feature = "runtime")]
pub mod telemetry;
#[cfg(all(test, feature = "runtime"))]
pub(crate) mod testing;
pub mod upkeep;
pub mod worker;

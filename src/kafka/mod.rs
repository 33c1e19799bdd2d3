//! The log: the ports that everything else sees of Kafka, and their adapters over librdkafka.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the ports `Log`, `Group`, `Records` |
//! | `settings.rs` | every librdkafka setting and its reason; what a user may not override |
//! | `consumer.rs` | `Consumer`: the group's only client, its thread, assigning, revoking, committing |
//! | `tallies.rs` | what the member counts of itself |
//! | `context.rs` | what librdkafka says to the member while it is polled |
//! | `mailbox.rs` | what one topic's worker hears of the group |
//! | `queue.rs` | the queue of one assigned partition, as `Records` |
//! | `bounds.rs` | where partitions begin and end, kept fresh in the background |
//! | `reader.rs` | clients that read a stretch of a partition without joining the group |
//! | [`probe`] | a look at a topic, once, without joining the group |
//! | `topics.rs` | what a topic is set to do with its records |
//! | `log.rs` | one topic as `Log` |
//! | `onlooker.rs` | topics as seen by somebody who is no member of the group |
//! | `producer.rs`, `dead_letter.rs` | writing records: for `dev`, for tests, for a topic of dead letters |
//! | `broker.rs` | `MockBroker`: librdkafka's mock cluster |
//! | `failure.rs` | librdkafka's errors as outcomes; its log lines as ours |
//! | `registry/` | schemas: fetching them, compiled and kept |
//! | `prepared/` | the ports again, handing on only what can be decoded |
//! | `ffi.rs` | the calls that the crate `rdkafka` does not wrap; the only unsafe code |

#[cfg(feature = "runtime")]
mod bounds;
#[cfg(feature = "runtime")]
mod broker;
#[cfg(feature = "runtime")]
mod consumer;
#[cfg(feature = "runtime")]
mod context;
#[cfg(feature = "runtime")]
mod dead_letter;
#[cfg(feature = "runtime")]
mod failure;
#[cfg(feature = "runtime")]
mod ffi;
#[cfg(feature = "runtime")]
mod log;
#[cfg(feature = "runtime")]
mod mailbox;
#[cfg(feature = "runtime")]
mod onlooker;
#[cfg(feature = "runtime")]
mod prepared;
#[cfg(feature = "runtime")]
pub mod probe;
#[cfg(feature = "runtime")]
mod producer;
#[cfg(feature = "runtime")]
mod queue;
#[cfg(feature = "runtime")]
mod reader;
#[cfg(feature = "runtime")]
pub mod registry;
#[cfg(feature = "runtime")]
mod settings;
#[cfg(feature = "runtime")]
mod tallies;
#[cfg(feature = "runtime")]
mod topics;

#[cfg(feature = "runtime")]
pub use broker::{MockBroker, MockFailure, MockRequest};
#[cfg(feature = "runtime")]
pub use consumer::Consumer;
#[cfg(feature = "runtime")]
pub use dead_letter::DeadLetterTopic;
#[cfg(feature = "runtime")]
pub use onlooker::Onlooker;
#[cfg(feature = "runtime")]
pub use prepared::{Gate, Parked, PreparedGroup, PreparedLog};
#[cfg(feature = "runtime")]
pub use producer::{Delivery, Outgoing, Producer, ProducerSettings};
#[cfg(feature = "runtime")]
pub use settings::ConsumerSettings;
#[cfg(feature = "runtime")]
pub use tallies::Tallies;
#[cfg(feature = "runtime")]
pub use topics::Topics;

use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::PortResult;
use crate::domain::record::RawRecord;
use crate::domain::row::DeadLetter;
use futures_util::future::BoxFuture;

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// First offset still there.
    pub start: Offset,
    /// One past the last offset that may be read.
    pub end: Offset,
    /// Current leader epoch.
    pub leader_epoch: i32,
    /// Kafka's id of the topic.
    pub topic_id: u128,
}

/// Reads of one topic and the group's committed offsets. Implementations: librdkafka; the simulator's.
pub trait Log: Send + Sync {
    /// How many partitions the topic has.
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>>;
    /// Bounds of a partition now.
    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>>;
    /// The end of an assigned partition as it was heard of last; nobody is asked. For decisions about work,
    /// never about what is covered.
    fn last_end(&self, _partition: PartitionNo) -> Option<Offset> {
        None
    }
    /// Whether nobody folds it any more: then it ends where rest does, and what live checkpoints hold beyond
    /// the low watermark is all that there will ever be.
    fn has_ended(&self) -> bool {
        false
    }
    /// Records from `from` on, in offset order, at least one unless `from` is at or past `to` or the end;
    /// `Missing` if `from` lies before the log's start. A record at or past `to` is not returned.
    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>>;
    /// One past the last offset that was written under `leader_epoch` or below (Kafka's
    /// OffsetForLeaderEpoch): less than a position reached under that epoch means that the log was truncated.
    fn epoch_end(&self, partition: PartitionNo, leader_epoch: i32) -> BoxFuture<'_, PortResult<Offset>>;
    /// The group's committed offset.
    fn committed(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>>;
    /// Commits the low watermark for the group.
    fn commit(&self, partition: PartitionNo, low_watermark: Offset) -> BoxFuture<'_, PortResult<()>>;
}

/// Where dead letters go beside the index.
pub trait DeadLetters: Send + Sync {
    /// Writes one, and waits until it is durable, or refused for good.
    fn put<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, PortResult<()>>;
}

/// What the consumer group tells a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// These partitions are ours now.
    Assigned(Vec<PartitionNo>),
    /// These partitions are to be given up: cover what can be covered quickly, commit, then call
    /// [`Group::released`].
    Revoked(Vec<PartitionNo>),
    /// These partitions are another member's already: drop their states, commit nothing.
    Lost(Vec<PartitionNo>),
}

/// Records of one assigned partition, in offset order.
pub trait Records: Send {
    /// Waits until there are records and returns at most `max` of them. `Missing` if the next offset is not
    /// in the log (before its start or past its end). Dropping the future loses nothing.
    fn next(&mut self, max: usize) -> BoxFuture<'_, PortResult<Vec<RawRecord>>>;
}

/// A worker's membership in the consumer group.
pub trait Group: Send + Sync {
    /// Waits for the next change of the assignment.
    fn next(&self) -> BoxFuture<'_, GroupEvent>;
    /// The worker has let go of revoked partitions; the rebalance may go on.
    fn released(&self, partitions: &[PartitionNo]);
    /// Starts reading an assigned partition at `from`.
    fn records(&self, partition: PartitionNo, from: Offset) -> BoxFuture<'_, PortResult<Box<dyn Records>>>;
}

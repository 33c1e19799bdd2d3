//! Events: what a decoder makes of a record, and the port that decoders of every format implement.

use super::ids::{Digest, Timestamp, Version};
use super::outcome::PortResult;
use super::poison::Poison;
use super::record::RawRecord;
use super::value::Value;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// One decoded event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Aggregate id.
    pub id: Arc<str>,
    /// The version it carries; none where versions are counted, and for tombstones.
    pub version: Option<Version>,
    /// Event type.
    pub event_type: Box<str>,
    /// Event id, where mapped and present.
    pub event_id: Option<Box<str>>,
    /// What `map.time` yields, else the record's timestamp.
    pub time: Timestamp,
    /// What the reducer reads; null for a tombstone.
    pub data: Value,
    /// Bytes by which its JSON text may be longer than the record, from above: 0 where the record is JSON.
    pub extra_bytes: usize,
    /// A tombstone that the source writes after each deletion: to a deleted aggregate it says nothing new.
    pub is_echo: bool,
}

/// What a decoder waits for before it can decode, as [`Decode::prepare`] says.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = PortResult<()>> + Send + 'a>>;

/// What became of one record.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The record as it came.
    pub record: RawRecord,
    /// Its digest for the chain.
    pub digest: Digest,
    /// The event in it, or why there is none.
    pub content: Result<Event, Undecoded>,
}

/// A record that is no event: poison by itself, whatever the state.
#[derive(Clone, Debug)]
pub struct Undecoded {
    /// The aggregate it was meant for, where that much could be read.
    pub id: Option<Arc<str>>,
    /// The version it was meant for, where that could be read.
    pub version: Option<Version>,
    /// Its time, where that could be read; else the record's.
    pub time: Timestamp,
    /// Its type, where that could be read.
    pub event_type: Option<Box<str>>,
    /// Its event id, where that could be read.
    pub event_id: Option<Box<str>>,
    /// What is wrong with it.
    pub poison: Poison,
}

/// Turns records of one format into events. Pure: the same record gives the same event for ever.
pub trait Decode: Send + Sync + fmt::Debug {
    /// Fetches what decoding these records takes beside them, as schemas; none where nothing is missing, as
    /// always for formats whose records say all. Whoever decodes records has prepared them: what cannot be
    /// had is a failure of a port, which passes, and never poison, which would stay.
    fn prepare<'a>(&'a self, records: &mut dyn Iterator<Item = &RawRecord>) -> Option<Preparing<'a>> {
        let _ = records;
        None
    }

    /// Decodes one record; whatever is wrong with it is in the answer.
    fn decode(&self, record: RawRecord) -> Decoded;

    /// The headers whose values are part of every event's digest, sorted.
    fn digest_headers(&self) -> &[Box<str>] {
        &[]
    }

    /// Whose it is and when it happened, as `decode` says: for those who only pass it on.
    fn route(&self, record: &RawRecord) -> (Option<Arc<str>>, Timestamp) {
        let decoded = self.decode(record.clone());
        (decoded.id().cloned(), decoded.time())
    }
}

impl Decoded {
    /// Event id, where there is a readable one: of poison too, which takes a version where the policy lets
    /// it.
    #[must_use]
    pub fn event_id(&self) -> Option<&str> {
        match &self.content {
            Ok(event) => event.event_id.as_deref(),
            Err(undecoded) => undecoded.event_id.as_deref(),
        }
    }

    /// Event type, where there is a readable one.
    #[must_use]
    pub fn event_type(&self) -> Option<&str> {
        match &self.content {
            Ok(event) => Some(&event.event_type),
            Err(undecoded) => undecoded.event_type.as_deref(),
        }
    }

    /// When it happened: the event's time, or the record's where there is no readable one.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match &self.content {
            Ok(event) => event.time,
            Err(undecoded) => undecoded.time,
        }
    }

    /// Aggregate id, where it could be read.
    #[must_use]
    pub fn id(&self) -> Option<&Arc<str>> {
        match &self.content {
            Ok(event) => Some(&event.id),
            Err(undecoded) => undecoded.id.as_ref(),
        }
    }
}

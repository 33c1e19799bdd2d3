//! Records with a JSON value to events, by the stream's mapping. The value is checked as a whole and read
//! where it stands; only the data is built.

use super::reading::{KeyIs, NOTHING, Reading};
use crate::domain::chain::event_digest;
use crate::domain::event::{Decode, Decoded, Event, Undecoded};
use crate::domain::ids::Timestamp;
use crate::domain::mapping::Mapping;
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::value::{Document, Limits, Value};
use std::cell::OnceCell;
use std::sync::Arc;

/// Decodes records whose value is JSON.
#[derive(Clone, Debug)]
pub struct JsonDecoder {
    mapping: Mapping,
    limits: Limits,
    named_headers: Vec<Box<str>>,
}

impl JsonDecoder {
    /// A decoder for one stream; `limits` bound the value (and the key, where it is read as JSON).
    #[must_use]
    pub fn new(mapping: Mapping, limits: Limits) -> Self {
        let named_headers = mapping.named_headers();
        Self { mapping, limits, named_headers }
    }

    fn with_reading<T>(&self, record: &RawRecord, read: impl FnOnce(&Reading<'_>) -> T) -> T {
        let read_key = |key: &[u8]| Value::parse(key, &self.limits).ok();
        read(&Reading {
            mapping: &self.mapping,
            record,
            key_is: KeyIs::Text,
            read_key: &read_key,
            key: OnceCell::new(),
            attributes: None,
        })
    }

    fn event(&self, reading: &Reading<'_>) -> Result<Event, Undecoded> {
        let Some(bytes) = reading.record.value.as_deref() else { return reading.tombstone() };
        match Document::parse(bytes, &self.limits) {
            Ok(document) => {
                let head = reading.head(document.root())?;
                Ok(head.with(reading.data(document.root()), 0))
            }
            Err(error) => Err(reading.unreadable(Poison::new("bad-json", error.to_string()))),
        }
    }
}

impl Decode for JsonDecoder {
    fn decode(&self, record: RawRecord) -> Decoded {
        let digest = event_digest(&record, &self.named_headers);
        let content = self.with_reading(&record, |reading| self.event(reading));
        Decoded { record, digest, content }
    }

    fn digest_headers(&self) -> &[Box<str>] {
        &self.named_headers
    }

    /// COST: the data is not built, and nothing is hashed.
    fn route(&self, record: &RawRecord) -> (Option<Arc<str>>, Timestamp) {
        self.with_reading(record, |reading| match record.value.as_deref() {
            None => match reading.tombstone() {
                Ok(event) => (Some(event.id), event.time),
                Err(undecoded) => (undecoded.id, undecoded.time),
            },
            Some(bytes) => match Document::parse(bytes, &self.limits) {
                Ok(document) => reading.route(Some(document.root())),
                Err(_) => reading.route(NOTHING),
            },
        })
    }
}

#[cfg(test)]
mod tests;

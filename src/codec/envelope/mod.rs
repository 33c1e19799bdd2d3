//! Records whose event stands in an envelope, or in Avro: Avro by itself, CloudEvents, row changes and the
//! outbox of Debezium.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `EnvelopeDecoder`: JSON or Avro to a value, the mapping, the data |
//! | `cloudevents.rs` | CloudEvents 1.0 in binary and structured mode |
//! | `debezium.rs` | row changes, the outbox, the envelope of Kafka Connect's JSON |
//!
//! Every format brings places of its own for what it knows where to find (`Format::places`); a mapping
//! replaces them one by one. In each of them `/pointer` leads into what the event is about, not into the
//! envelope around it; `docs/FORMATS.md` has the table.

mod cloudevents;
mod debezium;
#[cfg(test)]
mod tests;

use super::avro::{self, Framed, KEY_SCHEMA, SchemaId, Schemas, VALUE_SCHEMA};
use super::reading::{KeyIs, Reading, header};
use crate::domain::chain::event_digest;
use crate::domain::event::{Decode, Decoded, Event, Preparing, Undecoded};
use crate::domain::ids::Timestamp;
use crate::domain::mapping::{Mapping, Place};
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::value::{Limits, Object, Value};
use std::cell::OnceCell;
use std::sync::Arc;

/// Which envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// None: the value is Avro.
    Avro,
    /// CloudEvents.
    CloudEvents,
    /// Row changes of a database.
    Debezium,
    /// Events that an application wrote to a table of its database.
    DebeziumOutbox,
}

/// Decodes records of one stream.
#[derive(Clone, Debug)]
pub struct EnvelopeDecoder {
    envelope: Envelope,
    mapping: Mapping,
    limits: Limits,
    digest_headers: Vec<Box<str>>,
    /// None where nothing is Avro.
    schemas: Option<Arc<dyn Schemas>>,
}

/// A value without its envelope.
struct Opened {
    /// What pointers lead into.
    root: Value,
    /// Attributes that stand in the envelope.
    attributes: Option<Object>,
    /// Bytes by which the root may be longer as JSON than the record.
    extra_bytes: usize,
}

/// What a record's value turns out to be.
enum Content {
    Tombstone,
    Event(Opened),
    /// It is about no aggregate.
    Nobodys(Poison, Value),
}

impl Envelope {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::CloudEvents => "cloudevents",
            Self::Debezium => "debezium",
            Self::DebeziumOutbox => "debezium-outbox",
        }
    }

    /// Where it keeps the part of an event that `map` calls so; nothing where it does not say.
    #[must_use]
    pub fn places(self, part: &str) -> &'static [&'static str] {
        match self {
            Self::Avro => &[],
            Self::CloudEvents => cloudevents::places(part),
            Self::Debezium => debezium::row_places(part),
            Self::DebeziumOutbox => debezium::outbox_places(part),
        }
    }

    /// Headers that decide what a record means, whatever the mapping.
    fn headers(self) -> &'static [&'static str] {
        match self {
            Self::CloudEvents => &[cloudevents::CONTENT_TYPE, cloudevents::SPEC_VERSION],
            Self::Avro | Self::Debezium | Self::DebeziumOutbox => &[],
        }
    }
}

impl EnvelopeDecoder {
    /// A decoder for one stream. `schemas` are those of its registry, where it has one; without them nothing
    /// is read as Avro.
    #[must_use]
    pub fn new(
        envelope: Envelope,
        mapping: Mapping,
        limits: Limits,
        schemas: Option<Arc<dyn Schemas>>,
    ) -> Self {
        let mut digest_headers = mapping.named_headers();
        let deciding = envelope.headers().iter().chain(&[KEY_SCHEMA, VALUE_SCHEMA]);
        digest_headers.extend(deciding.map(|name| Box::from(*name)));
        digest_headers.sort();
        digest_headers.dedup();
        Self { envelope, mapping, limits, digest_headers, schemas }
    }

    fn read(&self, record: &RawRecord) -> Result<Event, Undecoded> {
        let read_key = |key: &[u8]| self.key(record, key);
        let mut reading = Reading {
            mapping: &self.mapping,
            record,
            key_is: KeyIs::Content,
            read_key: &read_key,
            key: OnceCell::new(),
            attributes: None,
        };
        match self.open(record) {
            Ok(Content::Tombstone) => {
                let is_echo = self.envelope == Envelope::Debezium;
                reading.tombstone().map(|event| Event { is_echo, ..event })
            }
            Ok(Content::Event(mut opened)) => {
                let attributes = opened.attributes.as_ref();
                reading.attributes = attributes.map(|attributes| (cloudevents::PREFIX, attributes));
                let mut head = reading.head(&opened.root)?;
                if self.envelope == Envelope::Debezium && head.time == Timestamp(0) {
                    // What a source says that does not know when a row was written, as of some snapshots.
                    head.time = record.record_time;
                }
                let data = reading.take_data(&mut opened.root);
                let data = if self.envelope == Envelope::DebeziumOutbox { self.expand(data) } else { data };
                Ok(head.with(data, opened.extra_bytes))
            }
            Ok(Content::Nobodys(poison, root)) => Err(reading.nobodys(Some(&root), poison)),
            Err(poison) => Err(reading.unreadable(poison)),
        }
    }

    fn open(&self, record: &RawRecord) -> Result<Content, Poison> {
        match self.envelope {
            Envelope::CloudEvents => return self.open_cloudevent(record),
            Envelope::Avro | Envelope::Debezium | Envelope::DebeziumOutbox => {}
        }
        let Some(value) = record.value.as_deref() else { return Ok(Content::Tombstone) };
        let (root, extra_bytes) = self.value(record, value)?;
        match self.envelope {
            Envelope::Debezium => debezium::open_row(root, extra_bytes),
            Envelope::DebeziumOutbox => {
                let root = self.expand(debezium::without_schema(root));
                Ok(Content::Event(Opened { root, attributes: None, extra_bytes }))
            }
            Envelope::Avro | Envelope::CloudEvents => {
                Ok(Content::Event(Opened { root, attributes: None, extra_bytes }))
            }
        }
    }

    /// A value as Avro or as JSON, and the bytes by which it may be longer as JSON than it was.
    fn value(&self, record: &RawRecord, bytes: &[u8]) -> Result<(Value, usize), Poison> {
        if let Some(schemas) = &self.schemas {
            match avro::framed_value(record)? {
                Some(framed) => return self.datum(&**schemas, framed),
                None if self.envelope == Envelope::Avro => {
                    let detail = "the value is not in the wire format of a schema registry";
                    return Err(Poison::new("bad-avro", detail));
                }
                None => {}
            }
        }
        let value = Value::parse(bytes, &self.limits);
        Ok((value.map_err(|error| Poison::new("bad-json", error.to_string()))?, 0))
    }

    fn datum(&self, schemas: &dyn Schemas, framed: Framed<'_>) -> Result<(Value, usize), Poison> {
        let plan = schemas.get(framed.id).expect("whoever decodes has prepared, and no schema is forgotten");
        match plan.decode(framed.body, &self.limits) {
            Ok(datum) => Ok((datum.value, datum.json_len)),
            Err(error) => Err(Poison::new("bad-avro", error.to_string())),
        }
    }

    /// A key as a value; none where it is text and nothing else.
    fn key(&self, record: &RawRecord, bytes: &[u8]) -> Option<Value> {
        if let Some(schemas) = &self.schemas
            && let Some(framed) = avro::framed_key(record).ok()?
        {
            return self.datum(&**schemas, framed).ok().map(|(value, _)| value);
        }
        let value = Value::parse(bytes, &self.limits).ok()?;
        match self.envelope {
            Envelope::Debezium | Envelope::DebeziumOutbox => Some(debezium::without_schema(value)),
            Envelope::Avro | Envelope::CloudEvents => Some(value),
        }
    }

    /// The JSON that stands in a text, where it is an object or an array; else the value as it is.
    fn expand(&self, value: Value) -> Value {
        let inner = value.as_str().filter(|text| text.trim_start().starts_with(['{', '[']));
        inner.and_then(|text| Value::parse(text.as_bytes(), &self.limits).ok()).unwrap_or(value)
    }

    fn reads_key(&self) -> bool {
        let mapping = &self.mapping;
        let optional = mapping.version.iter().chain(&mapping.data).flatten();
        let all = [&mapping.aggregate_id, &mapping.event_type, &mapping.event_id, &mapping.time];
        let mut places = all.into_iter().flatten().chain(optional);
        places.any(|place| matches!(place, Place::Key | Place::KeyValue(_)))
    }

    /// Schemas that these records were written with and that are not there.
    fn missing(&self, records: &mut dyn Iterator<Item = &RawRecord>, schemas: &dyn Schemas) -> Vec<SchemaId> {
        let mut missing: Vec<SchemaId> = Vec::new();
        let reads_key = self.reads_key();
        for record in records {
            let value = avro::framed_value(record).ok().flatten();
            let key = if reads_key { avro::framed_key(record).ok().flatten() } else { None };
            for framed in value.into_iter().chain(key) {
                if !missing.contains(&framed.id) && schemas.get(framed.id).is_none() {
                    missing.push(framed.id);
                }
            }
        }
        missing
    }
}

impl Decode for EnvelopeDecoder {
    fn prepare<'a>(&'a self, records: &mut dyn Iterator<Item = &RawRecord>) -> Option<Preparing<'a>> {
        let schemas = self.schemas.as_deref()?;
        let missing = self.missing(records, schemas);
        (!missing.is_empty()).then(|| schemas.fetch(missing))
    }

    fn digest_headers(&self) -> &[Box<str>] {
        &self.digest_headers
    }

    fn decode(&self, record: RawRecord) -> Decoded {
        let digest = event_digest(&record, &self.digest_headers);
        let content = self.read(&record);
        Decoded { record, digest, content }
    }
}

/// A header as text.
fn header_text<'r>(record: &'r RawRecord, name: &str) -> Option<&'r str> {
    header(record, name).and_then(|value| std::str::from_utf8(value).ok())
}

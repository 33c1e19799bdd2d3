//! Records with a JSON value to events, by the stream's mapping. What is wrong with a record is an answer
//! (poison), with
//! as much of its aggregate id and version as could be read. Details never hold values of the record.

use crate::domain::chain::event_digest;
use crate::domain::event::{Decode, Decoded, Event, Undecoded};
use crate::domain::ids::{Timestamp, Version};
use crate::domain::mapping::{Mapping, Place};
use crate::domain::moment;
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::reducer::TOMBSTONE;
use crate::domain::value::{Document, Limits, Part, Value};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

/// Longest aggregate id in bytes.
const ID_BYTES_MAX: usize = 1024;

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
}

impl Decode for JsonDecoder {
    fn decode(&self, record: RawRecord) -> Decoded {
        let digest = event_digest(&record, &self.named_headers);
        let content = Reading { decoder: self, record: &record, key: OnceCell::new() }.read();
        Decoded { record, digest, content }
    }

    /// COST: the data is not built, and nothing is hashed.
    fn route(&self, record: &RawRecord) -> (Option<Arc<str>>, Timestamp) {
        let reading = Reading { decoder: self, record, key: OnceCell::new() };
        let (id, time) = match record.value.as_deref() {
            None => match reading.tombstone() {
                Ok(event) => (Some(event.id), Ok(event.time)),
                Err(undecoded) => (undecoded.id, Ok(undecoded.time)),
            },
            Some(bytes) => match Document::parse(bytes, &self.limits) {
                Ok(document) => (reading.id(Some(document.root())).ok(), reading.time(Some(document.root()))),
                Err(_) => (reading.id(None).ok(), reading.time(None)),
            },
        };
        (id, time.unwrap_or(record.record_time))
    }
}

/// One record being read.
struct Reading<'a> {
    decoder: &'a JsonDecoder,
    record: &'a RawRecord,
    /// The key as JSON, read at most once and only if asked for.
    key: OnceCell<Option<Document<'a>>>,
}

/// What a place answers: text, or a JSON value.
enum Answer<'a> {
    Text(&'a str),
    Value(Part<'a>),
}

impl Reading<'_> {
    fn read(&self) -> Result<Event, Undecoded> {
        let Some(bytes) = self.record.value.as_deref() else { return self.tombstone() };
        match Document::parse(bytes, &self.decoder.limits) {
            Ok(document) => self.event(document.root()),
            Err(error) => {
                let version = self.version(None).ok().flatten();
                Err(self.poison(None, version, Poison::new("bad-json", error.to_string())))
            }
        }
    }

    fn tombstone(&self) -> Result<Event, Undecoded> {
        if self.record.key.is_none() {
            let poison = Poison::new("no-key-and-value", "the record has neither a key nor a value");
            return Err(self.nobodys(None, poison));
        }
        let id = self.id(None).map_err(|poison| self.nobodys(None, poison))?;
        let time = self.time(None).unwrap_or(self.record.record_time);
        let (event_type, data) = (TOMBSTONE.into(), Value::Null);
        Ok(Event { id, version: None, event_type, event_id: None, time, data })
    }

    fn event(&self, value: Part<'_>) -> Result<Event, Undecoded> {
        let mapping = &self.decoder.mapping;
        let root = Some(value);
        let id = self.id(root).map_err(|poison| self.nobodys(root, poison))?;
        let version = self.version(root).map_err(|poison| self.poison(root, None, poison))?;
        let fail = |poison| self.poison(root, version, poison);
        let event_type = self.text(&mapping.event_type, root);
        let event_type =
            event_type.ok_or_else(|| fail(Poison::new("no-event-type", "no place gives an event type")))?;
        let event_type = Box::from(event_type);
        let event_id = self.text(&mapping.event_id, root).map(Box::from);
        let time = self.time(root).map_err(fail)?;
        let data = match &mapping.data {
            None => value.to_value(),
            Some(places) => match self.first(places, root) {
                None => Value::Null,
                Some(Answer::Text(text)) => Value::from(text),
                Some(Answer::Value(data)) => data.to_value(),
            },
        };
        Ok(Event { id, version, event_type, event_id, time, data })
    }

    fn poison(&self, value: Option<Part<'_>>, version: Option<Version>, poison: Poison) -> Undecoded {
        Undecoded { id: self.id(value).ok(), version, ..self.nobodys(value, poison) }
    }

    fn nobodys(&self, value: Option<Part<'_>>, poison: Poison) -> Undecoded {
        let time = self.time(value).unwrap_or(self.record.record_time);
        let (event_type, event_id) = match value {
            // Headers and keys would still answer, but what an unreadable value is about is not known.
            None => (None, None),
            Some(_) => {
                let mapping = &self.decoder.mapping;
                let text = |places| self.text(places, value).map(Box::from);
                (text(&mapping.event_type), text(&mapping.event_id))
            }
        };
        Undecoded { id: None, version: None, time, event_type, event_id, poison }
    }

    /// The first place that answers with anything but null.
    fn first<'b>(&'b self, places: &'b [Place], value: Option<Part<'b>>) -> Option<Answer<'b>> {
        places.iter().find_map(|place| match place {
            Place::Key => {
                self.record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).map(Answer::Text)
            }
            Place::Header(name) => {
                let header = self.record.headers.iter().rev().find(|(header, _)| header == name);
                header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()).map(Answer::Text)
            }
            Place::Const(text) => Some(Answer::Text(text)),
            Place::Value(pointer) => {
                value?.pointer(pointer).filter(|found| !found.is_null()).map(Answer::Value)
            }
            Place::KeyValue(pointer) => {
                let key = self.key.get_or_init(|| {
                    let bytes = self.record.key.as_deref()?;
                    Document::parse(bytes, &self.decoder.limits).ok()
                });
                key.as_ref()?.root().pointer(pointer).filter(|found| !found.is_null()).map(Answer::Value)
            }
        })
    }

    /// The first answer as text: JSON strings, and numbers by their exact text.
    fn text<'b>(&'b self, places: &'b [Place], value: Option<Part<'b>>) -> Option<Cow<'b, str>> {
        match self.first(places, value)? {
            Answer::Text(text) => Some(text.into()),
            Answer::Value(value) => value.as_str().or_else(|| value.number_text().map(Cow::Borrowed)),
        }
    }

    fn id(&self, value: Option<Part<'_>>) -> Result<Arc<str>, Poison> {
        let id = self.text(&self.decoder.mapping.aggregate_id, value);
        let id = id.ok_or_else(|| Poison::new("no-aggregate-id", "no place gives an aggregate id"))?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            let detail = format!("the aggregate id has {} bytes, not 1 to {ID_BYTES_MAX}", id.len());
            return Err(Poison::new("bad-aggregate-id", detail));
        }
        Ok(id.into())
    }

    /// None where versions are counted.
    fn version(&self, value: Option<Part<'_>>) -> Result<Option<Version>, Poison> {
        let mapping = &self.decoder.mapping;
        let Some(places) = &mapping.version else { return Ok(None) };
        let bad =
            || Poison::new("bad-version", "the version is not a whole number from the first version on");
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
        let given: u64 = match self.first(places, value).ok_or_else(bad)? {
            Answer::Text(text) => digits(text).flatten(),
            Answer::Value(value) => match value.as_str() {
                Some(text) => digits(&text).flatten(),
                None => value.as_i64().and_then(|number| u64::try_from(number).ok()),
            },
        }
        .ok_or_else(bad)?;
        let version =
            given.checked_add(1 - mapping.version_base).filter(|version| *version > 0 && *version < 1 << 53);
        version.map(|version| Some(Version(version))).ok_or_else(bad)
    }

    fn time(&self, value: Option<Part<'_>>) -> Result<Timestamp, Poison> {
        let bad = || {
            Poison::new("bad-time", "the time is neither RFC 3339, nor a date, nor whole epoch milliseconds")
        };
        match self.first(&self.decoder.mapping.time, value) {
            None => Ok(self.record.record_time),
            Some(Answer::Text(text)) => text_time(text).ok_or_else(bad),
            Some(Answer::Value(value)) => match value.as_str() {
                Some(text) => text_time(&text).ok_or_else(bad),
                None => value.as_i64().and_then(plausible).ok_or_else(bad),
            },
        }
    }
}

fn text_time(text: &str) -> Option<Timestamp> {
    moment::parse(text).or_else(|| text.parse().ok().and_then(plausible))
}

/// Epoch milliseconds whose date can be written with a year of four digits.
fn plausible(ms: i64) -> Option<Timestamp> {
    (-62_167_219_200_000..253_402_300_800_000).contains(&ms).then_some(Timestamp(ms))
}

#[cfg(test)]
mod tests;

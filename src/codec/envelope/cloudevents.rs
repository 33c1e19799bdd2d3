//! CloudEvents 1.0 over Kafka, recognised record by record. Binary mode: attributes are headers `ce_NAME`,
//! the value is the data, `content-type` says as what. Structured mode: the value is one JSON object with
//! attributes and data, the content type is `application/cloudevents+json`, or there is none and the value
//! has a `specversion`.
//!
//! In either mode a mapping names an attribute `header:ce_NAME`, and pointers lead into the data.

use super::{Content, EnvelopeDecoder, Opened, header_text};
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use crate::domain::value::Value;

/// Headers of attributes start so.
pub(super) const PREFIX: &str = "ce_";
/// What tells binary mode.
pub(super) const SPEC_VERSION: &str = "ce_specversion";
/// What tells structured mode, and of binary mode what the data is.
pub(super) const CONTENT_TYPE: &str = "content-type";

/// Where CloudEvents keep a part of an event.
pub(super) fn places(part: &str) -> &'static [&'static str] {
    match part {
        "aggregateId" => &["header:ce_subject", "key"],
        "eventType" => &["header:ce_type"],
        "eventId" => &["header:ce_id"],
        "time" => &["header:ce_time"],
        _ => &[],
    }
}

/// What the value is, by its content type.
enum Media {
    Batch,
    Structured,
    /// Structured, but not as JSON.
    Foreign,
    Json,
    Text,
    Other,
}

impl Media {
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*essence {
            "application/cloudevents+json" | "application/cloudevents" => Self::Structured,
            essence if essence.starts_with("application/cloudevents-batch") => Self::Batch,
            essence if essence.starts_with("application/cloudevents") => Self::Foreign,
            "application/json" | "text/json" => Self::Json,
            essence if essence.ends_with("+json") => Self::Json,
            essence if essence.starts_with("text/") => Self::Text,
            _ => Self::Other,
        }
    }
}

fn bad<T>(detail: &str) -> Result<T, Poison> {
    Err(Poison::new("bad-cloudevent", detail))
}

impl EnvelopeDecoder {
    pub(super) fn open_cloudevent(&self, record: &RawRecord) -> Result<Content, Poison> {
        let media = header_text(record, CONTENT_TYPE).map(Media::of);
        let spec_version = header_text(record, SPEC_VERSION);
        match (media, spec_version, record.value.as_deref()) {
            (Some(Media::Batch), ..) => {
                let detail = "a batch of events in one record has no single aggregate";
                Err(Poison::new("cloudevents-batch", detail))
            }
            (Some(Media::Foreign), ..) => bad("the event is structured in another form than JSON"),
            (Some(Media::Structured), _, Some(value)) => self.structured(value),
            (media, Some(version), value) => {
                check_version(version)?;
                self.binary(record, value, &media.unwrap_or(Media::Json))
            }
            (_, None, None) => Ok(Content::Tombstone),
            (None, None, Some(value)) => self.structured(value),
            (Some(_), None, Some(_)) => {
                bad("no header `ce_specversion`, and the content type is not that of a structured event")
            }
        }
    }

    /// SUBTLE: an event without data has no value either. Its headers say that it is an event, so it is no
    /// tombstone.
    fn binary(&self, record: &RawRecord, value: Option<&[u8]>, media: &Media) -> Result<Content, Poison> {
        let value = value.filter(|value| !value.is_empty());
        let (root, extra_bytes) = match (value, media) {
            (None, _) => (Value::Null, 0),
            (Some(value), Media::Text) if value.len() <= self.limits.max_bytes => {
                match std::str::from_utf8(value) {
                    Ok(text) => {
                        let text = Value::from(text);
                        let json_len = text.json_len();
                        (text, json_len)
                    }
                    Err(_) => return bad("the text that is the data is not valid UTF-8"),
                }
            }
            (Some(_), Media::Text) => return bad("the text that is the data is longer than the limit"),
            (Some(value), Media::Json) => self.value(record, value)?,
            (Some(value), _) if self.is_avro(record) => self.value(record, value)?,
            (Some(_), _) => return bad("the data is neither JSON nor text"),
        };
        Ok(Content::Event(Opened { root, attributes: None, extra_bytes }))
    }

    fn is_avro(&self, record: &RawRecord) -> bool {
        self.schemas.is_some() && matches!(super::avro::framed_value(record), Ok(Some(_)))
    }

    fn structured(&self, value: &[u8]) -> Result<Content, Poison> {
        let value = Value::parse(value, &self.limits);
        let value = value.map_err(|error| Poison::new("bad-json", error.to_string()))?;
        let Value::Object(mut attributes) = value else {
            return bad("the value is no object, and no header says that it is the data of an event");
        };
        match attributes.get("specversion").map(Value::as_str) {
            Some(Some(version)) => check_version(version)?,
            Some(None) => return bad("`specversion` is no text"),
            None => return bad("neither a header `ce_specversion` nor a member `specversion`"),
        }
        let root = match (attributes.remove("data"), attributes.remove("data_base64")) {
            (Some(_), Some(_)) => return bad("both `data` and `data_base64`"),
            (Some(data), None) | (None, Some(data)) => data,
            (None, None) => Value::Null,
        };
        Ok(Content::Event(Opened { root, attributes: Some(attributes), extra_bytes: 0 }))
    }
}

fn check_version(version: &str) -> Result<(), Poison> {
    if version.starts_with("1.") || version == "0.3" {
        return Ok(());
    }
    bad("`specversion` is neither 1.x nor 0.3")
}

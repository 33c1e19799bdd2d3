//! `PATCH …/snapshots/{version}`: the label and the pin of a snapshot.

use super::create::{members, unknown_member};
use super::edge::BODY_BYTES_MAX;
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, body, encode, json};
use crate::domain::ids::{LedgerId, Version};
use crate::domain::row::NoteRow;
use crate::domain::value::Value;
use crate::lookup::{Lookup, SnapshotMeta, Which};
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

/// Bytes of the longest label.
const LABEL_BYTES_MAX: usize = 256;
/// Bytes of the longest reason.
const REASON_BYTES_MAX: usize = 1_024;

/// What is to be noted; what is not given stays.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Note {
    pub(super) label: Option<Box<str>>,
    pub(super) pinned: Option<bool>,
    pub(super) reason: Option<Box<str>>,
}

impl Note {
    /// Takes a member of a body; false if it is none of a note.
    pub(super) fn take(&mut self, name: &str, value: &Value) -> Result<bool, Problem> {
        match name {
            "label" => self.label = Some(text("label", value, LABEL_BYTES_MAX)?),
            "reason" => self.reason = Some(reason(value)?),
            "pinned" => {
                let pinned = value.as_bool();
                self.pinned =
                    Some(pinned.ok_or_else(|| Problem::new("bad-body", "`pinned` is true or false"))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Keeps it on a snapshot that is there.
    pub(super) async fn keep(self, lookup: &Lookup, meta: &mut SnapshotMeta) -> Result<(), Problem> {
        if self.is_empty() {
            return Ok(());
        }
        let row = &meta.row;
        let (key, lineage, version) = (row.key.clone(), row.lineage, row.version);
        let (Self { label, pinned, reason }, at) = (self, LedgerId::default());
        let kept = lookup.note(NoteRow { key, lineage, version, at, label, pinned, reason }).await?;
        meta.notes.take(&kept);
        Ok(())
    }
}

/// Why something is done; null is no reason.
pub(super) fn reason(value: &Value) -> Result<Box<str>, Problem> {
    text("reason", value, REASON_BYTES_MAX)
}

/// A text of a note; null is none.
fn text(name: &str, value: &Value, bytes_max: usize) -> Result<Box<str>, Problem> {
    if value.is_null() {
        return Ok(Box::default());
    }
    let is_plain = |text: &&str| (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
    match value.as_str().filter(is_plain) {
        Some(text) => Ok(text.into()),
        None => {
            let detail =
                format!("`{name}` is a text of 1 to {bytes_max} bytes without control characters, or null");
            Err(Problem::new("bad-body", detail))
        }
    }
}

pub(super) async fn patch(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let version: Version = path.version()?;
    let Target { lookup, id, .. } = path.target(&shared)?;
    let mut note = Note::default();
    for (name, value) in members(&body::bytes(sent, BODY_BYTES_MAX).await?)? {
        if name == "reason" || !note.take(&name, &value)? {
            return Err(unknown_member(&name, &["label", "pinned"]));
        }
    }
    if note.is_empty() {
        return Err(
            Problem::new("bad-body", "the body changes nothing").hint("give `label`, `pinned` or both")
        );
    }
    let mut meta = lookup.snapshot_meta(&id, Which::Version(version)).await?;
    note.keep(&lookup, &mut meta).await?;
    Ok(answer(json::object(|body| encode::snapshot(body, &meta, None))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::Limits;

    fn value(text: &str) -> Value {
        Value::parse(text.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn labels_are_short_plain_texts_and_null_takes_them_away() {
        let mut note = Note::default();
        assert!(note.take("label", &value(r#""v2 launch""#)).unwrap());
        assert!(note.take("pinned", &value("false")).unwrap());
        assert!(!note.take("lable", &value("1")).unwrap());
        assert_eq!((note.label.as_deref(), note.pinned), (Some("v2 launch"), Some(false)));
        assert!(note.take("label", &value("null")).unwrap());
        assert_eq!(note.label.as_deref(), Some(""));
        let long = format!("\"{}\"", "x".repeat(LABEL_BYTES_MAX + 1));
        for wrong in ["\"\"", "7", "\"a\\nb\"", &long] {
            assert_eq!(note.take("label", &value(wrong)).unwrap_err().code, "bad-body", "{wrong}");
        }
        assert_eq!(note.take("pinned", &value("\"yes\"")).unwrap_err().code, "bad-body");
    }
}

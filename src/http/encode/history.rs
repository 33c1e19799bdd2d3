//! Bodies about how an aggregate came to be: differences, who wrote what, changes of a field, changes as they
//! happen.

use super::{basis, quarantined};
use crate::domain::value::leaves::{is_leaf, new_leaves};
use crate::domain::value::{Pointer, Value};
use crate::http::json::{self, Object};
use crate::lookup::{Answer, Blame, Changed, Diff, FieldChange, Writer};

/// A difference; `patch` is its text in the format of that name. `is_settled`: it was asked for by a basis,
/// and leaves out what may change.
pub(in crate::http) fn diff(diff: &Diff, format: &str, patch: &[u8], is_settled: bool) -> Vec<u8> {
    let side = |body: &mut Object<'_>, answer: &Answer| {
        body.number("version", answer.aggregate.version).time("timestamp", answer.aggregate.effective_time);
        basis(body, answer);
        quarantined(body, answer.aggregate.quarantine.as_deref().filter(|_| !is_settled));
    };
    json::object(|body| {
        body.object("from", |body| side(body, &diff.from)).object("to", |body| side(body, &diff.to));
        body.text("format", format).raw("patch", patch);
    })
}

/// What differs, leaf by leaf: first what is new or other, in the order of `after`, then what is gone.
pub(in crate::http) fn leaf_changes(before: &Value, after: &Value) -> Vec<u8> {
    let root = Pointer::default();
    let new = new_leaves(Some(before), after, &root);
    let gone = new_leaves(Some(after), before, &root);
    let gone = gone.iter().filter(|(path, _)| !after.pointer(path).is_some_and(is_leaf));
    let was = |path: &Pointer| before.pointer(path).filter(|value| is_leaf(value));
    let new = new.iter().map(|(path, value)| (path, was(path), Some(*value)));
    let changes = new.chain(gone.map(|(path, value)| (path, Some(*value), None)));
    json::array(changes, |body, (path, before, after)| {
        body.text("path", &path.to_string());
        value(body, "before", before);
        value(body, "after", after);
    })
}

/// A value; nothing where there is none.
fn value(body: &mut Object<'_>, name: &str, value: Option<&Value>) {
    if let Some(value) = value {
        body.raw(name, value.to_json().as_bytes());
    }
}

fn writer(body: &mut Object<'_>, by: &Writer) {
    body.number("version", by.version).text_or_null("eventType", by.event_type.as_deref());
    body.text_or_null("eventId", by.event_id.as_deref()).time("timestamp", by.timestamp);
}

/// Who wrote each leaf last; `is_settled` as for a difference.
pub(in crate::http) fn blame(blame: &Blame, is_settled: bool) -> Vec<u8> {
    json::object(|body| {
        body.number("version", blame.at.aggregate.version);
        body.time("timestamp", blame.at.aggregate.effective_time);
        basis(body, &blame.at);
        quarantined(body, blame.at.aggregate.quarantine.as_deref().filter(|_| !is_settled));
        body.objects("fields", &blame.fields, |body, (path, by)| {
            body.text("path", &path.to_string());
            writer(body, by);
        });
    })
}

/// One change of one field.
pub(in crate::http) fn field_change(body: &mut Object<'_>, change: &FieldChange) {
    writer(body, &change.by);
    value(body, "before", change.before.as_ref());
    value(body, "after", change.after.as_ref());
}

/// What one event did.
pub(in crate::http) fn changed(changed: &Changed) -> Vec<u8> {
    json::object(|body| {
        body.number("version", changed.by.version);
        body.text_or_null("type", changed.by.event_type.as_deref());
        body.text_or_null("id", changed.by.event_id.as_deref());
        body.time("timestamp", changed.by.timestamp).raw("patch", changed.patch.to_json().as_bytes());
    })
}

//! Bodies of answers (API.md 4 and 4.2) out of what lookups answer.
//!
//! INVARIANT: states, data and patches are the text that was folded; digests and lengths are those of their
//! canonical form. Nothing passes through a floating-point number.

mod history;
mod proof;

pub(super) use proof::proof;

pub(super) use history::{blame, changed, diff, field_change, leaf_changes};

use super::json::{self, Object};
use super::problem::Problem;
use crate::codec::compress::Algorithm;
use crate::codec::pack::Locator;
use crate::domain::aggregate::Aggregate;
use crate::domain::error::Error;
use crate::domain::ids::{Digest, Offset, PartitionNo, Version};
use crate::domain::moment;
use crate::domain::record::{Bytes, QuarantineMark, RawRecord};
use crate::domain::row::{DeadLetter, RecordKind, Trigger};
use crate::domain::value::{Limits, Value};
use crate::lookup::{
    Answer, Durable, EventView, HeadView, ListItem, SnapshotMeta, Source, Step, StepKind, Verified,
};
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

/// A state as it is answered.
pub(super) struct Shown {
    /// Its text; none if there is no state.
    text: Option<Box<[u8]>>,
    /// Digest of its canonical form.
    pub(super) digest: Option<Digest>,
    /// Length of its canonical form.
    canonical_bytes: u64,
}

/// The state that an answer shows.
pub(super) fn shown(aggregate: &Aggregate) -> Result<Shown, Problem> {
    /// Its own bounds were checked when it was folded.
    const LIMITS: Limits =
        Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let Some(text) = aggregate.state.to_json() else {
        return Ok(Shown { text: None, digest: None, canonical_bytes: 0 });
    };
    let value = Value::parse(&text, &LIMITS);
    let value = value.map_err(|error| Error::corrupt(format!("read a state: {error}")))?;
    let mut canonical = Vec::with_capacity(text.len());
    value.canonical(&mut canonical);
    let digest = Some(Digest(Sha256::digest(&canonical).into()));
    Ok(Shown { text: Some(text), digest, canonical_bytes: canonical.len() as u64 })
}

impl Shown {
    fn json(&self) -> &[u8] {
        self.text.as_deref().unwrap_or(b"null")
    }
}

/// Which aggregate an answer is about, and in which topic its events are.
pub(super) struct About<'a> {
    /// Its type.
    pub(super) kind: &'a str,
    /// Its id.
    pub(super) id: &'a str,
    /// The stream's topic.
    pub(super) topic: &'a str,
}

impl About<'_> {
    fn write(&self, body: &mut Object<'_>) {
        body.text("aggregateType", self.kind).text("aggregateId", self.id);
    }
}

fn position(body: &mut Object<'_>, topic: &str, partition: PartitionNo, offset: Offset) {
    body.object("position", |at| {
        at.text("topic", topic).number("partition", partition);
        at.number_or_null("offset", Some(offset).filter(|offset| *offset >= Offset(0)));
    });
}

fn last_event(body: &mut Object<'_>, aggregate: &Aggregate) {
    if aggregate.version == Version(0) {
        body.null("lastEvent");
        return;
    }
    body.object("lastEvent", |event| {
        event.text("type", &aggregate.last_event_type);
        event.text_or_null("id", aggregate.last_event_id.as_deref());
    });
}

fn quarantined(body: &mut Object<'_>, mark: Option<&QuarantineMark>) {
    if let Some(mark) = mark {
        body.object("quarantined", |body| {
            body.text("code", &mark.code).number("version", mark.version);
            body.number("offset", mark.offset).time("since", mark.since);
        });
    }
}

fn source(answer: &Answer) -> &'static str {
    match (answer.source, answer.provenance.base, answer.provenance.events) {
        (Source::Memory, ..) => "memory",
        (Source::Cache, ..) => "cache",
        (Source::Rest, Version(0), _) => "events",
        (Source::Rest, _, 0) => "snapshot",
        (Source::Rest, ..) => "snapshot+events",
    }
}

fn basis(body: &mut Object<'_>, answer: &Answer) {
    body.text_or_null("basis", answer.basis().map(|basis| basis.to_string()).as_deref());
}

/// How a state is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StateView {
    /// Only what is true of it whenever it is asked for: it was asked for by its basis.
    pub(super) is_settled: bool,
    /// With what was read for it.
    pub(super) is_explained: bool,
}

/// A state; `took_ms` is how long it took to have it, in milliseconds.
pub(super) fn state(
    body: &mut Object<'_>,
    about: &About<'_>,
    answer: &Answer,
    shown: &Shown,
    took_ms: f64,
    view: StateView,
) {
    let (aggregate, from) = (&answer.aggregate, answer.provenance);
    let base = Some(from.base).filter(|base| *base > Version(0));
    about.write(body);
    body.number("version", aggregate.version);
    if !view.is_settled {
        body.number_or_null("headVersion", answer.head_version);
    }
    body.flag("deleted", aggregate.is_deleted()).time("timestamp", aggregate.effective_time);
    position(body, about.topic, answer.partition, aggregate.offset);
    basis(body, answer);
    if !view.is_settled {
        body.flag("fromSnapshot", base.is_some()).number_or_null("snapshotVersion", base);
        body.number("eventsReplayed", from.events)
            .number("reconstructionTimeMs", format_args!("{took_ms:.3}"));
        body.text("source", source(answer));
    }
    last_event(body, aggregate);
    body.number("lineage", answer.lineage).digest("stateDigest", shown.digest);
    body.digest("chain", Some(aggregate.chain));
    if !view.is_settled {
        quarantined(body, aggregate.quarantine.as_deref());
    }
    if view.is_explained {
        plan(body, answer);
    }
    body.raw("state", shown.json());
}

/// What was read for an answer, in order.
fn plan(body: &mut Object<'_>, answer: &Answer) {
    let kind = |step: &Step| match step.kind {
        StepKind::Cache => "cache",
        StepKind::Snapshot => "snapshot",
        StepKind::Increment => "increment",
        StepKind::Segment => "segment",
        StepKind::Checkpoint => "checkpoint",
        StepKind::Log => "log",
        StepKind::Trail => "trail",
    };
    let bytes: u64 = answer.steps.iter().filter_map(|step| step.bytes).sum();
    body.object("plan", |body| {
        body.text("source", source(answer)).number("events", answer.provenance.events);
        body.number(
            "logRecords",
            answer.steps.iter().filter(|step| step.pack.is_none()).map(|step| step.records).sum::<u64>(),
        );
        body.number("storedBytes", bytes).number("damaged", answer.provenance.damaged);
        body.objects("steps", &answer.steps, |body, step| {
            body.text("read", kind(step)).number("fromVersion", step.from).number("toVersion", step.upto);
            if let Some(pack) = step.pack {
                body.text("pack", &pack.to_string());
            }
            if let Some(bytes) = step.bytes {
                body.number("storedBytes", bytes);
            }
            if let Some((first, end)) = step.offsets {
                body.number("firstOffset", first).number("endOffset", end);
            }
            body.number("records", step.records);
            if step.failed {
                body.flag("failed", true);
            }
        });
    });
}

/// The head.
pub(super) fn head(about: &About<'_>, head: &HeadView) -> Vec<u8> {
    let (answer, aggregate) = (&head.answer, &head.answer.aggregate);
    json::object(|body| {
        about.write(body);
        body.number("version", aggregate.version).flag("deleted", aggregate.is_deleted());
        body.time("timestamp", aggregate.effective_time).time("firstTime", aggregate.first_time);
        position(body, about.topic, answer.partition, aggregate.offset);
        basis(body, answer);
        body.number("lineage", answer.lineage);
        last_event(body, aggregate);
        body.object("snapshots", |body| {
            body.number("count", head.snapshots).number_or_null("latestVersion", head.latest_snapshot);
        });
        body.text(
            "durable",
            match head.durable {
                Durable::Snapshot => "snapshot",
                Durable::Checkpoint => "checkpoint",
                Durable::Log => "log",
            },
        );
        quarantined(body, aggregate.quarantine.as_deref());
    })
}

/// One aggregate of a list.
pub(super) fn list_item(body: &mut Object<'_>, kind: &str, item: &ListItem) {
    body.text("aggregateType", kind).text("aggregateId", &item.id).number("version", item.version);
    body.time("timestamp", item.timestamp);
    match item.deleted {
        Some(deleted) => body.flag("deleted", deleted),
        None => body.null("deleted"),
    };
}

/// A key or a header as text, or as `{ "base64": … }` where it is not UTF-8.
fn bytes(body: &mut Object<'_>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => body.null(name),
        Some((Ok(text), _)) => body.text(name, text),
        Some((Err(_), bytes)) => body.object(name, |body| {
            body.text("base64", &BASE64.encode(bytes));
        }),
    };
}

/// Headers by name; of one that is there more than once, the last counts, as it does in the chain.
fn headers(body: &mut Object<'_>, record: &RawRecord) {
    body.object("headers", |body| {
        for (at, (name, value)) in record.headers.iter().enumerate() {
            if record.headers[at + 1..].iter().all(|(later, _)| later != name) {
                bytes(body, name, value.as_ref());
            }
        }
    });
}

/// One event.
pub(super) fn event(body: &mut Object<'_>, topic: &str, view: &EventView) {
    let (decoded, record) = (&view.event, &view.event.record);
    body.number("version", view.version).text_or_null("type", decoded.event_type());
    body.text_or_null("id", decoded.event_id()).time("timestamp", decoded.time());
    body.time("effectiveTime", view.effective_time).time("recordTime", record.record_time);
    position(body, topic, view.partition, record.offset);
    bytes(body, "key", record.key.as_ref());
    headers(body, record);
    match &decoded.content {
        Ok(event) => body.raw("data", event.data.to_json().as_bytes()),
        Err(undecoded) => body.null("data").object("poison", |poison| {
            poison.text("code", undecoded.poison.code).text("detail", &undecoded.poison.detail);
        }),
    };
    body.digest("digest", Some(decoded.digest));
    if view.skipped {
        body.flag("skipped", true);
    }
}

fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Events => "events",
        Trigger::Age => "age",
        Trigger::Bytes => "bytes",
        Trigger::Manual => "manual",
        Trigger::Schedule => "schedule",
        Trigger::Memory => "memory",
        Trigger::Debt => "debt",
        Trigger::Adaptive => "adaptive",
    }
}

/// One snapshot, with its state where that was asked for. Without it, digest and canonical length are only
/// known where the state is stored in full, and null otherwise.
pub(super) fn snapshot(body: &mut Object<'_>, meta: &SnapshotMeta, state: Option<(&Aggregate, &Shown)>) {
    let row = &meta.row;
    let digest = state.map_or(row.state_digest, |(_, shown)| shown.digest);
    let raw_bytes = state.map_or(row.state_bytes, |(_, shown)| Some(shown.canonical_bytes));
    // None where the locator is damaged, or is that of another row.
    let locator = Locator::decode(&row.locator).ok().filter(|locator| locator.pack == row.pack);
    let algorithm = locator.map(|locator| locator.algorithm);
    body.text("id", &meta.id).text("aggregateType", &row.key.kind).text("aggregateId", &row.key.id);
    body.number("version", row.version).time("timestamp", row.effective_time);
    if let Some((_, shown)) = state {
        body.raw("data", shown.json());
    }
    body.object("metadata", |body| {
        body.text("eventType", &row.event_type);
        match algorithm {
            Some(algorithm) => body.flag("compressed", algorithm != Algorithm::None),
            None => body.null("compressed"),
        };
        body.number("size", row.stored_bytes).number_or_null("rawSize", raw_bytes);
        body.digest("checksum", digest).number("createdFromVersion", meta.created_from);
        body.text("kind", kind(row.kind));
        body.text_or_null("algorithm", algorithm.map(Algorithm::name)).text("trigger", trigger(row.trigger));
        body.time("createdAt", row.created_at).number("creationTimeMs", row.creation_ms);
        let notes = &meta.notes;
        body.text_or_null("label", notes.label.as_deref()).flag("pinned", notes.pinned);
        body.text_or_null("reason", notes.reason.as_deref());
        body.flag("archived", meta.archived).flag("deleted", row.deleted);
        body.number("partition", row.partition).number("offset", row.last_offset);
        body.number("lineage", row.lineage).digest("chain", Some(row.chain));
    });
    if let Some((aggregate, _)) = state {
        quarantined(body, aggregate.quarantine.as_deref());
    }
}

fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Full => "full",
        RecordKind::Increment => "incremental",
        RecordKind::Segment => "segment",
    }
}

/// What verifying found.
pub(super) fn verified(mode: &str, verified: &Verified) -> Vec<u8> {
    json::object(|body| {
        body.text("mode", mode).flag("ok", verified.ok).number("checked", verified.checked);
        body.objects("problems", &verified.problems, |body, finding| {
            body.text("code", finding.code).number("version", finding.version);
            body.text("detail", &finding.detail).flag("healed", finding.healed);
        });
    })
}

/// One dead letter; its value only where that was asked for.
pub(super) fn dead_letter(body: &mut Object<'_>, kind: &str, letter: &DeadLetter, with_value: bool) {
    let (partition, offset) = (letter.key.partition, letter.offset);
    body.text("id", &format!("{kind}.{partition}.{offset}")).text("stream", kind);
    position(body, &letter.key.topic, partition, offset);
    if let Some(aggregate) = &letter.aggregate {
        body.text("aggregateId", &aggregate.id);
    }
    body.text("code", &letter.code).text("detail", &letter.detail);
    body.text("timestamp", &moment::format(letter.record.record_time));
    if with_value {
        let value = letter.record.value.as_ref().map(|value| BASE64.encode(value));
        body.text_or_null("value", value.as_deref());
    }
}

#[cfg(test)]
mod tests;

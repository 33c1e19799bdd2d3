//! How an aggregate came to be: its events, who wrote which field, what changed a field, and the difference
//! between two moments.

use super::walk::{STRETCH_MAX, Step, tree};
use super::{Answer, Asked, Basis, Diff, EventView, Freshness, Lookup, Refusal, Selector};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{PartitionNo, Timestamp, Version};
use crate::domain::row::PartitionKey;
use crate::domain::value::leaves::{leaves, new_leaves};
use crate::domain::value::{Pointer, Value};
use crate::reconstruct::FoldedEvent;
use std::collections::{BTreeMap, BTreeSet};

/// Versions of the first stretch that blame looks at.
const STRETCH_FIRST: u64 = 32;
/// The same for the history of a field, which keeps values.
const STRETCH_LEAST: u64 = 8;
/// Versions that one question for the history of a field looks at.
const LOOKED_AT_MAX: u64 = 8_192;
/// Bytes of the values of a page after which it ends.
const PAGE_BYTES: usize = 16 << 20;

/// Which event wrote something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The version it took.
    pub version: Version,
    /// Its type, if it could be decoded.
    pub event_type: Option<Box<str>>,
    /// Its id, if it has one.
    pub event_id: Option<Box<str>>,
    /// Effective time of the version.
    pub timestamp: Timestamp,
}

/// Who wrote each leaf last.
#[derive(Clone, Debug)]
pub struct Blame {
    /// The moment.
    pub at: Answer,
    /// The leaves in the order of the document; the whole state counts as one where it is deleted.
    pub fields: Vec<(Pointer, Writer)>,
}

/// One change of one place.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// The event.
    pub by: Writer,
    /// What was there, if anything.
    pub before: Option<Value>,
    /// What is there since, if anything.
    pub after: Option<Value>,
}

/// Changes of one place.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldHistory {
    /// In the order asked for.
    pub items: Vec<FieldChange>,
    /// There may be more beyond this version.
    pub next: Option<Version>,
}

/// What one event did to the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The event.
    pub by: Writer,
    /// RFC 6902, from the state before to the state after.
    pub patch: Value,
}

/// Over which versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// From this one on.
    pub from: Version,
    /// Up to and with this one; the head without.
    pub to: Option<Version>,
    /// The newest first.
    pub descending: bool,
    /// At most so many.
    pub limit: usize,
    /// Only what this has seen.
    pub basis: Option<Basis>,
}

impl Lookup {
    /// The events of the versions `from ..= to` (the head without `to`), at most `limit` of them: the
    /// first, or the last in descending order.
    ///
    /// # Errors
    /// `VersionBeyondHead` if `from` is; `HistoryGone`, with the earliest event that is left, if they are.
    pub async fn events(
        &self,
        id: &str,
        from: Version,
        to: Option<Version>,
        descending: bool,
        limit: usize,
    ) -> Asked<Vec<EventView>> {
        let over = Over { from, to, descending, limit, basis: None };
        let Some((log, (from, to))) = self.range(id, &over).await? else { return Ok(Vec::new()) };
        let key = self.key(id);
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        if most == 0 {
            return Ok(Vec::new());
        }
        let (first, last) = if descending {
            (from.max(Version((to.0 + 1).saturating_sub(most))), to)
        } else {
            (from, to.min(Version(from.0.saturating_add(most - 1))))
        };
        let mut events = self.events_between(&log, &key, first, last).await?;
        if descending {
            events.reverse();
        }
        Ok(events.into_iter().map(|event| viewed(event, log.partition)).collect())
    }

    /// The versions of a range that exist, and the log they are from; none where the range is empty.
    async fn range(&self, id: &str, over: &Over) -> Asked<Option<(PartitionKey, (Version, Version))>> {
        let key = self.key(id);
        let Some(partition) = self.locate(&key).await? else { return Err(Refusal::UnknownAggregate) };
        let log = self.log_of(partition);
        let from = over.from.max(Version(1));
        let head = match &over.basis {
            Some(_) => self.state_in(id, Selector::Head, over.basis.as_ref()).await?.aggregate.version,
            None => {
                let owner = self.ask_owner(&log, &key.id).await?;
                let head = self.head_if_readable(&log, &key, &owner, None, Freshness::default()).await?;
                // Without a version to end at, the head must be known; up to one, the events up to it must.
                match (head, over.to) {
                    (Some(head), _) => head.version,
                    (None, Some(to)) => to.max(from),
                    (None, None) => {
                        let detail = "the newest version cannot be read; ask for the events up to a version";
                        return Err(Refusal::Failed(Error::corrupt(detail)));
                    }
                }
            }
        };
        if from > head {
            return Err(Refusal::VersionBeyondHead { head });
        }
        let to = over.to.unwrap_or(head).min(head);
        Ok((from <= to).then_some((log, (from, to))))
    }

    /// Two moments of an aggregate with their states, within what `basis` has seen.
    ///
    /// # Errors
    /// As for `state`.
    pub async fn diff(&self, id: &str, from: Selector, to: Selector, basis: Option<&Basis>) -> Asked<Diff> {
        let from = self.state_in(id, from, basis).await?;
        let to = self.state_in(id, to, basis).await?;
        let limits = &self.reader().rules.limits;
        let (before, after) = (tree(&from.aggregate.state, limits)?, tree(&to.aggregate.state, limits)?);
        Ok(Diff { from, to, before, after })
    }

    /// Who wrote each leaf below `path` last, as of a moment.
    ///
    /// # Errors
    /// As for `state`; `HistoryGone` if an event that wrote one can no longer be had.
    pub async fn blame(
        &self,
        id: &str,
        selector: Selector,
        basis: Option<&Basis>,
        path: &Pointer,
    ) -> Asked<Blame> {
        let at = self.state_in(id, selector, basis).await?;
        let rules = &self.reader().rules;
        let state = tree(&at.aggregate.state, &rules.limits)?;
        let (key, log) = (self.key(id), self.log_of(at.partition));
        // Without a version there is no state, and nobody wrote that.
        let part = state.pointer(path).filter(|_| at.aggregate.version > Version(0));
        let fields: Vec<Pointer> =
            part.map(|part| leaves(part, path)).into_iter().flatten().map(|leaf| leaf.0).collect();
        let mut open: BTreeSet<&Pointer> = fields.iter().collect();
        let mut writers: BTreeMap<&Pointer, Writer> = BTreeMap::new();
        // Backwards, because most leaves were written of late; a stretch that found little is followed by a
        // longer one.
        let (mut last, mut length) = (at.aggregate.version, STRETCH_FIRST);
        while !open.is_empty() && last > Version(0) {
            let first = Version((last.0 + 1).saturating_sub(length).max(1));
            self.check_work(at.aggregate.version.0 - last.0)?;
            let stretch = self.stretch(&log, &key, first, last).await?;
            let mut found: BTreeMap<&Pointer, Writer> = BTreeMap::new();
            let see = |step: &Step<'_>| {
                let Some(after) = step.after.pointer(path) else { return };
                let before = step.before.pointer(path).filter(|_| step.event.version > Version(1));
                for (leaf, _) in new_leaves(before, after, path) {
                    if let Some(leaf) = open.get(&leaf) {
                        found.insert(leaf, step.writer());
                    }
                }
            };
            stretch.walk(rules, see).await?;
            open.retain(|leaf| !found.contains_key(leaf));
            writers.append(&mut found);
            (last, length) = (Version(first.0 - 1), (length * 2).min(STRETCH_MAX));
        }
        if let Some(leaf) = open.first() {
            let detail = format!("no event of the history wrote `{leaf}`");
            return Err(Refusal::Failed(Error::new(ErrorKind::Internal, "corrupt", detail)));
        }
        let fields: Vec<(Pointer, Writer)> =
            fields.iter().filter_map(|leaf| Some((leaf.clone(), writers.remove(leaf)?))).collect();
        Ok(Blame { at, fields })
    }

    /// The versions in which one place changed, and the version that a further question goes on after, if
    /// there may be more: one question looks at a bounded number of versions, so a page can be short.
    ///
    /// # Errors
    /// As for `events`.
    pub async fn field_history(&self, id: &str, path: &Pointer, over: Over) -> Asked<FieldHistory> {
        let mut items: Vec<FieldChange> = Vec::new();
        let (mut looked_at, mut bytes, mut length) = (0, 0, STRETCH_LEAST);
        let Some((log, range)) = self.range(id, &over).await? else {
            return Ok(FieldHistory { items, next: None });
        };
        let key = self.key(id);
        let mut rest = Some(range);
        while let Some((first, last)) = rest {
            if looked_at >= LOOKED_AT_MAX || items.len() >= over.limit || bytes >= PAGE_BYTES {
                break;
            }
            // Short at first: how large the values are is not known yet.
            let stretch = (last.0 - first.0 + 1).min(length);
            length = (length * 2).min(STRETCH_MAX);
            let (from, to) = match over.descending {
                true => (Version(last.0 + 1 - stretch), last),
                false => (first, Version(first.0 + stretch - 1)),
            };
            let mut found = Vec::new();
            let stretch_read = self.stretch(&log, &key, from, to).await?;
            let see = |step: &Step<'_>| {
                if let Some((before, after)) = step.at(path) {
                    found.push(FieldChange { by: step.writer(), before, after });
                }
            };
            stretch_read.walk(&self.reader().rules, see).await?;
            let values = found.iter().flat_map(|change| [&change.before, &change.after]).flatten();
            bytes += values.map(Value::json_len).sum::<usize>();
            if over.descending {
                found.reverse();
            }
            items.append(&mut found);
            looked_at += stretch;
            rest = match over.descending {
                true => (from > first).then(|| (first, Version(from.0 - 1))),
                false => (to < last).then(|| (to.next(), last)),
            };
        }
        let is_cut = items.len() > over.limit;
        items.truncate(over.limit);
        let reached = rest.map(|(first, last)| match over.descending {
            true => last.next(),
            false => Version(first.0 - 1),
        });
        let next = if is_cut { items.last().map(|item| item.by.version) } else { reached };
        Ok(FieldHistory { items, next })
    }

    /// What each event after `after` did, at most `limit` of them; none if nothing newer is known. (A new
    /// owner that still folds what the last one had folded knows less for a while.)
    ///
    /// # Errors
    /// As for `events`.
    pub async fn changes_after(&self, id: &str, after: Version, limit: u64) -> Asked<Vec<Changed>> {
        let head = self.state(id, Selector::Head, Freshness::default()).await?;
        let version = head.head_version.unwrap_or(head.aggregate.version);
        if after >= version {
            return Ok(Vec::new());
        }
        let last = Version(version.0.min(after.0 + limit.clamp(1, STRETCH_MAX)));
        let log = self.log_of(head.partition);
        let mut changes = Vec::new();
        let stretch = self.stretch(&log, &self.key(id), after.next(), last).await?;
        stretch.walk(&self.reader().rules, |step| changes.push(step.changed())).await?;
        Ok(changes)
    }

    fn check_work(&self, versions: u64) -> Asked<()> {
        let max = self.0.parts.settings.events_max;
        if versions > max { Err(self.too_much(versions)) } else { Ok(()) }
    }
}

fn viewed(event: FoldedEvent, partition: PartitionNo) -> EventView {
    let FoldedEvent { version, skipped, event, effective_time } = event;
    EventView { version, skipped, event, effective_time, partition }
}

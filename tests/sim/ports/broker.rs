//! The broker's side of the log: topics, partitions, offsets with gaps, leader epochs, retention, truncation,
//! re-creation, committed offsets; and the journal of all that was ever appended, which the ledger is fed by.
//!
//! INVARIANT: offsets of one partition of one topic id only repeat after a truncation, and then under a later
//! epoch.

use super::Gate;
use super::clock::wall;
use crate::executor::lock;
use crate::stats::Count;
use snapfold::domain::ids::{Offset, PartitionNo, Timestamp};
use snapfold::domain::outcome::{PortError, PortResult};
use snapfold::domain::record::{Bytes, Headers, RawRecord};
use snapfold::kafka::LogBounds;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// What the producer meant by a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// An event.
    Event,
    /// The same bytes as an earlier record.
    Duplicate,
    /// An event that takes a version which another event has.
    Conflict,
    /// An event whose version skips one.
    Gap,
    /// Not a good event; how.
    Poison(&'static str),
    /// A key without a value.
    Tombstone,
    /// Put there by a test.
    Injected,
}

/// One record as the producer knows it.
#[derive(Clone, Debug)]
pub(crate) struct JournalEntry {
    /// Topic.
    pub(crate) topic: Arc<str>,
    /// Which incarnation of it.
    pub(crate) topic_id: u128,
    /// Partition.
    pub(crate) partition: PartitionNo,
    /// The record with its offset.
    pub(crate) record: Arc<RawRecord>,
    /// What it was meant to be.
    pub(crate) note: Note,
    /// Whose event it is, where it is one.
    pub(crate) aggregate: Option<Arc<str>>,
    /// Its place among the aggregate's events, as the producer counts: also what the event says in `Given`
    /// mode.
    pub(crate) version: Option<u64>,
    /// When it was appended.
    pub(crate) at: u64,
    /// When an unclean election took it away.
    pub(crate) truncated_at: Option<u64>,
}

/// A record to append.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Key.
    pub(crate) key: Option<Bytes>,
    /// Value.
    pub(crate) value: Option<Bytes>,
    /// Headers.
    pub(crate) headers: Headers,
    /// The record's timestamp.
    pub(crate) record_time: Timestamp,
    /// See [`JournalEntry`].
    pub(crate) note: Note,
    /// See [`JournalEntry`].
    pub(crate) aggregate: Option<Arc<str>>,
    /// See [`JournalEntry`].
    pub(crate) version: Option<u64>,
}

#[derive(Default)]
struct Part {
    start: i64,
    end: i64,
    records: VecDeque<(Arc<RawRecord>, usize)>,
    epoch: i32,
    // Epoch and the first offset written under it.
    epochs: Vec<(i32, i64)>,
}

struct Topic {
    id: u128,
    parts: Vec<Part>,
}

#[derive(Default)]
struct Watch {
    changes: u64,
    waiters: Vec<Waker>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    watches: BTreeMap<Arc<str>, BTreeMap<PartitionNo, Watch>>,
    committed: BTreeMap<(Arc<str>, PartitionNo), Offset>,
    journal: Vec<JournalEntry>,
    cut: usize,
    topics_made: u128,
}

/// Records from an offset on, the offset to go on from, and the state of the partition they were read at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    /// In offset order.
    pub(crate) records: Vec<RawRecord>,
    /// Past the last record, or past what holds no record.
    pub(crate) next: Offset,
    /// For [`Broker::poll_changed`].
    pub(crate) changes: u64,
}

/// The broker; clones share it.
#[derive(Clone)]
pub(crate) struct Broker {
    gate: Gate,
    state: Arc<Mutex<State>>,
}

fn index(partition: PartitionNo) -> usize {
    usize::try_from(partition.0).unwrap_or(usize::MAX)
}

impl State {
    fn part(&mut self, topic: &str, partition: PartitionNo) -> PortResult<&mut Part> {
        let unknown = || PortError::Permanent(format!("no partition {partition} of topic `{topic}`"));
        let topic = self.topics.get_mut(topic).ok_or_else(unknown)?;
        topic.parts.get_mut(index(partition)).ok_or_else(unknown)
    }

    fn watch(&mut self, topic: &str, partition: PartitionNo) -> &mut Watch {
        if !self.watches.contains_key(topic) {
            self.watches.insert(topic.into(), BTreeMap::new());
        }
        let of_topic = self.watches.get_mut(topic).expect("it is there by now");
        of_topic.entry(partition).or_default()
    }

    fn changed(&mut self, topic: &str, partition: PartitionNo) {
        let watch = self.watch(topic, partition);
        watch.changes += 1;
        watch.waiters.drain(..).for_each(Waker::wake);
    }
}

impl Broker {
    /// A broker without topics.
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate, state: Arc::default() }
    }

    /// Creates a topic, or creates it again: another id, empty partitions, epochs from 0. Committed offsets
    /// go with the old one unless the plan lets them stay.
    pub(crate) fn create(&self, topic: &Arc<str>, partitions: i32) {
        let outlive = self.gate.plan(|plan| plan.commits_outlive_topic);
        let mut state = lock(&self.state);
        state.topics_made += 1;
        let id = 0xfeed_0000_0000_0000_0000_0000_0000_0000 + state.topics_made;
        let parts = (0..partitions).map(|_| Part::default()).collect();
        if state.topics.insert(topic.clone(), Topic { id, parts }).is_some() {
            self.gate.sim.count(Count::Recreation);
            if !outlive {
                state.committed.retain(|(of, _), _| of != topic);
            }
        }
        (0..partitions).for_each(|partition| state.changed(topic, PartitionNo(partition)));
        self.gate.sim.note("create", u64::try_from(state.topics_made).unwrap_or(0), 0);
    }

    /// Names and partition counts.
    pub(crate) fn topics(&self) -> Vec<(Arc<str>, i32)> {
        let state = lock(&self.state);
        let count = |topic: &Topic| i32::try_from(topic.parts.len()).unwrap_or(i32::MAX);
        state.topics.iter().map(|(name, topic)| (name.clone(), count(topic))).collect()
    }

    /// From the next record on, a partition tells no leader epochs, as logs of old message formats do.
    pub(crate) fn tell_no_epochs(&self, topic: &str, partition: PartitionNo) {
        if let Ok(part) = lock(&self.state).part(topic, partition) {
            part.epoch = -1;
        }
    }

    /// Appends a record; its offset.
    pub(crate) fn append(&self, topic: &str, partition: PartitionNo, draft: Draft) -> PortResult<Offset> {
        let gap = self.gate.plan(|plan| plan.offset_gap);
        let gap = self.gate.sim.draw(|rng| rng.hits(gap));
        let at = self.gate.sim.now();
        let mut state = lock(&self.state);
        let journal_at = state.journal.len();
        let part = state.part(topic, partition)?;
        if part.epochs.last().is_none_or(|(epoch, _)| *epoch != part.epoch) {
            part.epochs.push((part.epoch, part.end));
        }
        let record = Arc::new(RawRecord {
            offset: Offset(part.end),
            leader_epoch: part.epoch,
            record_time: draft.record_time,
            key: draft.key,
            value: draft.value,
            headers: draft.headers,
        });
        part.records.push_back((record.clone(), journal_at));
        part.end += 1 + i64::from(gap);
        let topic_id = state.topics.get(topic).map_or(0, |topic| topic.id);
        let offset = record.offset;
        let (note, aggregate, version) = (draft.note, draft.aggregate, draft.version);
        let topic: Arc<str> = topic.into();
        state.changed(&topic, partition);
        state.journal.push(JournalEntry {
            topic,
            topic_id,
            partition,
            record,
            note,
            aggregate,
            version,
            at,
            truncated_at: None,
        });
        drop(state);
        if gap {
            self.gate.sim.count(Count::OffsetGap);
        }
        self.gate.sim.note("append", offset.0.unsigned_abs(), u64::from(partition.0.unsigned_abs()));
        Ok(offset)
    }

    /// Bounds of a partition.
    pub(crate) fn bounds(&self, topic: &str, partition: PartitionNo) -> PortResult<LogBounds> {
        let mut state = lock(&self.state);
        let part = state.part(topic, partition)?;
        let (start, end, leader_epoch) = (Offset(part.start), Offset(part.end), part.epoch);
        let topic_id = state.topics.get(topic).map_or(0, |topic| topic.id);
        Ok(LogBounds { start, end, leader_epoch, topic_id })
    }

    /// Up to `max` records with `from <= offset < to`; `Missing` from before the start.
    pub(crate) fn fetch(
        &self,
        topic: &str,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
        max: usize,
    ) -> PortResult<Fetched> {
        let mut state = lock(&self.state);
        let changes = state.watch(topic, partition).changes;
        let part = state.part(topic, partition)?;
        if from.0 < part.start {
            return Err(PortError::Missing);
        }
        let first = part.records.partition_point(|(record, _)| record.offset < from);
        let wanted = part.records.range(first..).take_while(|(record, _)| record.offset < to);
        let records: Vec<RawRecord> = wanted.take(max).map(|(record, _)| (**record).clone()).collect();
        // Where nothing is left, the reader is past the markers too.
        let end = Offset(part.end).min(to).max(from);
        let next = match records.last() {
            Some(last) if records.len() == max => last.offset.next(),
            _ => end,
        };
        Ok(Fetched { records, next, changes })
    }

    /// Ready once the partition is no longer as it was at `changes`.
    pub(crate) fn poll_changed(
        &self,
        topic: &str,
        partition: PartitionNo,
        changes: u64,
        context: &Context<'_>,
    ) -> Poll<()> {
        let mut state = lock(&self.state);
        let watch = state.watch(topic, partition);
        if watch.changes != changes {
            return Poll::Ready(());
        }
        if !watch.waiters.iter().any(|waiter| waiter.will_wake(context.waker())) {
            watch.waiters.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// One past the last offset written under `epoch` or below; the end of the log for an unknown (negative)
    /// epoch.
    pub(crate) fn epoch_end(&self, topic: &str, partition: PartitionNo, epoch: i32) -> PortResult<Offset> {
        let mut state = lock(&self.state);
        let part = state.part(topic, partition)?;
        let later = part.epochs.iter().find(|(other, _)| epoch >= 0 && *other > epoch);
        Ok(Offset(later.map_or(part.end, |(_, start)| *start)))
    }

    /// The group's committed offset.
    pub(crate) fn committed(&self, topic: &str, partition: PartitionNo) -> Option<Offset> {
        lock(&self.state).committed.get(&(topic.into(), partition)).copied()
    }

    /// Commits, whoever asks: the last commit wins, also if it is lower.
    pub(crate) fn commit(&self, topic: &str, partition: PartitionNo, offset: Offset) {
        let before = lock(&self.state).committed.insert((topic.into(), partition), offset);
        if before.is_some_and(|before| before > offset) {
            self.gate.sim.count(Count::CommitWentBack);
        }
        self.gate.sim.note("committed", offset.0.unsigned_abs(), u64::from(partition.0.unsigned_abs()));
    }

    /// A clean leader election: the epoch goes up, nothing is lost.
    pub(crate) fn elect(&self, topic: &str, partition: PartitionNo) {
        if let Ok(part) = lock(&self.state).part(topic, partition) {
            part.epoch += 1;
            self.gate.sim.count(Count::EpochBump);
        }
    }

    /// An unclean one: what is at or past `cut` is gone, and its offsets will be given again under the next
    /// epoch. The journal entries that were taken away.
    pub(crate) fn truncate(&self, topic: &str, partition: PartitionNo, cut: Offset) -> Vec<JournalEntry> {
        let now = self.gate.sim.now();
        let mut state = lock(&self.state);
        let mut gone = Vec::new();
        let Ok(part) = state.part(topic, partition) else { return Vec::new() };
        let cut = cut.0.max(part.start);
        while part.records.back().is_some_and(|(record, _)| record.offset.0 >= cut) {
            gone.extend(part.records.pop_back().map(|(_, journal_at)| journal_at));
        }
        part.end = part.end.min(cut);
        part.epoch += 1;
        part.epochs.retain(|(_, start)| *start < cut);
        state.changed(topic, partition);
        let mut entries = Vec::new();
        for journal_at in gone.into_iter().rev() {
            state.journal[journal_at].truncated_at = Some(now);
            state.cut += 1;
            entries.push(state.journal[journal_at].clone());
            self.gate.sim.count(Count::TruncatedRecord);
        }
        self.gate.sim.count(Count::Truncation);
        self.gate.sim.note("truncate", cut.unsigned_abs(), entries.len() as u64);
        entries
    }

    /// Retention: the log starts at `start` from now on (never lower than before, never past its end).
    pub(crate) fn retain(&self, topic: &str, partition: PartitionNo, start: Offset) {
        let mut state = lock(&self.state);
        let Ok(part) = state.part(topic, partition) else { return };
        let start = start.0.min(part.end);
        if start <= part.start {
            return;
        }
        part.start = start;
        while part.records.front().is_some_and(|(record, _)| record.offset.0 < start) {
            part.records.pop_front();
        }
        state.changed(topic, partition);
        self.gate.sim.count(Count::Retention);
        self.gate.sim.note("retain", start.unsigned_abs(), u64::from(partition.0.unsigned_abs()));
    }

    /// How many records were ever cut off.
    pub(crate) fn records_cut(&self) -> usize {
        lock(&self.state).cut
    }

    /// Looks at the journal, in the order of appending.
    pub(crate) fn with_journal<T>(&self, f: impl FnOnce(&[JournalEntry]) -> T) -> T {
        f(&lock(&self.state).journal)
    }

    /// A record of now, with an empty meaning: for tests.
    pub(crate) fn draft(&self, key: &str, value: &str) -> Draft {
        Draft {
            key: Some(key.as_bytes().into()),
            value: Some(value.as_bytes().into()),
            headers: Vec::new(),
            record_time: wall(self.gate.sim.now()),
            note: Note::Injected,
            aggregate: Some(key.into()),
            version: None,
        }
    }
}

//! Which runs of schedules are due in the partitions of one worker, and when the next one is.
//!
//! A schedule has an entry for each partition in which it runs here: all that are owned, or the one in which
//! its aggregate lives. An entry is armed once its last runs are read: so what fell into a time without an
//! owner is seen, and one run makes up for all of it.
//!
//! INVARIANT: an entry has one run at a time, and no due time at or before the last one that has run. What
//! comes due meanwhile is one run afterwards.
//!
//! COST: one heap for all entries; to arm one takes some ten microseconds of calendar.

use super::{RunRow, Schedule, ScheduleRow, Target, Times, jitter};
use crate::domain::ids::{PartitionNo, Timestamp};
use crate::domain::mutant::{Mutant, mutant};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

/// How long a run that must wait, or was given up, waits before it is looked at again.
const AGAIN_MS: i64 = 250;
/// Where a run counts whose aggregate nobody knows: somebody has to say that there is none.
const NOWHERE: PartitionNo = PartitionNo(0);

/// A run that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Of which schedule.
    pub name: Arc<str>,
    /// In which partition.
    pub partition: PartitionNo,
    /// Of what.
    pub target: Target,
    /// When it was due.
    pub due: Timestamp,
    /// When it was to start: the due time and its jitter.
    pub planned: Timestamp,
    /// Its number.
    pub number: u64,
    /// How many of those before it were on time.
    pub on_time: u64,
}

/// An entry whose last runs have to be read.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Of which schedule.
    pub name: Arc<str>,
    /// In which partition.
    pub partition: PartitionNo,
    /// Which question it is: a partition that was lost and came back has another one, and what was told
    /// before does not count.
    ticket: u64,
}

struct Known {
    row: ScheduleRow,
    says: Schedule,
    times: Times,
    /// Where its aggregate lives; none while nobody has looked.
    place: Option<PartitionNo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its last runs are not read yet.
    Unread,
    Armed,
    Running,
}

struct Entry {
    standing: Standing,
    /// The due time of the last run.
    done: Timestamp,
    number: u64,
    on_time: u64,
    /// Which place in the heap is its own.
    turn: u64,
    /// The last question about its runs.
    ticket: u64,
}

type Place = (Arc<str>, PartitionNo);

/// The schedules of one type, as one worker executes them.
pub struct Agenda {
    kind: Arc<str>,
    known: BTreeMap<Arc<str>, Known>,
    owned: BTreeSet<PartitionNo>,
    entries: BTreeMap<Place, Entry>,
    /// Runs that have begun and not ended, also those of entries that are gone.
    running: BTreeSet<Place>,
    heap: BinaryHeap<Reverse<(Timestamp, u64, Place)>>,
    /// The time at the last look at what is due.
    looked_at: Timestamp,
    turns: u64,
    unread: VecDeque<Place>,
    unplaced: VecDeque<Arc<str>>,
}

impl Agenda {
    /// Nothing is scheduled yet.
    #[must_use]
    pub fn new(kind: &Arc<str>) -> Self {
        Self {
            kind: Arc::clone(kind),
            known: BTreeMap::new(),
            owned: BTreeSet::new(),
            entries: BTreeMap::new(),
            running: BTreeSet::new(),
            heap: BinaryHeap::new(),
            looked_at: Timestamp(i64::MIN),
            turns: 0,
            unread: VecDeque::new(),
            unplaced: VecDeque::new(),
        }
    }

    /// How many schedules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// These are all schedules now, those of other types too.
    pub fn take(&mut self, rows: Vec<ScheduleRow>, now: Timestamp) {
        let mut gone: BTreeSet<Arc<str>> = self.known.keys().cloned().collect();
        for row in rows {
            let Some(says) = row.plan.clone().filter(|says| *says.target.kind() == self.kind) else {
                continue;
            };
            // One that no version of this program could have written is left alone.
            let Ok(times) = Times::parse(&says.cron, &says.timezone) else { continue };
            gone.remove(&row.name);
            let before = self.known.get(&row.name);
            if before.is_some_and(|known| known.row.at == row.at) {
                continue;
            }
            let is_elsewhere = before.is_none_or(|known| known.says.target != says.target);
            let place = before.filter(|_| !is_elsewhere).and_then(|known| known.place);
            let name = Arc::clone(&row.name);
            if is_elsewhere {
                self.forget(&name);
            }
            self.known.insert(Arc::clone(&name), Known { row, says, times, place });
            if is_elsewhere {
                self.populate(&name);
            } else {
                let places: Vec<Place> = self.places_of(&name);
                places.iter().for_each(|place| self.arm(place, now, now));
            }
        }
        for name in gone {
            self.known.remove(&name);
            self.forget(&name);
        }
    }

    /// These partitions are owned now.
    pub fn own(&mut self, partitions: &[PartitionNo]) {
        let now: BTreeSet<PartitionNo> = partitions.iter().copied().collect();
        if now == self.owned {
            return;
        }
        self.owned = now;
        let owned = &self.owned;
        self.entries.retain(|(_, partition), _| owned.contains(partition));
        let names: Vec<Arc<str>> = self.known.keys().cloned().collect();
        names.iter().for_each(|name| self.populate(name));
    }

    /// Up to `limit` schedules of aggregates of which nobody knows where they live, with their ids. Each is
    /// told once, and then answered by [`Agenda::placed`].
    pub fn to_place(&mut self, limit: usize) -> Vec<(Arc<str>, Arc<str>)> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(name) = self.unplaced.pop_front() else { break };
            if let Some(Known {
                says: Schedule { target: Target::Aggregate(key), .. }, place: None, ..
            }) = self.known.get(&name)
            {
                found.push((Arc::clone(&name), Arc::clone(&key.id)));
            }
        }
        found
    }

    /// Where an aggregate lives: nowhere if nobody knows it, an error if nobody could say.
    pub fn placed(&mut self, name: &Arc<str>, place: Result<Option<PartitionNo>, ()>) {
        let Some(known) = self.known.get_mut(name) else { return };
        match place {
            Ok(place) => {
                let place = place.unwrap_or(NOWHERE);
                if known.place.replace(place) != Some(place) {
                    self.forget(name);
                }
                self.populate(name);
            }
            Err(()) => self.unplaced.push_back(Arc::clone(name)),
        }
    }

    /// Up to `limit` entries whose last runs have to be read. Each is told once, and then answered by
    /// [`Agenda::read`].
    pub fn to_read(&mut self, limit: usize) -> Vec<Unread> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(place) = self.unread.pop_front() else { break };
            let entry = self.entries.get_mut(&place).filter(|entry| entry.standing == Standing::Unread);
            let Some(entry) = entry else { continue };
            self.turns += 1;
            entry.ticket = self.turns;
            let (name, partition) = place;
            found.push(Unread { name, partition, ticket: self.turns });
        }
        found
    }

    /// The last runs of an entry, an error if they could not be read.
    pub fn read(&mut self, unread: &Unread, runs: Result<&[RunRow], ()>, now: Timestamp) {
        let place = (Arc::clone(&unread.name), unread.partition);
        let Some(entry) = self.entries.get_mut(&place) else { return };
        let is_late = entry.ticket != unread.ticket && !mutant(Mutant::LateReadCounts);
        if entry.standing != Standing::Unread || is_late {
            return;
        }
        let Ok(runs) = runs else {
            self.unread.push_back(place);
            return;
        };
        if let Some(last) = runs.iter().max_by_key(|run| run.number) {
            (entry.number, entry.on_time) = (last.number, last.on_time);
        }
        entry.done = runs.iter().map(|run| run.due).max().unwrap_or(Timestamp(i64::MIN));
        if mutant(Mutant::CatchUpForgotten) {
            entry.done = now.max(entry.done);
        }
        entry.standing = Standing::Armed;
        self.arm(&place, now, now);
    }

    /// Up to `limit` runs that are due, all of which have begun with this. Those in partitions that are held
    /// back wait.
    pub fn due(
        &mut self,
        now: Timestamp,
        is_held_back: &dyn Fn(PartitionNo) -> bool,
        limit: usize,
    ) -> Vec<Start> {
        if now.0.saturating_add(AGAIN_MS) < self.looked_at.0 {
            // SUBTLE: the clock went back. Whatever was armed by what it said before may be due long since,
            // and would wait until it says that again (seed 933, given).
            self.heap.clear();
            let places: Vec<Place> = self.entries.keys().cloned().collect();
            places.iter().for_each(|place| self.arm(place, now, now));
        }
        self.looked_at = now;
        let (mut starts, mut waiting) = (Vec::new(), Vec::new());
        while starts.len() < limit
            && let Some(Reverse((at, turn, place))) = self.heap.peek().filter(|Reverse((at, ..))| *at <= now)
        {
            let (at, turn, place) = (*at, *turn, place.clone());
            self.heap.pop();
            let Some(entry) = self.entries.get(&place).filter(|entry| entry.turn == turn) else { continue };
            let Some(known) = self.known.get(&place.0) else { continue };
            if is_held_back(place.1) {
                waiting.push(place);
                continue;
            }
            // Where more has come due meanwhile, one run is for all of it.
            let Some(due) = known.due(entry.done, now).filter(|due| *due <= now) else {
                waiting.push(place);
                continue;
            };
            starts.push(Start {
                name: Arc::clone(&place.0),
                partition: place.1,
                target: known.says.target.clone(),
                due,
                planned: known.planned(due).min(at.max(due)),
                number: entry.number + 1,
                on_time: entry.on_time,
            });
            let entry = self.entries.get_mut(&place).expect("it was there above");
            entry.standing = Standing::Running;
            self.running.insert(place);
        }
        for place in waiting {
            self.arm(&place, now, Timestamp(now.0 + AGAIN_MS));
        }
        starts
    }

    /// A run has ended, and its row is acknowledged.
    pub fn ended(&mut self, run: &RunRow, now: Timestamp) {
        let place = (Arc::clone(&run.schedule), run.partition);
        if let Some(entry) = self.landed(&place) {
            entry.standing = Standing::Armed;
            if !mutant(Mutant::RunsTwice) {
                entry.done = entry.done.max(run.due);
            }
            (entry.number, entry.on_time) = (run.number, run.on_time);
            self.arm(&place, now, now);
        }
        let is_nowhere = run.partition == NOWHERE && run.failed > 0;
        if let Some(known) = self.known.get_mut(&run.schedule).filter(|_| is_nowhere)
            && matches!(known.says.target, Target::Aggregate(_))
            && known.place.take().is_some()
        {
            // It may be somewhere by now. Its entry stays until that is known.
            self.unplaced.push_back(Arc::clone(&run.schedule));
        }
    }

    /// A run was given up: it is as due as before.
    pub fn abandoned(&mut self, name: &Arc<str>, partition: PartitionNo, now: Timestamp) {
        let place = (Arc::clone(name), partition);
        if let Some(entry) = self.landed(&place) {
            entry.standing = Standing::Armed;
            self.arm(&place, now, Timestamp(now.0 + AGAIN_MS));
        }
    }

    /// A run is over: the entry that it was of. None if that is gone; one that has come since, as a partition
    /// that was lost and came back has, can be read now.
    fn landed(&mut self, place: &Place) -> Option<&mut Entry> {
        self.running.remove(place);
        let entry = self.entries.get_mut(place)?;
        if entry.standing == Standing::Unread && !mutant(Mutant::ReadBesideRun) {
            self.unread.push_back(place.clone());
            return None;
        }
        Some(entry)
    }

    /// When something is due next.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    fn places_of(&self, name: &Arc<str>) -> Vec<Place> {
        let all = (Arc::clone(name), PartitionNo(i32::MIN))..=(Arc::clone(name), PartitionNo(i32::MAX));
        self.entries.range(all).map(|(place, _)| place.clone()).collect()
    }

    fn forget(&mut self, name: &Arc<str>) {
        for place in self.places_of(name) {
            self.entries.remove(&place);
        }
    }

    /// Adds the entries that a schedule lacks.
    fn populate(&mut self, name: &Arc<str>) {
        let Some(known) = self.known.get(name) else { return };
        let partitions: Vec<PartitionNo> = match (&known.says.target, known.place) {
            (Target::Aggregate(_), None) => {
                if !self.owned.is_empty() {
                    self.unplaced.push_back(Arc::clone(name));
                }
                return;
            }
            (Target::Aggregate(_), Some(place)) => self.owned.get(&place).into_iter().copied().collect(),
            (Target::Selector { .. }, _) => self.owned.iter().copied().collect(),
        };
        for partition in partitions {
            let place = (Arc::clone(name), partition);
            let is_running = self.running.contains(&place) && !mutant(Mutant::ReadBesideRun);
            self.entries.entry(place.clone()).or_insert_with(|| {
                // Its last run is not over: what is read before would not tell of that.
                if !is_running {
                    self.unread.push_back(place);
                }
                Entry {
                    standing: Standing::Unread,
                    done: Timestamp(i64::MIN),
                    number: 0,
                    on_time: 0,
                    turn: 0,
                    ticket: 0,
                }
            });
        }
    }

    /// Puts an entry into the heap for its next due time, or for `again` where that is later.
    fn arm(&mut self, place: &Place, now: Timestamp, again: Timestamp) {
        let (Some(known), Some(entry)) = (self.known.get(&place.0), self.entries.get_mut(place)) else {
            return;
        };
        if entry.standing != Standing::Armed {
            return;
        }
        self.turns += 1;
        entry.turn = self.turns;
        if let Some(due) = known.due(entry.done, now) {
            let at = known.planned(due).max(again);
            self.heap.push(Reverse((at, self.turns, place.clone())));
        }
    }
}

impl Known {
    /// The due time that is to run: the last one that has come and not run, else the next one.
    fn due(&self, done: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let after = done.max(self.row.since);
        let asked = self.row.run_at.filter(|asked| *asked > done);
        let (mut missed, mut next) = (None, None);
        if self.says.enabled {
            missed = self.times.last_until(now).filter(|due| *due > after);
            if missed.is_none() {
                next = self.times.next_after(now.max(after));
            }
        }
        let missed = missed.max(asked.filter(|asked| *asked <= now));
        missed.or_else(|| next.into_iter().chain(asked).min())
    }

    /// When the run of a due time starts.
    fn planned(&self, due: Timestamp) -> Timestamp {
        if self.row.run_at == Some(due) {
            return due;
        }
        let wait = jitter(&self.row.name, due, self.says.jitter_ms);
        Timestamp(due.0.saturating_add(i64::try_from(wait).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests;

//! Which snapshot rows of one aggregate may go, and why the others stay. Pure: whoever asks has read all rows
//! of the aggregate in one lineage and one partition (an id that occurs in two partitions is two aggregates).
//!
//! Versions are made of *bases* (full records) and *stretches* (increments; segments, which bring their own
//! base): a version can be had if a base at or below it, or the beginning, is joined to it by stretches.
//!
//! Invariants, whatever is wanted:
//! - the rows of the newest version stay: the owner's next increment starts there;
//! - a row that carries a quarantine mark stays, and so does one that is pinned;
//! - every promised version that could be had before can be had after: a base that stretches need which
//!   nothing else leads up to stays;
//! - what must stay readable for that is told ([`Plan::relied`]), so that it can be proved before anything is
//!   deleted.
//!
//! COST: one sort and one walk over the rows, and another for each increment that is wanted gone.

use super::ids::{PackId, Timestamp, Version};
use super::mutant::{Mutant, mutant};
use super::row::{RecordKind, SnapshotRow};
use std::collections::BTreeSet;

/// Which versions must stay answerable (`history`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// All.
    Forever,
    /// Those in force at this time or later.
    Since(Timestamp),
    /// Those of the snapshots that stay.
    Snapshots,
}

/// What is to be deleted, as far as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What `retention` does not keep.
    Policy(Policy),
    /// Snapshots of versions below this one.
    Below(Version),
    /// Snapshots whose effective time is before this.
    Before(Timestamp),
    /// The snapshot of this version.
    One(Version),
}

/// `retention` of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `maxSnapshots`: only so many are kept, the newest.
    pub snapshots_max: Option<u32>,
    /// `retentionPeriod` before now: what was taken earlier goes.
    pub taken_since: Option<Timestamp>,
}

impl Policy {
    /// Nothing ever goes by it.
    #[must_use]
    pub fn keeps_all(self) -> bool {
        self.snapshots_max.is_none() && self.taken_since.is_none()
    }
}

/// Why a snapshot stays that was wanted gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The next increment starts from it, or nothing newer is whole.
    Newest,
    /// Somebody pinned it.
    Pinned,
    /// It tells of a quarantine.
    Quarantined,
    /// Newer increments need it.
    NeededByIncrements,
    /// `history` promises the versions that it holds the events of.
    History,
}

impl Reason {
    /// As the API tells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Pinned => "pinned",
            Self::Quarantined => "quarantined",
            Self::NeededByIncrements => "needed-by-increments",
            Self::History => "history",
        }
    }
}

/// What becomes of the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// They go, oldest version first.
    pub go: Vec<SnapshotRow>,
    /// Versions that were wanted gone of which a row stays, and why; oldest first.
    pub kept: Vec<(Version, Reason)>,
    /// Rows that must be acknowledged and readable before those go: what is promised rests on them then.
    pub relied: Vec<SnapshotRow>,
}

impl Plan {
    /// Versions of which no row stays.
    #[must_use]
    pub fn deleted(&self) -> Vec<Version> {
        let kept: BTreeSet<Version> = self.kept.iter().map(|(version, _)| *version).collect();
        let gone: BTreeSet<Version> = self.go.iter().map(|row| row.version).collect();
        gone.difference(&kept).copied().collect()
    }

    /// Stored bytes of what goes.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        self.go.iter().map(|row| row.stored_bytes).sum()
    }
}

/// Plans a deletion among all rows of an aggregate.
#[must_use]
pub fn plan(rows: &[SnapshotRow], pinned: &BTreeSet<Version>, wanted: Wanted, promise: Promise) -> Plan {
    let mut rows: Vec<&SnapshotRow> = rows.iter().collect();
    rows.sort_by_key(|row| (row.version, row.kind, row.pack));
    let Some(newest) = rows.last().map(|row| row.version) else { return Plan::default() };
    let planning = Planning { rows: &rows, newest, pinned, wanted, promise };
    planning.plan()
}

struct Planning<'a> {
    /// In the order of versions, increments first.
    rows: &'a [&'a SnapshotRow],
    newest: Version,
    pinned: &'a BTreeSet<Version>,
    wanted: Wanted,
    promise: Promise,
}

/// What must stay so that all that is promised can be had.
#[derive(Default)]
struct Needed {
    /// Versions of bases.
    bases: BTreeSet<Version>,
    /// Stretches that end above it.
    above: Version,
}

impl Planning<'_> {
    fn plan(&self) -> Plan {
        let wanted = self.wanted_gone();
        let needed = self.needed(self.first_promised(&wanted));
        let mut plan = Plan::default();
        let mut kept: Vec<(Version, Reason)> = Vec::new();
        for (row, _) in self.rows.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
            match self.reason_to_keep(row, &needed) {
                None => plan.go.push((*row).clone()),
                Some(reason) => match kept.last_mut().filter(|(version, _)| *version == row.version) {
                    // What protects the version as such tells more than what its events are needed for.
                    Some((_, before)) => *before = reason.min(*before),
                    None => kept.push((row.version, reason)),
                },
            }
        }
        plan.kept = kept;
        plan.relied = self.relied(&plan.go);
        plan
    }

    /// Of each row whether it is wanted gone.
    fn wanted_gone(&self) -> Vec<bool> {
        let policy = match self.wanted {
            Wanted::Below(version) => return self.mark(|row| row.version < version),
            Wanted::Before(time) => return self.mark(|row| row.effective_time < time),
            Wanted::One(version) => return self.mark(|row| row.version == version),
            Wanted::Policy(policy) if policy.keeps_all() => return self.mark(|_| false),
            Wanted::Policy(policy) => policy,
        };
        // What counts as a snapshot: a state, or where only those are promised, whatever has a row.
        let counts = |row: &SnapshotRow| row.kind == RecordKind::Full || self.promise == Promise::Snapshots;
        let counted: Vec<Version> = {
            let versions: BTreeSet<Version> =
                self.rows.iter().filter(|row| counts(row)).map(|row| row.version).collect();
            versions.into_iter().rev().collect()
        };
        let first_kept = policy.snapshots_max.map(|most| match (most as usize).checked_sub(1) {
            Some(place) => counted.get(place).copied().unwrap_or_default(),
            None => Version(u64::MAX),
        });
        self.mark(|row| match (counts(row), self.promise) {
            (true, _) => {
                let is_over = first_kept.is_some_and(|first| row.version < first);
                is_over || policy.taken_since.is_some_and(|since| row.created_at < since)
            }
            // Events outlive the states between them for as long as they are promised.
            (false, Promise::Since(_)) => true,
            (false, _) => false,
        })
    }

    fn mark(&self, is_wanted: impl Fn(&SnapshotRow) -> bool) -> Vec<bool> {
        self.rows.iter().map(|row| is_wanted(row)).collect()
    }

    fn fulls(&self) -> impl Iterator<Item = &SnapshotRow> {
        self.rows.iter().copied().filter(|row| row.kind == RecordKind::Full)
    }

    fn stretches(&self) -> impl Iterator<Item = &SnapshotRow> {
        self.rows.iter().copied().filter(|row| row.kind != RecordKind::Full)
    }

    /// The first version that must stay answerable, with all after it.
    fn first_promised(&self, wanted: &[bool]) -> Version {
        let promised = match self.promise {
            Promise::Forever => return Version(1),
            Promise::Since(time) => {
                let in_force = self.rows.iter().filter(|row| row.effective_time <= time);
                in_force.map(|row| row.version).max().unwrap_or(Version(1))
            }
            Promise::Snapshots => self.newest,
        };
        // Whatever stays above what goes must stay answerable, too.
        let protected = |row: &SnapshotRow| row.quarantined || self.pinned.contains(&row.version);
        let goes = || {
            let wanted = self.rows.iter().zip(wanted).filter(|(row, wanted)| **wanted && !protected(row));
            wanted.map(|(row, _)| row)
        };
        let lowest_gone = goes().map(|row| row.version).min().unwrap_or(self.newest);
        // A stretch that goes may lead to one that ends before it does.
        let led = goes().filter(|row| row.kind != RecordKind::Full).map(|row| row.from_version.next()).min();
        let stays = |(row, wanted): &(&&SnapshotRow, &bool)| !**wanted || protected(row);
        let needs = |row: &&&SnapshotRow| {
            row.version >= lowest_gone
                || row.kind != RecordKind::Full && led.is_some_and(|led| row.version >= led)
        };
        let stays = self.rows.iter().zip(wanted).filter(stays).map(|(row, _)| row);
        let lowest_kept = stays.filter(needs).map(|row| row.version).min().unwrap_or(self.newest);
        promised.min(lowest_kept).max(Version(1))
    }

    /// Bases that cannot be done without, from the newest at or below the first promised version on.
    fn needed(&self, promised: Version) -> Needed {
        let base = self.fulls().map(|row| row.version).filter(|version| *version <= promised).max();
        let base = base.filter(|_| self.promise != Promise::Forever).unwrap_or_default();
        let mut needed = Needed { bases: BTreeSet::new(), above: base };
        needed.bases.extend(Some(base).filter(|base| *base > Version(0)));
        let bases: BTreeSet<Version> = self.fulls().map(|row| row.version).collect();
        let mut stretches: Vec<&SnapshotRow> =
            self.stretches().filter(|row| row.version > base && row.from_version < row.version).collect();
        stretches.sort_by_key(|row| (row.from_version, row.version));
        let mut at = base;
        for stretch in stretches {
            let brings_base = stretch.kind == RecordKind::Segment;
            while stretch.from_version > at && stretch.version > at {
                // Nothing leads on from `at`: the next base does.
                let Some(next) = bases.range(Version(at.0 + 1)..).next() else { break };
                if brings_base && *next >= stretch.from_version {
                    break;
                }
                needed.bases.insert(*next);
                at = *next;
            }
            if stretch.from_version <= at || brings_base {
                at = at.max(stretch.version);
            }
        }
        needed.bases.extend(bases.range(Version(at.0 + 1)..));
        if mutant(Mutant::RetentionStrandsIncrements) {
            needed.bases.clear();
        }
        needed
    }

    /// Another stretch holds all its events and ends later: merged history.
    ///
    /// INVARIANT: what takes the place of a segment is a segment. Whoever merges at the same time takes
    /// increments for superseded by segments, and each would delete what the other relies on (seed 261,
    /// counted).
    fn is_covered(&self, row: &SnapshotRow) -> bool {
        let may_stand_in =
            |other: &&SnapshotRow| row.kind != RecordKind::Segment || other.kind == RecordKind::Segment;
        self.stretches()
            .filter(may_stand_in)
            .any(|other| other.from_version <= row.from_version && other.version > row.version)
    }

    fn reason_to_keep(&self, row: &SnapshotRow, needed: &Needed) -> Option<Reason> {
        let is_needed = match row.kind {
            RecordKind::Full => needed.bases.contains(&row.version),
            RecordKind::Increment | RecordKind::Segment => {
                row.version > needed.above && !self.is_covered(row)
            }
        };
        let is_base = row.kind == RecordKind::Full
            && !matches!(self.wanted, Wanted::One(_))
            && self.fulls().all(|other| other.version <= row.version);
        if row.version == self.newest || is_base {
            Some(Reason::Newest)
        } else if self.pinned.contains(&row.version) {
            Some(Reason::Pinned)
        } else if row.quarantined || row.version == Version(0) {
            Some(Reason::Quarantined)
        } else if is_needed && self.promise != Promise::Snapshots && row.kind != RecordKind::Full {
            Some(Reason::History)
        } else {
            is_needed.then_some(Reason::NeededByIncrements)
        }
    }

    /// What the promised versions around those that go rest on once they are gone: all that stays from the
    /// base before the first of them up to the base after the last.
    fn relied(&self, go: &[SnapshotRow]) -> Vec<SnapshotRow> {
        let Some((first, last)) = go.first().zip(go.last()) else { return Vec::new() };
        let gone: BTreeSet<(Version, PackId)> = go.iter().map(|row| (row.version, row.pack)).collect();
        let stays = |row: &&SnapshotRow| !gone.contains(&(row.version, row.pack));
        let bases: BTreeSet<Version> = self.fulls().filter(stays).map(|row| row.version).collect();
        let start = bases.range(..first.version).next_back().copied().unwrap_or_default();
        let end = bases.range(Version(last.version.0 + 1)..).next().copied().unwrap_or(self.newest);
        let leads = |row: &&SnapshotRow| match row.kind {
            RecordKind::Full => (start..=end).contains(&row.version),
            RecordKind::Increment | RecordKind::Segment => row.version > start && row.from_version < end,
        };
        self.rows.iter().copied().filter(stays).filter(leads).cloned().collect()
    }
}

#[cfg(test)]
mod tests;

//! Facts that no fold yields and that a rebuilt index must know, beside notes (`row::NoteRow`): what was
//! deleted, and which aggregates are held. Each is an object of the ledger first.
//!
//! A deletion names rows, and a row's key holds its pack: a pack's id is minted once, so what was deleted
//! never comes back under another meaning. Whoever writes rows again (an owner that adopts them, an index
//! that is rebuilt) leaves out, or loses against, what is named here.

use super::ids::{AggregateKey, LedgerId, Lineage, PackId, Version};
use super::mutant::{Mutant, mutant};
use super::row::SnapshotRow;

/// Snapshot rows that were deleted at once, of one or many aggregates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its name in the ledger; also its time.
    pub at: LedgerId,
    /// Why, in a few words.
    pub reason: Box<str>,
    /// The rows.
    pub rows: Vec<DeletedRow>,
}

/// One snapshot row that was deleted, by its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeletedRow {
    /// Of which aggregate.
    pub key: AggregateKey,
    /// Of which lineage.
    pub lineage: Lineage,
    /// Of which version.
    pub version: Version,
    /// In which pack.
    pub pack: PackId,
}

impl DeletedRow {
    /// The deletion of a row.
    #[must_use]
    pub fn of(row: &SnapshotRow) -> Self {
        Self { key: row.key.clone(), lineage: row.lineage, version: row.version, pack: row.pack }
    }
}

/// Whether nothing of an aggregate may be deleted (`holds`); of several the later counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    /// Which aggregate, in all its lineages.
    pub key: AggregateKey,
    /// Its name in the ledger.
    pub at: LedgerId,
    /// It is held from now on, or no longer.
    pub held: bool,
    /// Why.
    pub reason: Option<Box<str>>,
}

/// What holds of an aggregate, in the order of their names, come to: the one in force.
#[must_use]
pub fn in_force(holds: &[HoldRow]) -> Option<&HoldRow> {
    holds.last().filter(|hold| hold.held)
}

/// Write time in microseconds of rows that name a pack: of all writes of one row the same (T1).
#[must_use]
pub fn written_at(pack: PackId) -> i64 {
    // INVARIANT: 48 bits of milliseconds fit.
    pack.minted_at().0 * 1_000
}

/// Write time of a snapshot row. A rebuilt one differs from the one that its flush wrote (how long that took
/// is in no pack), and servers mix the cells of two rows of one time: so it is the later one, and a mark of
/// that is in the row itself, whoever writes it again.
#[must_use]
pub fn row_written_at(row: &SnapshotRow) -> i64 {
    let is_rebuilt = row.creation_ms == 0 && !mutant(Mutant::RebuiltRowsMix);
    written_at(row.pack) + i64::from(is_rebuilt)
}

/// Write time of a snapshot row's deletion: later than any write of the row, however late that is repeated.
/// Rows of older versions of snapfold have the time of the clock; a deletion's own time lies above those.
#[must_use]
pub fn deleted_at(pack: PackId, deletion: LedgerId) -> i64 {
    if mutant(Mutant::DeletedRowRewritten) {
        return written_at(pack) - 1;
    }
    (written_at(pack) + 1).max(deletion.minted_at().0 * 1_000) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Timestamp;

    #[test]
    fn a_deletion_is_later_than_every_write_of_its_row_whichever_clock_is_ahead() {
        let pack = PackId::mint(Timestamp(2_000), [1; 10]);
        for now in [0, 1_999, 2_000, 2_001, 9_999] {
            let deletion = LedgerId::mint(Timestamp(now), [2; 10]);
            assert!(deleted_at(pack, deletion) > written_at(pack) + 1, "{now}: also than of a rebuilt one");
            assert!(deleted_at(pack, deletion) > now * 1_000, "{now}");
        }
    }

    #[test]
    fn the_last_hold_counts() {
        let key = AggregateKey { kind: "order".into(), id: "a".into() };
        let hold = |n: u8, held| HoldRow {
            key: key.clone(),
            at: LedgerId::mint(Timestamp(i64::from(n)), [n; 10]),
            held,
            reason: None,
        };
        assert_eq!(in_force(&[]), None);
        assert_eq!(in_force(&[hold(1, true)]), Some(&hold(1, true)));
        assert_eq!(in_force(&[hold(1, true), hold(2, false)]), None);
        assert_eq!(in_force(&[hold(1, false), hold(2, true)]), Some(&hold(2, true)));
    }
}

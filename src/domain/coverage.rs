//! Which versions of an aggregate its stored records cover: those that can be rebuilt without the topic.

use super::ids::Version;
use super::record::RecordKind;
use super::row::SnapshotRow;

/// What one row covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    /// Rebuilding it starts here: a full record needs nothing before its own version.
    start: u64,
    upto: u64,
    /// It holds events alone: without the state at its start they cannot be folded.
    unbased: bool,
}

/// The rows of one aggregate, by what they cover.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pieces: Vec<Piece>,
}

impl Coverage {
    /// Takes one more row, in any order.
    pub fn take(&mut self, row: &SnapshotRow) {
        let upto = row.version.0;
        let start = if row.kind == RecordKind::Full { upto } else { row.from_version.0 };
        if upto > 0 {
            self.pieces.push(Piece { start, upto, unbased: row.kind == RecordKind::Increment });
        }
    }

    /// The versions up to the newest row that could not be rebuilt if the topic were gone, as ranges.
    #[must_use]
    pub fn gaps(mut self) -> Vec<(Version, Version)> {
        self.pieces.sort_unstable();
        let (mut gaps, mut reached): (Vec<(Version, Version)>, u64) = (Vec::new(), 0);
        // A full record starts where it ends, so it comes before the increments that go on from it.
        for Piece { start, upto, unbased } in self.pieces {
            if upto <= reached {
                continue;
            }
            let lost = match (start <= reached, unbased) {
                (true, _) => None,
                (false, false) => Some((reached + 1, start - 1)),
                (false, true) => Some((reached + 1, upto)),
            };
            gaps.extend(lost.filter(|(from, to)| from <= to).map(|(from, to)| (Version(from), Version(to))));
            reached = upto;
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(pieces: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let piece = |&(start, upto): &(u64, u64)| Piece { start, upto, unbased: start < upto };
        coverage(pieces.iter().map(piece).collect())
    }

    fn coverage(pieces: Vec<Piece>) -> Vec<(u64, u64)> {
        Coverage { pieces }.gaps().into_iter().map(|(from, to)| (from.0, to.0)).collect()
    }

    #[test]
    fn versions_between_full_records_need_increments_and_those_need_what_is_before_them() {
        assert_eq!(gaps(&[]), []);
        assert_eq!(gaps(&[(0, 5), (5, 9), (9, 9)]), []);
        assert_eq!(gaps(&[(9, 9), (5, 9), (0, 5)]), [], "in any order");
        assert_eq!(gaps(&[(0, 5), (3, 9)]), [], "they overlap");
        assert_eq!(gaps(&[(5, 5), (10, 10)]), [(1, 4), (6, 9)], "states alone");
        assert_eq!(gaps(&[(0, 5), (7, 9)]), [(6, 9)], "a hole");
        assert_eq!(gaps(&[(4, 8), (8, 8), (8, 10)]), [(1, 8)], "the increments before the first state");
        assert_eq!(gaps(&[(1, 1), (1, 4)]), [], "the first state is that of version 1");
        let segment = |start, upto| Piece { start, upto, unbased: false };
        assert_eq!(coverage(vec![segment(0, 8), segment(8, 9)]), []);
        assert_eq!(coverage(vec![segment(4, 8)]), [(1, 3)], "a segment starts with a state");
    }
}

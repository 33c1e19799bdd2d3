//! Packs, format v1: one immutable object with many records and a footer that describes all of them.
//!
//! ```text
//! header | frames | footer (columns) | trailer (fixed length)
//! ```
//!
//! A *frame* is what is compressed and fetched at once: the body of one entry, or a block of the bodies of
//! many. An
//! *entry* is one record, described in the footer. The byte layout with test vectors is in `docs/FORMAT.md`.
//!
//! Invariants:
//! - frames tile the space between header and footer; the bodies of a frame tile it in footer order;
//! - entries are strictly sorted by [`RecordId`], then partition, so `find` is a binary search;
//! - an entry's checksum covers whose record it is, so a locator to the wrong record fails even on intact
//!   bytes;
//! - the Merkle root depends on identities and bodies only, never on compression, place or time.
//!
//! | file | owns |
//! |---|---|
//! | `header` | header and trailer, classes, object names |
//! | `column` | one column of numbers: on disk and in memory |
//! | `section` | one compressed, checksummed part of a footer |
//! | `ids` | front-coded ids with restart points |
//! | `footer` | [`Footer`]: parse and ask, without one object per entry |
//! | `order` | in which order entries come, and that they do |
//! | `locator` | [`Locator`]: all that reading one entry needs, as one blob |
//! | `merkle` | identity bytes, keyed checksum, leaf, root and paths |
//! | `inclusion` | [`Inclusion`]: that a record is in a pack, for those who have not the pack |
//! | `facts` | optional sections: what an index is rebuilt from |
//! | `reader` | [`open_tail`], [`read_entry`], [`Frames`], [`verify_pack`] |
//! | `writer` | [`PackWriter`]: records in any order, one frame each |
//! | `blocks` | [`BlockWriter`]: records in footer order, in blocks |
//! | `rows` | a footer's rows and the layout of a pack, for both writers |

mod blocks;
mod column;
mod facts;
mod footer;
mod header;
mod ids;
mod inclusion;
mod locator;
mod merkle;
mod order;
mod reader;
mod rows;
mod section;
mod writer;

pub use blocks::{BLOCK_LEN, Block, BlockBody, BlockPack, BlockWriter, FramePlace};
pub use facts::{EntryFacts, Mark};
pub use footer::{Footer, Stretch};
pub use header::{
    Class, Header, TRAILER_LEN, Trailer, dictionary_name, erasure_name, ledger_name, named_pack, pack_name,
    purge_name,
};
pub use inclusion::{Inclusion, prove};
pub use locator::Locator;
pub use reader::{
    Fault, Frames, OpenTail, PackReport, body_in, intact, open_tail, read_entry, read_frame, verify_pack,
};
pub use writer::{FinishedEntry, FinishedPack, PackWriter};

use crate::domain::error::{Error, Result};
use crate::domain::record::{RecordId, RecordKind};

/// Version of the pack format that is written, and the newest that is read.
pub const FORMAT: u16 = 1;

/// Longest type or id, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 1_024;

/// Most entries of a pack. Ids and columns compress without end, so a short footer could describe more than
/// fits in memory; this many take a few hundred MiB while they are parsed. A flush has far fewer.
pub(crate) const ENTRIES_MAX: usize = 1 << 22;

/// The stored code of a record kind.
#[must_use]
pub fn kind_code(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Increment => b'D',
        RecordKind::Full => b'F',
        RecordKind::Segment => b'S',
    }
}

/// The record kind of a stored code; reserved and unknown kinds are named in the error.
pub fn kind_from_code(code: u8) -> Result<RecordKind> {
    match code {
        b'D' => Ok(RecordKind::Increment),
        b'F' => Ok(RecordKind::Full),
        b'S' => Ok(RecordKind::Segment),
        b'T' => Err(Error::corrupt("record kind `T` (tombstone) needs a newer reader")),
        other => Err(Error::corrupt(format!("record kind `{}` is unknown", other.escape_ascii()))),
    }
}

/// What every entry's checksum and Merkle leaf start with: the bytes that say whose record it is.
pub(crate) fn identity(id: &RecordId) -> Vec<u8> {
    let mut out = Vec::new();
    merkle::identity(&mut out, id);
    out
}

#[cfg(test)]
mod tests;

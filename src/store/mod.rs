//! Snapshots at rest. `flush::SnapshotStore` alone knows the order of writes; `index` and `blobs` are its two
//! ports.
//!
//! | file | owns |
//! |---|---|
//! | [`answers`] | whether a store answers, and since when not |
//! | [`blobs`] | the `Blobs` port: immutable objects |
//! | [`checkpoints`] | what checkpoint packs hold, kept within bytes |
//! | [`copies`] | records that move into another pack as they are |
//! | [`dictionaries`] | which dictionaries are in use, learning them, fetching them |
//! | [`encode`] | snapshots' records on their way into a pack |
//! | [`encode_checkpoint`] | a checkpoint's pack, rows and tables |
//! | [`erased`] | what is left of erased aggregates in the index, and taking it away |
//! | [`erasures`] | which aggregates were erased |
//! | [`faulty`] | seeded faults in front of either port, for tests |
//! | [`flush`] | `SnapshotStore`: the order of writes, deadlines, abandoned flushes |
//! | `flush_plan` | what one flush writes: records by pack, the order of rows |
//! | [`index`] | the `Index` port: rows |
//! | [`inspect`] | rows against the footers of packs |
//! | [`ledger`] | notes: an object each, then a row |
//! | [`lineages`] | which lineage of a topic is active |
//! | `metered` | what calls of either port come to, as metrics (feature `runtime`) |
//! | [`packs`] | reading records and footers |
//! | [`purges`] | what became of erasures: packs rewritten, the end |
//! | [`rebuild`] | an index out of objects alone |
//! | [`segments`] | merged history on its way into packs and rows |

pub mod answers;
pub mod blobs;
pub mod checkpoints;
pub mod copies;
pub mod dictionaries;
pub mod encode;
pub mod encode_checkpoint;
pub mod erased;
pub mod erasures;
pub mod faulty;
pub mod flush;
mod flush_plan;
pub mod index;
pub mod inspect;
pub mod ledger;
pub mod lineages;
pub mod listing;
#[cfg(feature = "runtime")]
pub mod metered;
pub mod packs;
pub mod purges;
pub mod rebuild;
pub mod segments;

pub use flush::SnapshotStore;

use crate::domain::error::{Error, ErrorKind};
use crate::domain::outcome::PortError;

/// An error of a port, as whoever asked should see it.
pub(crate) fn unavailable(doing: &str, error: &PortError) -> Error {
    Error::new(ErrorKind::Unavailable, "dependency-down", format!("{doing}: {error}"))
}

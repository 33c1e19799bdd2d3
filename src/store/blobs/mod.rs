//! The `Blobs` port: immutable objects under names that are never reused.
//!
//! *Order*: an object that was acknowledged is durable and visible to every later read. *If it fails*: see
//! `outcome`; a write that timed out may land late. *What may leak*: objects whose rows were never written;
//! garbage collection finds them by listing.
//!
//! | file | owns |
//! |---|---|
//! | [`archived`] | a live store and an archive as one |
//! | `local` | files below one folder (feature `runtime`) |
//! | [`pair`] | which archive belongs to a live store |
//! | [`memory`] | the twin for tests and for stacks that may forget |
//! | `s3` | a bucket of Amazon S3, or of a store that speaks its protocol (feature `runtime`) |
//! | `suite` | what every implementation promises, as tests |

pub mod archived;
#[cfg(feature = "runtime")]
pub mod local;
pub mod memory;
pub mod pair;
#[cfg(feature = "runtime")]
pub mod s3;
#[cfg(test)]
pub(crate) mod suite;

pub use archived::ArchivedBlobs;
#[cfg(feature = "runtime")]
pub use local::LocalBlobs;
pub use memory::MemoryBlobs;
#[cfg(feature = "runtime")]
pub use s3::S3Blobs;

use crate::domain::ids::Timestamp;
use crate::domain::outcome::{PortError, PortResult};
use futures_util::future::BoxFuture;

/// Bytes of an object or a range of it.
pub type Blob = Vec<u8>;

/// Objects. Implementations: memory, local directory, S3; the simulator's.
pub trait Blobs: Send + Sync {
    /// Writes a new object, whole or not at all; `Exists` if there is one of that name (perhaps our own
    /// earlier try: the caller compares).
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>>;
    /// `len` bytes from `start`; fewer only where the object ends.
    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>>;
    /// The last `len` bytes (all, if it is shorter) and the object's whole length.
    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>>;
    /// Up to `limit` names with this prefix that come after `after`, in byte order.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>>;
    /// When the store took an object that is not empty, by the store's own clock: to be compared with that of
    /// another object, never with a clock of this machine. A store that tells no times refuses.
    fn modified<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        Box::pin(std::future::ready(Err(PortError::Permanent("this store tells no times".to_owned()))))
    }
    /// Whether an object has been moved to an archive; false of one that is not there.
    fn is_archived<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, PortResult<bool>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Deletes an object; one that is not there counts as deleted.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>>;
}

/// Longest name of an object in bytes: what S3 takes.
const NAME_BYTES_MAX: usize = 1_024;
/// Longest part of a name in bytes: what file systems take.
const PART_BYTES_MAX: usize = 255;

/// Refuses what is no name of an object: names are relative paths of plain parts, so that every
/// implementation takes the same ones and none leads out of its folder. Parts that start with a dot belong
/// to implementations.
///
/// # Errors
/// `Permanent`, saying what is wrong.
pub fn check_name(name: &str) -> PortResult<()> {
    let plain = |c: char| !c.is_control() && c != '\\';
    let wrong = |part: &str| part.is_empty() || part.starts_with('.') || part.len() > PART_BYTES_MAX;
    if name.len() > NAME_BYTES_MAX || !name.chars().all(plain) || name.split('/').any(wrong) {
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        return Err(PortError::Permanent(format!(
            "`{shown}` is no name of an object: use parts of 1 to {PART_BYTES_MAX} bytes between single `/`, none \
             starting with `.`, without control characters and `\\`, {NAME_BYTES_MAX} bytes in all"
        )));
    }
    Ok(())
}

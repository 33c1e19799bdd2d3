//! The `Blobs` port: immutable objects under names that are never reused.
//!
//! *Order*: an object that was acknowledged is durable and visible to every later read. *If it fails*: see
//!   `outcome`; a
//! write that timed out may land late. *What may leak*: objects whose rows were never written; garbage
//! collection finds
//! them by listing.

use crate::domain::outcome::PortResult;
use futures_util::future::BoxFuture;

/// Bytes of an object or a range of it.
pub type Blob = Vec<u8>;

/// Objects. Implementations: memory, local directory, S3; the simulator's.
pub trait Blobs: Send + Sync {
    /// Writes a new object, whole or not at all; `Exists` if there is one of that name (perhaps our own
    /// earlier try:
    /// the caller compares).
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
    /// Deletes an object; one that is not there counts as deleted.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>>;
}

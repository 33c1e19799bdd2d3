//! Time and randomness, as ports: the only way either enters the program.

use crate::domain::ids::Timestamp;
use futures_util::future::BoxFuture;

/// A wall clock, a monotonic clock, timers and random bytes.
pub trait Clock: Send + Sync {
    /// Wall-clock time: for what is shown and stored, never for deadlines.
    fn now(&self) -> Timestamp;
    /// Milliseconds since some fixed moment; never goes back.
    fn monotonic_ms(&self) -> u64;
    /// Completes after `ms` milliseconds. Dropping it cancels it.
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()>;
    /// 10 random bytes for a pack id.
    fn random(&self) -> [u8; 10];
}

//! The `Clock` of one process: wall time with the process's own skew, monotonic time shared by the whole
//! world.

use crate::executor::{ProcessId, Sim, lock};
use futures_util::future::BoxFuture;
use snapfold::clock::Clock;
use snapfold::domain::ids::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Wall time of virtual time 0.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

/// Skews of all processes, in milliseconds.
#[derive(Clone, Default)]
pub(crate) struct Skews(Arc<Mutex<BTreeMap<ProcessId, i64>>>);

impl Skews {
    /// Sets the skew of a process.
    pub(crate) fn set(&self, process: ProcessId, ms: i64) {
        lock(&self.0).insert(process, ms);
    }

    fn of(&self, process: ProcessId) -> i64 {
        lock(&self.0).get(&process).copied().unwrap_or(0)
    }
}

/// A process's clock.
pub(crate) struct SimClock {
    /// The executor.
    pub(crate) sim: Sim,
    /// Whose.
    pub(crate) process: ProcessId,
    /// All skews.
    pub(crate) skews: Skews,
}

/// Virtual time as wall time without skew.
pub(crate) fn wall(now: u64) -> Timestamp {
    Timestamp(EPOCH_MS + i64::try_from(now).unwrap_or(i64::MAX / 2))
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(wall(self.sim.now()).0 + self.skews.of(self.process))
    }

    fn monotonic_ms(&self) -> u64 {
        self.sim.now()
    }

    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(self.sim.sleep(ms))
    }

    fn random(&self) -> [u8; 10] {
        let (high, low) = self.sim.draw(|rng| (rng.bits(), rng.bits()));
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes()[..2]);
        bytes
    }
}

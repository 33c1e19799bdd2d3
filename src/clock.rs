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

#[cfg(feature = "runtime")]
pub use system::SystemClock;

/// A clock that stands still, for tests: sleeping takes no time, and chance is always the same.
#[cfg(test)]
pub(crate) struct Still;

#[cfg(test)]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn random(&self) -> [u8; 10] {
        [7; 10]
    }
}

/// The machine's clocks: the only place that reads them.
#[cfg(feature = "runtime")]
mod system {
    use super::{BoxFuture, Clock, Timestamp};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    /// The operating system's clocks, timers and random numbers, on a tokio runtime.
    #[derive(Clone, Copy, Debug)]
    pub struct SystemClock {
        started: Instant,
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    impl SystemClock {
        /// A clock whose monotonic time starts now.
        #[must_use]
        pub fn start() -> Self {
            Self { started: Instant::now() }
        }

        /// What the operating system says, which may lie before 1970.
        #[must_use]
        pub fn told() -> SystemTime {
            SystemTime::now()
        }

        fn elapsed(&self) -> Duration {
            Instant::now().duration_since(self.started)
        }

        fn wall(&self) -> Timestamp {
            let now = Self::told().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Timestamp {
            self.wall()
        }

        fn monotonic_ms(&self) -> u64 {
            u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
        }

        fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
            Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
        }

        fn random(&self) -> [u8; 10] {
            let mut bytes = [0; 10];
            getrandom::fill(&mut bytes).expect("the operating system has random numbers");
            bytes
        }
    }
}

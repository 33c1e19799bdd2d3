//! What hyper says in the header `Date`, and the one clock it cannot say it of.
//!
//! Each thread that serves keeps the second it last wrote. A clock that goes back leaves that as it is; but a
//! thread that begins before 1970 panics, because the header's form has no such year: every connection on
//! that thread would be reset. So threads begin with a clock that is right, or not at all. (After 9999 all
//! of them would panic.)

use crate::clock::SystemClock;
use axum::Router;
use futures_util::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from 1970 to 10000.
const END: Duration = Duration::from_secs(253_402_300_800);

/// Whether the header can say what time it is.
#[must_use]
pub fn can_tell(now: SystemTime) -> bool {
    now.duration_since(UNIX_EPOCH).is_ok_and(|since| since < END)
}

/// Makes this thread ready to serve however far its clock goes back from now on. A thread that begins while
/// the clock tells no time of the header's form stays as it is.
pub fn prepare_thread() {
    if can_tell(SystemClock::told()) {
        // There is no other way in: a connection that has ended already.
        let ended = TokioIo::new(tokio::io::empty());
        let nothing = TowerToHyperService::new(Router::new());
        let builder = Builder::new(TokioExecutor::new()).http1_only();
        let served = builder.serve_connection(ended, nothing).now_or_never();
        debug_assert!(matches!(served, Some(Ok(()))), "the connection has ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_of_1970_to_9999() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(can_tell(UNIX_EPOCH) && can_tell(at(END.as_secs() - 1)));
        assert!(!can_tell(UNIX_EPOCH - Duration::from_nanos(1)) && !can_tell(at(END.as_secs())));
    }
}

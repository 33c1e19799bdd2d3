//! Objects in a bucket of Amazon S3, or of a store that speaks its protocol.
//!
//! *Order*: an object is created by one `PutObject` with `If-None-Match: *`, so two writers of one name
//!   cannot both succeed; the store compares its SHA-256 (`x-amz-checksum-sha256`) before it acknowledges.
//! *If it fails*: see `failure`. A call is tried a few times with growing pauses; whoever called repeats it
//!   for as long as a flush lasts. Every try is bounded in time, so a server that stalls costs time only.
//! *If cancelled*: what was sent may land.
//! *What may leak*: objects of calls whose outcome nobody heard of.
//!
//! SUBTLE: what a read returns is only as sound as TCP (or TLS) makes it. S3 keeps no checksum of a range, so
//! there is none to compare: the checksums of records and footers are the ones that count, and whoever reads
//! a pack verifies them. What is checked here is that the bytes are those of the range that was asked for,
//! all of them.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `S3Blobs`: the port, tries, bounds |
//! | `bucket.rs` | creating the bucket, and what is wrong with it at start |
//! | `failure.rs` | what an error of the SDK means for the caller |
//! | `range.rs` | ranges of an object, asked for and verified |
//! | `requests.rs` | one request each, by the SDK |

mod bucket;
mod failure;
mod range;
mod requests;
#[cfg(test)]
mod tests;

use super::{Blob, Blobs, check_name};
use crate::config;
use crate::domain::ids::Timestamp;
use crate::domain::outcome::{PortError, PortResult};
use aws_sdk_s3::primitives::SdkBody;
use futures_util::future::{BoxFuture, FutureExt};
use range::Part;
use requests::{Page, Requests, Start};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How long and how often a call is tried.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests for one call, at least one.
    pub tries: u32,
    /// Pause before the second; each one after it is twice as long. (A half to all of it, by chance.)
    pub pause: Duration,
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long one request may take, besides the time for its bytes.
    pub answer: Duration,
}

/// Bytes a second that every connection has to make: bounds the time for the bytes of a request.
const BYTES_PER_SECOND_MIN: u64 = 256 << 10;

impl Default for Bounds {
    fn default() -> Self {
        Self {
            tries: 3,
            pause: Duration::from_millis(100),
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(12),
        }
    }
}

impl Bounds {
    /// How long a request with so many bytes may take.
    fn allowed(&self, bytes: u64) -> Duration {
        self.answer + Duration::from_millis(bytes.saturating_mul(1_000) / BYTES_PER_SECOND_MIN)
    }
}

/// Does a call change something?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Read,
    Write,
}

/// Objects in a bucket.
///
/// COST: calls run on the runtime that opened it, whoever makes them. Connections are driven by the runtime
/// they were made on: those made by a partition's task would wait behind its folding, and end with it.
#[derive(Clone)]
pub struct S3Blobs {
    requests: Arc<Requests>,
    runtime: Handle,
}

impl S3Blobs {
    /// The bucket of a configuration; nothing is asked yet. One for a process: clones share its connections.
    ///
    /// Must be called on the runtime that its requests are to run on.
    pub async fn open(config: &config::S3, bounds: Bounds) -> Self {
        let requests = Arc::new(Requests::new(config, bounds).await);
        Self { requests, runtime: Handle::current() }
    }

    /// Runs a call on the runtime, and ends it if nobody waits for it any more.
    fn run<'a, T, F>(
        &'a self,
        call: impl FnOnce(Arc<Requests>) -> F + Send + 'a,
    ) -> BoxFuture<'a, PortResult<T>>
    where
        T: Send + 'static,
        F: Future<Output = PortResult<T>> + Send + 'static,
    {
        async move {
            let mut task = Task(self.runtime.spawn(call(Arc::clone(&self.requests))));
            match (&mut task.0).await {
                Ok(outcome) => outcome,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only the end of the runtime gets here.
                    Err(_) => Err(PortError::Unknown("the process is ending".to_owned())),
                },
            }
        }
        .boxed()
    }
}

/// Ends its task when it is dropped.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Requests {
    /// Tries a request until it is answered for good, as often as the bounds allow.
    ///
    /// INVARIANT: a write of which one try may have happened is never reported as not done, whatever a later
    /// try was answered. (This is why the SDK's own retries are off: they tell of the last try only.)
    async fn until_done<T, F>(&self, effect: Effect, request: impl Fn() -> F) -> PortResult<T>
    where
        F: Future<Output = PortResult<T>>,
    {
        let (mut may_have_happened, mut tried) = (false, 0);
        loop {
            let what = match request().await {
                Err(PortError::NotDone(what)) => what,
                Err(PortError::Unknown(what)) => {
                    may_have_happened |= effect == Effect::Write;
                    what
                }
                answered => return answered,
            };
            tried += 1;
            if tried >= self.bounds.tries {
                return Err(if may_have_happened {
                    PortError::Unknown(what)
                } else {
                    PortError::NotDone(what)
                });
            }
            tokio::time::sleep(self.pause_after(tried)).await;
        }
    }

    /// Half of the pause is by chance: clients that failed together shall not come back together.
    fn pause_after(&self, tried: u32) -> Duration {
        let whole = self.bounds.pause.saturating_mul(1 << (tried - 1).min(10));
        let mut chance = [0; 2];
        // Without random numbers the pause is merely the longest one.
        let share =
            getrandom::fill(&mut chance).map_or(u32::from(u16::MAX), |()| u16::from_le_bytes(chance).into());
        whole / 2 + whole / 2 * share / u32::from(u16::MAX)
    }

    async fn read(&self, name: &str, part: Part) -> PortResult<(Blob, u64)> {
        check_name(name)?;
        self.until_done(Effect::Read, || self.get(name, part)).await
    }

    async fn create(&self, name: &str, body: Vec<u8>) -> PortResult<()> {
        check_name(name)?;
        let (len, checksum) = (body.len() as u64, self.checksum(&body));
        let body = SdkBody::from(body);
        let put = || {
            let body = body.try_clone().expect("a body in memory can be sent again");
            self.put(name, body, len, checksum.as_deref())
        };
        self.until_done(Effect::Write, put).await
    }

    async fn remove(&self, name: &str) -> PortResult<()> {
        check_name(name)?;
        match self.until_done(Effect::Write, || self.delete(name)).await {
            Err(PortError::Missing) => Ok(()),
            other => other,
        }
    }

    async fn names(&self, prefix: &str, after: Option<&str>, limit: usize) -> PortResult<Vec<String>> {
        match (limit, self.is_in_byte_order) {
            (0, _) => Ok(Vec::new()),
            (_, true) => self.names_after(prefix, after, limit).await,
            (_, false) => self.first_of_all_names(prefix, after, limit).await,
        }
    }

    /// Asks for pages until there are enough names; every page starts after the last name of the one before.
    async fn names_after(&self, prefix: &str, after: Option<&str>, limit: usize) -> PortResult<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        let mut after = after.map(str::to_owned);
        loop {
            let start = after.as_deref().map_or(Start::First, Start::After);
            let wanted = limit - names.len();
            let page = self.until_done(Effect::Read, || self.page(prefix, start, wanted)).await?;
            let last = page.next.as_ref().and(page.names.last()).cloned();
            names.extend(ours(page));
            match last {
                Some(last) if names.len() < limit => after = Some(last),
                _ => return Ok(names),
            }
        }
    }

    /// Reads all names of a prefix and keeps the first ones, whatever order they come in.
    ///
    /// COST: a request for every thousand names of the prefix, however few are wanted.
    async fn first_of_all_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> PortResult<Vec<String>> {
        let mut first = BTreeSet::new();
        let mut token: Option<String> = None;
        loop {
            let start = token.as_deref().map_or(Start::First, Start::At);
            let mut page = self.until_done(Effect::Read, || self.page(prefix, start, usize::MAX)).await?;
            token = page.next.take();
            for name in ours(page).filter(|name| after.is_none_or(|after| name.as_str() > after)) {
                first.insert(name);
                if first.len() > limit {
                    first.pop_last();
                }
            }
            if token.is_none() {
                return Ok(first.into_iter().collect());
            }
        }
    }
}

/// Names of a page without those that others keep in the bucket.
fn ours(page: Page) -> impl Iterator<Item = String> {
    page.names.into_iter().filter(|name| check_name(name).is_ok())
}

impl Blobs for S3Blobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        self.run(|requests| {
            let (name, bytes) = (name.to_owned(), bytes.to_vec());
            async move { requests.create(&name, bytes).await }
        })
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        self.run(move |requests| {
            let name = name.to_owned();
            async move { Ok(requests.read(&name, Part::From { start, len }).await?.0) }
        })
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        self.run(move |requests| {
            let name = name.to_owned();
            async move { requests.read(&name, Part::Last(len)).await }
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        self.run(move |requests| {
            let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
            async move { requests.names(&prefix, after.as_deref(), limit).await }
        })
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        self.run(|requests| {
            let name = name.to_owned();
            async move {
                check_name(&name)?;
                requests.until_done(Effect::Read, || requests.modified(&name)).await
            }
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        self.run(|requests| {
            let name = name.to_owned();
            async move { requests.remove(&name).await }
        })
    }
}

//! `GET …/watch`: every change of an aggregate as it happens, as server-sent events. An event's id is its
//! version, so a client that lost its connection goes on where it was (`Last-Event-ID`), and misses none.
//!
//! *If it fails*: an answer that is not to be had now is asked for again; one that never will be (history
//! that is gone) ends the stream with an event `problem`.
//! *If cancelled*: a client that goes away ends its stream at the next change or comment.
//! *What may leak*: nothing is held between two looks but a version; the number of streams is bounded.

use super::path::{Path, Target};
use super::problem::Problem;
use super::query::{Query, version};
use super::{Shared, encode};
use crate::domain::ids::Version;
use crate::lookup::{Changed, Freshness, Refusal, Selector};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Streams at the same time.
pub(super) const WATCHERS_MAX: usize = 1_000;
/// Between two looks for something new, after a change.
const LOOK: Duration = Duration::from_millis(100);
/// The longest time between two looks: where nothing happens they become rarer.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Between two comments, which tell both sides that the other is there.
const COMMENT: Duration = Duration::from_secs(15);
/// Changes that are read at once.
const CHANGES: u64 = 16;

struct Watcher {
    shared: Shared,
    target: Target,
    /// The last version that was sent.
    seen: Version,
    found: VecDeque<Changed>,
    /// The last look found all that there was.
    is_drained: bool,
    /// How long the next look waits.
    wait: Duration,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn get(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["fromVersion"])?;
    let from = query.version("fromVersion")?;
    let resumed = headers.get("last-event-id").map(|id| {
        let id = id.to_str().ok().and_then(version);
        id.ok_or_else(|| {
            Problem::selector("`Last-Event-ID` is no version", "leave the header out to start anew")
        })
    });
    let target = path.target(&shared)?;
    let head = target.lookup.state(&target.id, Selector::Head, Freshness::default()).await?;
    let head = head.head_version.unwrap_or(head.aggregate.version);
    // What the client has seen counts more than where it once began.
    let resumed = resumed.transpose()?;
    let seen = match (resumed, from) {
        (Some(seen), _) => seen,
        (None, Some(from)) => Version(from.0 - 1),
        (None, None) => head,
    };
    // Who goes on has seen it: the owner is a new one, which has not come so far yet.
    if seen > head && resumed.is_none() {
        return Err(Refusal::VersionBeyondHead { head }.into());
    }
    let Ok(permit) = Arc::clone(&shared.watchers).try_acquire_owned() else {
        return Err(Problem::new("overloaded", format!("{WATCHERS_MAX} streams are open already")));
    };
    let watcher = Watcher {
        shared,
        target,
        seen,
        found: VecDeque::new(),
        is_drained: false,
        wait: LOOK,
        is_over: false,
        _permit: permit,
    };
    Ok(Sse::new(events(watcher)).keep_alive(KeepAlive::new().interval(COMMENT)).into_response())
}

fn events(watcher: Watcher) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    })
}

impl Watcher {
    /// The next event, whenever it comes; none where the stream ends.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_over {
            if let Some(change) = self.found.pop_front() {
                self.seen = change.by.version;
                let data = String::from_utf8(encode::changed(&change)).expect("JSON is UTF-8");
                return Some(Event::default().id(self.seen.to_string()).event("change").data(data));
            }
            // A hot aggregate is not read back to back either.
            let wait = if std::mem::take(&mut self.is_drained) { self.wait } else { Duration::ZERO };
            if self.stops_within(wait).await {
                return None;
            }
            match self.target.lookup.changes_after(&self.target.id, self.seen, CHANGES).await {
                Ok(changes) => {
                    self.is_drained = (changes.len() as u64) < CHANGES;
                    self.found.extend(changes);
                }
                Err(refusal) => {
                    self.is_drained = true;
                    let problem = Problem::from(refusal);
                    if !problem.is_retryable() {
                        self.is_over = true;
                        let body = String::from_utf8(problem.body("")).expect("JSON is UTF-8");
                        return Some(Event::default().event("problem").data(body));
                    }
                }
            }
            self.wait = if self.found.is_empty() { (self.wait * 3 / 2).min(LOOK_MAX) } else { LOOK };
        }
        None
    }

    /// Waits; true if the process ends meanwhile.
    async fn stops_within(&self, wait: Duration) -> bool {
        let mut stopping = self.shared.app.stopping.clone();
        let stopped = stopping.wait_for(|stop| *stop);
        // A sender that is gone means the same as one that says so.
        tokio::time::timeout(wait, stopped).await.is_ok()
    }
}

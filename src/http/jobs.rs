//! Work that outlives its request: `GET /v1/jobs/{id}` tells how far it is, `DELETE` ends it.
//!
//! *If cancelled*: what the job was waiting for is dropped at once; what it had handed to others happens all
//!   the same, as after a crash.
//! *What may leak*: nothing; a job ends with its process. Its id is known only to the process that runs it.
//!
//! COST: finished jobs are kept for an hour, [`KEPT_MAX`] at the most.

use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// The route.
pub(super) const ROUTE: &str = "/v1/jobs/{jobId}";
/// Jobs that run at the same time; more are refused.
const RUNNING_MAX: usize = 4;
/// Jobs that are remembered.
const KEPT_MAX: usize = 1_000;
/// How long a finished job is remembered.
const KEPT: Duration = Duration::from_secs(3_600);

/// How a job ended by itself.
pub(super) enum Outcome {
    /// It did all it was asked for; the text of its result.
    Done(Vec<u8>),
    /// It could not go on; what came of it until then, and why.
    Failed(Vec<u8>, Problem),
}

/// Where a job stands.
enum Standing {
    Running,
    Cancelled,
    Ended(Outcome),
}

/// One job.
pub(super) struct Job {
    id: String,
    /// In the order of their starts.
    number: u64,
    kind: &'static str,
    done: AtomicU64,
    /// Not known yet: the largest number.
    total: AtomicU64,
    cancel: watch::Sender<bool>,
    standing: Mutex<Standing>,
}

impl Job {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// So many more are done.
    pub(super) fn advance(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// It is known now how many there are.
    pub(super) fn total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().expect("no panic while it is held")
    }

    fn end(&self, standing: Standing) {
        let mut now = self.standing();
        if matches!(*now, Standing::Running) {
            *now = standing;
        }
    }

    fn is_running(&self) -> bool {
        matches!(*self.standing(), Standing::Running)
    }

    fn body(&self) -> Vec<u8> {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let standing = self.standing();
        json::object(|body| {
            body.text("id", &self.id).text("kind", self.kind);
            body.text(
                "status",
                match &*standing {
                    Standing::Running => "running",
                    Standing::Cancelled => "cancelled",
                    Standing::Ended(Outcome::Done(_)) => "done",
                    Standing::Ended(Outcome::Failed(..)) => "failed",
                },
            );
            body.object("progress", |body| {
                body.number("done", done)
                    .number_or_null("total", Some(total).filter(|total| *total != u64::MAX));
            });
            match &*standing {
                Standing::Running | Standing::Cancelled => {}
                Standing::Ended(Outcome::Done(result)) => {
                    body.raw("result", result);
                }
                Standing::Ended(Outcome::Failed(result, problem)) => {
                    body.raw("result", result).raw("error", &problem.body(""));
                }
            }
        })
    }
}

/// The jobs of a process.
#[derive(Default)]
pub(super) struct Jobs {
    key: RandomState,
    started: AtomicU64,
    known: Mutex<BTreeMap<String, Arc<Job>>>,
}

impl Jobs {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Job>>> {
        self.known.lock().expect("no panic while it is held")
    }

    /// Starts a job, which ends when it is cancelled or the process stops.
    ///
    /// # Errors
    /// `overloaded`: as many as may run are running.
    pub(super) fn start<F>(
        &self,
        shared: &Shared,
        kind: &'static str,
        total: Option<u64>,
        work: impl FnOnce(Arc<Job>) -> F,
    ) -> Result<Arc<Job>, Problem>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (cancel, mut cancelled) = watch::channel(false);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let half = |part: u8| self.key.hash_one((number, part));
        let job = Arc::new(Job {
            id: format!("{:016x}{:016x}", half(0), half(1)),
            number,
            kind,
            done: AtomicU64::new(0),
            total: AtomicU64::new(total.unwrap_or(u64::MAX)),
            cancel,
            standing: Mutex::new(Standing::Running),
        });
        self.keep(&job)?;
        let (work, mut stopping) = (work(Arc::clone(&job)), shared.app.stopping.clone());
        let (own, shared) = (Arc::clone(&job), Arc::clone(shared));
        tokio::spawn(async move {
            let standing = tokio::select! {
                _ = cancelled.wait_for(|cancel| *cancel) => Standing::Cancelled,
                _ = stopping.wait_for(|stop| *stop) => Standing::Cancelled,
                outcome = AssertUnwindSafe(work).catch_unwind() => {
                    Standing::Ended(outcome.unwrap_or_else(|_| panicked()))
                }
            };
            own.end(standing);
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(KEPT) => drop(shared.jobs.known().remove(&own.id)),
            }
        });
        Ok(job)
    }

    fn keep(&self, job: &Arc<Job>) -> Result<(), Problem> {
        let mut known = self.known();
        if known.values().filter(|job| job.is_running()).count() >= RUNNING_MAX {
            let problem = Problem::new("overloaded", format!("{RUNNING_MAX} jobs are running already"));
            return Err(problem.hint("wait for one of them, or cancel it with `DELETE /v1/jobs/{id}`"));
        }
        while known.len() >= KEPT_MAX {
            let ended = known.values().filter(|job| !job.is_running());
            let Some(oldest) = ended.min_by_key(|job| job.number).map(|job| job.id.clone()) else { break };
            known.remove(&oldest);
        }
        known.insert(job.id.clone(), Arc::clone(job));
        Ok(())
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let known = self.known().get(id).cloned();
        known.ok_or_else(|| Problem::new("unknown-job", "no job of this process has the id"))
    }
}

/// The answer to whoever started a job.
pub(super) fn started(job: &Job) -> Response {
    let body = json::object(|body| {
        body.text("jobId", job.id());
    });
    let mut response = (StatusCode::ACCEPTED, answer(body)).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id())) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    Ok(answer(shared.jobs.find(path.get("jobId"))?.body()))
}

/// Cancels a job that runs; of one that has ended it says how.
pub(super) async fn delete(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let job = shared.jobs.find(path.get("jobId"))?;
    job.end(Standing::Cancelled);
    // Its task may have ended meanwhile.
    let _ = job.cancel.send(true);
    Ok(answer(job.body()))
}

/// A job's own mistake ends the job alone.
fn panicked() -> Outcome {
    Outcome::Failed(b"{}".to_vec(), Problem::new("internal", "the job panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u64) -> Arc<Job> {
        Arc::new(Job {
            id: number.to_string(),
            number,
            kind: "snapshots",
            done: AtomicU64::new(3),
            total: AtomicU64::new(u64::MAX),
            cancel: watch::channel(false).0,
            standing: Mutex::new(Standing::Running),
        })
    }

    fn body(job: &Job) -> serde_json::Value {
        serde_json::from_slice(&job.body()).unwrap()
    }

    #[test]
    fn few_run_at_once_and_the_oldest_that_ended_are_forgotten() {
        let jobs = Jobs::default();
        for number in 0..RUNNING_MAX as u64 {
            jobs.keep(&job(number)).unwrap();
        }
        assert_eq!(jobs.keep(&job(9)).err().map(|problem| problem.code), Some("overloaded"));
        jobs.find("0").unwrap().end(Standing::Ended(Outcome::Done(b"{}".to_vec())));
        for number in 10..10 + KEPT_MAX as u64 {
            let job = job(number);
            jobs.keep(&job).unwrap();
            job.end(Standing::Cancelled);
        }
        assert_eq!(jobs.known().len(), KEPT_MAX);
        assert_eq!(jobs.find("0").err().map(|problem| problem.code), Some("unknown-job"));
        assert!(jobs.find("1").unwrap().is_running(), "what runs is never forgotten");
    }

    #[test]
    fn a_job_tells_how_far_it_is_and_how_it_ended_and_only_the_first_end_counts() {
        let job = job(1);
        assert_eq!(body(&job)["progress"], serde_json::json!({ "done": 3, "total": null }));
        job.total(5);
        job.advance(2);
        assert_eq!(body(&job)["progress"], serde_json::json!({ "done": 5, "total": 5 }));
        let problem = Problem::new("dependency-down", "why");
        job.end(Standing::Ended(Outcome::Failed(b"{\"created\":5}".to_vec(), problem)));
        job.end(Standing::Cancelled);
        let told = body(&job);
        assert_eq!((&told["status"], &told["result"]["created"]), (&"failed".into(), &5.into()));
        assert_eq!(told["error"]["code"], "dependency-down");
    }
}

//! `/livez`, `/startupz`, `/readyz`: whether the process runs, has started, and should get requests.

use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::worker::Status;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether requests should come here, as the process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// They should.
    pub ready: bool,
    /// Why not, in sentences for people; may name what is about to be wrong while it is ready.
    pub reasons: Vec<String>,
}

/// The runtime answers, and no task is stuck: that is all.
pub(super) async fn live(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let is_verbose = verbose(&uri)?;
    let liveness = (shared.app.liveness)();
    Ok(told(&shared, &liveness, is_verbose))
}

pub(super) async fn ready(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let is_verbose = verbose(&uri)?;
    let readiness = look(&shared);
    Ok(told(&shared, &readiness, is_verbose))
}

/// It has been ready once: a partition that stands still later is no reason to start the process again.
pub(super) async fn started(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let is_verbose = verbose(&uri)?;
    let mut readiness = look(&shared);
    readiness.ready = shared.is_started.load(Ordering::Relaxed);
    Ok(told(&shared, &readiness, is_verbose))
}

fn look(shared: &Shared) -> Readiness {
    let readiness = (shared.app.readiness)();
    shared.is_started.fetch_or(readiness.ready, Ordering::Relaxed);
    readiness
}

fn verbose(uri: &Uri) -> Result<bool, Problem> {
    Query::parse(uri, &["verbose"])?.flag("verbose")
}

fn told(shared: &Shared, readiness: &Readiness, is_verbose: bool) -> Response {
    let body = json::object(|body| {
        body.text("status", if readiness.ready { "ok" } else { "not ready" });
        if is_verbose || !readiness.ready {
            body.objects("reasons", &readiness.reasons, |body, reason| {
                body.text("detail", reason);
            });
        }
        if is_verbose {
            body.objects("partitions", statuses(shared), |body, (kind, number, status)| {
                body.text("stream", &kind).number("partition", number).number("position", status.position);
                body.number("lowWatermark", status.low_watermark);
                partition_code(body, &status);
            });
        }
    });
    let mut response = answer(body);
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Why a partition stands still, if it does.
fn partition_code(body: &mut json::Object<'_>, status: &Status) {
    if let Some((offset, poison)) = &status.halted {
        body.text("code", poison.code).text("detail", &poison.detail).number("offset", *offset);
    } else if let Some(refusal) = &status.refused {
        let poison = refusal.poison();
        body.text("code", poison.code).text("detail", &poison.detail);
    }
}

fn statuses(shared: &Shared) -> Vec<(Arc<str>, i32, Status)> {
    let mut all = Vec::new();
    for (kind, worker) in &shared.app.workers {
        let statuses = worker.statuses.lock().expect("no panic while the map is held");
        all.extend(statuses.iter().map(|(number, status)| (Arc::clone(kind), number.0, status.clone())));
    }
    all
}

//! What every request passes: its id, the bound on its body, panics, problems, timing, metrics, one log line.
//!
//! *If it fails*: a panic of a handler is a problem 500 of that request; its connection and all
//! others go on. *What may leak*: ids of aggregates stand in paths, so logs and metrics carry the
//! route's template, never the path.

use super::problem::Problem;
use super::{Shared, batch, batch_get, body, create, owned};
use crate::lookup::owners;
use crate::telemetry::metrics::{HTTP_PANICS, HTTP_REQUEST_SECONDS, HTTP_REQUESTS};
use crate::telemetry::stopwatch::Stopwatch;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that the body of a request may have; a route may allow more.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// Routes whose bodies may be longer.
const LONG_BODIES: [(&str, usize); 4] = [
    (batch_get::ROUTE, batch_get::BODY_BYTES_MAX),
    (create::ROUTE, create::BODY_BYTES_MAX),
    (batch::ROUTE, batch::BODY_BYTES_MAX),
    (owners::TAKE_ROUTE, owned::WANTED_BYTES_MAX),
];
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Longest request id that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// Makes request ids: no two of a process are equal, and those of two processes hardly ever.
#[derive(Default)]
pub(super) struct RequestIds {
    key: RandomState,
    made: AtomicU64,
}

impl RequestIds {
    fn next(&self) -> HeaderValue {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}", self.key.hash_one(made));
        HeaderValue::from_str(&id).expect("hexadecimal digits are visible")
    }

    /// The id that came with the request, if it can be shown as it is; else a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_plain = |id: &&HeaderValue| {
            (1..=REQUEST_ID_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        headers.get(REQUEST_ID).filter(is_plain).cloned().unwrap_or_else(|| self.next())
    }
}

/// Runs a request.
pub(super) async fn edge(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let id = shared.ids.of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let method = method(request.method());
    let instance = request.uri().path().to_owned();
    let body_max =
        LONG_BODIES.iter().find(|(long, _)| *long == route).map_or(BODY_BYTES_MAX, |(_, max)| *max);
    let mut response = if is_longer(request.headers(), body_max) {
        body::too_long(body_max).into_response()
    } else {
        AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            metrics::counter!(HTTP_PANICS.name).increment(1);
            Problem::new("internal", "the handler of this request panicked").into_response()
        })
    };
    let request_id = id.to_str().unwrap_or_default().to_owned();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.log(route, &request_id);
        *response.body_mut() = Body::from(problem.body(&instance));
    }
    let (ms, status) = (watch.ms(), response.status().as_u16());
    response.headers_mut().insert(REQUEST_ID, id);
    append_timing(response.headers_mut(), "total", ms);
    tracing::debug!(route, method, status, ms, request = request_id, "answered");
    let status = status.to_string();
    metrics::counter!(HTTP_REQUESTS.name, "route" => route.to_owned(), "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!(HTTP_REQUEST_SECONDS.name, "route" => route.to_owned()).record(ms / 1_000.0);
    response
}

/// Adds one entry to `Server-Timing`.
pub(super) fn append_timing(headers: &mut HeaderMap, name: &str, ms: f64) {
    let entry =
        HeaderValue::from_str(&format!("{name};dur={ms:.3}")).expect("a name and a number are visible");
    headers.append(SERVER_TIMING, entry);
}

/// A label of few values, whatever clients send.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn is_longer(headers: &HeaderMap, max: usize) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > max as u64)
}

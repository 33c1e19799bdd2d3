//! The HTTP API: one file per resource, over `lookup`.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | `App`, the routes, serving |
//! | `edge.rs` | what every request passes: ids, bounds, panics, problems, timing, metrics |
//! | `path.rs` | parts of the path: streams, ids, versions |
//! | `query.rs` | the parameters of a query, strictly |
//! | `cursor.rs` | where a list goes on |
//! | `problem.rs` | refusals and faults as problems |
//! | `codes.rs` | every code, its status and its page |
//! | `json.rs` | writes JSON |
//! | `encode.rs` | the bodies of answers |
//! | `body.rs` | the bodies of requests |
//! | `aggregates.rs` `state.rs` `batch_get.rs` | aggregates and their states |
//! | `events.rs` `diff.rs` `blame.rs` `watch.rs` | how they came to be |
//! | `snapshots.rs` `verify.rs` `dead_letters.rs` | what is stored |
//! | `create.rs` `batch.rs` | snapshots on demand, one and many |
//! | `notes.rs` | labels and pins |
//! | `jobs.rs` | work that outlives its request |
//! | `owned.rs` | what other workers ask about this one's partitions |
//! | `health.rs` | liveness, start-up, readiness |
//! | `metrics.rs` | figures of workers, the scrape |
//!
//! INVARIANT: no bytes of a request make the routing or the reading of its path and query panic.
//! *If cancelled*: a client that goes away drops its question; reads have no effects.

mod aggregates;
mod batch;
mod batch_get;
mod blame;
mod body;
pub mod codes;
mod create;
mod cursor;
mod dead_letters;
mod diff;
mod edge;
mod encode;
mod events;
mod health;
mod jobs;
mod json;
pub mod metrics;
mod notes;
mod owned;
mod path;
mod problem;
mod query;
mod snapshots;
mod state;
mod verify;
mod watch;

pub use health::Readiness;

use crate::lookup::Streams;
use crate::lookup::owners::{self, Owners};
use crate::worker::Handle;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;

/// What the API needs of the process it runs in.
#[derive(Clone)]
pub struct App {
    /// Questions, by aggregate type.
    pub streams: Arc<Streams>,
    /// The topic of each type.
    pub topics: BTreeMap<Arc<str>, Arc<str>>,
    /// The workers, by aggregate type.
    pub workers: BTreeMap<Arc<str>, Handle>,
    /// Who folds the partitions that they do not, by aggregate type.
    pub owners: BTreeMap<Arc<str>, Arc<Owners>>,
    /// The text of the scrape; see [`metrics::source`].
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether requests should come here.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Whether the process should go on, with the reasons why not.
    pub liveness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// True once the process is to end: streams of changes end then.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

struct Inner {
    app: App,
    ids: edge::RequestIds,
    /// It has been ready once.
    is_started: AtomicBool,
    /// Streams of changes that may still be opened.
    watchers: Arc<Semaphore>,
    jobs: jobs::Jobs,
}

type Shared = Arc<Inner>;

impl Inner {
    fn new(app: App) -> Self {
        Self {
            app,
            ids: edge::RequestIds::default(),
            is_started: AtomicBool::new(false),
            watchers: Arc::new(Semaphore::new(watch::WATCHERS_MAX)),
            jobs: jobs::Jobs::default(),
        }
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    routers(app).0
}

/// All routes, and those of the admin port, which are among them.
pub fn routers(app: App) -> (Router, Router) {
    let shared = Arc::new(Inner::new(app));
    (finish(routes(), Arc::clone(&shared)), finish(admin_routes(), shared))
}

fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/aggregates", get(aggregates::list))
        .route("/v1/aggregates/{type}/{id}", get(aggregates::head))
        .route("/v1/aggregates/{type}/{id}/state", get(state::get))
        .route("/v1/aggregates/{type}/{id}/events", get(events::list))
        .route("/v1/aggregates/{type}/{id}/events/{version}", get(events::one))
        .route(create::ROUTE, get(snapshots::list).post(create::post))
        .route("/v1/aggregates/{type}/{id}/snapshots/latest", get(snapshots::latest))
        .route("/v1/aggregates/{type}/{id}/snapshots/{version}", get(snapshots::one).patch(notes::patch))
        .route("/v1/aggregates/{type}/{id}/snapshots/{version}/blob", get(snapshots::blob))
        .route("/v1/aggregates/{type}/{id}/diff", get(diff::get))
        .route("/v1/aggregates/{type}/{id}/blame", get(blame::blame))
        .route("/v1/aggregates/{type}/{id}/history", get(blame::history))
        .route("/v1/aggregates/{type}/{id}/watch", get(watch::get))
        .route(batch_get::ROUTE, post(batch_get::post).get(path::unknown))
        .route("/v1/aggregates/{type}/{id}/verify", post(verify::post))
        .route("/v1/snapshots/{snapshotId}", get(snapshots::by_id))
        .route(batch::ROUTE, post(batch::post))
        .route(jobs::ROUTE, get(jobs::get).delete(jobs::delete))
        .route(owners::TAKE_ROUTE, post(owned::take))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route(owners::HEAD_ROUTE, get(owned::head))
        .route(owners::LIST_ROUTE, get(owned::list))
        .merge(admin_routes())
}

fn admin_routes() -> Router<Shared> {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/startupz", get(health::started))
        .route("/metrics", get(metrics::scrape))
}

/// The routes with what is around them.
fn finish(routes: Router<Shared>, shared: Shared) -> Router {
    routes
        .fallback(path::unknown)
        .method_not_allowed_fallback(path::wrong_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), edge::edge))
        .with_state(shared)
}

/// Serves until `shutdown` completes, then finishes the requests that are running.
///
/// # Errors
/// What the listener reports.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Answers are small and complete: waiting for more only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// An answer in JSON.
fn answer(body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}

#[cfg(test)]
mod tests;

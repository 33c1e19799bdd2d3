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
//! | `snapshots.rs` `verify.rs` `proof.rs` `dead_letters.rs` | what is stored |
//! | `create.rs` `batch.rs` | snapshots on demand, one and many |
//! | `compact.rs` | history merged, thinned or rebased |
//! | `notes.rs` | labels and pins |
//! | `erasure.rs` | erasing an aggregate, and what became of it |
//! | `survey.rs` | many aggregates verified in tiers |
//! | `deletion.rs` `hold.rs` | snapshots that are to go, aggregates of which nothing may |
//! | `schedules.rs` | snapshots at due times |
//! | `lineages.rs` | which lineages there are and were |
//! | `stats.rs` | how much is stored |
//! | `jobs.rs` | work that outlives its request |
//! | `owned.rs` | what other workers ask about this one's partitions |
//! | `spec/` | the OpenAPI document, out of the table of routes |
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
mod compact;
mod create;
mod cursor;
pub mod date;
mod dead_letters;
mod deletion;
mod diff;
mod edge;
mod encode;
mod erasure;
mod events;
mod health;
mod hold;
mod jobs;
mod json;
mod lineages;
pub mod metrics;
mod notes;
mod owned;
mod path;
mod problem;
mod proof;
mod query;
mod schedules;
mod snapshots;
mod spec;
mod state;
mod stats;
mod survey;
mod verify;
mod watch;

pub use health::Readiness;

use crate::lookup::owners::{self, Owners};
use crate::lookup::{Lineages, Streams};
use crate::upkeep::compaction::Compactor;
use crate::upkeep::retention::Keep;
use crate::upkeep::schedules::Book;
use crate::worker::Handle;
use axum::Router;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use axum::serve::ListenerExt;
use problem::Problem;
use spec::{Gives, Route};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// Bytes from which an answer is compressed, for those who take that.
const COMPRESSED_MIN: u16 = 1_024;

/// What the API needs of the process it runs in.
#[derive(Clone)]
pub struct App {
    /// Questions, by aggregate type.
    pub streams: Arc<Streams>,
    /// The lineages of each type that are not the active one.
    pub lineages: Arc<dyn Lineages>,
    /// The topic of each type.
    pub topics: BTreeMap<Arc<str>, Arc<str>>,
    /// The workers, by aggregate type.
    pub workers: BTreeMap<Arc<str>, Handle>,
    /// Who folds the partitions that they do not, by aggregate type.
    pub owners: BTreeMap<Arc<str>, Arc<Owners>>,
    /// What each type keeps; all history where nothing is said.
    pub keep: BTreeMap<Arc<str>, Keep>,
    /// Who merges history, by aggregate type.
    pub compactors: BTreeMap<Arc<str>, Arc<Compactor>>,
    /// What is said about schedules.
    pub schedules: Arc<Book>,
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
    counts: stats::Counts,
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
            counts: stats::Counts::default(),
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
    (finish(routes(), Arc::clone(&shared)), finish(spec::router(admin_routes()), shared))
}

const AGGREGATE: &str = "/v1/aggregates/{type}/{id}";

/// A path below that of an aggregate.
macro_rules! of_aggregate {
    ($rest:literal) => {
        concat!("/v1/aggregates/{type}/{id}", $rest)
    };
}

/// All routes but those that workers ask each other.
fn all_routes() -> Vec<Route> {
    let mut all = question_routes();
    all.extend(snapshot_routes());
    all.extend(creation_routes());
    all.extend(deletion_routes());
    all.extend(schedule_routes());
    all.extend(admin_routes());
    all.push(Route::get("/v1/openapi.json", "This document", get(openapi)).gives(Gives::Json("Document")));
    all
}

fn question_routes() -> Vec<Route> {
    vec![
        Route::get("/v1/aggregates", "The aggregates of a type, by id", get(aggregates::list))
            .takes(&["ofType", "prefix", "limit", "cursor", "deleted"])
            .gives(Gives::Json("AggregateList")),
        Route::get(AGGREGATE, "The head of an aggregate and what is stored of it", get(aggregates::head))
            .takes(&["lineage"])
            .gives(Gives::Json("Head")),
        Route::get(
            of_aggregate!("/state"),
            "The state at the head, a version, a time or an offset",
            get(state::get),
        )
        .takes(&[
            "atVersion",
            "at",
            "offset",
            "minVersion",
            "minOffset",
            "wait",
            "basis",
            "explain",
            "lineage",
        ])
        .gives(Gives::Json("State")),
        Route::get(of_aggregate!("/events"), "The events, by version", get(events::list))
            .takes(&["fromVersion", "toVersion", "order", "limit", "cursor", "lineage"])
            .gives(Gives::Json("EventList")),
        Route::get(of_aggregate!("/events/{version}"), "One event", get(events::one))
            .takes(&["lineage"])
            .gives(Gives::Json("Event")),
        Route::get(of_aggregate!("/diff"), "What leads from one moment to another", get(diff::get))
            .takes(&["fromMoment", "toMoment", "format", "basis", "lineage"])
            .gives(Gives::Json("Diff")),
        Route::get(of_aggregate!("/blame"), "Which event wrote each field last", get(blame::blame))
            .takes(&["atVersion", "at", "offset", "path", "basis", "lineage"])
            .gives(Gives::Json("Blame")),
        Route::get(of_aggregate!("/history"), "The changes of one field", get(blame::history))
            .takes(&["fieldPath", "fromVersion", "toVersion", "order", "limit", "cursor", "basis", "lineage"])
            .gives(Gives::Json("FieldHistory")),
        Route::get(of_aggregate!("/watch"), "Changes as they happen", get(watch::get))
            .takes(&["fromVersion"])
            .gives(Gives::Events),
        Route::post("/v1/aggregates/{type}:batchGet", "Many aggregates at one instant", batch_get())
            .at(batch_get::ROUTE)
            .body("BatchGetRequest")
            .gives(Gives::Json("BatchGet")),
        Route::get("/v1/lineages", "Which lineages there are and were", get(lineages::list))
            .takes(&["onlyType"])
            .gives(Gives::Json("LineageList")),
        Route::get("/v1/dead-letters", "Events that could not be folded", get(dead_letters::list))
            .takes(&["onlyType", "limit", "cursor", "payload"])
            .gives(Gives::Json("DeadLetterList")),
    ]
}

fn batch_get() -> MethodRouter<Shared> {
    post(batch_get::post).get(path::unknown)
}

fn snapshot_routes() -> Vec<Route> {
    vec![
        Route::get(of_aggregate!("/snapshots"), "Stored snapshots, by version", get(snapshots::list))
            .takes(&["fromVersion", "toVersion", "fromTime", "toTime", "limit", "cursor", "order", "lineage"])
            .gives(Gives::Json("SnapshotList")),
        Route::get(of_aggregate!("/snapshots/latest"), "The newest stored snapshot", get(snapshots::latest))
            .takes(&["lineage"])
            .gives(Gives::Json("Snapshot")),
        Route::get(of_aggregate!("/snapshots/{version}"), "One stored snapshot", get(snapshots::one))
            .takes(&["lineage"])
            .gives(Gives::Json("Snapshot")),
        Route::get(of_aggregate!("/snapshots/{version}/blob"), "Its stored bytes", get(snapshots::blob))
            .takes(&["lineage"])
            .gives(Gives::Bytes),
        Route::get("/v1/snapshots/{snapshotId}", "A stored snapshot by its id", get(snapshots::by_id))
            .gives(Gives::Json("Snapshot")),
        Route::get(
            of_aggregate!("/stats"),
            "The snapshots of an aggregate, day by day",
            get(stats::aggregate),
        )
        .takes(&["takenFrom", "takenTo"])
        .gives(Gives::Json("AggregateStats")),
        Route::get("/v1/stats", "What is stored, by stream", get(stats::all)).gives(Gives::Json("Stats")),
        Route::get("/v1/stats/storage", "What packs hold, by class", get(stats::storage))
            .gives(Gives::Json("StorageStats")),
        Route::post(of_aggregate!("/verify"), "Check what is stored", post(verify::post))
            .takes(&["upToVersion", "mode", "lineage"])
            .gives(Gives::Json("Verified")),
        Route::post(survey::ROUTE, "Check many aggregates, as a job", post(survey::post))
            .body("VerifyRequest")
            .gives(Gives::Job),
        Route::get(of_aggregate!("/proof"), "What proves a version, for an auditor", get(proof::get))
            .takes(&["provenVersion", "linksAfter", "lineage"])
            .gives(Gives::Json("Proof")),
    ]
}

fn creation_routes() -> Vec<Route> {
    vec![
        Route::post(create::ROUTE, "Take a snapshot, of the head or of a version", post(create::post))
            .body("SnapshotRequest")
            .gives(Gives::Made("Snapshot")),
        Route::patch(of_aggregate!("/snapshots/{version}"), "Label or pin a snapshot", patch(notes::patch))
            .body("NoteRequest")
            .gives(Gives::Json("Snapshot")),
        Route::post(compact::ROUTE, "Merge, thin or rebase what is stored", post(compact::post))
            .body("CompactRequest")
            .gives(Gives::JsonOrJob("Compaction")),
        Route::post(batch::ROUTE, "Take many snapshots, at once or as a job", post(batch::post))
            .body("BatchRequest")
            .gives(Gives::JsonOrJob("Batch")),
        Route::post(of_aggregate!(":erase"), "Erase an aggregate for good", post(erasure::post))
            .at(AGGREGATE)
            .body("ErasureRequest")
            .gives(Gives::Json("Erasure")),
        Route::get(of_aggregate!("/erasure"), "What became of an erasure", get(erasure::get))
            .gives(Gives::Json("Erasure")),
        Route::get(jobs::ROUTE, "How far a job is", get(jobs::get)).gives(Gives::Json("Job")),
        Route::delete(jobs::ROUTE, "End a job", delete(jobs::delete)).gives(Gives::Json("Job")),
    ]
}

fn deletion_routes() -> Vec<Route> {
    vec![
        Route::delete(of_aggregate!("/snapshots/{version}"), "Delete a snapshot", delete(deletion::one))
            .takes(&["rebase", "dryRun"])
            .gives(Gives::Json("Deletion")),
        Route::delete(create::ROUTE, "Delete older snapshots", delete(deletion::before))
            .takes(&["beforeVersion", "beforeTime", "dryRun"])
            .gives(Gives::Json("Deletion")),
        Route::get(of_aggregate!("/hold"), "Whether anything of it may be deleted", get(hold::get))
            .gives(Gives::Json("Hold")),
        Route::put(of_aggregate!("/hold"), "Let nothing of it be deleted", put(hold::put))
            .body("HoldRequest")
            .gives(Gives::Json("Hold")),
        Route::delete(of_aggregate!("/hold"), "Let it be deleted again", delete(hold::delete))
            .gives(Gives::Json("Hold")),
    ]
}

fn schedule_routes() -> Vec<Route> {
    let one = |route: Route| route.gives(Gives::Json("Schedule"));
    // The router has one handler for all calls of a name.
    let call = |path, summary, handler| one(Route::post(path, summary, handler).at(schedules::ROUTE));
    vec![
        Route::get("/v1/schedules", "Schedules, by name", get(schedules::list))
            .takes(&["limit", "cursor"])
            .gives(Gives::Json("ScheduleList")),
        one(Route::get(schedules::ROUTE, "A schedule, its next and its last runs", get(schedules::get))),
        Route::put(schedules::ROUTE, "Make a schedule, or change it", put(schedules::put))
            .body("ScheduleRequest")
            .gives(Gives::Made("Schedule")),
        one(Route::delete(
            schedules::ROUTE,
            "End a schedule; it is answered as it was",
            delete(schedules::delete),
        )),
        call("/v1/schedules/{name}:run", "Run a schedule now, paused or not", post(schedules::post)),
        call("/v1/schedules/{name}:pause", "Let due times pass", MethodRouter::new()),
        call("/v1/schedules/{name}:resume", "Let due times count again, from now on", MethodRouter::new()),
    ]
}

fn admin_routes() -> Vec<Route> {
    let health = |path, summary, handler| {
        Route::get(path, summary, handler).takes(&["verbose"]).gives(Gives::Json("Health"))
    };
    vec![
        health("/livez", "Whether the process should go on", get(health::live)),
        health("/readyz", "Whether questions should come here", get(health::ready)),
        health("/startupz", "Whether it has been ready once", get(health::started)),
        Route::get("/metrics", "Figures for Prometheus", get(metrics::scrape)),
    ]
}

/// What workers ask each other besides.
fn routes() -> Router<Shared> {
    spec::router(all_routes())
        .route(owners::HEAD_ROUTE, get(owned::head))
        .route(owners::LIST_ROUTE, get(owned::list))
        .route(owners::TAKE_ROUTE, post(owned::take))
        .route(owners::COMPACT_ROUTE, post(owned::compact))
}

async fn openapi(uri: Uri) -> Result<Response, Problem> {
    query::Query::parse(&uri, &[])?;
    Ok(answer(openapi_document().into_bytes()))
}

/// The OpenAPI document of the API.
pub fn openapi_document() -> String {
    spec::text(&all_routes())
}

#[cfg(test)]
fn router_for_tests() -> Router {
    router(tests::app(tests::ready()))
}

/// The routes with what is around them.
fn finish(routes: Router<Shared>, shared: Shared) -> Router {
    routes
        .fallback(path::unknown)
        .method_not_allowed_fallback(path::wrong_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), edge::edge))
        // Around the edge, which still writes bodies. Stored bytes are compressed already, and streams go out
        // as they come.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it()))
        .with_state(shared)
}

fn worth_it() -> impl Predicate {
    SizeAbove::new(COMPRESSED_MIN)
        .and(NotForContentType::const_new("application/octet-stream"))
        .and(NotForContentType::SSE)
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

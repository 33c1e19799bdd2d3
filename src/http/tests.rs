//! The router without data: routes, methods, queries, problems, health, panics, headers.

use super::*;
use crate::clock::SystemClock;
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::poison::Poison;
use crate::worker::Status;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::FutureExt;
use proptest::prelude::*;
use tower::ServiceExt;

pub(super) fn app(readiness: Readiness) -> App {
    App {
        streams: Arc::default(),
        lineages: Arc::new(crate::lookup::OnlyActive),
        topics: BTreeMap::new(),
        workers: BTreeMap::new(),
        owners: BTreeMap::new(),
        keep: BTreeMap::new(),
        compactors: BTreeMap::new(),
        schedules: Arc::new(Book::of_nothing(Arc::new(SystemClock::start()))),
        metrics: Arc::new(|| "snapfold_x 1\n".to_owned()),
        readiness: Arc::new(move || readiness.clone()),
        liveness: Arc::new(ready),
        stopping: tokio::sync::watch::channel(false).1,
    }
}

pub(super) fn ready() -> Readiness {
    Readiness { ready: true, reasons: Vec::new() }
}

struct Told {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Told {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).expect("the body is JSON")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Without data nothing waits, so an answer is there at once.
fn send(router: Router, request: Request<Body>) -> Told {
    let asked = async {
        let response = router.oneshot(request).await.expect("the router never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("the body is in memory");
        let text = String::from_utf8(bytes.to_vec()).expect("a body is UTF-8");
        Told { status: parts.status, headers: parts.headers, text }
    };
    asked.now_or_never().expect("nothing waits")
}

fn ask(method: &str, path: &str) -> Told {
    send(router(app(ready())), Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
}

fn problem(method: &str, path: &str, status: u16, code: &str) -> serde_json::Value {
    let told = ask(method, path);
    assert_eq!(told.status, status, "{method} {path}: {}", told.text);
    assert_eq!(told.header("content-type"), "application/problem+json", "{path}");
    let body = told.json();
    assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.into()), "{path}");
    assert_eq!(body["instance"], path.split('?').next().unwrap());
    assert!(!body["hint"].as_str().unwrap().is_empty() && body["retryable"].is_boolean(), "{body}");
    body
}

#[test]
fn what_is_not_there_is_a_problem_that_says_why() {
    problem("GET", "/nothing", 404, "unknown-route");
    problem("GET", "/v1/aggregates/order", 404, "unknown-route");
    let slash = problem("GET", "/v1/aggregates/order/a/b/state", 404, "unknown-route");
    assert!(slash["hint"].as_str().unwrap().contains("%2F"), "{slash}");
    problem("GET", "/v1/aggregates/order//a/state", 404, "unknown-route");
    problem("GET", "/v1/aggregates/order//state", 422, "bad-selector");
    for path in ["", "/state", "/events", "/events/3", "/snapshots", "/snapshots/latest", "/snapshots/3/blob"]
    {
        let path = format!("/v1/aggregates/order/a%2Fb{path}");
        let body = problem("GET", &path, 404, "unknown-aggregate");
        assert!(body["hint"].as_str().unwrap().contains("no stream"), "{body}");
    }
    problem("GET", "/v1/aggregates/order/a/diff?from=-1", 404, "unknown-aggregate");
    problem("POST", "/v1/aggregates/order/a/verify", 404, "unknown-aggregate");
    problem("GET", "/v1/aggregates?type=order", 404, "unknown-aggregate");
    problem("GET", "/v1/dead-letters?type=order", 404, "unknown-aggregate");
}

#[test]
fn a_wrong_method_says_which_ones_there_are() {
    problem("DELETE", "/v1/aggregates/order/a/state", 405, "wrong-method");
    assert_eq!(ask("PUT", "/v1/aggregates/order/a/state").header("allow"), "GET,HEAD");
    assert_eq!(ask("GET", "/v1/aggregates/order/a/verify").header("allow"), "POST");
    let head = ask("HEAD", "/livez");
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
}

#[test]
fn what_cannot_be_understood_is_422_and_named() {
    for (path, named) in [
        ("/v1/aggregates/order/a/state?version=1&at=2026-01-01", "both select"),
        ("/v1/aggregates/order/a/state?version=0", "`version`"),
        ("/v1/aggregates/order/a/state?versoin=1", "`versoin`"),
        ("/v1/aggregates/order/a/state?wait=31s", "`wait`"),
        ("/v1/aggregates/order/a?x=", "`x`"),
        ("/v1/aggregates/order/a?lineage=0", "`lineage`"),
        ("/v1/aggregates/order/a/state?lineage=2&basis=1%400:1", "`basis` is of lineage 1"),
        ("/v1/aggregates/%FF/a/state", "not UTF-8"),
        ("/v1/aggregates/order/%FF/state", "not UTF-8"),
        ("/v1/aggregates", "`type` is missing"),
        ("/v1/aggregates?type=order&limit=1001", "`limit`"),
        ("/v1/aggregates?type=order&cursor=AAAA", "`cursor`"),
        ("/v1/aggregates/order/a/events?fromVersion=3&toVersion=2", "`fromVersion` is after"),
        ("/v1/aggregates/order/a/events?order=up", "`order`"),
        ("/v1/aggregates/order/a/events/x", "`version`"),
        ("/v1/aggregates/order/a/snapshots?from=2026-01-02&to=2026-01-01", "`from` is after"),
        ("/v1/aggregates/order/a/snapshots/0", "`version`"),
        ("/v1/aggregates/order/a/diff", "`from` is missing"),
        ("/v1/aggregates/order/a/diff?from=1&format=xml", "`format`"),
        ("/v1/dead-letters?payload=perhaps", "`payload`"),
        ("/metrics?x=1", "`x`"),
    ] {
        let body = problem("GET", path, 422, "bad-selector");
        assert!(body["detail"].as_str().unwrap().contains(named), "{path}: {body}");
    }
    problem("POST", "/v1/aggregates/order/a/verify?mode=quick", 422, "bad-selector");
    let long = format!("/v1/aggregates/order/{}/state", "a".repeat(1_025));
    problem("GET", &long, 422, "bad-selector");
    problem("GET", &long.replace("aaa/state", "aa/state"), 404, "unknown-aggregate");
}

#[test]
fn a_list_over_no_streams_is_empty() {
    let told = ask("GET", "/v1/dead-letters");
    assert_eq!((told.status, told.text.as_str()), (StatusCode::OK, r#"{"items":[],"nextCursor":null}"#));
    assert_eq!(told.header("content-type"), "application/json");
}

#[test]
fn bodies_have_a_bound_and_are_refused_where_none_is_taken() {
    let verify = |body: Vec<u8>, length: Option<usize>| {
        let mut request = Request::builder().method("POST").uri("/v1/aggregates/order/a/verify");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let told = send(router(app(ready())), request.body(Body::from(body)).unwrap());
        (told.status.as_u16(), told.json()["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(verify(b"{\"mode\":\"replay\"}".to_vec(), None), (422, "bad-body".into()));
    assert_eq!(verify(b" {} ".to_vec(), None), (404, "unknown-aggregate".into()));
    assert_eq!(verify(vec![b' '; edge::BODY_BYTES_MAX + 1], None), (422, "bad-body".into()));
    assert_eq!(verify(Vec::new(), Some(edge::BODY_BYTES_MAX + 1)), (422, "bad-body".into()));
}

#[test]
fn a_request_id_comes_back_if_it_can_be_shown_and_is_made_if_not() {
    let with = |id: &[u8]| {
        let request = Request::builder().uri("/livez").header("request-id", id);
        send(router(app(ready())), request.body(Body::empty()).unwrap()).header("request-id").to_owned()
    };
    assert_eq!(with(b"req-7"), "req-7");
    for odd in [&b"with blank"[..], b"", b"\xffx", &[b'a'; 129]] {
        assert_eq!(with(odd).len(), 16, "{odd:?}");
    }
    let (first, second) = (ask("GET", "/livez"), ask("GET", "/nothing"));
    assert_ne!(first.header("request-id"), second.header("request-id"));
    assert!(first.header("server-timing").starts_with("total;dur="));
}

#[test]
fn readiness_says_why_not_and_start_up_is_remembered() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let is_ready = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_ready);
    let worker = Handle::default();
    let halted = Some((Offset(9), Poison::new("version-gap", "a version is missing")));
    let status = Status { position: Offset(9), halted, ..Status::default() };
    worker.statuses.lock().unwrap().insert(PartitionNo(3), status);
    let router = router(App {
        workers: BTreeMap::from([("order".into(), worker)]),
        readiness: Arc::new(move || {
            let ready = seen.load(Ordering::Relaxed);
            Readiness { ready, reasons: vec!["partition 3 stands still".into()] }
        }),
        ..app(ready())
    });
    let get = |path: &str| send(router.clone(), Request::builder().uri(path).body(Body::empty()).unwrap());
    let before = get("/readyz");
    assert_eq!((before.status.as_u16(), before.header("retry-after")), (503, "1"));
    assert_eq!(before.json()["reasons"][0]["detail"], "partition 3 stands still");
    assert_eq!((get("/startupz").status.as_u16(), get("/livez").status.as_u16()), (503, 200));
    is_ready.store(true, Ordering::Relaxed);
    assert_eq!(get("/readyz").text, r#"{"status":"ok"}"#);
    let verbose = get("/readyz?verbose").json();
    assert_eq!(verbose["partitions"][0]["code"], "version-gap");
    assert_eq!(verbose["partitions"][0]["position"], 9);
    is_ready.store(false, Ordering::Relaxed);
    assert_eq!((get("/readyz").status.as_u16(), get("/startupz").status.as_u16()), (503, 200));
}

#[test]
fn liveness_is_no_readiness_and_fails_with_its_own_reasons() {
    let stuck = || Readiness { ready: false, reasons: vec!["partition 3 is stuck".into()] };
    let get = |app, path: &str| send(router(app), Request::builder().uri(path).body(Body::empty()).unwrap());
    let not_ready = get(app(stuck()), "/livez");
    assert_eq!((not_ready.status.as_u16(), not_ready.text.as_str()), (200, r#"{"status":"ok"}"#));
    let dead = get(App { liveness: Arc::new(stuck), ..app(ready()) }, "/livez");
    assert_eq!(dead.status, 503);
    assert_eq!(dead.json()["reasons"][0]["detail"], "partition 3 is stuck");
}

#[test]
fn the_admin_port_has_health_and_metrics_and_no_data() {
    let get =
        |path: &str| send(routers(app(ready())).1, Request::builder().uri(path).body(Body::empty()).unwrap());
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!((get(path).status, ask("GET", path).status), (StatusCode::OK, StatusCode::OK), "{path}");
    }
    assert_eq!(get("/v1/dead-letters").json()["code"], "unknown-route");
}

#[test]
fn the_scrape_is_text() {
    let told = ask("GET", "/metrics");
    assert_eq!(told.text, "snapfold_x 1\n");
    assert!(told.header("content-type").starts_with("text/plain; version=0.0.4"));
}

#[test]
fn requests_are_counted_by_template_never_by_path() {
    let (metrics, recorder) = crate::telemetry::metrics::Metrics::build();
    ::metrics::with_local_recorder(&recorder, || {
        ask("GET", "/v1/aggregates/order/secret/state");
        ask("GET", "/secret");
        ask("BREW", "/livez");
    });
    let text = metrics.render();
    for line in [
        r#"snapfold_http_requests_total{route="/v1/aggregates/{type}/{id}/state",method="GET",status="404"} 1"#,
        r#"snapfold_http_requests_total{route="none",method="GET",status="404"} 1"#,
        r#"snapfold_http_requests_total{route="/livez",method="other",status="405"} 1"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

fn panicking() -> Router {
    async fn panics() -> Response {
        panic!("a handler's own mistake")
    }
    let shared = Arc::new(Inner::new(app(ready())));
    finish(routes().route("/panic", get(panics)), shared)
}

/// Goal: a panic ends one request, not its connection. Method: both requests over one real connection.
#[tokio::test]
async fn after_a_panic_the_connection_answers_the_next_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, panicking(), shutdown));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let first = b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n";
    let second = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(&[&first[..], second].concat()).await.unwrap();
    let mut answers = String::new();
    connection.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 500 ") && answers.contains("\"code\":\"internal\""), "{answers}");
    assert!(answers.contains("HTTP/1.1 200 OK"), "{answers}");
    let _ = stop.send(());
    server.await.unwrap().unwrap();
}

proptest! {
    #[test]
    fn no_bytes_of_a_request_make_it_panic(path in "(/v1/(aggregates|snapshots|dead-letters))?[!-~]{0,40}") {
        if let Ok(request) = Request::builder().uri(&path).body(Body::empty()) {
            prop_assert_ne!(send(router(app(ready())), request).status, 500);
        }
    }
}

/// Goal: long answers come in the coding that was asked for, and say what they say without one.
#[tokio::test]
async fn long_answers_are_compressed_for_those_who_take_that() {
    use std::io::Read;
    let ask = |coding: &'static str| async move {
        let request = Request::builder().uri("/v1/openapi.json").header("accept-encoding", coding);
        let response = router(app(ready())).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let told =
            response.headers().get("content-encoding").map(|coding| coding.to_str().unwrap().to_owned());
        (told, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap())
    };
    let (coding, plain) = ask("identity").await;
    assert_eq!(coding, None);
    for name in ["gzip", "br", "zstd"] {
        let (coding, bytes) = ask(name).await;
        assert_eq!(coding.as_deref(), Some(name));
        let mut text = Vec::new();
        match name {
            "gzip" => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap()),
            "br" => drop(brotli::Decompressor::new(&bytes[..], 4_096).read_to_end(&mut text).unwrap()),
            _ => text = zstd::decode_all(&bytes[..]).unwrap(),
        }
        assert!(bytes.len() * 2 < plain.len() && text == plain, "{name}: {} bytes", bytes.len());
    }
}

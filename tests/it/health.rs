//! Health through the API, on the public surface: brokers that go and come back.

use crate::process::{Api, until};
use crate::site::{ORDERS, Sending, Site, settled};

fn metric(api: &Api, name: &str) -> Option<f64> {
    let text = api.get("/metrics").ok()?.body;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Goal: readiness follows the brokers, liveness does not. Method: the mock cluster hangs up for longer than
/// brokers may be silent, and comes back.
#[test]
fn readiness_follows_the_brokers_and_the_admin_port_tells_the_same() {
    let site = Site::new(ORDERS, "checkpoint: { interval: 300ms }", "orders", 2);
    let event =
        br#"{"type":"ItemAdded","id":"1","at":"2026-01-01T00:00:00Z","data":{"sku":"a","qty":1,"price":2}}"#;
    let sending =
        Sending { partition: 0, key: Some(b"o-1".to_vec()), value: Some(event.to_vec()), time_ms: 1_000 };
    site.send(&[sending]);
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, 1, true);
    let admin =
        worker.err().lines().find_map(|line| line.strip_prefix("health and metrics on ").map(str::to_owned));
    let admin = Api::new(&admin.expect("it says where"));
    assert_eq!(admin.get("/v1/aggregates/order/o-1").unwrap().status, 404);
    until("the log's end", || {
        metric(&api, "snapfold_partition_log_end_offset{stream=\"order\",partition=\"0\"}") == Some(1.0)
    });
    assert_eq!(metric(&admin, "snapfold_partition_lag_offsets{stream=\"order\",partition=\"0\"}"), Some(0.0));
    assert_eq!(metric(&admin, "snapfold_ready"), Some(1.0));
    assert!(metric(&admin, "snapfold_process_resident_bytes").unwrap() > 1e6);
    assert!(metric(&admin, "snapfold_store_calls_total{store=\"index\"").unwrap() >= 1.0);

    site.broker().down().unwrap();
    let said_no = |api: &Api| {
        api.get("/readyz")
            .is_ok_and(|told| told.status == 503 && told.body.contains("no broker has answered"))
    };
    until("brokers are missed", || said_no(&api));
    assert!(said_no(&admin), "both ports tell the same");
    assert_eq!(admin.get("/livez").unwrap().status, 200);
    assert_eq!(metric(&admin, "snapfold_ready"), Some(0.0));
    assert!(metric(&admin, "snapfold_brokers_silence_seconds").unwrap() >= 15.0);

    site.broker().up().unwrap();
    until("they are back", || api.get("/readyz").is_ok_and(|told| told.status == 200));
    drop(worker.stop());
}

/// Goal: what cannot be had is named, with the way out.
#[test]
fn an_admin_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new(ORDERS, "", "orders", 1);
    let ended = site.worker_with(&["--set", &format!("http.admin={}", taken.local_addr().unwrap())]).end();
    assert_ne!(ended.code, Some(0));
    assert!(ended.err.contains("`http.admin`") && ended.err.contains("one port for both"), "{}", ended.err);
}

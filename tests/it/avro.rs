//! Avro events with a real schema registry, end to end: the same states as from JSON, two versions of a
//! schema, an id that nobody knows yet, and no registry at all.

use crate::process::{Api, Program, until};
use crate::site::{Sending, Site, settled};
use serde_json::{Value, json};
use std::process::Command;

const ORDERS: &str = r#"
streams:
  - type: order
    topic: orders
    map: { aggregateId: key, eventType: /type, eventId: /id, time: /at, data: /data }
    reducer:
      init: { status: new, total: 0, items: {} }
      on:
        ItemAdded:
          - upsert: { at: "items[.sku]", new: { price: .price, qty: 0 }, add: { qty: .qty } }
          - add: { total: ".qty * .price" }
        Shipped: [ { set: { status: shipped, note: .note } } ]
        Deleted: [ { delete: true } ]
    snapshot: { eventThreshold: 5, fullEvery: 4, timeThreshold: 10s }
"#;

/// The schema of events, with what a later version adds.
fn schema(more: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Event","namespace":"shop","fields":[
        {{"name":"type","type":{{"type":"enum","name":"Kind","symbols":["ItemAdded","Shipped","Deleted"]}}}},
        {{"name":"id","type":"string"}},
        {{"name":"at","type":{{"type":"long","logicalType":"timestamp-millis"}}}},
        {{"name":"data","type":["null",
          {{"type":"record","name":"Item","fields":[{{"name":"sku","type":"string"}},
            {{"name":"price","type":{{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}}},
            {{"name":"qty","type":"int"}}]}},
          {{"type":"record","name":"Shipping","fields":[{{"name":"note","type":["null","string"]}}]}}]}}{more}]}}"#
    )
}

fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

/// The n-th event: as Avro's bytes and as JSON.
fn event(nth: i64) -> (Vec<u8>, Value) {
    let (id, at) = (format!("e-{nth}"), 1_700_000_000_000 + nth * 1_000);
    let time = format!("2023-11-14T22:{:02}:{:02}.000Z", (nth + 20) / 60 + 13, (nth + 20) % 60);
    let (kind, name, datum, data) = match nth % 9 {
        8 => (2, "Deleted", long(0), Value::Null),
        4 => {
            let note = [long(2), long(1), text("l\u{fc}tt")].concat();
            (1, "Shipped", note, json!({ "note": "l\u{fc}tt" }))
        }
        5 => (1, "Shipped", [long(2), long(0)].concat(), json!({ "note": null })),
        rest => {
            let sku = format!("s{}", nth % 3);
            // One byte, 110: the fraction keeps its zero.
            let datum = [long(1), text(&sku), vec![2, 110], long(rest)].concat();
            let data = format!(r#"{{"sku":"{sku}","price":1.10,"qty":{rest}}}"#);
            (0, "ItemAdded", datum, serde_json::from_str(&data).unwrap())
        }
    };
    let bytes = [long(kind), text(&id), long(at), datum].concat();
    (bytes, json!({ "type": name, "id": id, "at": time, "data": data }))
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}

fn server(verb: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/server");
    let output = Command::new(script).args([verb, "registry"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn register(url: &str, subject: &str, schema: &str) -> u32 {
    let body = json!({ "schema": schema }).to_string();
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let response = agent
        .post(format!("{url}/subjects/{subject}/versions"))
        .header("Content-Type", "application/vnd.schemaregistry.v1+json")
        .send(body);
    let answer = response.unwrap().body_mut().read_to_string().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// What a reader sees of an aggregate: its state and its events, without where they came from.
fn seen(api: &Api, order: i64) -> (Value, Vec<Value>) {
    let state = api.get(&format!("/v1/aggregates/order/o-{order}/state")).unwrap().json();
    let events = api.get(&format!("/v1/aggregates/order/o-{order}/events?limit=1000")).unwrap().json();
    let parts = ["version", "deleted", "timestamp", "lastEvent", "state", "stateDigest"];
    let state: Value = parts.iter().map(|part| ((*part).to_owned(), state[*part].clone())).collect();
    let parts = ["version", "type", "id", "timestamp", "data"];
    let of = |event: &Value| {
        parts.iter().map(|part| ((*part).to_owned(), event[*part].clone())).collect::<Value>()
    };
    (state, events["items"].as_array().unwrap_or_else(|| panic!("{events}")).iter().map(of).collect())
}

#[test]
fn dev_says_that_it_has_no_registry() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/formats.yaml");
    let ended = Program::start(&["dev", "--exit", "--config", config]).end();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.err.contains("stream `payment` is Avro") && ended.err.contains("format=json"), "{ended:?}");
}

const ORDERS_COUNT: i64 = 7;
const EVENTS: i64 = 400;

fn sending(nth: i64, value: Vec<u8>, key: Vec<u8>) -> Sending {
    let partition = (nth % ORDERS_COUNT % 2) as i32;
    Sending { partition, key: Some(key), value: Some(value), time_ms: 1_700_000_000_000 + nth }
}

/// Writes some events to both sites, Avro with the schema that each is said to have.
fn feed(avro: &Site, plain: &Site, events: std::ops::Range<i64>, ids: (u32, impl Fn(i64) -> (u32, Vec<u8>))) {
    let key = |nth: i64| format!("o-{}", nth % ORDERS_COUNT);
    let of_avro = events.clone().map(|nth| {
        let (schema, more) = ids.1(nth);
        let body = [event(nth).0, more].concat();
        sending(nth, framed(schema, &body), framed(ids.0, &text(&key(nth))))
    });
    let of_json =
        events.map(|nth| sending(nth, event(nth).1.to_string().into_bytes(), key(nth).into_bytes()));
    avro.send(&of_avro.collect::<Vec<_>>());
    plain.send(&of_json.collect::<Vec<_>>());
}

fn compare(avro: &Api, plain: &Api) {
    for order in 0..ORDERS_COUNT {
        let (ours, theirs) = (seen(avro, order), seen(plain, order));
        assert_eq!(ours.0, theirs.0, "o-{order}");
        assert_eq!(ours.1, theirs.1, "o-{order}");
        assert!(ours.1.len() > 50, "o-{order} has {} events", ours.1.len());
    }
}

#[test]
fn avro_events_lead_to_the_states_of_json_with_and_without_the_registry() {
    // One that has seen nothing yet: ids are counted from 1.
    server("stop");
    let url = server("start");
    let (first, key) =
        (register(&url, "it-orders-value", &schema("")), register(&url, "it-orders-key", r#""string""#));
    let added = r#",{"name":"channel","type":["null","string"],"default":null}"#;
    let second = register(&url, "it-orders-value", &schema(added));
    assert_ne!(first, second);
    let streams = ORDERS.replace("    topic: orders\n", "    topic: orders\n    format: avro\n");
    let avro = Site::new(&streams, &format!("registry: {{ url: \"{url}\" }}"), "orders", 2);
    let plain = Site::new(ORDERS, "", "orders", 2);
    let (mut worker, mut other) = (avro.worker(), plain.worker());
    // Both versions of the schema, one after the other within an aggregate.
    let of_two = |nth: i64| if nth % 3 == 0 { (second, vec![0]) } else { (first, vec![]) };
    feed(&avro, &plain, 0..EVENTS, (key, of_two));
    let (api, plain_api) = (worker.ready(), other.ready());
    settled(&api, EVENTS as u64, true);
    settled(&plain_api, EVENTS as u64, false);
    compare(&api, &plain_api);
    let verified = api.post("/v1/aggregates/order/o-1/verify?mode=replay").unwrap();
    assert_eq!(verified.json()["ok"], true, "{}", verified.json());

    // An id that nobody knows: the partition waits before it, and nothing becomes a dead letter.
    let unknown = second + 1;
    let third = schema(&added.replace("channel", "shop"));
    feed(&avro, &plain, EVENTS..EVENTS + 1, (key, |_| (unknown, vec![0])));
    let waiting = r#"snapfold_partitions_waiting_for_schema{stream="order"}"#;
    until("a partition waits", || {
        let reply = api.get("/readyz?verbose=true").unwrap();
        reply.status == 503 && reply.body.contains("waits before") && reply.body.contains("does not know it")
    });
    assert_eq!(api.figure(waiting), 1.0);
    // What waits is not lost sight of by questions either: who cannot read it does not say it is not there.
    assert_eq!(register(&url, "it-orders-value", &third), unknown, "the registry counts its ids");
    settled(&api, EVENTS as u64 + 1, false);
    until("ready again", || api.get("/readyz").is_ok_and(|reply| reply.status == 200));
    assert_eq!(api.figure(waiting), 0.0);
    assert_eq!(api.get("/v1/dead-letters").unwrap().json()["items"], json!([]));

    // Without a registry, what was folded can be read and folded again: a new worker, questions of history.
    server("kill");
    assert!(worker.stop().code == Some(0));
    worker = avro.worker();
    let api = worker.ready();
    settled(&plain_api, EVENTS as u64 + 1, false);
    compare(&api, &plain_api);
    feed(&avro, &plain, EVENTS + 1..EVENTS + 60, (key, of_two));
    settled(&api, EVENTS as u64 + 60, false);
    settled(&plain_api, EVENTS as u64 + 60, false);
    compare(&api, &plain_api);
    // One that was never used cannot be had, until the registry is back.
    feed(&avro, &plain, EVENTS + 60..EVENTS + 61, (key, |_| (unknown + 1, vec![0])));
    until("a partition waits", || {
        let reply = api.get("/readyz?verbose=true").unwrap();
        reply.status == 503 && reply.body.contains("waits before") && reply.body.contains("fails")
    });
    let again = server("start");
    assert_eq!(again, url);
    // Its memory is gone: the same schemas have the same ids if they are registered in the same order.
    for id in 1.. {
        let fourth = schema(&added.replace("channel", &format!("c{id}")));
        if register(&url, "it-again", &fourth) > unknown {
            break;
        }
    }
    settled(&api, EVENTS as u64 + 61, false);
    settled(&plain_api, EVENTS as u64 + 61, false);
    compare(&api, &plain_api);
    assert!(Program::stop(worker).code == Some(0));
    assert!(Program::stop(other).code == Some(0));
    server("stop");
}

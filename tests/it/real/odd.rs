//! Records that a careless or hostile producer writes, on the real broker: headers that are no text, and
//! values far beyond what the topic's events may have.

use super::Topic;
use crate::ledger::{Ledger, OnPoison, Record};
use crate::process::LONG;
use crate::site::{ORDERS, Site, orders_spec, settled};
use crate::truth::{ask_settled, questions};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A header: any bytes, and any bytes or none.
type Header = (&'static [u8], Option<&'static [u8]>);

fn varint(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Bytes with their length before them, or none.
fn sized(bytes: Option<&[u8]>) -> Vec<u8> {
    let Some(bytes) = bytes else { return varint(-1) };
    [varint(bytes.len() as i64), bytes.to_vec()].concat()
}

/// A batch of one record, as `docs/` of Kafka describes version 2.
fn batch(key: &[u8], value: &[u8], headers: &[Header], time_ms: i64) -> Vec<u8> {
    let mut record = vec![0];
    record.extend([varint(0), varint(0), sized(Some(key)), sized(Some(value))].concat());
    record.extend(varint(headers.len() as i64));
    for (name, value) in headers {
        record.extend([sized(Some(name)), sized(*value)].concat());
    }
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes());
    checked.extend(0_i32.to_be_bytes());
    checked.extend([time_ms.to_be_bytes(), time_ms.to_be_bytes(), (-1_i64).to_be_bytes()].concat());
    checked.extend((-1_i16).to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend(1_i32.to_be_bytes());
    checked.extend(sized(Some(&record)));
    let crc = crc32c::crc32c(&checked).to_be_bytes();
    let rest = [&(-1_i32).to_be_bytes()[..], &[2], &crc, &checked].concat();
    [&0_i64.to_be_bytes()[..], &i32::try_from(rest.len()).unwrap().to_be_bytes(), &rest].concat()
}

/// Writes a batch to partition 0 with a request of our own, because clients refuse names that are no text.
fn produce(broker: &str, topic: &str, batch: &[u8]) {
    let text = |text: &str| [&i16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let one = 1_i32.to_be_bytes();
    let mut request = Vec::new();
    // Produce, version 3.
    request.extend([0_i16.to_be_bytes(), 3_i16.to_be_bytes()].concat());
    request.extend([7_i32.to_be_bytes().to_vec(), text("tests")].concat());
    // No transaction, all replicas, within 10 s.
    request.extend([(-1_i16).to_be_bytes(), (-1_i16).to_be_bytes()].concat());
    request.extend([10_000_i32.to_be_bytes().to_vec(), one.to_vec(), text(topic), one.to_vec()].concat());
    request.extend([0_i32.to_be_bytes(), i32::try_from(batch.len()).unwrap().to_be_bytes()].concat());
    request.extend(batch);
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&i32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(len)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, topics, name, partitions, number; then the code.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "{answer:?}");
}

#[test]
fn headers_that_are_no_text_are_as_if_they_were_not_there() {
    let topic = Topic::new(1, &[]);
    let site = Site::on_kafka(&topic.named(ORDERS), "checkpoint: { interval: 300ms }", &topic.name);
    let good = br#"{"type":"ItemAdded","at":5000,"data":{"sku":"a","qty":1,"price":2.50}}"#;
    let untyped = br#"{"at":5000,"data":{"sku":"a","qty":1,"price":2.50}}"#;
    let records: [(&[u8], &[u8], &[Header]); 9] = [
        // The value is no text, so the next place is asked.
        (b"value", good, &[(b"type", Some(b"\xff\xfe"))]),
        (b"value", good, &[(b"type", Some(b"Seen")), (b"type", Some(b"\xc3"))]),
        (b"null", good, &[(b"type", None)]),
        (b"name", good, &[(b"\xff\xfe", Some(b"Seen")), (b"ty\x80pe", Some(b"Seen"))]),
        (b"name", untyped, &[(b"type\xff", Some(b"Seen")), (b"type", Some(b"ItemAdded"))]),
        (b"empty", untyped, &[(b"", Some(b"x")), (b"type", Some(b""))]),
        (b"poison", untyped, &[(b"\xf0\x28\x8c\x28", Some(b"\xff")), (b"type", Some(b"\xed\xa0\x80"))]),
        (b"key\xff", good, &[(b"type", Some(b"Seen"))]),
        (b"last", good, &[(b"type", Some("Verpackt\u{1f4e6}".as_bytes()))]),
    ];
    let mut ledger = Ledger::new(orders_spec(OnPoison::Quarantine));
    for (offset, (key, value, headers)) in records.iter().enumerate() {
        produce(&crate::servers::kafka().0, &topic.name, &batch(key, value, headers, 5));
        let names =
            |(name, value): &Header| (String::from_utf8_lossy(name).into_owned(), value.map(<[u8]>::to_vec));
        ledger.push(Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            record_time_ms: 5,
            key: Some(key.to_vec()),
            value: Some(value.to_vec()),
            headers: headers.iter().map(names).collect(),
        });
    }
    let ids: Vec<&str> = ledger.aggregates().collect();
    assert!(ids.len() >= 4, "{ids:?}");
    for when in ["at first", "after a restart"] {
        let mut worker = site.worker();
        let api = worker.ready();
        settled(&api, records.len() as u64, true);
        ask_settled(&api.url, "order", questions(&ledger, &ids, 9)).must_be_right(when);
        let letters = api.get("/v1/dead-letters?type=order&payload=true").unwrap();
        let codes: Vec<_> = ledger.dead_letters().iter().map(|letter| letter.offset).collect();
        let letters = letters.json();
        let found = letters["items"].as_array().unwrap().iter();
        let found: Vec<_> = found.map(|it| it["position"]["offset"].as_i64().unwrap()).collect();
        assert_eq!(found, codes, "{when}: {letters}");
        assert!(!found.is_empty());
        worker.stop();
    }
}

/// A key, and how many bytes its value has about.
const SIZES: [(&str, usize); 8] = [
    ("small", 90),
    ("over", 1 << 20),
    ("small", 90),
    ("large", 12 << 20),
    ("huge", 100_000_000),
    ("huge", 90),
    ("other", 90),
    ("small", 90),
];

/// `known` are those with a good version.
fn huge_values(policy: &str, on_poison: OnPoison, known: &[&str], mebibytes_max: u64) {
    let topic = Topic::new(1, &[("max.message.bytes", "104000000")]);
    let streams = format!("{}    onPoison: {policy}\n", topic.named(ORDERS));
    let site = Site::cluster(&streams, "checkpoint: { interval: 300ms }", &topic.name);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", crate::servers::kafka().0)
        .set("message.max.bytes", "104000000")
        .set("queue.buffering.max.kbytes", "400000")
        .create()
        .unwrap();
    let mut ledger = Ledger::new(orders_spec(on_poison));
    for (offset, (key, bytes)) in SIZES.iter().enumerate() {
        let pad = "x".repeat(*bytes);
        let value = format!(r#"{{"type":"Shipped","id":"e-{offset}","at":5000,"data":{{"note":"{pad}"}}}}"#);
        let record = BaseRecord::to(&topic.name).partition(0).timestamp(5).key(*key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(LONG).unwrap();
        ledger.push(Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            record_time_ms: 5,
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.into_bytes()),
            headers: Vec::new(),
        });
    }
    let ids: Vec<&str> = ledger.aggregates().collect();
    assert_eq!(ids, known);
    for when in ["at first", "after a restart"] {
        let mut worker = site.worker();
        let api = worker.ready();
        settled(&api, SIZES.len() as u64, true);
        ask_settled(&api.url, "order", questions(&ledger, &ids, 9)).must_be_right(when);
        let letters = api.get("/v1/dead-letters?type=order&limit=1000").unwrap().json();
        let found = letters["items"].as_array().unwrap().iter();
        let found: Vec<_> = found.map(|it| it["position"]["offset"].as_i64().unwrap()).collect();
        // Those that are too long, and what follows in an aggregate that stands still.
        let expected: &[i64] = if matches!(on_poison, OnPoison::Skip) { &[1, 3, 4] } else { &[1, 3, 4, 5] };
        assert_eq!(found, expected, "{when}: {letters}");
        let peak = worker.peak_bytes() >> 20;
        println!("{when}: at most {peak} MiB");
        assert!(peak < mebibytes_max, "{when}: {peak} MiB");
        worker.stop();
    }
}

#[test]
fn values_of_a_hundred_megabytes_cost_neither_events_nor_memory() {
    huge_values("quarantine", OnPoison::Quarantine, &["other", "small"], 500);
}

/// They are events, with versions of their own: a pack holds them.
#[test]
fn values_of_a_hundred_megabytes_can_be_skipped() {
    huge_values("skip", OnPoison::Skip, &["huge", "large", "other", "over", "small"], 1_500);
}

//! How fast records come through the adapters, and what one costs. Ignored: it measures, it proves nothing.
//!
//! `cargo test --release --test it speed -- --ignored --nocapture --test-threads 1`

use crate::bench::*;
use snapfold::domain::ids::PartitionNo;
use snapfold::kafka::{Consumer, ConsumerSettings, MockBroker, Outgoing};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 64;
const PER_PARTITION: i64 = 10_000;

/// Seconds of processor time of this process, user and system.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn told(what: &str, events: i64, begun: Instant, before: f64) {
    let (wall, spent) = (begun.elapsed().as_secs_f64(), processor() - before);
    let events = events as f64;
    println!("{what}: {:.0} events/s, {:.2} µs of processor per event", events / wall, spent * 1e6 / events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; takes a while"]
async fn records_per_second_through_the_mock_broker() {
    let broker = MockBroker::start(&[("t", PARTITIONS)]).unwrap();
    let producer = producer(&broker);
    let events = i64::from(PARTITIONS) * PER_PARTITION;
    let (begun, before) = (Instant::now(), processor());
    for n in 0..PER_PARTITION {
        for partition in 0..PARTITIONS {
            let key = format!("order-{:06}", (n * 64 + i64::from(partition)) % 50_000);
            let value = format!(
                "{{\"type\":\"ItemAdded\",\"id\":\"{key}\",\"n\":{n},\"sku\":\"sku-{:04}\",\"quantity\":{},\"price\":\"{}.99\",\"note\":\"as agreed\"}}",
                n % 977,
                n % 7,
                n % 120
            );
            let out = Outgoing {
                topic: "t",
                partition: Some(PartitionNo(partition)),
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                ..Outgoing::default()
            };
            drop(producer.send(out).await.unwrap());
        }
    }
    tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(60))).await.unwrap().unwrap();
    told("produce", events, begun, before);

    let settings = ConsumerSettings { queue_bytes_max: 512 << 20, ..settings(&broker, &["t"]) };
    let consumer = Consumer::start(settings).unwrap();
    let (group, _) = consumer.stream("t");
    let partitions = assigned(&*group).await;
    assert_eq!(partitions.len(), 64);
    let (begun, before) = (Instant::now(), processor());
    let mut tasks = Vec::new();
    for partition in partitions {
        let group = std::sync::Arc::clone(&group);
        tasks.push(tokio::spawn(async move {
            let (mut records, mut count, mut bytes) = (open(&*group, partition.0, 0).await, 0, 0);
            let mut taking = Duration::ZERO;
            while count < PER_PARTITION {
                let batch = records.next(500);
                let batch = within("records", LONG, batch).await.unwrap();
                let begun = Instant::now();
                count += i64::try_from(batch.len()).unwrap();
                bytes += batch.iter().map(|record| record.bytes()).sum::<usize>();
                drop(batch);
                taking += begun.elapsed();
            }
            (bytes, taking)
        }));
    }
    let (mut bytes, mut dropping) = (0, Duration::ZERO);
    for task in tasks {
        let (more, taking) = task.await.unwrap();
        bytes += more;
        dropping += taking;
    }
    told("consume (broker, client and copy)", events, begun, before);
    println!(
        "{} bytes per event; counting and dropping {} ns",
        bytes as i64 / events,
        dropping.as_nanos() / events as u128
    );
    within("closing", LONG, consumer.close()).await;
}

/// What copying and dropping one record costs by the shape it has, without Kafka.
#[test]
#[ignore = "measures; takes a while"]
fn shapes_of_a_record() {
    use std::sync::Arc;
    let (key, value) = ([b'k'; 12], [b'v'; 120]);
    let time = |what: &str, run: &dyn Fn() -> usize| {
        let begun = Instant::now();
        let kept: usize = (0..2_000).map(|_| run()).sum();
        println!("{what}: {} ns per record ({kept})", begun.elapsed().as_nanos() / (2_000 * 500));
    };
    time("key and value in an Arc each", &|| {
        let batch: Vec<[Arc<[u8]>; 2]> =
            (0..500).map(|_| [Arc::from(&key[..]), Arc::from(&value[..])]).collect();
        std::hint::black_box(&batch).len()
    });
    time("key and value in one Arc", &|| {
        let batch: Vec<(Arc<[u8]>, u32)> = (0..500)
            .map(|_| {
                let mut both = [0; 132];
                both[..12].copy_from_slice(&key);
                both[12..].copy_from_slice(&value);
                (Arc::from(&both[..]), 12)
            })
            .collect();
        std::hint::black_box(&batch).len()
    });
    time("all of a batch in one Arc", &|| {
        let mut arena = Vec::with_capacity(500 * 132);
        for _ in 0..500 {
            arena.extend_from_slice(&key);
            arena.extend_from_slice(&value);
        }
        let arena: Arc<[u8]> = arena.into();
        let batch: Vec<(Arc<[u8]>, u32, u32, u32)> =
            (0..500_u32).map(|n| (Arc::clone(&arena), n * 132, n * 132 + 12, n * 132 + 132)).collect();
        std::hint::black_box(&batch).len()
    });
}

//! The bucket keeps the promises of the port, on a real server (SeaweedFS): also under odd names, in long
//! lists, with wrong keys, and while the server is killed.
//!
//! | file | owns |
//! |---|---|
//! | `faults.rs` | every call through every fault of the proxy |
//! | `latencies.rs` | how long calls take, measured when asked for |

mod faults;
mod latencies;

use super::super::suite;
use super::*;
use crate::testing::proxy::{Fault, Proxy};
use crate::testing::{kill_server, server};
use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use tokio::sync::RwLock;

/// Held for reading by whoever uses the server, for writing by whoever kills it.
static SERVER: RwLock<()> = RwLock::const_new(());

/// The one bucket of all tests: a bucket of SeaweedFS takes seven volumes, and there are twenty.
const BUCKET: &str = "snapfold-tests";

fn keys(access: &str, secret: &str) -> Option<(config::Secret, config::Secret)> {
    Some((config::Secret::from(access.to_owned()), config::Secret::from(secret.to_owned())))
}

/// A prefix that no test had before: the server keeps its data between runs.
fn unused_prefix() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("random numbers");
    format!("tests/{:016x}/", u64::from_le_bytes(random))
}

fn settings(endpoint: &str) -> config::S3 {
    config::S3 {
        bucket: BUCKET.to_owned(),
        prefix: unused_prefix(),
        endpoint: Some(endpoint.to_owned()),
        region: "us-east-1".to_owned(),
        is_path_style: true,
        has_checksums: true,
        keys: keys("snapfold", "secretsecret"),
        storage_class: None,
    }
}

async fn open(settings: &config::S3) -> S3Blobs {
    S3Blobs::open(settings, Bounds::default()).await
}

/// The bucket, made if need be, below a prefix of its own.
async fn bucket() -> (config::S3, S3Blobs) {
    let settings = settings(&server("seaweedfs"));
    let blobs = open(&settings).await;
    blobs.create_bucket().await.expect("the bucket is there");
    (settings, blobs)
}

fn permanent<T: std::fmt::Debug>(outcome: PortResult<T>) -> String {
    match outcome {
        Err(PortError::Permanent(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_keeps_the_promises_of_the_port() {
    let _running = SERVER.read().await;
    let (_, blobs) = bucket().await;
    suite::all(&blobs).await;
}

#[tokio::test]
async fn without_checksums_objects_are_written_as_well() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    let blobs = open(&config::S3 { has_checksums: false, ..settings }).await;
    assert_eq!(blobs.put_new("a", b"bytes").await, Ok(()));
    assert_eq!(blobs.get_range("a", 0, 9).await, Ok(b"bytes".to_vec()));
    assert_eq!(blobs.check().await, Ok(()));
}

#[tokio::test]
async fn creating_the_bucket_again_changes_nothing() {
    let _running = SERVER.read().await;
    let (_, blobs) = bucket().await;
    blobs.put_new("a", b"kept").await.unwrap();
    assert_eq!(blobs.create_bucket().await, Ok(()));
    assert_eq!(blobs.get_range("a", 0, 9).await, Ok(b"kept".to_vec()));
}

#[tokio::test]
async fn many_may_create_the_bucket_at_the_same_time() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    let blobs = open(&config::S3 { bucket: unused_prefix().replace('/', "-") + "many", ..settings }).await;
    for created in join_all((0..8).map(|_| blobs.create_bucket())).await {
        assert_eq!(created, Ok(()));
    }
    assert_eq!(blobs.list("", None, 1).await, Ok(Vec::new()));
}

#[tokio::test]
async fn odd_names_are_names() {
    let _running = SERVER.read().await;
    let (_, blobs) = bucket().await;
    let names = [
        "a b/c d",
        "a+b",
        "a%20b",
        "a%2Fb",
        "a&b=c?d#e",
        "ä/ö/日本語",
        "emoji 🦀",
        "it's (so) ~!*,;:@$",
        "<xml> & \"quotes\"",
        "a'b",
        "trailing ",
        "per%cent",
        "e\u{301}",
        "\u{e9}",
    ];
    for name in names {
        assert_eq!(blobs.put_new(name, name.as_bytes()).await, Ok(()), "{name}");
        assert_eq!(blobs.put_new(name, b"other").await, Err(PortError::Exists), "{name}");
    }
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(blobs.list("", None, 99).await, Ok(sorted.clone()));
    for name in names {
        assert_eq!(blobs.get_tail(name, 99).await, Ok((name.into(), name.len() as u64)), "{name}");
        let after: Vec<String> = sorted.iter().filter(|other| other.as_str() > name).cloned().collect();
        assert_eq!(blobs.list("", Some(name), 99).await, Ok(after), "{name}");
    }
    for name in names {
        assert_eq!(blobs.delete(name).await, Ok(()), "{name}");
        assert_eq!(blobs.get_range(name, 0, 1).await, Err(PortError::Missing), "{name}");
    }
}

#[tokio::test]
async fn a_prefix_hides_the_objects_of_others_and_every_prefix_has_its_own() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    let below =
        |inner: &str| config::S3 { prefix: format!("{}{inner}", settings.prefix), ..settings.clone() };
    let (one, two, around) = (open(&below("a/")).await, open(&below("b-")).await, open(&settings).await);
    one.put_new("x", b"1").await.unwrap();
    two.put_new("x", b"2").await.unwrap();
    assert_eq!(one.get_range("x", 0, 9).await, Ok(b"1".to_vec()));
    assert_eq!(two.get_range("x", 0, 9).await, Ok(b"2".to_vec()));
    assert_eq!(two.list("", None, 9).await, Ok(vec!["x".to_owned()]));
    assert_eq!(around.list("", None, 9).await, Ok(vec!["a/x".to_owned(), "b-x".to_owned()]));
    assert_eq!(one.delete("x").await, Ok(()));
    assert_eq!(two.get_range("x", 0, 9).await, Ok(b"2".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_over_the_pages_of_the_store() {
    let _running = SERVER.read().await;
    let (settings, blobs) = bucket().await;
    let names: Vec<String> = (0..1_205).map(|n| format!("v1/{:02x}/{n:04}", n % 7)).collect();
    let put = |name: String| {
        let blobs = &blobs;
        async move { blobs.put_new(&name, b"x").await }
    };
    let written: Vec<_> = stream::iter(names.clone()).map(put).buffer_unordered(32).collect().await;
    assert!(written.iter().all(Result::is_ok));
    let mut sorted = names;
    sorted.sort();
    // As Amazon S3 does it; SeaweedFS has its own order, in which these names come the same.
    let mut by_bytes = open(&settings).await;
    Arc::get_mut(&mut by_bytes.requests).unwrap().is_in_byte_order = true;
    for blobs in [&blobs, &by_bytes] {
        assert_eq!(blobs.list("", None, usize::MAX).await.as_ref(), Ok(&sorted));
        assert_eq!(blobs.list("v1/", None, 1_100).await.as_deref(), Ok(&sorted[..1_100]));
        assert_eq!(blobs.list("", Some(&sorted[100]), 1_050).await.as_deref(), Ok(&sorted[101..1_151]));
        assert_eq!(blobs.list("v1/03/", Some("v1/03/1200"), 9).await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn of_two_processes_with_one_name_one_wins_and_the_other_reads_it() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    // Each with connections of its own.
    let (one, two) = (open(&settings).await, open(&settings).await);
    for (round, len) in [8 << 20, 100_000, 100_000, 1_000, 1_000, 1].into_iter().enumerate() {
        let (mine, yours) = (vec![1; len], vec![2; len]);
        let name = format!("race/{round}");
        let (first, second) = join(one.put_new(&name, &mine), two.put_new(&name, &yours)).await;
        let winner = match (first, second) {
            (Ok(()), Err(PortError::Exists)) => &mine,
            (Err(PortError::Exists), Ok(())) => &yours,
            other => panic!("{other:?}"),
        };
        assert!(one.get_tail(&name, u64::MAX).await == Ok((winner.clone(), len as u64)));
    }
}

#[tokio::test]
async fn wrong_keys_are_told_with_where_they_come_from_and_never_shown() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    for keys in [keys("snapfold", "hunter2hunter2"), keys("hunter3", "secretsecret")] {
        let blobs = open(&config::S3 { keys, ..settings.clone() }).await;
        for told in [
            permanent(blobs.check().await),
            permanent(blobs.put_new("a", b"x").await),
            permanent(blobs.get_range("a", 0, 1).await),
            permanent(blobs.get_tail("a", 1).await),
            permanent(blobs.list("", None, 1).await),
            permanent(blobs.delete("a").await),
            permanent(blobs.create_bucket().await),
        ] {
            assert!(told.contains("`blobs.s3.secretKey`"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_told_with_the_command_that_creates_it() {
    let _running = SERVER.read().await;
    let (settings, _) = bucket().await;
    let bucket = unused_prefix().replace('/', "-") + "nowhere";
    let blobs = open(&config::S3 { bucket: bucket.clone(), ..settings.clone() }).await;
    for told in [
        permanent(blobs.check().await),
        permanent(blobs.list("", None, 1).await),
        permanent(blobs.get_range("a", 0, 1).await),
        permanent(blobs.get_tail("a", 1).await),
    ] {
        assert!(told.contains("`snapfold migrate`") && told.contains(&bucket), "{told}");
    }
    // SeaweedFS creates a bucket for whoever writes to it and may do everything; others answer so.
    let proxy =
        Proxy::start(settings.endpoint.as_deref().unwrap(), |_| Fault::Answer(404, "NoSuchBucket")).await;
    let blobs = open(&config::S3 { endpoint: Some(proxy.url.clone()), ..settings }).await;
    for told in [permanent(blobs.put_new("a", b"x").await), permanent(blobs.delete("a").await)] {
        assert!(told.contains("`snapfold migrate`"), "{told}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_listen_has_surely_done_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let blobs = open(&settings(&format!("http://{closed}"))).await;
    for outcome in [
        blobs.put_new("a", b"x").await,
        blobs.delete("a").await,
        blobs.get_range("a", 0, 1).await.map(drop),
        blobs.list("", None, 1).await.map(drop),
        blobs.check().await,
    ] {
        let Err(PortError::NotDone(told)) = outcome else { panic!("{outcome:?}") };
        assert!(told.contains("refused") && told.contains(&closed.to_string()), "{told}");
    }
}

#[tokio::test]
async fn what_is_at_the_probe_of_another_program_is_told() {
    let _running = SERVER.read().await;
    let (_, blobs) = bucket().await;
    blobs.put_new("v1/check", b"somebody else's").await.unwrap();
    assert!(permanent(blobs.check().await).contains("holds other bytes"));
}

/// Writes until it is told to stop, as a flush does: every object again and again until it is acknowledged.
async fn write_until(
    blobs: &S3Blobs,
    writer: u8,
    is_over: &std::sync::atomic::AtomicBool,
) -> BTreeMap<String, Vec<u8>> {
    let mut acked = BTreeMap::new();
    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
        let name = format!("kill/{writer}/{}", acked.len());
        let bytes = vec![writer; 10_000 + acked.len()];
        loop {
            match blobs.put_new(&name, &bytes).await {
                Ok(()) => break,
                Err(PortError::Exists)
                    if blobs.get_tail(&name, u64::MAX).await.is_ok_and(|it| it.0 == bytes) =>
                {
                    break;
                }
                Err(PortError::Permanent(why)) => panic!("{why}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        acked.insert(name, bytes);
    }
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_costs_time_and_nothing_else() {
    let _alone = SERVER.write().await;
    let (_, blobs) = bucket().await;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let kill = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::spawn_blocking(|| kill_server("seaweedfs")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::spawn_blocking(|| server("seaweedfs")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let writers = join_all((0..4).map(|writer| write_until(&blobs, writer, &is_over)));
    let (written, ()) = join(writers, kill).await;
    let acked: BTreeMap<String, Vec<u8>> = written.into_iter().flatten().collect();
    assert!(acked.len() > 20, "{} objects", acked.len());
    for (name, bytes) in &acked {
        assert_eq!(
            blobs.get_tail(name, u64::MAX).await.as_ref(),
            Ok(&(bytes.clone(), bytes.len() as u64)),
            "{name}"
        );
    }
    let listed = blobs.list("kill/", None, usize::MAX).await.unwrap();
    assert!(listed.iter().eq(acked.keys()), "{listed:?}");
}

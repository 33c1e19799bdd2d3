//! Every statement of the index with every error of the protocol: the class of the outcome is right, nothing
//! hangs, nothing that failed is told as absent, and the identical call succeeds afterwards.
//!
//! Method: a proxy of frames in front of a real server. Errors are forged, by their codes and fields in the
//! specification of the native protocol, instead of the server's answer: before it gets the statement, or
//! after.

use super::super::connect::Timeouts;
use super::super::{ScyllaIndex, snapshot_id};
use super::cluster::{Keyspace, SHORT, address, shared};
use super::proxy::{Fate, Moment, Proxy};
use super::{checkpoint, key, mark, orders, row};
use crate::config::Scylla;
use crate::domain::ids::{Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RawRecord;
use crate::domain::row::DeadLetter;
use crate::store::index::{From, Index};
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const NO_HANG: Duration = Duration::from_secs(8);
const BACK: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    NotDone,
    Unknown,
    Permanent,
}

/// What a write that meets it is told as; a read is not done where a write is unknown.
use Class::{NotDone, Permanent, Unknown};

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// An error's body: code, message, consistency (local quorum) and numbers, flag or write type.
fn error(code: u32, numbers: &[i32], flag: Option<u8>, write_type: Option<&str>) -> Fate {
    let mut body = code.to_be_bytes().to_vec();
    text(&mut body, "forged for a table");
    if !numbers.is_empty() {
        body.extend_from_slice(&6_u16.to_be_bytes());
        numbers.iter().for_each(|number| body.extend_from_slice(&number.to_be_bytes()));
    }
    body.extend(flag);
    if let Some(write_type) = write_type {
        text(&mut body, write_type);
    }
    Fate::Answered(body)
}

fn fates() -> Vec<(&'static str, Fate, Class)> {
    let plain = |code| error(code, &[], None, None);
    vec![
        ("server error", plain(0x0000), Unknown),
        ("protocol error", plain(0x000a), Permanent),
        ("unavailable", error(0x1000, &[2, 1], None, None), NotDone),
        ("overloaded", plain(0x1001), Unknown),
        ("bootstrapping", plain(0x1002), NotDone),
        ("truncate error", plain(0x1003), Unknown),
        ("write timeout", error(0x1100, &[1, 2], None, Some("SIMPLE")), Unknown),
        ("read timeout", error(0x1200, &[1, 2], Some(0), None), Unknown),
        ("read timeout without data", error(0x1200, &[2, 2], Some(0), None), Unknown),
        ("read failure", error(0x1300, &[1, 2, 1], Some(0), None), Unknown),
        ("write failure", error(0x1500, &[1, 2, 1], None, Some("SIMPLE")), Unknown),
        ("syntax error", plain(0x2000), Permanent),
        ("unauthorized", plain(0x2100), Permanent),
        ("invalid", plain(0x2200), Permanent),
        ("config error", plain(0x2300), Permanent),
        ("an error of a later version", plain(0x7777), Unknown),
        ("a broken connection", Fate::Broken, Unknown),
        ("silence", Fate::Silent, Unknown),
    ]
}

fn letter() -> DeadLetter {
    let (offset, leader_epoch, record_time) = (Offset(12), 1, Timestamp(5));
    let record = RawRecord { offset, leader_epoch, record_time, key: None, value: None, headers: Vec::new() };
    let (code, detail) = ("bad-body".into(), "not JSON".into());
    DeadLetter { key: orders(), offset, aggregate: Some(key("a")), code, detail, record }
}

/// A call of the port: its name, whether it writes, how many statements it takes, and what it answers where
/// nothing goes wrong.
struct Call {
    name: &'static str,
    writes: bool,
    statements: usize,
    answer: &'static str,
}

const fn writes(name: &'static str, statements: usize) -> Call {
    Call { name, writes: true, statements, answer: "()" }
}

const fn reads(name: &'static str, statements: usize, answer: &'static str) -> Call {
    Call { name, writes: false, statements, answer }
}

/// Writes first: reads find what they wrote.
const CALLS: [Call; 17] = [
    writes("put_snapshot", 2),
    writes("put_snapshots", 4),
    writes("put_checkpoint", 1),
    writes("delete_checkpoint", 1),
    writes("put_watermark", 1),
    writes("put_aggregate", 1),
    writes("put_dead_letter", 2),
    writes("put_dictionary", 1),
    reads("snapshots, newest", 1, "3"),
    reads("snapshots, by time", 1, "2"),
    reads("snapshots, above", 1, "2"),
    reads("snapshot_by_id", 1, "true"),
    reads("checkpoints", 1, "1"),
    reads("watermarks", 1, "1"),
    reads("aggregates", 128, "1"),
    reads("dead_letters", 2, "1"),
    reads("dictionary", 1, "3"),
];

fn shown<T>(answer: PortResult<T>, show: impl Fn(T) -> String) -> PortResult<String> {
    answer.map(show)
}

fn call<'a>(index: &'a ScyllaIndex, name: &'a str) -> BoxFuture<'a, PortResult<String>> {
    let (live, retired) = (PackId([1; 16]), PackId([2; 16]));
    Box::pin(async move {
        let walk = |from| async move {
            shown(index.snapshots(&key("a"), Lineage(1), from, 9).await, |rows| rows.len().to_string())
        };
        let done = match name {
            "put_snapshot" => index.put_snapshot(row("a", 1)).await,
            "put_snapshots" => index.put_snapshots(vec![row("a", 2), row("a", 3)]).await,
            "put_checkpoint" => index.put_checkpoint(checkpoint(live)).await,
            "delete_checkpoint" => index.delete_checkpoint(&orders(), retired).await,
            "put_watermark" => index.put_watermark(mark(7)).await,
            "put_aggregate" => index.put_aggregate(&key("a"), PartitionNo(1)).await,
            "put_dead_letter" => index.put_dead_letter(letter()).await,
            "put_dictionary" => index.put_dictionary(Digest([3; 32]), vec![1, 2, 3].into()).await,
            "snapshots, newest" => return walk(From::Newest).await,
            "snapshots, by time" => return walk(From::TimeAtOrBefore(Timestamp(250))).await,
            "snapshots, above" => return walk(From::Above(Version(1))).await,
            "snapshot_by_id" => {
                let id = snapshot_id(&key("a"), Lineage(1), Version(2));
                return shown(index.snapshot_by_id(id).await, |named| named.is_some().to_string());
            }
            "checkpoints" => {
                return shown(index.checkpoints(&orders()).await, |rows| rows.len().to_string());
            }
            "watermarks" => {
                return shown(index.watermarks(&orders()).await, |rows| rows.len().to_string());
            }
            "aggregates" => {
                return shown(index.aggregates("order", None, 9).await, |rows| rows.len().to_string());
            }
            "dead_letters" => {
                let letters = index.dead_letters(&orders(), Offset(0), 9).await;
                return shown(letters, |rows| rows.len().to_string());
            }
            _ => {
                let bytes = index.dictionary(Digest([3; 32])).await;
                return shown(bytes, |bytes| bytes.map_or(0, |bytes| bytes.len()).to_string());
            }
        };
        shown(done, |()| "()".to_owned())
    })
}

fn class(error: &PortError) -> Class {
    match error {
        PortError::NotDone(_) => NotDone,
        PortError::Unknown(_) => Unknown,
        PortError::Permanent(_) => Permanent,
        PortError::Missing | PortError::Exists => panic!("{error}"),
    }
}

/// The identical call until it is acknowledged: what the driver lost it finds again.
async fn until_done(index: &ScyllaIndex, of: &Call, after: &str) {
    let started = Instant::now();
    loop {
        match call(index, of.name).await {
            Ok(answer) => return assert_eq!(answer, of.answer, "{} after {after}", of.name),
            Err(error) => assert!(started.elapsed() < BACK, "{} after {after}: {error}", of.name),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The index as its callers have it where the server answers, and as they have it where nobody does: a short
/// wait makes no error of what a busy machine is slow with, and silence need not be waited for that long.
struct Indexes {
    patient: ScyllaIndex,
    hasty: ScyllaIndex,
}

impl Indexes {
    async fn open(settings: &Scylla) -> Self {
        let waits = |wait| Timeouts { write: wait, read: wait, ..SHORT };
        let [patient, hasty] = [Duration::from_secs(5), Duration::from_millis(300)]
            .map(|wait| Box::pin(ScyllaIndex::open_with(settings, waits(wait))));
        Self { patient: patient.await.unwrap(), hasty: hasty.await.unwrap() }
    }

    fn that_meets(&self, fate: &Fate) -> &ScyllaIndex {
        if matches!(fate, Fate::Silent) { &self.hasty } else { &self.patient }
    }
}

/// Calls until a statement met its fate, and says what was told then. Where the server is slow with one
/// before that, the call ends there: it is made again.
async fn spoilt(
    index: &ScyllaIndex,
    of: &Call,
    proxy: &Proxy,
    plan: (usize, Fate, Moment),
    doing: &str,
) -> PortError {
    let started = Instant::now();
    loop {
        let (skip, fate, moment) = plan.clone();
        proxy.spoil(skip, fate, moment);
        let answer = timeout(NO_HANG, call(index, of.name)).await;
        let met = proxy.pass();
        let answer = answer.unwrap_or_else(|_| panic!("{doing} hangs"));
        match answer {
            Err(told) if met > 0 => return told,
            Err(told) => assert!(started.elapsed() < BACK, "{doing}: no statement met it; last: {told}"),
            Ok(_) => panic!("{doing}: it succeeds, and {met} statements met it"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_tells_every_error_as_what_it_is() {
    let _server = shared().await;
    let keyspace = Keyspace::fresh("matrix").await;
    let proxy = Proxy::start(address().await).await;
    let settings = Scylla { nodes: vec![proxy.address.clone()], ..keyspace.settings.clone() };
    let indexes = Indexes::open(&settings).await;
    for of in &CALLS {
        until_done(&indexes.patient, of, "nothing").await;
        let skips = if of.statements > 4 { vec![0, of.statements - 1] } else { (0..of.statements).collect() };
        for (what, fate, as_write) in fates() {
            let index = indexes.that_meets(&fate);
            for moment in [Moment::Before, Moment::After] {
                for skip in &skips {
                    // Where the bucket is known its row is not written again.
                    let skip = if of.name == "put_dead_letter" { 0 } else { *skip };
                    let doing = format!("{} with {what} {moment:?} its statement {skip}", of.name);
                    let told = spoilt(index, of, &proxy, (skip, fate.clone(), moment), &doing).await;
                    let is_unsure_read = !of.writes && as_write == Unknown;
                    let expected = if is_unsure_read { NotDone } else { as_write };
                    assert_eq!(class(&told), expected, "{doing}: {told}");
                    until_done(index, of, &doing).await;
                }
            }
        }
    }
}

//! Index and blob store: opened as `run` opens them, a row and an object written, read and deleted. The
//! registry, and how far the clocks of stores are from this one.
//!
//! *What may leak*: nothing where deleting is allowed; else the probe, which nothing reads.

use crate::cli::checks::Check;
use crate::cli::stores;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::domain::ids::{Lineage, Offset, PackId, PartitionNo, Timestamp};
use crate::domain::moment;
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::{CheckpointRow, PartitionKey};
use crate::store::blobs::{ArchivedBlobs, Blobs, pair};
use crate::store::index::Index;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long servers may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far clocks may be apart: signatures of S3 are refused beyond 15 minutes.
const SKEW_WARN_MS: u64 = 5_000;
const SKEW_FAIL_MS: u64 = 300_000;
/// What is written, in no topic that Kafka would take.
const PROBE_TOPIC: &str = "/doctor";
const PROBE: &[u8] = b"snapfold doctor\n";
/// Dictionaries that are looked at.
const DICTIONARIES_MAX: usize = 1_000;

/// What could be opened.
pub(super) struct Opened {
    pub(super) index: Option<Arc<dyn Index>>,
    pub(super) blobs: Option<Arc<dyn Blobs>>,
    pub(super) checks: Vec<Check>,
}

pub(super) async fn open(config: &Config) -> Opened {
    let clock = SystemClock::start();
    let mut checks = Vec::new();
    let index = match absent(config) {
        (Some(path), _) => {
            checks.push(not_yet("index", path));
            None
        }
        (None, _) => Box::pin(within("index", &mut checks, stores::index(config))).await,
    };
    if let Some(index) = &index {
        checks.push(probed("index", probe_index(&**index, &clock).await, INDEX_HINT));
    }
    let blobs = match absent(config) {
        (_, Some(path)) => {
            checks.push(not_yet("blobs", path));
            None
        }
        (_, None) => Box::pin(within("blobs", &mut checks, stores::place(&config.blobs, "blobs"))).await,
    };
    if let Some(blobs) = &blobs {
        checks.push(probed("blobs", probe_blobs(&**blobs, &clock).await, BLOBS_HINT));
    }
    let blobs = with_archive(config, blobs, &clock, &mut checks).await;
    if let config::Blobs::S3(s3) = &config.blobs {
        checks.push(checksums(s3.has_checksums));
        if let Some(endpoint) = &s3.endpoint {
            checks.push(clock_of(endpoint, &clock).await);
        }
    }
    if let (Some(index), Some(blobs)) = (&index, &blobs) {
        checks.push(dictionaries(&**index, &**blobs).await);
    }
    Opened { index, blobs, checks }
}

/// The blob store, and its archive if there is one that can be opened.
async fn with_archive(
    config: &Config,
    live: Option<Arc<dyn Blobs>>,
    clock: &dyn Clock,
    checks: &mut Vec<Check>,
) -> Option<Arc<dyn Blobs>> {
    let Some(archive) = &config.archive else {
        checks.extend(tied(live.as_deref(), None).await);
        return live;
    };
    if let config::Blobs::Directory { path } = &archive.place
        && !Path::new(path).exists()
    {
        let there_was_one = tied(live.as_deref(), None).await;
        checks.push(there_was_one.unwrap_or_else(|| not_yet(ARCHIVE, path)));
        return live;
    }
    let Some(archive) = Box::pin(within(ARCHIVE, checks, stores::place(&archive.place, ARCHIVE))).await
    else {
        return live;
    };
    // Before anything is written to it: it may be somebody else's.
    if let Some(other) = tied(live.as_deref(), Some(&*archive)).await {
        checks.push(other);
        return live;
    }
    checks.push(probed(ARCHIVE, probe_blobs(&*archive, clock).await, BLOBS_HINT));
    Some(Arc::new(ArchivedBlobs::new(live?, archive)))
}

const ARCHIVE: &str = "blobs.archive";

/// That packs of the blob store were moved to another archive than this, if they were.
async fn tied(live: Option<&dyn Blobs>, archive: Option<&dyn Blobs>) -> Option<Check> {
    let error = pair::check(live?, archive).await.err()?;
    Some(Check::fail(ARCHIVE, error.detail, "no process starts as long as this is so"))
}

const INDEX_HINT: &str =
    "grant SELECT and MODIFY on the keyspace; for a folder, check its owner and the disk";
const BLOBS_HINT: &str =
    "grant list, get, put and delete on the bucket; for a folder, check its owner and the disk";

/// Folders that `run` will create: looking must not.
fn absent(config: &Config) -> (Option<&str>, Option<&str>) {
    let index = match &config.index {
        config::Index::Embedded { path } => Some(path.as_str()),
        config::Index::Scylla(_) => None,
    };
    let blobs = match &config.blobs {
        config::Blobs::Directory { path } => Some(path.as_str()),
        config::Blobs::S3(_) => None,
    };
    let is_absent = |path: &&str| !Path::new(path).exists();
    (index.filter(is_absent), blobs.filter(is_absent))
}

fn not_yet(name: &str, path: &str) -> Check {
    let parent = std::path::absolute(path).ok();
    let exists = parent.as_deref().and_then(Path::parent).is_some_and(Path::exists);
    match exists {
        true => Check::ok(name, format!("the folder `{path}` is not there yet: `run` creates it")),
        false => Check::warn(
            name,
            format!("neither the folder `{path}` nor the one around it is there"),
            "is the volume mounted?",
        ),
    }
}

/// Opens a store, as `run` does.
async fn within<T>(
    name: &str,
    checks: &mut Vec<Check>,
    opening: impl Future<Output = crate::cli::failure::Done<T>>,
) -> Option<T> {
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(Ok(store)) => return Some(store),
        // A worker has the folder: that is how it should be.
        Ok(Err(failure)) if failure.message.contains("another process uses it") => {
            let hint = "stop the worker to have what is in it looked at";
            checks.push(Check::warn(name, "a worker is using the folder", hint));
        }
        Ok(Err(failure)) => {
            let hint = failure.hint.unwrap_or_default();
            checks.push(Check::fail(name, failure.message, hint));
        }
        Err(_) => {
            let found = format!("no answer within {} s", PATIENCE.as_secs());
            checks.push(Check::fail(name, found, "check its address, and that it is up"));
        }
    }
    None
}

fn probed(name: &str, probe: Result<(), String>, hint: &str) -> Check {
    match probe {
        Ok(()) => Check::ok(name, "written, read and deleted in"),
        Err(why) => Check::fail(name, why, hint),
    }
}

fn told<T>(doing: &str, outcome: PortResult<T>) -> Result<T, String> {
    outcome.map_err(|error| format!("{doing}: {error}"))
}

async fn probe_index(index: &dyn Index, clock: &dyn Clock) -> Result<(), String> {
    let key = PartitionKey { topic: PROBE_TOPIC.into(), partition: PartitionNo(0), lineage: Lineage(1) };
    let pack = PackId::mint(clock.now(), clock.random());
    let row = CheckpointRow {
        key: key.clone(),
        pack,
        first_offset: Offset(0),
        end_offset: Offset(0),
        entries: 0,
        object_bytes: 0,
    };
    told("write a row", index.put_checkpoint(row.clone()).await)?;
    let there = told("read a row", index.checkpoints(&key).await)?;
    told("delete a row", index.delete_checkpoint(&key, pack).await)?;
    if !there.contains(&row) {
        return Err("a row was written and cannot be read".to_owned());
    }
    let there = told("read a row", index.checkpoints(&key).await)?;
    if there.iter().any(|row| row.pack == pack) {
        return Err("a row was deleted and is still there: are the clocks of the nodes right?".to_owned());
    }
    Ok(())
}

async fn probe_blobs(blobs: &dyn Blobs, clock: &dyn Clock) -> Result<(), String> {
    let name = format!("v1/doctor/{}", PackId::mint(clock.now(), clock.random()));
    told("write an object", blobs.put_new(&name, PROBE).await)?;
    let again = blobs.put_new(&name, PROBE).await;
    let read = blobs.get_range(&name, 0, PROBE.len() as u64 + 1).await;
    let listed = blobs.list("v1/doctor/", None, 1_000).await;
    told("delete an object", blobs.delete(&name).await)?;
    if again != Err(PortError::Exists) {
        return Err("an object could be replaced: the store has no conditional writes".to_owned());
    }
    if told("read an object", read)? != PROBE {
        return Err("an object was written and reads differently".to_owned());
    }
    if !told("list objects", listed)?.contains(&name) {
        return Err("an object was written and is not listed".to_owned());
    }
    Ok(())
}

fn checksums(are_sent: bool) -> Check {
    match are_sent {
        true => Check::ok("blobs.checksums", "the store verifies the SHA-256 of every object"),
        false => Check::warn(
            "blobs.checksums",
            "the store takes objects without verifying their SHA-256",
            "set `blobs.s3.checksums: sha256` if the store knows it",
        ),
    }
}

/// The clock of a server that speaks HTTP, by the date of an answer of whatever status.
async fn clock_of(url: &str, clock: &dyn Clock) -> Check {
    let name = "blobs.clock";
    let asked = async {
        let client =
            reqwest::Client::builder().timeout(PATIENCE).build().map_err(|error| error.to_string())?;
        let answer = client.head(url).send().await.map_err(|error| error.without_url().to_string())?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok().map(str::to_owned));
        date.ok_or_else(|| "it tells no date".to_owned())
    };
    match asked.await.and_then(|date| http_date(&date).ok_or_else(|| format!("`{date}` is no date"))) {
        Ok(theirs) => skew(name, clock.now(), theirs),
        Err(why) => {
            Check::warn(name, format!("its clock is not known: {why}"), "compare the clocks yourself")
        }
    }
}

fn skew(name: &str, ours: Timestamp, theirs: Timestamp) -> Check {
    let apart = ours.0.abs_diff(theirs.0);
    let found = format!("{} s apart from this machine's", apart / 1_000);
    let hint = "set the clocks by NTP";
    match apart {
        // The date has whole seconds.
        apart if apart <= SKEW_WARN_MS => Check::ok(name, found),
        apart if apart <= SKEW_FAIL_MS => Check::warn(name, found, hint),
        _ => Check::fail(name, found, hint),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    moment::parse(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// Dictionaries are kept twice; whoever reads falls back from one to the other.
async fn dictionaries(index: &dyn Index, blobs: &dyn Blobs) -> Check {
    let name = "dictionaries";
    let listed = match blobs.list("v1/dict/", None, DICTIONARIES_MAX).await {
        Ok(listed) => listed,
        Err(error) => return Check::warn(name, format!("list them: {error}"), BLOBS_HINT),
    };
    let mut missing = 0;
    for object in &listed {
        let hex = object.rsplit('/').next().unwrap_or_default();
        let id = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok().and_then(|id| id.try_into().ok());
        let Some(id) = id.map(crate::domain::ids::Digest) else { continue };
        match index.dictionary(id).await {
            Ok(Some(_)) => {}
            Ok(None) => missing += 1,
            Err(error) => return Check::warn(name, format!("read one: {error}"), INDEX_HINT),
        }
    }
    match missing {
        0 => Check::ok(name, format!("{} in both places", listed.len())),
        missing => Check::warn(
            name,
            format!("{missing} of {} are in the blob store only", listed.len()),
            "records are readable; `snapfold verify --tier full` reads all of them",
        ),
    }
}

/// Whether the registry answers.
pub(super) async fn registry(config: &Config) -> Option<Check> {
    let registry = config.registry.as_ref()?;
    let asked = async {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let mut request = client.get(format!("{}/subjects", registry.url));
        if let Some((username, password)) = &registry.login {
            request = request.basic_auth(username, Some(password.reveal()));
        }
        request.send().await
    };
    let name = "registry";
    Some(match asked.await {
        Ok(answer) if answer.status().is_success() => Check::ok(name, "it lists its subjects"),
        Ok(answer) => Check::fail(
            name,
            format!("it answers {}", answer.status()),
            "check `registry.url`, `registry.username` and `registry.password`",
        ),
        Err(error) => {
            Check::fail(name, error.without_url().to_string(), "check `registry.url`, and that it is up")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::checks::Came;
    use crate::store::blobs::MemoryBlobs;
    use crate::store::index::MemoryIndex;

    #[test]
    fn dates_of_http_are_times_and_clocks_may_be_a_little_apart() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(moment::format(date), "1994-11-06T08:49:37.000Z");
        assert_eq!(http_date("yesterday"), None);
        let came = |apart: i64| skew("c", Timestamp(1_000_000_000), Timestamp(1_000_000_000 + apart)).came;
        assert_eq!((came(900), came(-4_000)), (Came::Ok, Came::Ok));
        assert_eq!((came(60_000), came(-3_600_000)), (Came::Warn, Came::Fail));
    }

    #[tokio::test]
    async fn probes_leave_nothing_behind() {
        let (index, blobs, clock) = (MemoryIndex::default(), MemoryBlobs::new(), SystemClock::start());
        assert_eq!(probe_index(&index, &clock).await, Ok(()));
        assert_eq!(probe_blobs(&blobs, &clock).await, Ok(()));
        assert_eq!(blobs.list("", None, 10).await, Ok(Vec::new()));
        blobs.put_new(&format!("v1/dict/{}", "ab".repeat(32)), b"x").await.unwrap();
        assert_eq!(dictionaries(&index, &blobs).await.came, Came::Warn);
        assert_eq!((checksums(true).came, checksums(false).came), (Came::Ok, Came::Warn));
    }
}

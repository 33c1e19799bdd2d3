//! Moves over memory, whose clock ticks once for each object.

use super::*;
use crate::clock::Still;
use crate::codec::body::encode_increment;
use crate::codec::compress::{Compression, Encoder};
use crate::codec::pack::{Header, PackWriter, pack_name};
use crate::domain::ids::{AggregateKey, Lineage, Offset, PartitionNo, Version};
use crate::domain::outcome::PortResult;
use crate::domain::record::{IncrementBody, RawRecord, RecordId, RecordKind, RecordMeta, StoredEvent};
use crate::store::blobs::{Blobs, MemoryBlobs};
use crate::store::index::MemoryIndex;
use crate::store::packs::CompressionPlan;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// The time of the store by then, at least.
const NOW: i64 = 100;

fn now<T>(asked: impl Future<Output = T>) -> T {
    asked.now_or_never().expect("memory answers at once")
}

struct Site {
    live: Arc<MemoryBlobs>,
    archive: Arc<MemoryBlobs>,
    archiver: Archiver,
}

fn site(policy: &[(&str, u64)]) -> Site {
    let (live, archive) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryBlobs::new()));
    for nth in 0..NOW {
        now(live.put_new(&format!("v1/tick/{nth}"), b"tick")).unwrap();
    }
    let policy = Policy(policy.iter().map(|(kind, ms)| (Arc::from(*kind), *ms)).collect());
    let stores = ArchivedBlobs::new(live.clone(), archive.clone());
    let packs = Packs::new(Arc::new(MemoryIndex::new()), live.clone(), CompressionPlan::default(), [7; 16]);
    let settings = ArchiveSettings { packs_max: 2, ..ArchiveSettings::default() };
    let archiver = Archiver::new(Arc::new(stores), packs, Arc::new(Still), policy, settings);
    Site { live, archive, archiver }
}

/// A pack of one class with one increment of each type, and its name.
fn pack(site: &Site, class: Class, minted_at: i64, kinds: &[&str]) -> (String, Vec<u8>) {
    let random = [u8::try_from(kinds.len()).unwrap() ^ class as u8; 10];
    let pack = PackId::mint(Timestamp(minted_at), random);
    let mut writer = PackWriter::new(Header::new(class, pack, [1; 16], Timestamp(minted_at), "test"));
    let mut encoder = Encoder::new(Compression::default(), None).unwrap();
    for kind in kinds {
        let key = AggregateKey { kind: Arc::from(*kind), id: "a".into() };
        let (kind, from_version) = (RecordKind::Increment, Version(0));
        let id = RecordId { key, lineage: Lineage(1), upto_version: Version(1), kind, from_version };
        let meta = RecordMeta {
            id,
            partition: PartitionNo(0),
            first_offset: Offset(0),
            last_offset: Offset(0),
            leader_epoch: 0,
            effective_time: Timestamp(0),
            chain: None,
            state_digest: None,
            is_deleted: false,
            is_quarantined: false,
            trail: None,
        };
        let record = RawRecord { value: Some(b"{}"[..].into()), ..RawRecord::default() };
        let events = vec![StoredEvent { version: Version(1), skipped: false, record }];
        let body = encode_increment(&IncrementBody { events, quarantine: None }, "a").unwrap();
        writer.add(meta, &body, &mut encoder).unwrap();
    }
    let (name, bytes) = (pack_name(class, pack), writer.finish().unwrap().bytes);
    now(site.live.put_new(&name, &bytes)).unwrap();
    (name, bytes)
}

fn pass(site: &Site, mode: Mode) -> Report {
    now(site.archiver.pass(mode)).expect("memory answers").expect("nobody else is there")
}

/// Whether the live store has an object, and whether the archive has.
fn places(site: &Site, name: &str) -> (bool, bool) {
    let has = |blobs: &MemoryBlobs| now(blobs.get_tail(name, 0)).is_ok();
    (has(&site.live), has(&site.archive))
}

const LIVE: (bool, bool) = (true, false);
const ARCHIVE: (bool, bool) = (false, true);

#[test]
fn packs_go_by_their_age_their_class_and_the_types_in_them() {
    let site = site(&[("order", 50), ("cart", 90)]);
    let old = pack(&site, Class::History, 0, &["order"]).0;
    let both = pack(&site, Class::Full, 20, &["order", "cart"]).0;
    let young = pack(&site, Class::Full, 90, &["order"]).0;
    let strange = pack(&site, Class::History, 1, &["order", "customer"]).0;
    let checkpoint = pack(&site, Class::Checkpoint, 0, &["order"]).0;
    let dry = pass(&site, Mode::DryRun);
    assert_eq!((dry.packs, dry.stay, dry.moved), (4, 3, 1), "{dry:?}");
    assert_eq!(places(&site, &old), LIVE, "a dry run moves nothing");
    let report = pass(&site, Mode::Move);
    assert_eq!((report.moved, report.moved_bytes), (1, dry.moved_bytes), "{report:?}");
    assert_eq!(places(&site, &old), ARCHIVE);
    for name in [&both, &young, &strange, &checkpoint] {
        assert_eq!(places(&site, name), LIVE, "{name}");
    }
    // `both` is old enough for its other type, too.
    (0..20).for_each(|nth| now(site.live.put_new(&format!("v1/tick/+{nth}"), b"tick")).unwrap());
    let report = pass(&site, Mode::Move);
    assert_eq!((report.packs, report.moved, report.has_more), (3, 1, false), "{report:?}");
    assert_eq!((places(&site, &both), places(&site, &strange)), (ARCHIVE, LIVE));
}

#[test]
fn a_pass_is_bounded_and_the_next_one_goes_on() {
    let site = site(&[("order", 10)]);
    let names: Vec<String> = (0..5).map(|at| pack(&site, Class::Full, at, &["order"]).0).collect();
    let reports = [(); 3].map(|()| pass(&site, Mode::Move));
    assert_eq!(
        reports.each_ref().map(|report| (report.moved, report.has_more)),
        [(2, true), (2, true), (1, false)]
    );
    assert!(names.iter().all(|name| places(&site, name) == ARCHIVE));
}

#[test]
fn a_copy_that_is_there_already_counts_only_if_it_is_the_same() {
    let site = site(&[("order", 10)]);
    let (same, bytes) = pack(&site, Class::Full, 0, &["order"]);
    let (other, _) = pack(&site, Class::History, 0, &["order"]);
    now(site.archive.put_new(&same, &bytes)).unwrap();
    now(site.archive.put_new(&other, &bytes)).unwrap();
    let report = pass(&site, Mode::Move);
    assert_eq!((report.moved, report.refused), (1, 1), "{report:?}");
    assert!(report.problems[0].detail.contains("other bytes"), "{report:?}");
    assert_eq!((places(&site, &same), places(&site, &other)), (ARCHIVE, (true, true)));
}

#[test]
fn what_is_damaged_stays() {
    let site = site(&[("order", 10)]);
    let (name, mut bytes) = pack(&site, Class::Full, 0, &["order"]);
    // In the only frame, so that the footer is sound.
    bytes[100] ^= 1;
    now(site.live.delete(&name)).unwrap();
    now(site.live.put_new(&name, &bytes)).unwrap();
    let report = pass(&site, Mode::Move);
    assert_eq!((report.moved, report.refused), (0, 1), "{report:?}");
    assert_eq!(places(&site, &name), LIVE);
}

/// Does not answer what it is asked.
/// An archive that answers about its tie and about nothing else.
struct Silent(Arc<MemoryBlobs>);

impl Blobs for Silent {
    fn put_new<'a>(&'a self, _: &'a str, _: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::Unknown("silence".to_owned()))))
    }
    fn get_range<'a>(&'a self, _: &'a str, _: u64, _: u64) -> BoxFuture<'a, PortResult<Vec<u8>>> {
        Box::pin(std::future::ready(Err(PortError::NotDone("silence".to_owned()))))
    }
    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Vec<u8>, u64)>> {
        if name.starts_with("v1/archive-of/") {
            return self.0.get_tail(name, len);
        }
        Box::pin(std::future::ready(Err(PortError::NotDone("silence".to_owned()))))
    }
    fn list<'a>(
        &'a self,
        _: &'a str,
        _: Option<&'a str>,
        _: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        Box::pin(std::future::ready(Err(PortError::NotDone("silence".to_owned()))))
    }
    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(std::future::ready(Err(PortError::NotDone("silence".to_owned()))))
    }
}

#[test]
fn an_archive_that_does_not_answer_ends_the_pass_early_and_nothing_is_lost() {
    let mut site = site(&[("order", 10)]);
    assert_eq!(pass(&site, Mode::Move).moved, 0, "the stores are tied, and there is nothing to move");
    let more = i64::try_from(FAILED_MAX).unwrap() + 2;
    let names: Vec<String> = (0..more).map(|at| pack(&site, Class::Full, at, &["order"]).0).collect();
    let silent = Silent(site.archive.clone());
    site.archiver.stores = Arc::new(ArchivedBlobs::new(site.live.clone(), Arc::new(silent)));
    let report = pass(&site, Mode::Move);
    assert_eq!((report.moved, report.failed, report.has_more), (0, FAILED_MAX, true), "{report:?}");
    assert!(names.iter().all(|name| places(&site, name) == LIVE));
}

#[test]
fn one_mover_at_a_time() {
    let site = site(&[("order", 10)]);
    let held = now(Lease::take(DUTY, &*site.live, &Still, 600_000)).unwrap();
    assert!(held.is_some());
    assert_eq!(now(site.archiver.pass(Mode::Move)), Ok(None));
    assert!(now(site.archiver.pass(Mode::DryRun)).unwrap().is_some(), "who only looks needs no lease");
}

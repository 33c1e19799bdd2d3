//! The stored forms are what `docs/FORMAT.md` says, and what was stored once is read for ever.
//!
//! `SNAPFOLD_BLESS=1 cargo test --test format` writes vectors and packs anew; only for a new format number.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a failure is a panic")]

use snapfold::codec::body::{
    decode_full, decode_increment, decode_segment, encode_full, encode_increment, encode_segment,
    put_increment,
};
use snapfold::codec::compress::{Algorithm, Compression, Encoder};
use snapfold::codec::dictionary::Dictionary;
use snapfold::codec::pack::{
    BlockPack, BlockWriter, Class, FinishedPack, Header, Locator, OpenTail, PackWriter, open_tail,
    read_entry, verify_pack,
};
use snapfold::codec::row::Row;
use snapfold::domain::chain::{event_digest, genesis, link};
use snapfold::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use snapfold::domain::ledger::{DeletedRow, Deletion, HoldRow};
use snapfold::domain::record::{
    FullBody, IncrementBody, QuarantineMark, RawRecord, RecordId, RecordKind, RecordMeta, SegmentBody,
    StoredEvent,
};
use snapfold::domain::row::{
    CheckpointRow, DeadLetter, NoteRow, PartitionKey, SnapshotRow, Trigger, WatermarkRow,
};
use snapfold::domain::schedule::{RunRow, Schedule, ScheduleRow, Target};
use std::fmt::Write as _;
use std::path::PathBuf;

const TIME: Timestamp = Timestamp(1_700_000_000_000);

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn is_blessing() -> bool {
    std::env::var_os("SNAPFOLD_BLESS").is_some()
}

fn key() -> AggregateKey {
    AggregateKey { kind: "order".into(), id: "o-1".into() }
}

fn event() -> StoredEvent {
    StoredEvent {
        version: Version(1),
        skipped: false,
        record: RawRecord {
            offset: Offset(41),
            record_time: TIME,
            key: Some(b"o-1"[..].into()),
            value: Some(br#"{"n":1}"#[..].into()),
            ..RawRecord::default()
        },
    }
}

fn head() -> Digest {
    link(genesis("order", "o-1"), Version(1), event_digest(&event().record, &[]))
}

fn increment() -> IncrementBody {
    IncrementBody { events: vec![event()], ..IncrementBody::default() }
}

/// Nothing but a mark: the next event could not be folded.
fn mark() -> IncrementBody {
    let mark = QuarantineMark {
        code: "version-gap".into(),
        version: Version(1),
        offset: Offset(43),
        leader_epoch: 3,
        since: TIME,
    };
    IncrementBody { quarantine: Some(mark), ..IncrementBody::default() }
}

fn full() -> FullBody {
    FullBody {
        version: Version(1),
        offset: Offset(41),
        effective_time: TIME,
        first_time: TIME,
        chain: head(),
        last_event_type: "Placed".into(),
        last_event_id: Some("e-1".into()),
        state: Some(br#"{"n":1}"#[..].into()),
        ..FullBody::default()
    }
}

/// The event after the full record.
fn second_event() -> StoredEvent {
    let record = RawRecord { offset: Offset(44), record_time: Timestamp(TIME.0 + 1_000), ..event().record };
    StoredEvent { version: Version(2), record, ..event() }
}

/// Merged history from the first event on.
fn first_segment() -> SegmentBody {
    SegmentBody { base: None, events: vec![event()] }
}

/// Merged history after the full record.
fn second_segment() -> SegmentBody {
    SegmentBody { base: Some(full()), events: vec![second_event()] }
}

fn meta(kind: RecordKind) -> RecordMeta {
    let is_full = kind != RecordKind::Increment;
    RecordMeta {
        id: RecordId {
            key: key(),
            lineage: Lineage(1),
            upto_version: Version(1),
            kind,
            from_version: Version(0),
        },
        partition: PartitionNo(2),
        first_offset: Offset(41),
        last_offset: Offset(41),
        leader_epoch: 0,
        effective_time: TIME,
        chain: is_full.then(head),
        state_digest: is_full.then_some(Digest([0x5d; 32])),
        is_deleted: false,
        is_quarantined: false,
        trail: (kind == RecordKind::Full).then(|| vec![Offset(41)]),
    }
}

fn header(class: Class) -> Header {
    Header::new(class, PackId::mint(TIME, [class.code(); 10]), [0x5e; 16], TIME, "0.1.0")
}

fn pack(class: Class) -> FinishedPack {
    let mut encoder =
        Encoder::new(Compression { algorithm: Algorithm::None, level: 3, threshold: 0 }, None).unwrap();
    let mut writer = PackWriter::new(header(class));
    let d_body = encode_increment(&increment(), "o-1").unwrap();
    match class {
        Class::Full => drop(writer.add(meta(RecordKind::Full), &encode_full(&full()), &mut encoder).unwrap()),
        Class::History | Class::Ledger => {
            writer.add(meta(RecordKind::Increment), &d_body, &mut encoder).unwrap();
        }
        Class::Checkpoint => unreachable!("it is made of blocks"),
    }
    writer.finish().unwrap()
}

/// A pack with the increment, and what it and the event after it were merged into.
fn segments() -> FinishedPack {
    let plain = Compression { algorithm: Algorithm::None, level: 3, threshold: 0 };
    let mut encoder = Encoder::new(plain, None).unwrap();
    let mut writer = PackWriter::new(header(Class::History));
    let body = encode_increment(&increment(), "o-1").unwrap();
    writer.add(meta(RecordKind::Increment), &body, &mut encoder).unwrap();
    let body = encode_segment(&first_segment(), "o-1").unwrap();
    writer.add(meta(RecordKind::Segment), &body, &mut encoder).unwrap();
    let body = encode_segment(&second_segment(), "o-1").unwrap();
    writer.add(second_meta(), &body, &mut encoder).unwrap();
    writer.finish().unwrap()
}

fn second_meta() -> RecordMeta {
    let mut meta = meta(RecordKind::Segment);
    (meta.id.from_version, meta.id.upto_version) = (Version(1), Version(2));
    (meta.first_offset, meta.last_offset) = (Offset(44), Offset(44));
    RecordMeta { effective_time: Timestamp(TIME.0 + 1_000), chain: Some(Digest([0xc2; 32])), ..meta }
}

fn checkpoint() -> BlockPack {
    let plain = Compression { algorithm: Algorithm::None, level: 3, threshold: 0 };
    let mut writer = BlockWriter::new(header(Class::Checkpoint), plain, 1, 2).unwrap();
    for id in ["o-1", "o-2"] {
        let mut meta = meta(RecordKind::Increment);
        meta.id.key.id = id.into();
        writer.add(0, &meta, |block| put_increment(block, &increment().events, None, id)).unwrap();
    }
    writer.close(0).unwrap().unwrap();
    writer.finish().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(48) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn log() -> PartitionKey {
    PartitionKey { topic: "orders".into(), partition: PartitionNo(2), lineage: Lineage(1) }
}

/// The rows that say where the full record, its checkpoint and a dead letter are.
fn rows() -> [(&'static str, Vec<u8>); 9] {
    let full_pack = pack(Class::Full);
    let snapshot = SnapshotRow {
        key: key(),
        lineage: Lineage(1),
        version: Version(1),
        pack: full_pack.id,
        kind: RecordKind::Full,
        from_version: Version(0),
        partition: PartitionNo(2),
        first_offset: Offset(41),
        last_offset: Offset(41),
        leader_epoch: 0,
        effective_time: TIME,
        created_at: Timestamp(TIME.0 + 5_000),
        creation_ms: 31,
        trigger: Trigger::Manual,
        event_type: "Placed".into(),
        chain: head(),
        raw_bytes: encode_full(&full()).len() as u64,
        stored_bytes: full_pack.entries[0].stored_len,
        state_digest: Some(Digest([0x5d; 32])),
        state_bytes: Some(7),
        deleted: false,
        quarantined: false,
        locator: full_pack.entries[0].locator.encode(),
    };
    let checkpoint = CheckpointRow {
        key: log(),
        pack: header(Class::Checkpoint).pack,
        first_offset: Offset(41),
        end_offset: Offset(42),
        entries: 2,
        object_bytes: checkpoint().bytes.len() as u64,
    };
    let watermark = WatermarkRow {
        key: log(),
        topic_id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        leader_epoch: 3,
        low_watermark: Offset(42),
    };
    let letter = DeadLetter {
        key: log(),
        offset: Offset(41),
        aggregate: Some(key()),
        code: "bad-body".into(),
        detail: "the value is not JSON".to_owned(),
        record: event().record,
    };
    let (note, deletion, hold) = ledger();
    [
        ("row: snapshot", snapshot.encode()),
        ("row: checkpoint", checkpoint.encode()),
        ("row: low watermark", watermark.encode()),
        ("row: dead letter", letter.encode()),
        ("row: note", note.encode()),
        ("row: deletion", deletion.encode()),
        ("row: hold", hold.encode()),
        ("row: schedule", schedule().encode()),
        ("row: run of a schedule", run().encode()),
    ]
}

/// What people say of the snapshots of an aggregate.
fn ledger() -> (NoteRow, Deletion, HoldRow) {
    let note = NoteRow {
        key: key(),
        lineage: Lineage(1),
        version: Version(2),
        at: LedgerId::mint(Timestamp(1_700_000_000_000), [4; 10]),
        label: Some("launch".into()),
        pinned: Some(true),
        reason: Some("asked for".into()),
    };
    let gone = DeletedRow {
        key: key(),
        lineage: Lineage(1),
        version: Version(2),
        pack: PackId::mint(Timestamp(1_700_000_000_000), [1; 10]),
    };
    let deletion = Deletion { at: note.at, reason: "asked for".into(), rows: vec![gone] };
    let hold = HoldRow { key: key(), at: note.at, held: true, reason: Some("case 12".into()) };
    (note, deletion, hold)
}

fn schedule() -> ScheduleRow {
    let plan = Schedule {
        target: Target::Aggregate(AggregateKey { kind: "order".into(), id: "o-1".into() }),
        cron: "0 2 * * *".into(),
        timezone: "Europe/Berlin".into(),
        enabled: true,
        jitter_ms: 30_000,
    };
    let (name, at) = ("nightly".into(), LedgerId::mint(Timestamp(1_700_000_000_000), [5; 10]));
    ScheduleRow { name, at, since: Timestamp(1_700_000_000_000), run_at: None, plan: Some(plan) }
}

fn run() -> RunRow {
    RunRow {
        schedule: "nightly".into(),
        topic: "orders".into(),
        partition: PartitionNo(3),
        number: 7,
        on_time: 6,
        due: Timestamp(1_700_010_000_000),
        started: Timestamp(1_700_010_012_345),
        finished: Timestamp(1_700_010_012_400),
        created: 1,
        exists: 0,
        failed: 0,
    }
}

/// Every vector of the document, by its name there.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let ([full_pack, history], checkpoint) = ([Class::Full, Class::History].map(pack), checkpoint());
    let locator = history.entries[0].locator.clone();
    let inline = encode_increment(&increment(), "o-1").unwrap().into();
    let trail = Some(vec![Offset(41), Offset(43), Offset(300)]);
    let rich = Locator { trail, inline: Some(inline), ..locator.clone() };
    let chain =
        [genesis("order", "o-1"), event_digest(&event().record, &[]), head()].map(|digest| digest.0).concat();
    let vectors = [
        ("increment", encode_increment(&increment(), "o-1").unwrap()),
        ("increment with a mark alone", encode_increment(&mark(), "o-1").unwrap()),
        ("full", encode_full(&full())),
        ("segment without a base", encode_segment(&first_segment(), "o-1").unwrap()),
        ("segment", encode_segment(&second_segment(), "o-1").unwrap()),
        ("chain (genesis, event, link)", chain),
        ("locator", locator.encode()),
        ("locator with trail and inline body", rich.encode()),
        ("full.sfp", full_pack.bytes),
        ("history.sfp", history.bytes),
        ("segments.sfp", segments().bytes),
        ("checkpoint.sfp", checkpoint.bytes),
    ];
    vectors.into_iter().chain(rows()).map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

#[test]
fn the_vectors_of_the_document_are_what_the_code_makes() {
    let file = path("docs/FORMAT.md");
    let mut document = std::fs::read_to_string(&file).unwrap();
    for (name, bytes) in vectors() {
        let opening = format!("<!-- vector: {name} -->\n```hex\n");
        let start = document.find(&opening).unwrap_or_else(|| panic!("no vector `{name}`")) + opening.len();
        let end = start + document[start..].find("```").unwrap();
        if is_blessing() {
            document.replace_range(start..end, &hex(&bytes));
        } else {
            assert_eq!(&document[start..end], hex(&bytes), "{name}");
        }
        if is_blessing() && name.ends_with(".sfp") {
            std::fs::write(path("tests/golden/packs").join(name), &bytes).unwrap();
        }
    }
    if is_blessing() {
        std::fs::write(&file, document).unwrap();
    }
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(path("tests/golden/packs").join(name)).unwrap()
}

/// Reads every record of a golden pack as a stranger would: from its end, then by locator.
fn read(class: Class, bytes: &[u8], dictionary: Option<&Dictionary>) -> Vec<(RecordMeta, Vec<u8>)> {
    let id = header(class).pack;
    let OpenTail::Ready(ready) = open_tail(id, bytes, bytes.len() as u64).unwrap() else {
        panic!("it is whole")
    };
    let report = verify_pack(id, bytes, |_| dictionary.cloned()).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    let record = |at| {
        let (meta, locator) = (ready.1.meta(at).unwrap(), ready.1.locator(at).unwrap());
        let range = locator.range();
        let frame = &bytes[range.start as usize..range.end as usize];
        let dictionary = dictionary.filter(|_| locator.dictionary.is_some());
        let body = read_entry(&meta.id, &locator, frame, dictionary).unwrap();
        (meta, body)
    };
    (0..ready.1.len()).map(record).collect()
}

#[test]
fn golden_packs_are_read() {
    let [(f_meta, f_body)] = read(Class::Full, &golden("full.sfp"), None).try_into().unwrap();
    assert_eq!((f_meta, decode_full(&f_body).unwrap()), (meta(RecordKind::Full), full()));
    let [(d_meta, d_body)] = read(Class::History, &golden("history.sfp"), None).try_into().unwrap();
    assert_eq!(
        (d_meta, decode_increment(&d_body, "o-1").unwrap()),
        (meta(RecordKind::Increment), increment())
    );
    let [(_, increment_body), (first_meta, first), (meta_of_second, second)] =
        read(Class::History, &golden("segments.sfp"), None).try_into().unwrap();
    assert_eq!(decode_increment(&increment_body, "o-1").unwrap(), increment());
    assert_eq!(
        (first_meta, decode_segment(&first, "o-1").unwrap()),
        (meta(RecordKind::Segment), first_segment())
    );
    assert_eq!((meta_of_second, decode_segment(&second, "o-1").unwrap()), (second_meta(), second_segment()));
    let [(_, first), (second_meta, second)] =
        read(Class::Checkpoint, &golden("checkpoint.sfp"), None).try_into().unwrap();
    assert_eq!(decode_increment(&first, "o-1").unwrap(), increment());
    assert_eq!(&*second_meta.id.key.id, "o-2");
    // The key in the record is not that aggregate's id, so it is stored.
    assert_eq!(decode_increment(&second, "o-2").unwrap(), increment());
}

/// A pack of records compressed by every codec, one with a dictionary. Its bytes depend on the versions of
/// the codec libraries, so it is only read, never made again.
#[test]
fn a_golden_pack_of_every_codec_is_read() {
    let bodies: Vec<Vec<u8>> =
        (1..=6).map(|n| format!(r#"{{"name":"value","n":{n}}}"#).repeat(9).into()).collect();
    if is_blessing() {
        let dictionary = Dictionary::new(&br#"{"name":"value","n":1}"#[..]).unwrap();
        std::fs::write(path("tests/golden/packs/codecs.dict"), dictionary.bytes()).unwrap();
        let mut writer = PackWriter::new(header(Class::History));
        let algorithms = Algorithm::ALL.map(|algorithm| (algorithm, None));
        let algorithms = algorithms.into_iter().chain([(Algorithm::Zstd, Some(&dictionary))]);
        for ((n, body), (algorithm, dictionary)) in (1..).zip(&bodies).zip(algorithms) {
            let compression = Compression { algorithm, level: 3, threshold: 0 };
            let mut encoder = Encoder::new(compression, dictionary).unwrap();
            let mut meta = meta(RecordKind::Increment);
            (meta.id.upto_version, meta.id.from_version) = (Version(n), Version(n - 1));
            writer.add(meta, body, &mut encoder).unwrap();
        }
        std::fs::write(path("tests/golden/packs/codecs.sfp"), writer.finish().unwrap().bytes).unwrap();
    }
    let dictionary = Dictionary::new(golden("codecs.dict")).unwrap();
    let records = read(Class::History, &golden("codecs.sfp"), Some(&dictionary));
    assert_eq!(records.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), bodies);
}

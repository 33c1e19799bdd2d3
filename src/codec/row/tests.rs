//! Rows come back as they were, in one form only, and every damage is found.

use super::*;
use crate::domain::record::RecordKind;
use crate::domain::schedule::{RunRow, Schedule, ScheduleRow, Target};
use proptest::prelude::*;
use std::fmt::Debug;

fn snapshot(seed: u64, text: &str, flags: u8) -> SnapshotRow {
    let state = flags & 4 != 0;
    SnapshotRow {
        key: AggregateKey { kind: "order".into(), id: text.into() },
        lineage: Lineage(seed as u32),
        version: Version(seed),
        pack: PackId([seed as u8; 16]),
        kind: match flags & 24 {
            0 => RecordKind::Increment,
            8 => RecordKind::Full,
            _ => RecordKind::Segment,
        },
        from_version: Version(seed / 3),
        partition: PartitionNo(seed as i32),
        first_offset: Offset(seed as i64 / 7),
        last_offset: Offset(seed as i64),
        leader_epoch: -1,
        effective_time: Timestamp(-(seed as i64 / 2)),
        created_at: Timestamp(seed as i64 / 5),
        creation_ms: (seed >> 9) as u32,
        trigger: TRIGGERS[seed as usize % 8],
        event_type: text.into(),
        chain: Digest([seed as u8; 32]),
        raw_bytes: seed,
        stored_bytes: seed / 2,
        state_digest: state.then_some(Digest([flags; 32])),
        state_bytes: state.then_some(seed),
        deleted: flags & 1 != 0,
        quarantined: flags & 2 != 0,
        locator: text.as_bytes().repeat(3),
    }
}

fn log(seed: u64, text: &str) -> PartitionKey {
    PartitionKey {
        topic: text.into(),
        partition: PartitionNo(seed as i32),
        lineage: Lineage((seed >> 7) as u32),
    }
}

fn letter(seed: u64, text: &str, flags: u8) -> DeadLetter {
    let bytes = |set: u8| (flags & set != 0).then(|| text.as_bytes().into());
    DeadLetter {
        key: log(seed, text),
        offset: Offset(seed as i64),
        aggregate: (flags & 1 != 0).then(|| AggregateKey { kind: "order".into(), id: text.into() }),
        code: "bad-body".into(),
        detail: text.to_owned(),
        record: RawRecord {
            offset: Offset(seed as i64),
            leader_epoch: seed as i32,
            record_time: Timestamp(seed as i64),
            key: bytes(2),
            value: bytes(4),
            headers: vec![(text.into(), bytes(8)); usize::from(flags % 3)],
        },
    }
}

fn note(seed: u64, text: &str, flags: u8) -> NoteRow {
    NoteRow {
        key: AggregateKey { kind: "order".into(), id: text.into() },
        lineage: Lineage(seed as u32),
        version: Version(seed),
        at: LedgerId([seed as u8; 16]),
        label: (flags & 1 != 0).then(|| text.into()),
        pinned: (flags & 2 != 0).then_some(flags & 4 != 0),
        reason: (flags & 8 != 0).then(|| text.into()),
    }
}

fn schedule(seed: u64, text: &str, flags: u8) -> ScheduleRow {
    let kind = "order".into();
    let plan = Schedule {
        target: match flags & 1 {
            0 => Target::Selector { kind, prefix: text.into() },
            _ => Target::Aggregate(AggregateKey { kind, id: text.into() }),
        },
        cron: text.into(),
        timezone: "UTC".into(),
        enabled: flags & 2 != 0,
        jitter_ms: seed,
    };
    ScheduleRow {
        name: text.into(),
        at: LedgerId([seed as u8; 16]),
        since: Timestamp(-(seed as i64 / 2)),
        run_at: (flags & 4 != 0).then_some(Timestamp(seed as i64)),
        plan: (flags & 8 != 0).then_some(plan),
    }
}

fn run(seed: u64, text: &str) -> RunRow {
    RunRow {
        schedule: text.into(),
        topic: text.into(),
        partition: PartitionNo(seed as i32),
        number: seed,
        on_time: seed / 2,
        due: Timestamp(seed as i64),
        started: Timestamp(-(seed as i64 / 2)),
        finished: Timestamp(7),
        created: seed / 3,
        exists: 0,
        failed: seed / 5,
    }
}

fn comes_back<R: Row + PartialEq + Debug>(row: &R) {
    let bytes = row.encode();
    assert_eq!(&R::decode(&bytes).unwrap(), row);
}

/// Every single bit, and every cut.
fn damage_is_found<R: Row + PartialEq + Debug>(row: &R) {
    let bytes = row.encode();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(R::decode(&damaged).is_err(), "bit {bit} of {}", R::NAME);
    }
    for len in 0..bytes.len() {
        assert!(R::decode(&bytes[..len]).is_err(), "{len} bytes of {}", R::NAME);
    }
}

/// Bytes with a right checksum that are no row, or the one form of the row they are.
fn garbage_is_a_row_or_refused<R: Row>(body: &[u8], whole: bool) {
    let mut bytes = if whole { Vec::new() } else { vec![R::TYPE, FORMAT] };
    bytes.extend_from_slice(body);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    if let Ok(row) = R::decode(&bytes) {
        assert_eq!(row.encode(), bytes);
    }
}

proptest! {
    #[test]
    fn rows_come_back_as_they_were(seed: u64, text in ".{0,40}", flags in 0_u8..16) {
        comes_back(&snapshot(seed, &text, flags));
        comes_back(&letter(seed, &text, flags));
        comes_back(&note(seed, &text, flags));
        comes_back(&schedule(seed, &text, flags));
        comes_back(&run(seed, &text));
        comes_back(&CheckpointRow {
            key: log(seed, &text),
            pack: PackId([flags; 16]),
            first_offset: Offset(seed as i64),
            end_offset: Offset(-(seed as i64 / 2)),
            entries: seed as u32,
            object_bytes: seed,
        });
        comes_back(&WatermarkRow {
            key: log(seed, &text),
            topic_id: u128::from(seed) << 70 | u128::from(flags),
            leader_epoch: seed as i32,
            low_watermark: Offset(seed as i64),
        });
    }

    #[test]
    fn whatever_reads_is_written_back_as_the_same_bytes(
        body in prop::collection::vec(any::<u8>(), 0..160),
        whole: bool,
    ) {
        garbage_is_a_row_or_refused::<SnapshotRow>(&body, whole);
        garbage_is_a_row_or_refused::<CheckpointRow>(&body, whole);
        garbage_is_a_row_or_refused::<WatermarkRow>(&body, whole);
        garbage_is_a_row_or_refused::<DeadLetter>(&body, whole);
        garbage_is_a_row_or_refused::<NoteRow>(&body, whole);
        garbage_is_a_row_or_refused::<ScheduleRow>(&body, whole);
        garbage_is_a_row_or_refused::<RunRow>(&body, whole);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    damage_is_found(&snapshot(1_700_000_000_000, "o-1", 15));
    damage_is_found(&letter(77, "o-1", 15));
    damage_is_found(&note(77, "o-1", 15));
    damage_is_found(&schedule(77, "o-1", 15));
    damage_is_found(&run(1_700_000_000_000, "o-1"));
    damage_is_found(&CheckpointRow {
        key: log(5, "orders"),
        pack: PackId([1; 16]),
        first_offset: Offset(3),
        end_offset: Offset(900),
        entries: 12,
        object_bytes: 70_000,
    });
    damage_is_found(&WatermarkRow {
        key: log(5, "orders"),
        topic_id: 1 << 90,
        leader_epoch: 7,
        low_watermark: Offset(41),
    });
}

#[test]
fn a_row_of_another_type_or_a_later_format_is_refused_by_name() {
    let letter = letter(1, "o-1", 0).encode();
    let error = SnapshotRow::decode(&letter).unwrap_err();
    assert!(error.detail.contains("type `4`"), "{error}");
    let mut later = snapshot(1, "o-1", 0).encode();
    later[1] = 2;
    let crc_at = later.len() - 4;
    let crc = crc32c::crc32c(&later[..crc_at]);
    later[crc_at..].copy_from_slice(&crc.to_le_bytes());
    let error = SnapshotRow::decode(&later).unwrap_err();
    assert!(error.detail.contains("format `2`"), "{error}");
}

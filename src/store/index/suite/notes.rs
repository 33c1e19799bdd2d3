//! Notes on snapshots, as every index keeps them.

use super::key;
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Timestamp, Version};
use crate::domain::row::NoteRow;
use crate::store::index::Index;

fn note(key: &AggregateKey, lineage: u32, version: u64, n: u8) -> NoteRow {
    let text = ["", "a", "ä\0", "x"][usize::from(n % 4)];
    NoteRow {
        key: key.clone(),
        lineage: Lineage(lineage),
        version: Version(version),
        at: LedgerId::mint(Timestamp(1_700_000_000_000 + i64::from(n)), [n; 10]),
        label: (n & 1 != 0).then(|| text.into()),
        pinned: (n & 2 != 0).then_some(n & 4 != 0),
        reason: (n & 8 != 0).then(|| text.into()),
    }
}

pub(super) async fn come_back_by_version_and_name(index: &dyn Index) {
    let (here, other) = (key("notes", "a"), key("notes", "a\0"));
    let mut expected = Vec::new();
    for version in [1, 2, u64::MAX / 2, u64::MAX] {
        for n in 0..16 {
            expected.push(note(&here, 1, version, n));
        }
    }
    // Twice, backwards: neither repetition nor order matters.
    for row in expected.iter().rev().chain(&expected) {
        index.put_note(row.clone()).await.unwrap();
    }
    for row in [note(&other, 1, 2, 3), note(&here, 2, 2, 3)] {
        index.put_note(row).await.unwrap();
    }
    let all = (Version(0), Version(u64::MAX));
    assert_eq!(index.notes(&here, Lineage(1), all).await, Ok(expected.clone()));
    for (from, to, range) in [(2, 2, 16..32), (2, u64::MAX / 2, 16..48), (3, 9, 0..0), (2, 1, 0..0)] {
        let read = index.notes(&here, Lineage(1), (Version(from), Version(to))).await;
        assert_eq!(read.as_deref(), Ok(&expected[range]), "{from}..={to}");
    }
    assert_eq!(index.notes(&other, Lineage(1), all).await, Ok(vec![note(&other, 1, 2, 3)]));
    assert_eq!(index.notes(&here, Lineage(3), all).await, Ok(vec![]));
}

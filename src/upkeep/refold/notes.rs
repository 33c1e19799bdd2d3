//! Labels and pins: what is noted on a snapshot of the old lineage is noted on the new lineage's snapshot
//! of the same event, whatever version that is now. Holds are of aggregates, and stay as they are.
//!
//! *If it fails*: what was noted is found the next time and not noted again.
//! *What may leak*: what somebody notes on the old lineage after an aggregate's turn is not carried.

use super::Refold;
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, Version};
use crate::domain::row::{NoteRow, Notes};
use crate::store::ledger::Ledger;
use crate::store::unavailable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is noted, by version; nothing where nothing is.
pub(super) type Noted = BTreeMap<Version, Notes>;

/// What is noted on an aggregate's snapshots in the old lineage.
pub(super) async fn read(refold: &Refold, key: &AggregateKey) -> Result<Noted> {
    of_lineage(refold, key, refold.from).await
}

async fn of_lineage(refold: &Refold, key: &AggregateKey, lineage: Lineage) -> Result<Noted> {
    let all = (Version(0), Version(u64::MAX));
    let rows = refold.reader.index.notes(key, lineage, all).await;
    let rows = rows.map_err(|error| unavailable("read the notes on snapshots", &error))?;
    let mut noted = Noted::new();
    rows.iter().for_each(|row| noted.entry(row.version).or_default().take(row));
    noted.retain(|_, notes| notes.label.is_some() || notes.pinned);
    Ok(noted)
}

/// Notes the same in the new lineage, by the versions that the events have there.
pub(super) async fn carry(refold: &Refold, key: &AggregateKey, carried: Noted) -> Result<()> {
    if carried.is_empty() {
        return Ok(());
    }
    let there = patiently!(refold, of_lineage(refold, key, refold.into));
    let ledger = Ledger {
        index: Arc::clone(&refold.reader.index),
        blobs: Arc::clone(&refold.reader.packs.blobs),
        clock: Arc::clone(&refold.store.clock),
    };
    for (version, notes) in carried {
        if there.get(&version) != Some(&notes) {
            let note = NoteRow {
                key: key.clone(),
                lineage: refold.into,
                version,
                at: LedgerId::default(),
                label: notes.label,
                pinned: Some(notes.pinned),
                reason: notes.reason,
            };
            patiently!(refold, ledger.note(note.clone()));
        }
        refold.progress.notes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

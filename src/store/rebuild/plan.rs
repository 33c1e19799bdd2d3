//! What one aggregate's rows are, out of all that footers say of it: pure.
//!
//! INVARIANT: a full row never tells of events that no increment holds, where increments were kept: the next
//! owner would take them for covered. Such a record comes from a flush that was never acknowledged, because
//! an acknowledgement takes all packs of a flush.

use super::ledger::Gone;
use crate::codec::pack::{EntryFacts, Footer};
use crate::domain::chain::genesis;
use crate::domain::error::Result;
use crate::domain::ids::{Lineage, Offset, PackId, PartitionNo, Version};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::{RecordKind, SnapshotRow, Trigger};
use std::sync::Arc;

/// Which log of which type: what a checkpoint's rows and low watermarks are about, but for the topic.
pub(super) type Part = (Arc<str>, PartitionNo, Lineage);

/// One record of a history or full pack.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) row: SnapshotRow,
    /// The link of the chain is not in the footer.
    pub(super) without_chain: bool,
    /// Type of the last event, trigger and bytes of the state are not in the footer.
    pub(super) without_facts: bool,
    /// The increment that ends here was written beside it.
    with_events: bool,
}

/// What a checkpoint holds of one aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) pack: PackId,
    pub(super) upto: Version,
    pub(super) marked: bool,
}

/// All that footers say of one aggregate in one partition under one lineage.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) drafts: Vec<Draft>,
    pub(super) pending: Vec<Pending>,
}

/// What is to be written of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Planned {
    /// Increments, ascending: written one after the other.
    pub(super) increments: Vec<Draft>,
    /// Full records: written once all increments are acknowledged.
    pub(super) fulls: Vec<Draft>,
    /// Full records of flushes that were never acknowledged: not written.
    pub(super) lone: u64,
    /// Full records whose events are in no pack although the low watermark has passed them: history is lost.
    pub(super) lost: Vec<Version>,
    /// Checkpoints that hold what no row does.
    pub(super) live: Vec<PackId>,
}

impl Draft {
    /// The row of an entry, as far as its footer tells.
    pub(super) fn of(footer: &Footer, at: usize, facts: Option<&EntryFacts>) -> Result<Self> {
        let (meta, locator) = (footer.meta(at)?, footer.locator(at)?);
        let (raw, frame) = (u64::from(locator.body_len), u64::from(locator.frame_len));
        let row = SnapshotRow {
            lineage: meta.id.lineage,
            version: meta.id.upto_version,
            pack: footer.header().pack,
            kind: meta.id.kind,
            from_version: meta.id.from_version,
            partition: meta.partition,
            first_offset: meta.first_offset,
            last_offset: meta.last_offset,
            leader_epoch: meta.leader_epoch,
            effective_time: meta.effective_time,
            created_at: footer.header().created,
            // It ended after the pack was written: nothing in a pack can tell. That it is 0 tells that the
            // row is a rebuilt one (`domain::ledger::row_written_at`).
            creation_ms: 0,
            trigger: facts.map_or(Trigger::Events, |facts| facts.trigger),
            event_type: facts.map(|facts| facts.event_type.clone()).unwrap_or_default(),
            chain: meta.chain.unwrap_or_else(|| genesis(&meta.id.key.kind, &meta.id.key.id)),
            raw_bytes: raw,
            stored_bytes: frame * raw / u64::from(locator.frame_raw_len).max(1),
            state_digest: meta.state_digest,
            state_bytes: facts.and_then(|facts| facts.state_bytes),
            deleted: meta.is_deleted,
            quarantined: meta.is_quarantined,
            locator: locator.encode(),
            key: meta.id.key,
        };
        let with_events = facts.is_some_and(|facts| facts.with_events);
        Ok(Self { row, without_chain: meta.chain.is_none(), without_facts: facts.is_none(), with_events })
    }

    fn holds(&self, version: Version) -> bool {
        self.row.from_version < version && version <= self.row.version || self.row.version == version
    }
}

/// Decides what is written of an aggregate; `low` is the low watermark that is known of its partition, `gone`
/// the rows that were deleted. Those covered what they did, so they count for everything but being written.
pub(super) fn plan(found: Found, low: Option<Offset>, gone: Option<&Gone>) -> Planned {
    let (mut increments, fulls): (Vec<Draft>, Vec<Draft>) =
        found.drafts.into_iter().partition(|draft| draft.row.kind != RecordKind::Full);
    increments.sort_by_key(|draft| (draft.row.version, draft.row.from_version, draft.row.pack));
    let mut planned = Planned { increments, ..Planned::default() };
    for mut full in fulls {
        let version = full.row.version;
        let beside = planned.increments.iter().any(|draft| draft.holds(version));
        // The pack of an increment that was deleted may be gone, too.
        let deleted = gone.into_iter().flatten();
        let deleted = deleted.filter(|((of, pack), _)| *of >= version && *pack != full.row.pack).count();
        if full.with_events && !beside && deleted == 0 && !mutant(Mutant::RebuildTakesLoneFulls) {
            let pending = found.pending.iter().any(|entry| entry.upto >= version);
            if pending || low.is_none_or(|low| full.row.last_offset >= low) {
                planned.lone += 1;
                continue;
            }
            planned.lost.push(version);
        }
        // The increment that ends at the same event says the same of the chain. One that merely has the same
        // version may be of events that the log has lost since (seed 9596, given).
        let event = |row: &SnapshotRow| (row.version, row.last_offset, row.leader_epoch);
        let is_twin = |draft: &&Draft| event(&draft.row) == event(&full.row) && !draft.without_chain;
        let twin = planned.increments.iter().find(is_twin);
        if let Some(twin) = twin.filter(|_| full.without_chain) {
            full.row.chain = twin.row.chain;
            full.without_chain = false;
        }
        planned.fulls.push(full);
    }
    let rows = || planned.increments.iter().chain(&planned.fulls).map(|draft| &draft.row);
    let newest = rows().map(|row| row.version).max();
    let marked = rows().filter(|row| row.quarantined).map(|row| row.version).max();
    let is_left = |entry: &&Pending| {
        let row = if entry.marked { marked } else { newest };
        row.is_none_or(|row| row < entry.upto)
    };
    planned.live = found.pending.iter().filter(is_left).map(|entry| entry.pack).collect();
    let is_kept =
        |draft: &Draft| gone.is_none_or(|gone| !gone.contains_key(&(draft.row.version, draft.row.pack)));
    planned.increments.retain(is_kept);
    planned.fulls.retain(is_kept);
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{AggregateKey, Digest, LedgerId, Timestamp};

    fn pack(n: u8) -> PackId {
        PackId([n; 16])
    }

    fn draft(kind: RecordKind, from: u64, version: u64, with_events: bool) -> Draft {
        let row = SnapshotRow {
            key: AggregateKey { kind: "order".into(), id: "a".into() },
            lineage: Lineage(1),
            version: Version(version),
            pack: pack(1),
            kind,
            from_version: Version(from),
            partition: PartitionNo(0),
            first_offset: Offset(from as i64 + 1),
            last_offset: Offset(version as i64),
            leader_epoch: 0,
            effective_time: Timestamp(0),
            created_at: Timestamp(0),
            creation_ms: 0,
            trigger: Trigger::Events,
            event_type: "".into(),
            chain: Digest([version as u8; 32]),
            raw_bytes: 1,
            stored_bytes: 1,
            state_digest: None,
            state_bytes: None,
            deleted: false,
            quarantined: false,
            locator: Vec::new(),
        };
        let without_chain = kind == RecordKind::Full && with_events;
        Draft { row, without_chain, without_facts: false, with_events }
    }

    fn increment(from: u64, version: u64) -> Draft {
        draft(RecordKind::Increment, from, version, false)
    }

    fn versions(drafts: &[Draft]) -> Vec<u64> {
        drafts.iter().map(|draft| draft.row.version.0).collect()
    }

    #[test]
    fn increments_come_in_order_and_full_rows_after_those_that_hold_their_events() {
        let full = draft(RecordKind::Full, 5, 8, true);
        let drafts = vec![full, increment(5, 8), increment(0, 5)];
        let planned = plan(Found { drafts, pending: Vec::new() }, None, None);
        assert_eq!((versions(&planned.increments), versions(&planned.fulls)), (vec![5, 8], vec![8]));
        assert!(!planned.fulls[0].without_chain, "the increment beside it has the chain");
        assert_eq!(planned.fulls[0].row.chain, Digest([8; 32]));
    }

    #[test]
    fn the_chain_is_that_of_the_same_event_not_of_the_same_version() {
        let (mut lost, mut full, mut twin) =
            (increment(5, 8), draft(RecordKind::Full, 5, 8, true), increment(5, 8));
        (lost.row.chain, full.row.last_offset, twin.row.last_offset) =
            (Digest([9; 32]), Offset(10), Offset(10));
        (lost.row.pack, twin.row.pack) = (pack(0), pack(2));
        let drafts = vec![increment(0, 5), lost, full, twin];
        let planned = plan(Found { drafts, pending: Vec::new() }, None, None);
        assert_eq!(planned.fulls[0].row.chain, Digest([8; 32]));
    }

    #[test]
    fn a_full_record_without_its_events_is_of_a_dead_flush_or_tells_of_a_loss() {
        let found =
            |pending| Found { drafts: vec![increment(0, 5), draft(RecordKind::Full, 5, 8, true)], pending };
        let dead = plan(found(Vec::new()), Some(Offset(8)), None);
        assert_eq!((versions(&dead.fulls), dead.lone, dead.lost.len()), (vec![], 1, 0));
        let lost = plan(found(Vec::new()), Some(Offset(9)), None);
        assert_eq!((versions(&lost.fulls), lost.lone, lost.lost), (vec![8], 0, vec![Version(8)]));
        let entry = Pending { pack: pack(2), upto: Version(9), marked: false };
        let pending = plan(found(vec![entry]), Some(Offset(9)), None);
        assert_eq!((versions(&pending.fulls), pending.lone, pending.live), (vec![], 1, vec![pack(2)]));
    }

    #[test]
    fn full_records_of_a_stream_that_keeps_no_events_stand_alone() {
        let drafts = vec![draft(RecordKind::Full, 0, 5, false), draft(RecordKind::Full, 5, 9, false)];
        let planned = plan(Found { drafts, pending: Vec::new() }, Some(Offset(1)), None);
        assert_eq!((versions(&planned.fulls), planned.lone), (vec![5, 9], 0));
    }

    #[test]
    fn a_checkpoint_stays_while_it_holds_a_version_or_a_mark_that_no_row_has() {
        let entry = |pack_no, upto, marked| Pending { pack: pack(pack_no), upto: Version(upto), marked };
        let pending = vec![entry(1, 5, false), entry(2, 6, false), entry(3, 5, true)];
        let planned = plan(Found { drafts: vec![increment(0, 5)], pending: pending.clone() }, None, None);
        assert_eq!(planned.live, [pack(2), pack(3)]);
        let mut marked = increment(5, 6);
        marked.row.quarantined = true;
        let planned = plan(Found { drafts: vec![increment(0, 5), marked], pending }, None, None);
        assert_eq!(planned.live, []);
    }

    #[test]
    fn what_was_deleted_is_not_written_and_proves_that_it_was_there() {
        let gone: Gone =
            [(Version(5), pack(1)), (Version(8), pack(7))].map(|row| (row, LedgerId::default())).into();
        let drafts = vec![increment(0, 5), draft(RecordKind::Full, 5, 8, true)];
        let entry = Pending { pack: pack(2), upto: Version(5), marked: false };
        let planned = plan(Found { drafts, pending: vec![entry] }, Some(Offset(1)), Some(&gone));
        assert_eq!((versions(&planned.increments), versions(&planned.fulls)), (vec![], vec![8]));
        assert_eq!((planned.lone, planned.live), (0, vec![]), "its increment was deleted, not lost");
    }
}

//! Blocks that one flush needs, fetched with few calls: of a far store one call costs more than the bytes
//! between two blocks that lie near each other, and what snapshots take from checkpoints does.
//!
//! *If it fails*: nothing is kept; whoever needs a block fetches it alone, and tells what went wrong.
//! COST: bytes that nobody needs, at most [`GAP_MAX`] of them between two blocks.

use super::locate;
use crate::codec::pack::{Locator, pack_name};
use crate::domain::partition::EntryRef;
use crate::store::flush::Flush;
use crate::store::packs::{Packs, checked_frame};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes between two blocks that are fetched rather than asked past.
const GAP_MAX: u64 = 64 << 10;
/// Bytes of one call.
const SPAN_MAX: u64 = 1 << 20;
/// Calls at the same time.
const CALLS_AT_ONCE: usize = 4;
/// Uncompressed bytes of blocks that are fetched ahead: they must still be kept when they are used.
const AHEAD_BYTES_MAX: u64 = 4 << 20;

impl Packs {
    /// Fetches blocks that the first of these flushes need, and says how many flushes that are: at least one.
    pub(in crate::store) async fn gather(&self, flushes: &[Flush]) -> usize {
        let mut blocks: BTreeMap<(_, u64), Locator> = BTreeMap::new();
        let (mut bytes, mut served) = (0u64, 0);
        for flush in flushes {
            if bytes >= AHEAD_BYTES_MAX {
                break;
            }
            served += 1;
            let key = flush.key();
            // What the row before has is not read.
            let is_read = |entry: &&EntryRef| flush.item.increment && entry.upto > flush.item.row;
            let pending = flush.item.pending.iter().filter(is_read);
            // One that cannot be located is found again by whoever reads it.
            let located = pending.filter_map(|entry| locate(&flush.partition, &key, entry).ok());
            for (_, locator) in located.filter(|(_, locator)| self.checkpoints.block(locator).is_none()) {
                let len = u64::from(locator.frame_raw_len);
                let before = blocks.insert((locator.pack, locator.frame_offset), locator);
                bytes += if before.is_none() { len } else { 0 };
            }
        }
        let spans = spans(blocks.into_values()).into_iter().filter(|span| span.len() > 1);
        let calls: Vec<_> = spans.map(|span| self.fetch(span)).collect();
        stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).collect::<()>().await;
        served
    }

    async fn fetch(&self, span: Vec<Locator>) {
        let Some((first, last)) = span.first().zip(span.last()) else { return };
        let (start, end) = (first.range().start, last.range().end);
        let bytes = self.blobs.get_range(&pack_name(first.class, first.pack), start, end - start).await;
        let Ok(bytes) = bytes else { return };
        for locator in &span {
            let within = |at: u64| usize::try_from(at - start).ok();
            let range = within(locator.range().start).zip(within(locator.range().end));
            let frame = range.and_then(|(from, to)| bytes.get(from..to));
            // SUBTLE: each body is checked when it is read, and its block read again where it is damaged.
            if let Some(Ok(block)) = frame.map(|frame| checked_frame(locator, frame, None)) {
                self.checkpoints.keep_block(locator, &Arc::new(block));
            }
        }
    }
}

/// Blocks in the order of packs and places, as those that are fetched together.
fn spans(blocks: impl Iterator<Item = Locator>) -> Vec<Vec<Locator>> {
    let mut spans: Vec<Vec<Locator>> = Vec::new();
    for block in blocks {
        let joins = |span: &&mut Vec<Locator>| {
            let (Some(first), Some(last)) = (span.first(), span.last()) else { return false };
            first.pack == block.pack
                && block.range().start.saturating_sub(last.range().end) <= GAP_MAX
                && block.range().end - first.range().start <= SPAN_MAX
        };
        match spans.last_mut().filter(joins) {
            Some(span) => span.push(block),
            None => spans.push(vec![block]),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress::Algorithm;
    use crate::codec::pack::Class;
    use crate::domain::ids::PackId;

    fn block(pack: u8, frame_offset: u64, frame_len: u32) -> Locator {
        Locator {
            pack: PackId([pack; 16]),
            class: Class::Checkpoint,
            frame_offset,
            frame_len,
            frame_raw_len: 16 << 10,
            algorithm: Algorithm::None,
            dictionary: None,
            body_start: 0,
            body_len: 1,
            crc: 0,
            trail: None,
            inline: None,
        }
    }

    #[test]
    fn blocks_near_each_other_in_a_pack_come_together() {
        let places = |blocks: &[(u8, u64, u32)]| {
            let blocks = blocks.iter().map(|(pack, offset, len)| block(*pack, *offset, *len));
            let of = |span: &Vec<Locator>| span.iter().map(|block| block.frame_offset).collect::<Vec<_>>();
            spans(blocks).iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(places(&[]), Vec::<Vec<u64>>::new());
        let gap = GAP_MAX;
        assert_eq!(places(&[(1, 0, 10), (1, 10, 5), (1, 15 + gap, 5)]), [vec![0, 10, 15 + gap]]);
        assert_eq!(places(&[(1, 0, 10), (1, 11 + gap, 5)]), [vec![0], vec![11 + gap]], "far from each other");
        assert_eq!(places(&[(1, 0, 10), (2, 10, 5)]), [vec![0], vec![10]], "of two packs");
        let (most, large) = (SPAN_MAX, u32::try_from(SPAN_MAX).unwrap());
        assert_eq!(places(&[(1, 0, 1), (1, 1, large - 1), (1, most, 1)]), [vec![0, 1], vec![most]]);
    }
}

//! How a stretch of events is divided into segments: as many whole rows as fit into one, and rows that are
//! too large for one into equal parts.

use super::cover::Span;
use super::{Depth, Order, PlannedSegment};
use crate::domain::ids::Version;
use crate::domain::record::SegmentBody;

/// Bytes of events, before compression, that a segment has at about the most.
pub const EVENT_BYTES_MAX: u64 = 64 << 10;

/// Spans that become one segment.
#[derive(Default)]
struct Group {
    spans: Vec<Span>,
    events: u64,
    bytes: u64,
}

impl Group {
    fn has_room_for(&self, span: &Span, events_max: u64) -> bool {
        self.events + span.events() <= events_max && self.bytes + span.bytes <= EVENT_BYTES_MAX
    }

    fn push(&mut self, span: Span) {
        self.events += span.events();
        self.bytes += span.bytes;
        self.spans.push(span);
    }

    /// The segment that is to be written; none where one is there already.
    fn planned(&self) -> Option<PlannedSegment> {
        let (first, last) = (self.spans.first()?, self.spans.last()?);
        let is_there = self.spans.len() == 1 && first.is_segment;
        (!is_there).then_some(PlannedSegment { from: first.from, upto: last.upto })
    }
}

/// The segments to be written for a stretch of spans that follow each other.
pub(super) fn pack(stretch: &[Span], order: &Order) -> Vec<PlannedSegment> {
    let events_max = order.events_max.clamp(1, SegmentBody::EVENTS_MAX) as u64;
    let mut planned = Vec::new();
    let mut group = Group::default();
    for span in stretch {
        if !group.has_room_for(span, events_max) {
            planned.extend(std::mem::take(&mut group).planned());
        }
        if group.has_room_for(span, events_max) {
            group.push(*span);
        } else if !span.is_segment {
            planned.extend(parts(span, events_max));
        }
    }
    // What comes next may still be merged with the last of them; one increment alone is as good as merged.
    if order.depth == Depth::All && group.spans.len() > 1 {
        planned.extend(group.planned());
    }
    planned
}

/// A span that no segment can hold, in equal parts.
fn parts(span: &Span, events_max: u64) -> impl Iterator<Item = PlannedSegment> + use<> {
    let (from, events) = (span.from.0, span.events());
    let parts = events.div_ceil(events_max).max(span.bytes.div_ceil(EVENT_BYTES_MAX)).min(events);
    // INVARIANT: versions of one row are far fewer than 2^32, so the products fit.
    let cut = move |nth: u64| Version(from + events * nth / parts);
    (0..parts).map(move |nth| PlannedSegment { from: cut(nth), upto: cut(nth + 1) })
}

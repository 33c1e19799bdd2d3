//! Stretches of versions whose events rows hold without a gap.

use crate::domain::ids::Version;

/// The events that one row holds: those after `from` up to `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Version,
    pub(super) upto: Version,
    /// Bytes of its record before compression.
    pub(super) bytes: u64,
    pub(super) is_segment: bool,
}

impl Span {
    pub(super) fn events(&self) -> u64 {
        self.upto.0.saturating_sub(self.from.0)
    }

    /// The rest of it after a version; a segment that is cut is no whole one.
    fn after(self, version: Version) -> Self {
        if self.from >= version {
            return self;
        }
        let rest = Self { from: version, is_segment: false, ..self };
        Self { bytes: self.bytes / self.events().max(1) * rest.events(), ..rest }
    }
}

/// Spans that hold the same events, segments before increments, divided where a version's event is in none of
/// them. Each starts where the one before it ends.
pub(super) fn stretches(spans: &[Span]) -> Vec<Vec<Span>> {
    let mut sorted: Vec<Span> = spans.to_vec();
    sorted.sort_by_key(|span| (span.from, span.upto, span.is_segment));
    let mut stretches: Vec<Vec<Span>> = Vec::new();
    let mut ahead = sorted.into_iter().peekable();
    while let Some(first) = ahead.peek() {
        let mut end = first.from;
        let mut stretch = Vec::new();
        // Of the spans that start by now the segment and the increment that lead farthest.
        let mut farthest: [Option<Span>; 2] = [None; 2];
        loop {
            while let Some(span) = ahead.next_if(|span| span.from <= end) {
                let best = &mut farthest[usize::from(!span.is_segment)];
                if best.is_none_or(|best| span.upto >= best.upto) {
                    *best = Some(span);
                }
            }
            let Some(span) = farthest.into_iter().flatten().find(|span| span.upto > end) else { break };
            stretch.push(span.after(end));
            end = span.upto;
        }
        if !stretch.is_empty() {
            stretches.push(stretch);
        }
    }
    stretches
}

/// Versions that spans hold, as the fewest stretches.
pub(super) struct Cover(Vec<(Version, Version)>);

impl Cover {
    /// Of spans in any order.
    pub(super) fn of(spans: impl Iterator<Item = (Version, Version)>) -> Self {
        let mut sorted: Vec<(Version, Version)> = spans.collect();
        sorted.sort_unstable();
        let mut merged: Vec<(Version, Version)> = Vec::new();
        for (from, upto) in sorted {
            match merged.last_mut() {
                Some((_, end)) if from <= *end => *end = upto.max(*end),
                _ => merged.push((from, upto)),
            }
        }
        Self(merged)
    }

    /// All events after `from` up to `upto` are held.
    pub(super) fn holds(&self, from: Version, upto: Version) -> bool {
        self.0.iter().any(|(start, end)| *start <= from && upto <= *end)
    }

    /// Of segments: the state of this version can be had from one of them.
    pub(super) fn answers(&self, version: Version) -> bool {
        self.holds(version, version)
    }

    /// How far events lead from the state of a version; none where they do not lead on.
    pub(super) fn end_from(&self, version: Version) -> Option<Version> {
        let stretch = self.0.iter().find(|(start, end)| *start <= version && version < *end);
        stretch.map(|(_, end)| *end)
    }
}

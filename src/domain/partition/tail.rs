//! The tail of an aggregate: its events that nothing durable covers, in version order.
//!
//! COST: what is written of a tail shares it. Most aggregates get no event while their checkpoint is written,
//! so nothing is copied for them; the others are copied by the next event that comes.

use crate::domain::ids::Version;
use crate::domain::record::StoredEvent;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes counted for an event beside its record: its place, its share of what is held with it (which is most
/// of it for a single event; for many it is the spare room), and the counts before its value. Its key is
/// mostly the aggregate's id and takes nothing then.
const EVENT_BYTES: usize = size_of::<StoredEvent>() + size_of::<Held>() + 32;

/// Events in version order, without gaps.
#[derive(Clone, Debug, Default)]
pub struct Tail(Option<Arc<Held>>);

#[derive(Clone, Debug, Default)]
struct Held {
    events: Vec<StoredEvent>,
    bytes: usize,
    since_ms: u64,
}

impl Deref for Tail {
    type Target = [StoredEvent];

    fn deref(&self) -> &[StoredEvent] {
        self.0.as_ref().map_or(&[], |held| &held.events)
    }
}

impl<'a> IntoIterator for &'a Tail {
    type Item = &'a StoredEvent;
    type IntoIter = std::slice::Iter<'a, StoredEvent>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Vec<StoredEvent>> for Tail {
    fn from(events: Vec<StoredEvent>) -> Self {
        let bytes = events.iter().map(bytes).sum();
        Self(Some(Arc::new(Held { events, bytes, since_ms: 0 })))
    }
}

fn bytes(event: &StoredEvent) -> usize {
    event.record.bytes() + EVENT_BYTES
}

impl Tail {
    /// Nothing.
    pub(super) const NONE: Self = Self(None);

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.bytes)
    }

    /// Monotonic time at which the first event (or the mark) came, or later never: an upper bound of its age.
    pub(super) fn since_ms(&self) -> u64 {
        self.0.as_ref().map_or(0, |held| held.since_ms)
    }

    /// What is uncovered counts from now, though there may be no event.
    pub(super) fn start(&mut self, now_ms: u64) {
        Arc::make_mut(self.0.get_or_insert_default()).since_ms = now_ms;
    }

    /// Adds the next event.
    pub(super) fn push(&mut self, event: StoredEvent, now_ms: u64) {
        let held = Arc::make_mut(self.0.get_or_insert_default());
        if held.events.is_empty() {
            held.since_ms = now_ms;
            held.events.reserve_exact(1);
        }
        held.bytes += bytes(&event);
        held.events.push(event);
    }

    /// The events up to `version`.
    pub(super) fn upto(&self, version: Version) -> Self {
        match self.partition_point(|event| event.version <= version) {
            all if all == self.len() => self.clone(),
            some => Self::from(self[..some].to_vec()),
        }
    }

    /// Lets go of the events up to `version`; what is left may count from `covered_since_ms`.
    pub(super) fn cover(&mut self, version: Version, covered_since_ms: u64) {
        let Some(held) = &mut self.0 else { return };
        let since_ms = held.since_ms.max(covered_since_ms);
        let covered = held.events.partition_point(|event| event.version <= version);
        if let Some(held) = Arc::get_mut(held) {
            held.bytes -= held.events.drain(..covered).map(|event| bytes(&event)).sum::<usize>();
            held.since_ms = since_ms;
        } else {
            *self = Self::from(self[covered..].to_vec());
            self.start(since_ms);
        }
    }

    /// Lets go of the room for events, if there are none.
    pub(super) fn settle(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Offset;
    use crate::domain::record::RawRecord;

    fn event(version: u64) -> StoredEvent {
        let offset = Offset(i64::try_from(version).unwrap() * 10);
        let record = RawRecord { offset, value: Some(Arc::from(&b"{}"[..])), ..RawRecord::default() };
        StoredEvent { version: Version(version), skipped: false, record }
    }

    fn versions(tail: &Tail) -> Vec<u64> {
        tail.iter().map(|event| event.version.0).collect()
    }

    #[test]
    fn what_is_written_of_a_tail_stays_as_it_was_while_the_tail_goes_on() {
        let mut tail = Tail::NONE;
        (5..8).for_each(|version| tail.push(event(version), 100));
        let (all, some) = (tail.upto(Version(9)), tail.upto(Version(5)));
        tail.push(event(8), 200);
        assert_eq!((versions(&all), versions(&some)), (vec![5, 6, 7], vec![5]));
        assert_eq!((versions(&tail), tail.since_ms()), (vec![5, 6, 7, 8], 100));
        let shared = tail.clone();
        tail.cover(Version(6), 150);
        assert_eq!((versions(&tail), tail.since_ms()), (vec![7, 8], 150));
        assert_eq!(versions(&shared), [5, 6, 7, 8]);
        tail.cover(Version(7), 0);
        assert_eq!((versions(&tail), tail.since_ms()), (vec![8], 150));
        assert_eq!(tail.bytes(), 2 + EVENT_BYTES);
        tail.cover(Version(8), 0);
        assert_eq!(tail.bytes(), 0);
        tail.settle();
        assert!(tail.is_empty() && tail.0.is_none());
    }
}

//! Bodies come back as they were, and damage is never taken for a body.

use super::*;
use crate::domain::ids::Digest;
use crate::domain::record::{FullBody, IncrementBody, RawRecord, SegmentBody, StoredEvent};
use proptest::prelude::*;
use std::sync::Arc;

const ID: &str = "o-42";

fn bytes() -> impl Strategy<Value = Option<Arc<[u8]>>> {
    prop_oneof![
        Just(None),
        Just(Some(ID.as_bytes().into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Some(bytes.into()))
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        (-9_000..30_000_i64).prop_map(|days| days * 86_400_000),
        (0..9_i64).prop_map(|s| s * 1_000)
    ]
}

fn mark() -> impl Strategy<Value = Option<QuarantineMark>> {
    prop::option::of((".{0,20}", any::<u64>(), any::<i64>(), any::<i32>(), time()).prop_map(
        |(code, version, offset, leader_epoch, since)| QuarantineMark {
            code: code.into(),
            version: Version(version),
            offset: Offset(offset),
            leader_epoch,
            since: Timestamp(since),
        },
    ))
}

fn event() -> impl Strategy<Value = (StoredEvent, i64)> {
    let headers = prop::collection::vec((".{0,9}".prop_map(Box::from), bytes()), 0..3);
    let own = Just(Some(Arc::from(ID.as_bytes())));
    let epoch = prop_oneof![4 => Just(3), 1 => any::<i32>()];
    (prop_oneof![own, bytes()], bytes(), headers, epoch, time(), any::<bool>(), 1..1_000_i64).prop_map(
        |(key, value, headers, leader_epoch, time, skipped, gap)| {
            let record_time = Timestamp(time);
            (
                StoredEvent {
                    version: Version(0),
                    skipped,
                    record: RawRecord { key, value, headers, leader_epoch, record_time, offset: Offset(0) },
                },
                gap,
            )
        },
    )
}

fn increment() -> impl Strategy<Value = IncrementBody> {
    let events = prop::collection::vec(event(), 1..20);
    let starts = (0..u64::MAX - 100, prop_oneof![0..9_000_i64, Just(i64::MIN), Just(i64::MAX - 20_000)]);
    (events, starts, mark()).prop_map(|(events, (version, mut offset), quarantine)| {
        let number = |(at, (event, gap)): (usize, (StoredEvent, i64))| {
            offset += gap;
            let record = RawRecord { offset: Offset(offset), ..event.record };
            StoredEvent { version: Version(version + at as u64), record, ..event }
        };
        let events = events.into_iter().enumerate().map(number).collect();
        IncrementBody { events, quarantine }
    })
}

prop_compose! {
    fn full()(
        (version, offset, leader_epoch, deleted) in any::<(u64, i64, i32, bool)>(),
        (effective, first) in (time(), time()),
        chain in any::<[u8; 32]>(),
        last_event_type in ".{0,20}",
        last_event_id in prop::option::of(".{0,20}"),
        recent_event_ids in prop::collection::vec(any::<u64>(), 0..9),
        quarantine in mark(),
        state in prop::option::of(prop::collection::vec(any::<u8>(), 0..90)),
    ) -> FullBody {
        FullBody {
            version: Version(version), offset: Offset(offset), leader_epoch, deleted, recent_event_ids,
            quarantine,
            effective_time: Timestamp(effective), first_time: Timestamp(first), chain: Digest(chain),
            last_event_type: last_event_type.into(), last_event_id: last_event_id.map(Into::into),
            state: state.map(Into::into),
        }
    }
}

/// Events as they come, after a base that they follow on, or from the first on.
fn segment() -> impl Strategy<Value = SegmentBody> {
    (increment(), prop::option::of(full())).prop_map(|(increment, base)| {
        let mut events = increment.events;
        let first = if base.is_some() { events[0].version.0.max(2) } else { 1 };
        for (event, version) in events.iter_mut().zip(first..) {
            event.version = Version(version);
        }
        let before = Offset(events[0].record.offset.0.saturating_sub(1));
        // The least of all offsets follows on none.
        let base = base.filter(|_| before < events[0].record.offset).map(|base| FullBody {
            version: Version(first - 1),
            offset: before,
            quarantine: None,
            ..base
        });
        if base.is_none() {
            for (event, version) in events.iter_mut().zip(1..) {
                event.version = Version(version);
            }
        }
        SegmentBody { base, events }
    })
}

proptest! {
    #[test]
    fn a_segment_comes_back_as_it_was(body in segment()) {
        let bytes = encode_segment(&body, ID).unwrap();
        prop_assert_eq!(decode_segment(&bytes, ID).unwrap(), body);
    }

    #[test]
    fn a_damaged_segment_is_an_error_or_is_itself_the_encoding_of_what_it_says(
        body in segment(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let mut bytes = encode_segment(&body, ID).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(body) = decode_segment(&bytes, ID) {
            prop_assert_eq!(encode_segment(&body, ID).unwrap(), bytes);
        }
    }

    #[test]
    fn an_increment_comes_back_as_it_was(body in increment()) {
        let bytes = encode_increment(&body, ID).unwrap();
        prop_assert_eq!(decode_increment(&bytes, ID).unwrap(), body);
    }

    #[test]
    fn a_full_body_comes_back_as_it_was(body in full()) {
        prop_assert_eq!(decode_full(&encode_full(&body)).unwrap(), body);
    }

    /// Goal: one value, one encoding; nothing panics. Method: damage a good body anywhere.
    #[test]
    fn a_damaged_body_is_an_error_or_is_itself_the_encoding_of_what_it_says(
        increment in increment(), full in full(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let damage = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            bytes
        };
        let bytes = damage(encode_increment(&increment, ID).unwrap());
        if let Ok(body) = decode_increment(&bytes, ID) {
            prop_assert_eq!(encode_increment(&body, ID).unwrap(), bytes);
        }
        let bytes = damage(encode_full(&full));
        if let Ok(body) = decode_full(&bytes) {
            prop_assert_eq!(encode_full(&body), bytes);
        }
    }
}

#[test]
fn an_increment_without_events_or_with_gaps_is_refused() {
    let at = |version, offset| StoredEvent {
        version: Version(version),
        record: RawRecord { offset: Offset(offset), ..Default::default() },
        ..Default::default()
    };
    let encode = |events| encode_increment(&IncrementBody { events, ..Default::default() }, ID);
    assert!(encode(vec![]).is_err());
    assert!(encode(vec![at(1, 5), at(3, 6)]).is_err());
    assert!(encode(vec![at(1, 5), at(2, 5)]).is_err());
    assert!(encode(vec![at(1, 5), at(2, 6)]).is_ok());
}

#[test]
fn an_increment_may_only_carry_a_mark() {
    let mark = QuarantineMark {
        code: "version-gap".into(),
        version: Version(7),
        offset: Offset(9),
        leader_epoch: 4,
        since: Timestamp(1),
    };
    let body = IncrementBody { events: Vec::new(), quarantine: Some(mark) };
    let bytes = encode_increment(&body, ID).unwrap();
    assert_eq!(decode_increment(&bytes, ID).unwrap(), body);
}

#[test]
fn a_short_event_costs_few_bytes_beyond_its_value() {
    let at = |version: u64| StoredEvent {
        version: Version(version),
        skipped: false,
        record: RawRecord {
            offset: Offset(1_000_000 + version as i64 * 100),
            leader_epoch: 0,
            record_time: Timestamp(1_150_502_400_000 + version as i64 * 86_400_000),
            key: Some(ID.as_bytes().into()),
            value: Some([b'x'; 186].into()),
            headers: Vec::new(),
        },
    };
    let body = IncrementBody { events: vec![at(1), at(2), at(3)], ..Default::default() };
    assert_eq!(encode_increment(&body, ID).unwrap().len(), 3 * 186 + 21);
}

#[test]
fn a_segment_whose_events_do_not_join_its_base_is_refused() {
    let event = |version, offset| StoredEvent {
        version: Version(version),
        record: RawRecord { offset: Offset(offset), ..Default::default() },
        ..Default::default()
    };
    let base = |version, offset| {
        Some(FullBody { version: Version(version), offset: Offset(offset), ..Default::default() })
    };
    let encode = |base, events| encode_segment(&SegmentBody { base, events }, ID);
    assert!(encode(base(4, 9), vec![event(5, 10)]).is_ok());
    assert!(encode(None, vec![event(1, 0)]).is_ok());
    let marked = FullBody {
        quarantine: Some(QuarantineMark {
            code: "version-gap".into(),
            version: Version(4),
            offset: Offset(9),
            leader_epoch: 0,
            since: Timestamp(1),
        }),
        ..base(4, 9).unwrap()
    };
    let many = (1..=257).map(|version| event(version, version as i64)).collect::<Vec<_>>();
    for (base, events) in [
        (base(4, 9), vec![]),
        (base(4, 9), vec![event(6, 10)]),
        (base(4, 9), vec![event(4, 10)]),
        (base(4, 10), vec![event(5, 10)]),
        (base(0, -1), vec![event(1, 0)]),
        (Some(marked), vec![event(5, 10)]),
        (None, vec![event(2, 0)]),
        (None, many.clone()),
    ] {
        assert!(encode(base, events).is_err());
    }
    assert!(encode(None, many[..256].to_vec()).is_ok());
}

/// Goal: a claim of many events allocates nothing. Method: the body of an increment of more than a segment
/// may have, where that of its events is expected.
#[test]
fn a_segment_of_too_many_events_is_refused_before_they_are_read() {
    let event = |version: u64| StoredEvent {
        version: Version(version),
        record: RawRecord { offset: Offset(version as i64), ..Default::default() },
        ..Default::default()
    };
    let body = IncrementBody { events: (1..=257).map(event).collect(), quarantine: None };
    let bytes = [&[1, 0], &encode_increment(&body, ID).unwrap()[..]].concat();
    let error = decode_segment(&bytes, ID).unwrap_err();
    assert!(error.detail.contains("a segment of `257` events"), "{error}");
}

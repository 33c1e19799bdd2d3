//! Workers agree about the active lineage, whatever the store does to their calls.

use super::*;
use crate::domain::error::ErrorKind;
use crate::domain::ids::{LedgerId, Timestamp};
use crate::store::blobs::MemoryBlobs;
use crate::store::faulty::{Faults, FaultyBlobs};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

const OLD: Digest = Digest([1; 32]);
const NEW: Digest = Digest([2; 32]);
const OTHER: Digest = Digest([3; 32]);
const MAPPING: Digest = Digest([4; 32]);

fn wish(topic_id: u128, fingerprint: Digest) -> Wish {
    Wish { topic_id, fingerprint, mapping: MAPPING, partitions: 4 }
}

fn may(new_lineage: bool) -> Permission {
    Permission { new_lineage, ..Permission::default() }
}

fn ask(blobs: &dyn Blobs, topic_id: u128, fingerprint: Digest, new_lineage: bool) -> Activated {
    let asked = activate(blobs, "orders", wish(topic_id, fingerprint), may(new_lineage)).now_or_never();
    asked.expect("memory answers at once").expect("memory does not fail")
}

fn ready(lineage: u32) -> Activated {
    Activated::Ready(Lineage(lineage))
}

#[test]
fn the_first_lineage_is_one_and_asking_again_changes_nothing() {
    let blobs = MemoryBlobs::new();
    for new_lineage in [false, true, true, false] {
        assert_eq!(ask(&blobs, 7, OLD, new_lineage), ready(1));
    }
    let history = history(&blobs, "orders").now_or_never().unwrap().unwrap();
    let first = Activation {
        topic: "orders".into(),
        topic_id: 7,
        fingerprint: OLD,
        lineage: Lineage(1),
        partitions: Some(4),
        mapping: Some(MAPPING),
        role: Role::Active,
    };
    assert_eq!(history, [first]);
}

#[test]
fn a_changed_fingerprint_is_refused_naming_both_unless_it_is_asked_for() {
    let blobs = MemoryBlobs::new();
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
    let Activated::Changed { what } = ask(&blobs, 7, NEW, false) else { panic!("it is another fingerprint") };
    for part in [&OLD.to_string(), &NEW.to_string(), "`orders`", "lineage 1", "--new-lineage"] {
        assert!(what.contains(part), "`{part}` is not in: {what}");
    }
    assert_eq!(ask(&blobs, 7, NEW, true), ready(2));
    assert_eq!(ask(&blobs, 7, NEW, false), ready(2));
    assert!(matches!(ask(&blobs, 7, OLD, false), Activated::Changed { .. }), "1 is active no more");
    // Rolled back: the same pair is the same lineage.
    assert_eq!(ask(&blobs, 7, OLD, true), ready(1));
    assert_eq!(ask(&blobs, 7, OTHER, true), ready(3));
}

#[test]
fn partitions_that_were_added_are_refused_until_they_are_accepted_and_none_may_be_gone() {
    let blobs = MemoryBlobs::new();
    let ask = |partitions, more_partitions| {
        let permission = Permission { more_partitions, ..Permission::default() };
        let wish = Wish { partitions, ..wish(7, OLD) };
        activate(&blobs, "orders", wish, permission).now_or_never().unwrap().unwrap()
    };
    assert_eq!(ask(4, false), ready(1));
    let Activated::Changed { what } = ask(6, false) else { panic!("two were added") };
    for part in ["`orders`", "6 partitions", "folds 4", "--accept-partitions"] {
        assert!(what.contains(part), "`{part}` is not in: {what}");
    }
    assert_eq!(ask(6, true), ready(1));
    assert_eq!(ask(6, false), ready(1));
    for accept in [false, true] {
        assert!(matches!(ask(4, accept), Activated::Changed { .. }), "two are gone");
    }
}

#[test]
fn an_activation_of_before_partitions_were_noted_is_read_and_counts_whatever_they_are() {
    let old = Activation {
        topic: "orders".into(),
        topic_id: 7,
        fingerprint: OLD,
        lineage: Lineage(5),
        partitions: None,
        mapping: None,
        role: Role::Active,
    };
    let bytes = old.encode();
    assert!(!bytes.contains("partitions"));
    assert_eq!(Activation::decode(bytes.as_bytes()), Some(old));
    let blobs = MemoryBlobs::new();
    blobs.put_new(&name("orders", 1), bytes.as_bytes()).now_or_never().unwrap().unwrap();
    assert_eq!(ask(&blobs, 7, OLD, false), ready(5));
    let told = || {
        let history = history(&blobs, "orders").now_or_never().unwrap().unwrap();
        history.iter().map(|entry| entry.partitions).collect::<Vec<_>>()
    };
    assert_eq!(told(), [None]);
    prepare(&blobs, "orders", wish(7, NEW)).now_or_never().unwrap().unwrap();
    assert_eq!(told(), [Some(4), Some(4)], "it had no more than any other");
}

#[test]
fn a_topic_that_is_created_again_starts_a_new_lineage() {
    let blobs = MemoryBlobs::new();
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
    assert_eq!(ask(&blobs, 8, OLD, false), ready(2));
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
    assert_eq!(ask(&blobs, 9, NEW, false), ready(3));
}

#[test]
fn a_prepared_lineage_has_its_number_and_is_active_only_after_the_cut_over() {
    let blobs = MemoryBlobs::new();
    let prepare =
        |fingerprint| prepare(&blobs, "orders", wish(7, fingerprint)).now_or_never().unwrap().unwrap();
    let cut_over = |fingerprint, from, into| {
        let lineages = (Lineage(from), Lineage(into));
        cut_over(&blobs, "orders", wish(7, fingerprint), lineages).now_or_never().unwrap().unwrap()
    };
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
    assert_eq!((prepare(NEW), prepare(NEW), prepare(OTHER)), (Lineage(2), Lineage(2), Lineage(3)));
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1), "still the active one");
    assert!(matches!(ask(&blobs, 7, NEW, false), Activated::Changed { .. }), "not active yet");
    assert_eq!(cut_over(NEW, 1, 2), ready(2));
    assert_eq!(cut_over(NEW, 1, 2), ready(2), "again changes nothing");
    assert_eq!(ask(&blobs, 7, NEW, false), ready(2));
    assert!(matches!(ask(&blobs, 7, OLD, false), Activated::Changed { .. }));
    let Activated::Changed { what } = cut_over(OTHER, 1, 3) else { panic!("1 is active no more") };
    assert!(what.contains("lineage 1 of topic `orders`") && what.contains("lineage 2 is active"), "{what}");
    let history = history(&blobs, "orders").now_or_never().unwrap().unwrap();
    assert_eq!(active(&history, 7).map(|active| active.lineage), Some(Lineage(2)));
    assert_eq!(active(&history, 8), None);
}

#[test]
fn what_differs_is_named_where_it_was_noted() {
    let blobs = MemoryBlobs::new();
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
    let ask = |mapping| {
        let wish = Wish { mapping, ..wish(7, NEW) };
        match activate(&blobs, "orders", wish, may(false)).now_or_never().unwrap().unwrap() {
            Activated::Changed { what } => what,
            Activated::Ready(lineage) => panic!("{lineage} is ready"),
        }
    };
    let same = ask(MAPPING);
    assert!(same.contains("the mapping is the same") && same.contains("snapfold refold"), "{same}");
    let other = ask(Digest([5; 32]));
    assert!(other.contains("`map` or `format` differ") && !other.contains("snapfold refold"), "{other}");
}

#[test]
fn topics_do_not_meet() {
    let blobs = MemoryBlobs::new();
    for topic in ["a", "a.b", ".a", "a/b", "..", "a b", "a%20b", "ä", "topic-a", "a1"] {
        for fingerprint in [OLD, NEW] {
            let first = activate(&blobs, topic, wish(1, fingerprint), may(true)).now_or_never().unwrap();
            assert_eq!(first, Ok(ready(1 + u32::from(fingerprint == NEW))), "{topic}");
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_an_activation_is_found() {
    let activation = Activation {
        topic: "orders".into(),
        topic_id: 7,
        fingerprint: OLD,
        lineage: Lineage(3),
        partitions: Some(4),
        mapping: Some(MAPPING),
        role: Role::Prepared,
    };
    let bytes = activation.encode().into_bytes();
    assert_eq!(Activation::decode(&bytes), Some(activation));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Activation::decode(&damaged), None, "bit {bit}");
    }
    assert!((0..bytes.len()).all(|len| Activation::decode(&bytes[..len]).is_none()));
}

#[test]
fn damage_holes_and_newer_formats_are_told() {
    for (number, bytes, told) in [
        (2, &b"garbage"[..], "restore it from a backup"),
        (3, b"x", "is not: restore it"),
        (2, b"snapfold lineage 3\n", "use the newer snapfold"),
    ] {
        let blobs = MemoryBlobs::new();
        assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
        blobs.put_new(&name("orders", number), bytes).now_or_never().unwrap().unwrap();
        let error = activate(&blobs, "orders", wish(7, OLD), may(false)).now_or_never().unwrap().unwrap_err();
        assert!(error.detail.contains(told), "{error}");
    }
}

/// Goal: whoever is told `Ready` of one topic id is told the same, and that is what is active afterwards.
/// Method: threads at once, over a store that refuses, loses answers, and lands writes late.
#[test]
fn workers_that_activate_at_once_agree() {
    for seed in 0..300 {
        let inner = Arc::new(MemoryBlobs::new());
        if seed % 3 > 0 {
            assert_eq!(ask(&*inner, 7, OTHER, false), ready(1));
        }
        let wanted = [OLD, if seed % 2 == 0 { OLD } else { NEW }];
        let workers: Vec<_> = (0..4_u64)
            .map(|worker| {
                let faults = if seed < 50 { Faults::none() } else { Faults::some() };
                let blobs = FaultyBlobs::new(inner.clone(), faults, seed * 4 + worker);
                thread::spawn(move || {
                    let wanted = wanted[worker as usize % 2];
                    let activated = activate(&blobs, "orders", wish(7, wanted), may(true)).now_or_never();
                    (wanted, activated.expect("memory answers at once"))
                })
            })
            .collect();
        let asked: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();
        let told: BTreeSet<_> = asked
            .iter()
            .filter_map(|(wanted, activated)| match activated {
                Ok(Activated::Ready(lineage)) => Some((*wanted, *lineage)),
                _ => None,
            })
            .collect();
        if seed < 50 {
            assert!(asked.iter().all(|(_, activated)| activated.is_ok()), "seed {seed}: {asked:?}");
            assert!(!told.is_empty(), "seed {seed}: somebody wins");
        }
        let history = history(&*inner, "orders").now_or_never().unwrap().unwrap();
        let pairs: BTreeSet<_> = history.iter().map(|known| (known.lineage, known.fingerprint)).collect();
        let lineages: BTreeSet<_> = history.iter().map(|known| known.lineage).collect();
        assert_eq!(pairs.len(), lineages.len(), "seed {seed}: a lineage of two fingerprints");
        for (fingerprint, lineage) in told {
            assert!(pairs.contains(&(lineage, fingerprint)), "seed {seed}: told and not there");
        }
    }
}

#[test]
fn many_workers_of_one_mind_all_get_the_same_lineage() {
    let blobs = MemoryBlobs::new();
    let asked =
        join_all((0..50).map(|_| activate(&blobs, "orders", wish(7, OLD), may(false)))).now_or_never();
    assert!(asked.expect("memory answers at once").iter().all(|activated| *activated == Ok(ready(1))));
}

fn mint(ms: i64) -> LedgerId {
    LedgerId::mint(Timestamp(ms), [5; 10])
}

/// Goal: a drop is the last word about a number, and neither the active lineage nor one that is being written
/// goes. Method: the life of three lineages.
#[test]
fn a_dropped_lineage_is_gone_and_its_number_is_nobodys() {
    let blobs = MemoryBlobs::new();
    let drop = |lineage, at, abandons| {
        drop_lineage(&blobs, "orders", Lineage(lineage), mint(at), abandons).now_or_never().unwrap()
    };
    let read = || history(&blobs, "orders").now_or_never().unwrap().unwrap();
    let prepared =
        |fingerprint| prepare(&blobs, "orders", wish(7, fingerprint)).now_or_never().unwrap().unwrap();
    assert_eq!(ask(&blobs, 7, OLD, false), ready(1));
    assert_eq!(drop(1, 1, false).unwrap_err().kind, ErrorKind::Conflict, "it is active");
    assert_eq!(drop(1, 1, true).unwrap_err().kind, ErrorKind::Conflict, "whoever says what");
    assert_eq!(drop(2, 1, true).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(prepared(NEW), Lineage(2));
    assert_eq!(drop(2, 1, false).unwrap_err().kind, ErrorKind::Conflict, "a refold may be writing it");
    assert_eq!(ask(&blobs, 7, NEW, true), ready(2));
    assert_eq!((drop(1, 3, false), drop(1, 4, false)), (Ok(mint(3)), Ok(mint(3))), "once");
    let standings =
        |history: &[Activation]| known(history).into_iter().map(|of| of.standing).collect::<Vec<_>>();
    assert_eq!(standings(&read()), [Standing::Dropped(mint(3)), Standing::Active]);
    assert_eq!(Dropped::of(&read()).at(Lineage(1)), Some(mint(3)));
    // Its fingerprint comes back under another number, and only where that is allowed.
    assert!(matches!(ask(&blobs, 7, OLD, false), Activated::Changed { .. }));
    assert_eq!(prepared(OLD), Lineage(3));
    assert_eq!(drop(3, 5, true), Ok(mint(5)), "nobody will finish it");
    let lost = cut_over(&blobs, "orders", wish(7, OLD), (Lineage(2), Lineage(3))).now_or_never().unwrap();
    assert!(matches!(lost, Ok(Activated::Changed { .. })), "a refold that was abandoned: {lost:?}");
    assert_eq!(ask(&blobs, 7, OLD, true), ready(4));
    assert_eq!(drop(2, 6, false), Ok(mint(6)));
    assert_eq!(standings(&read())[3], Standing::Active);
}

#[test]
fn what_a_fingerprint_is_of_is_kept_once() {
    let blobs = MemoryBlobs::new();
    let read = || definitions::read(&blobs, OLD).now_or_never().unwrap().unwrap();
    assert_eq!(read(), None);
    for text in ["{}", "{\"other\":1}"] {
        definitions::keep(&blobs, OLD, text).now_or_never().unwrap().unwrap();
        assert_eq!(read().as_deref(), Some("{}"));
    }
    for _ in 0..2 {
        definitions::forget(&blobs, OLD).now_or_never().unwrap().unwrap();
        assert_eq!(read(), None, "whether it was there or not");
    }
}

//! Training: when, from what, and that nothing rare leaks.

use super::scrub::{Census, Sample, tokens};
use super::*;
use crate::codec::compress::{Compression, Encoder};
use crate::domain::record::RecordKind;
use std::collections::{BTreeMap, BTreeSet};

fn hex(text: &str) -> String {
    Dictionary::new(text.as_bytes()).unwrap().id().to_string()
}

/// An order as systems write it: shared words, and ids, names, mails and amounts of its own.
fn body(n: u64) -> String {
    let own = hex(&format!("order {n}"));
    let (id, mail, name) = (&own[..20], &own[20..31], &own[31..44]);
    let city = ["Roma", "Milano", "Torino"][n as usize % 3];
    format!(
        r#"{{"type":"OrderPlaced","id":"{id}","customer":{{"name":"{name} \"x\"","mail":"{mail}@example.com""#
    ) + &format!(r#"}},"city":"{city}","amount":{}.{:02},"currency":"EUR","note":null}}"#, n * 7_919, n % 100)
}

fn trainer(privacy: Privacy, bodies: impl Iterator<Item = u64>) -> Trainer {
    let mut trainer = Trainer::new(RecordKind::Increment, privacy, Compression::default());
    bodies.for_each(|n| trainer.add(&format!("o-{n}"), body(n).as_bytes()));
    trainer
}

fn texts(sample: &[u8]) -> Vec<&str> {
    tokens(sample).into_iter().map(|token| std::str::from_utf8(&sample[token]).unwrap()).collect()
}

#[test]
fn strings_and_numbers_of_json_are_tokens_and_so_are_runs_of_text_elsewhere() {
    let sample =
        b"\x01\x05{\"name\":\"Smith, \\\"J\\\" {x}\",\"n\":[-1.5e3,true,null]}{\"second\":{\"a\":\"b\"}}";
    assert_eq!(texts(sample), ["name", "Smith, \\\"J\\\" {x}", "n", "-1.5e3", "second", "a", "b"]);
    assert_eq!(texts(b"\x0aSmith, John\x02Roma [1]\0"), ["Smith, John", "Roma [1]"]);
    assert_eq!(texts(b"{not json, \"at all\" anyway}"), ["{not json, \"at all\" anyway}"]);
    assert_eq!(texts(b"{\"cut\":\"off in the mid"), ["cut", "off in the mid"]);
    assert_eq!(texts(b"[[[[[[[[[[[[[[[[[[[[x]"), ["[[[[[[[[[[[[[[[[[[[[x]"]);
}

/// Goal: a strict dictionary holds nothing that fewer than five aggregates say. Method: by brute force, every
/// token of every sample that is long enough, counted by the aggregates whose bytes contain it anywhere.
#[test]
fn a_strict_dictionary_holds_no_string_of_fewer_than_five_aggregates() {
    let dictionary = trainer(Privacy::Strict, 0..600).train(None).unwrap().unwrap();
    assert_eq!(leaks(&dictionary, 600), BTreeSet::new());
    let raw = trainer(Privacy::Off, 0..600).train(None).unwrap().unwrap();
    assert!(leaks(&raw, 600).len() > 50, "the test would not see a leak");
}

/// Goal: of whoever is forgotten nothing is learnt any more, and past the last milestone learning begins
/// anew.
#[test]
fn what_is_forgotten_is_in_no_later_dictionary() {
    let forgotten = || (0..300).map(|n| format!("o-{n}"));
    let learn = |mut trainer: Trainer| leaks(&trainer.train(None).unwrap().unwrap(), 300);
    assert!(learn(trainer(Privacy::Off, 0..600)).len() > 20, "the test would not see a leak");
    let mut off = trainer(Privacy::Off, 0..600);
    forgotten().for_each(|id| off.forget([&*id].into_iter()));
    assert_eq!(learn(off), BTreeSet::new());

    for (privacy, is_learning) in [(Privacy::Off, true), (Privacy::Strict, false)] {
        let mut one = trainer(privacy, 0..100).with_milestones([50, 60, 70]);
        one.begin(None);
        one.forget(["o-1"].into_iter());
        (0..1_000).for_each(|n| one.add("o-2", body(n).as_bytes()));
        assert_eq!(one.is_due(), is_learning, "{privacy:?}");
    }
}

fn leaks(dictionary: &Dictionary, bodies: u64) -> BTreeSet<String> {
    let bodies: Vec<String> = (0..bodies).map(body).collect();
    let mut said_by: BTreeMap<&str, usize> = BTreeMap::new();
    for token in bodies.iter().flat_map(|body| texts(body.as_bytes())) {
        if token.len() >= TOKEN_LEN_MIN && !said_by.contains_key(token) {
            said_by.insert(token, bodies.iter().filter(|body| body.contains(token)).count());
        }
    }
    let holds =
        |token: &str| dictionary.bytes().windows(token.len()).any(|window| window == token.as_bytes());
    let is_leak = |(token, count): &(&&str, &usize)| **count < AGGREGATES_MIN && holds(token);
    said_by.iter().filter(is_leak).map(|(token, _)| (*token).to_owned()).collect()
}

#[test]
fn one_aggregate_that_repeats_itself_does_not_make_a_string_common() {
    let mut trainer = Trainer::new(RecordKind::Full, Privacy::Strict, Compression::default());
    for n in 0..400_u64 {
        trainer.add("o-1", br#"{"secret":"mine-alone-4711","type":"OrderPlaced"}"#);
        trainer.add(&format!("o-{n}"), body(n).as_bytes());
    }
    let dictionary = trainer.train(None).unwrap().unwrap();
    let holds = |text: &[u8]| dictionary.bytes().windows(text.len()).any(|window| window == text);
    assert!(holds(b"OrderPlaced"));
    assert!(!holds(b"mine-alone"));
}

#[test]
fn the_last_check_finds_a_rare_token_but_not_a_part_of_common_ones() {
    let sample = |aggregate, text: &str| Sample { aggregate, bytes: text.as_bytes().into() };
    let mut samples = vec![sample(0, r#"["Johnson","rare-token"]"#)];
    samples.extend((1..6).map(|n| sample(n, r#"["Johnsonville"]"#)));
    let census = Census::new(&samples);
    assert_eq!(census.leak(b"xx rare-token xx"), Some(&b"rare-token"[..]));
    assert_eq!(census.leak(b"xx Johnsonville xx"), None);
    let (scrubbed, lens) = census.scrubbed(&samples, 0);
    assert_eq!(lens.iter().sum::<usize>(), scrubbed.len());
    assert!(!scrubbed.windows(4).any(|window| window == b"rare"));
    assert!(scrubbed.ends_with(br#"["Johnsonville"]"#));
}

#[test]
fn training_is_repeatable_and_falls_due_at_its_milestones() {
    let mut one = trainer(Privacy::Strict, 0..99);
    assert!(!one.is_due());
    one.add("o-99", body(99).as_bytes());
    assert!(one.is_due());
    let first = one.train(None).unwrap().unwrap();
    assert!(!one.is_due());
    assert_eq!(trainer(Privacy::Strict, 0..100).train(None).unwrap().unwrap().id(), first.id());
    (100..1_000).for_each(|n| one.add(&format!("o-{n}"), body(n).as_bytes()));
    assert!(one.is_due());
}

#[test]
fn a_candidate_goes_live_only_if_it_pays() {
    let dictionary = trainer(Privacy::Strict, 0..800).train(None).unwrap().unwrap();
    assert!(trainer(Privacy::Strict, 0..800).train(Some(&dictionary)).unwrap().is_none());
    let mut plain = Encoder::new(Compression::default(), None).unwrap();
    let mut with = Encoder::new(Compression::default(), Some(&dictionary)).unwrap();
    let body = body(9_999);
    let (plain, with) = (plain.encode(body.as_bytes()).unwrap(), with.encode(body.as_bytes()).unwrap());
    assert!(with.bytes.len() * 2 < plain.bytes.len(), "{} {}", with.bytes.len(), plain.bytes.len());
}

/// The same orders from a system that names everything otherwise.
fn other_body(n: u64) -> String {
    let swaps = [
        ("type", "kind"),
        ("OrderPlaced", "org.example.sales.v2.OrderWasAccepted"),
        ("customer", "buyingParty"),
        ("example.com", "post.example.org"),
        ("currency", "settlementCurrencyCode"),
        ("amount", "grandTotalIncludingTaxes"),
    ];
    swaps.iter().fold(body(n), |text, (from, to)| text.replace(from, to))
}

/// Goal: data that changes gets a dictionary of its own, data that does not costs no training. Method: orders
/// until all milestones are past, many more of them, then other ones; what is stored is measured as a store
/// does.
#[test]
fn a_dictionary_is_learnt_anew_when_bodies_compress_worse() {
    let mut trainer = trainer(Privacy::Strict, 0..300).with_milestones([100, 200, 300]);
    let first = trainer.train(None).unwrap().unwrap();
    let mut show = |bodies: std::ops::Range<u64>, text: fn(u64) -> String, with: &Dictionary| {
        let mut encoder = Encoder::new(Compression::default(), Some(with)).unwrap();
        let mut stored = 0;
        for n in bodies {
            let text = text(n);
            trainer.add(&format!("o-{n}"), text.as_bytes());
            let len = encoder.encode(text.as_bytes()).unwrap().bytes.len();
            trainer.stored(text.len(), len);
            stored += len;
            if trainer.is_due() {
                return (stored, trainer.train(Some(with)).unwrap());
            }
        }
        (stored, None)
    };
    let (before, none) = show(1_000..6_000, body, &first);
    assert!(none.is_none(), "it was trained again, and nothing had changed");
    let (_, second) = show(6_000..9_000, other_body, &first);
    let second = second.expect("other bodies are learnt");
    let (with_first, with_second) =
        (show(10_000..10_500, other_body, &first), show(11_000..11_500, other_body, &second));
    assert!(with_second.0 * 5 < with_first.0 * 4, "{} {}", with_second.0, with_first.0);
    let (after, none) = show(12_000..17_000, other_body, &second);
    assert!(none.is_none() && after < before * 2, "{after} {before}");
}

#[test]
fn too_few_samples_or_aggregates_give_no_dictionary() {
    assert!(trainer(Privacy::Strict, 0..3).train(None).unwrap().is_none());
    let mut few = Trainer::new(RecordKind::Full, Privacy::Strict, Compression::default());
    (0..400).for_each(|n| few.add(&format!("o-{}", n % 4), body(n).as_bytes()));
    assert!(few.train(None).unwrap().is_none());
}

#[test]
fn a_dictionary_is_its_digest() {
    let dictionary = Dictionary::new(&b"abc"[..]).unwrap();
    assert!(Dictionary::verified(dictionary.id(), &b"abc"[..]).is_ok());
    assert!(Dictionary::verified(dictionary.id(), &b"abd"[..]).is_err());
    assert!(Dictionary::new(&b""[..]).is_err());
    assert!(Dictionary::new(vec![0; DICTIONARY_LEN_MAX + 1]).is_err());
}

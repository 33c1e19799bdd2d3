//! What stored history costs on real events, footers included: the numbers behind the defaults.
//!
//! Reads `fines` and `compat` from `$SNAPFOLD_DATA`, or `../shared/data`; without them the tests say so and
//! pass.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a failure is a panic")]

use sha2::{Digest as _, Sha256};
use snapfold::codec::body::{encode_full, encode_increment, encode_segment};
use snapfold::codec::compress::{Compression, Encoder};
use snapfold::codec::dictionary::{AGGREGATES_MIN, Dictionary, Privacy, TOKEN_LEN_MIN, Trainer};
use snapfold::codec::pack::{Class, FinishedPack, Header, OpenTail, PackWriter, open_tail, verify_pack};
use snapfold::domain::compaction::EVENT_BYTES_MAX;
use snapfold::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use snapfold::domain::patch::{self, Budget, JsonPatch};
use snapfold::domain::record::{
    FullBody, IncrementBody, RawRecord, RecordId, RecordKind, RecordMeta, SegmentBody, StoredEvent,
};
use snapfold::domain::value::{Limits, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Days since 1970 of a date in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469
}

fn millis(text: &str) -> i64 {
    let number = |at: usize, len: usize| text[at..at + len].parse::<i64>().unwrap();
    let seconds = (number(11, 2) * 60 + number(14, 2)) * 60 + number(17, 2);
    (days(number(0, 4), number(5, 2), number(8, 2)) * 86_400 + seconds) * 1_000
}

/// The events of a data set by aggregate, in log order, as Kafka records with the event's time.
fn load(name: &str) -> Option<BTreeMap<String, Vec<StoredEvent>>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("SNAPFOLD_DATA").map_or_else(beside, PathBuf::from);
    let Ok(packed) = std::fs::read(folder.join(format!("{name}.ndjson.zst"))) else {
        println!("skipped: `{name}` is not in `{}`", folder.display());
        return None;
    };
    let text = zstd::decode_all(&packed[..]).unwrap();
    let mut aggregates: BTreeMap<String, Vec<StoredEvent>> = BTreeMap::new();
    for (offset, line) in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
        let field = |name: &str| event[name].as_str().unwrap();
        let id = field("aggregateId").to_owned();
        let stored = StoredEvent {
            version: Version(event["version"].as_u64().unwrap()),
            skipped: false,
            record: RawRecord {
                offset: Offset(offset as i64),
                record_time: Timestamp(millis(field("timestamp"))),
                key: Some(id.as_bytes().into()),
                value: Some(line.into()),
                ..RawRecord::default()
            },
        };
        aggregates.entry(id).or_default().push(stored);
    }
    Some(aggregates)
}

fn records(
    name: &str,
    aggregates: BTreeMap<String, Vec<StoredEvent>>,
    limit: usize,
) -> Vec<(RecordMeta, Vec<u8>)> {
    let mut records = Vec::new();
    for (id, events) in aggregates {
        for events in events.chunks(limit) {
            let (first, last) = (events.first().unwrap(), events.last().unwrap());
            let meta = RecordMeta {
                id: RecordId {
                    key: AggregateKey { kind: name.into(), id: id.as_str().into() },
                    lineage: Lineage(1),
                    upto_version: last.version,
                    kind: RecordKind::Increment,
                    from_version: Version(first.version.0 - 1),
                },
                partition: PartitionNo(0),
                first_offset: first.record.offset,
                last_offset: last.record.offset,
                leader_epoch: 0,
                effective_time: events.iter().map(|event| event.record.record_time).max().unwrap(),
                chain: None,
                state_digest: None,
                is_deleted: false,
                is_quarantined: false,
                trail: None,
            };
            let body = IncrementBody { events: events.to_vec(), ..IncrementBody::default() };
            records.push((meta, encode_increment(&body, &id).unwrap()));
        }
    }
    // Snapshots are taken in the order in which aggregates go quiet, not in that of their ids.
    records.sort_by_key(|(meta, _)| meta.last_offset);
    records
}

struct Stored {
    packs: Vec<FinishedPack>,
    dictionaries: Vec<Dictionary>,
}

/// As a worker would: no dictionary at first, trained at the milestones, a pack at about 1 MiB raw.
fn store(records: &[(RecordMeta, Vec<u8>)], privacy: Option<Privacy>) -> Stored {
    let kind = records[0].0.id.kind;
    let level = if kind == RecordKind::Segment { 9 } else { Compression::default().level };
    let compression = Compression { level, ..Compression::default() };
    let mut trainer = Trainer::new(kind, privacy.unwrap_or_default(), compression);
    let mut stored = Stored { packs: Vec::new(), dictionaries: Vec::new() };
    let header = |n: usize| {
        let pack = PackId::mint(Timestamp(1_700_000_000_000 + n as i64), [n as u8; 10]);
        Header::new(Class::History, pack, [7; 16], Timestamp(1_700_000_000_000), "0.1.0")
    };
    let mut encoder = Encoder::new(compression, None).unwrap();
    let mut writer = PackWriter::new(header(0));
    for (meta, body) in records {
        writer.add(meta.clone(), body, &mut encoder).unwrap();
        trainer.add(&meta.id.key.id, body);
        let better = if privacy.is_some() && trainer.is_due() {
            trainer.train(stored.dictionaries.last()).unwrap()
        } else {
            None
        };
        if let Some(better) = better {
            encoder = Encoder::new(compression, Some(&better)).unwrap();
            stored.dictionaries.push(better);
        }
        if writer.frames_len() > 1 << 20 {
            let full = std::mem::replace(&mut writer, PackWriter::new(header(stored.packs.len() + 1)));
            stored.packs.push(full.finish().unwrap());
        }
    }
    stored.packs.push(writer.finish().unwrap());
    stored
}

/// Prints where the bytes went; returns all of them, dictionaries included.
fn account(name: &str, records: &[(RecordMeta, Vec<u8>)], stored: &Stored) -> u64 {
    let raw: u64 = records.iter().map(|(_, body)| body.len() as u64).sum();
    let (mut frames, mut footers, mut all, mut heap) = (0, 0, 0, 0);
    for pack in &stored.packs {
        let known = |digest: &_| stored.dictionaries.iter().find(|known| known.id() == *digest).cloned();
        let report = verify_pack(pack.id, &pack.bytes, known).unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
        let OpenTail::Ready(ready) = open_tail(pack.id, &pack.bytes, pack.bytes.len() as u64).unwrap() else {
            panic!("the whole object holds its footer")
        };
        footers += ready.0.footer_len;
        heap += ready.1.heap_len() as u64;
        all += pack.bytes.len() as u64;
        frames += pack.entries.iter().map(|entry| u64::from(entry.locator.frame_len)).sum::<u64>();
    }
    let dictionaries: u64 = stored.dictionaries.iter().map(|known| known.bytes().len() as u64).sum();
    let per = |bytes: u64| bytes as f64 / records.len() as f64;
    println!(
        "{name}: {} records, raw {raw} ({:.1}/record), frames {:.1}, footer {:.1}, footer in memory {:.1}, \
         packs {} with {all} bytes, dictionaries {dictionaries} ({}), saved {:.1} %",
        records.len(),
        per(raw),
        per(frames),
        per(footers),
        per(heap),
        stored.packs.len(),
        stored.dictionaries.len(),
        100.0 - 100.0 * (all + dictionaries) as f64 / raw as f64,
    );
    all + dictionaries
}

#[test]
fn the_history_of_fines_costs_at_most_40_bytes_an_event_and_64_an_aggregate() {
    let Some(aggregates) = load("fines") else { return };
    let events: usize = aggregates.values().map(Vec::len).sum();
    let budget = (events * 40 + aggregates.len() * 64) as u64;
    let records = records("fine", aggregates, usize::MAX);
    account("fines, no dictionary", &records, &store(&records, None));
    account("fines, privacy off", &records, &store(&records, Some(Privacy::Off)));
    let all = account("fines, strict", &records, &store(&records, Some(Privacy::Strict)));
    println!("fines: {all} bytes of a budget of {budget}, {:.1} an event", all as f64 / events as f64);
    assert!(all <= budget);
}

#[test]
fn the_history_of_compat_costs_less_than_a_fifth_of_its_events() {
    let Some(aggregates) = load("compat") else { return };
    let records = records("compat", aggregates, 100);
    account("compat, no dictionary", &records, &store(&records, None));
    let raw: u64 = records.iter().map(|(_, body)| body.len() as u64).sum();
    let all = account("compat, strict", &records, &store(&records, Some(Privacy::Strict)));
    assert!(all * 5 < raw);
}

/// One full record per aggregate: the events' data merged, as the simplest reducer would.
fn fulls(aggregates: &BTreeMap<String, Vec<StoredEvent>>) -> Vec<(RecordMeta, Vec<u8>)> {
    let mut fulls = records("fine", aggregates.clone(), usize::MAX);
    for (meta, body) in &mut fulls {
        let events = &aggregates[&*meta.id.key.id];
        let mut state = serde_json::Map::new();
        for event in events {
            let value = event.record.value.as_deref().unwrap();
            let event: serde_json::Value = serde_json::from_slice(value).unwrap();
            state.extend(event["data"].as_object().unwrap().clone());
        }
        let state = serde_json::to_vec(&state).unwrap();
        let digest = |bytes: &[u8]| Dictionary::new(bytes).unwrap().id();
        let last: serde_json::Value =
            serde_json::from_slice(events.last().unwrap().record.value.as_deref().unwrap()).unwrap();
        let full = FullBody {
            version: meta.id.upto_version,
            offset: meta.last_offset,
            effective_time: meta.effective_time,
            first_time: events[0].record.record_time,
            chain: digest(meta.id.key.id.as_bytes()),
            last_event_type: last["type"].as_str().unwrap().into(),
            last_event_id: last["id"].as_str().map(Into::into),
            state: Some(state.as_slice().into()),
            ..FullBody::default()
        };
        *body = encode_full(&full);
        (meta.id.kind, meta.id.from_version) = (RecordKind::Full, Version(0));
        meta.state_digest = Some(digest(&state));
    }
    fulls
}

#[test]
fn full_records_of_fines_cost_less_than_three_fifths_of_their_bytes() {
    let Some(aggregates) = load("fines") else { return };
    let fulls = fulls(&aggregates);
    let raw: u64 = fulls.iter().map(|(_, body)| body.len() as u64).sum();
    account("fines, full, no dictionary", &fulls, &store(&fulls, None));
    let all = account("fines, full, strict", &fulls, &store(&fulls, Some(Privacy::Strict)));
    // 64 bytes of each are hashes, ten the event's id, four the checksum: nothing can shrink those.
    assert!(all * 5 < raw * 3);
}

/// What the preset of a data set does: `fines` has merge patches, `compat` JSON patches.
fn fold(name: &str, state: &mut Value, data: &Value) {
    if name == "fines" {
        return patch::merge(state, data);
    }
    let budget = Budget { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX };
    JsonPatch::parse(data).unwrap().apply(state, &budget).unwrap();
}

/// Merged history, divided as compaction does, and the bytes of one JSON snapshot of each version.
fn segments(
    name: &str,
    aggregates: &BTreeMap<String, Vec<StoredEvent>>,
) -> (Vec<(RecordMeta, Vec<u8>)>, u64) {
    let (mut segments, mut json_bytes) = (Vec::new(), 0);
    for (id, events) in aggregates {
        let mut rest = &events[..];
        let (mut state, mut base): (_, Option<FullBody>) = (Value::Null, None);
        while let Some(first) = rest.first() {
            let mut bytes = 0;
            let fits = |event: &&StoredEvent| {
                bytes += event.record.bytes() as u64;
                bytes <= EVENT_BYTES_MAX
            };
            let count = rest.iter().take(SegmentBody::EVENTS_MAX).take_while(fits).count().max(1);
            let (here, after) = rest.split_at(count);
            let before = base.clone();
            for event in here {
                let value = event.record.value.as_deref().unwrap();
                let event = Value::parse(value, &Limits::default()).unwrap();
                fold(name, &mut state, event.get("data").unwrap());
                json_bytes += state.to_json().len() as u64;
            }
            let last = here.last().unwrap();
            let text = state.to_json().into_bytes();
            base = Some(FullBody {
                version: last.version,
                offset: last.record.offset,
                effective_time: last.record.record_time,
                first_time: events[0].record.record_time,
                last_event_type: "Changed".into(),
                chain: Digest(Sha256::digest(&text).into()),
                state: Some(text.into()),
                ..FullBody::default()
            });
            let mut meta =
                records(name, BTreeMap::from([(id.clone(), here.to_vec())]), usize::MAX).remove(0).0;
            meta.id.kind = RecordKind::Segment;
            meta.id.from_version = Version(first.version.0 - 1);
            meta.chain = base.as_ref().map(|base| base.chain);
            meta.state_digest = meta.chain;
            let body = SegmentBody { base: before, events: here.to_vec() };
            segments.push((meta, encode_segment(&body, id).unwrap()));
            rest = after;
        }
    }
    (segments, json_bytes)
}

/// Goal: every version of every aggregate for a tenth of one JSON snapshot per version. Method: all of the
/// events of real data in segments, packs with footers and dictionaries.
#[test]
fn every_version_costs_less_than_a_tenth_of_a_json_snapshot_in_segments() {
    for name in ["compat", "fines"] {
        let Some(aggregates) = load(name) else { return };
        let events: usize = aggregates.values().map(Vec::len).sum();
        let (segments, json) = segments(name, &aggregates);
        let all = account(&format!("{name}, segments"), &segments, &store(&segments, Some(Privacy::Strict)));
        let share = 100.0 * all as f64 / json as f64;
        println!(
            "{name}: {all} bytes, {:.1} an event, {share:.2} % of {json} bytes of JSON snapshots",
            all as f64 / events as f64
        );
        // `fines` has three to five events an aggregate, of which two hashes alone take 64 bytes.
        assert!(share <= if name == "compat" { 10.0 } else { 40.0 }, "{name}");
    }
}

/// Goal: on real data too, no dictionary holds what fewer than five aggregates say. Method: strings and
/// numbers as another JSON parser sees them, over all events, searched for in every dictionary.
#[test]
fn dictionaries_of_fines_hold_no_string_of_fewer_than_five_aggregates() {
    let Some(aggregates) = load("fines") else { return };
    let mut said_by: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (id, events) in &aggregates {
        for event in events {
            let value = event.record.value.as_deref().unwrap();
            collect(&serde_json::from_slice(value).unwrap(), &mut |text| {
                let by = said_by.entry(text).or_default();
                by.insert(id);
            });
        }
    }
    let is_rare =
        |(text, by): &(&String, &BTreeSet<&str>)| text.len() >= TOKEN_LEN_MIN && by.len() < AGGREGATES_MIN;
    let rare: BTreeSet<&[u8]> = said_by.iter().filter(is_rare).map(|(text, _)| text.as_bytes()).collect();
    let lens: BTreeSet<usize> = rare.iter().map(|text| text.len()).collect();
    assert!(rare.len() > 40_000, "every event id is one");
    let leaks = |privacy| {
        let stored = store(&records("fine", aggregates.clone(), usize::MAX), Some(privacy));
        assert!(!stored.dictionaries.is_empty());
        let windows = |len| stored.dictionaries.iter().flat_map(move |known| known.bytes().windows(len));
        lens.iter().flat_map(|len| windows(*len)).filter(|window| rare.contains(window)).count()
    };
    assert_eq!(leaks(Privacy::Strict), 0);
    assert!(leaks(Privacy::Off) > 0, "the test would not see a leak");
}

fn collect(value: &serde_json::Value, visit: &mut impl FnMut(String)) {
    match value {
        serde_json::Value::String(text) => visit(text.clone()),
        serde_json::Value::Number(number) => visit(number.to_string()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, visit)),
        serde_json::Value::Object(members) => members.iter().for_each(|(name, member)| {
            visit(name.clone());
            collect(member, visit);
        }),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

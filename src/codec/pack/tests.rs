//! Packs round-trip, are searched like a scan, and every damage is found.

use super::section::{SectionWriter, Sections};
use super::*;
use crate::codec::compress::{Algorithm, Compression, Encoder};
use crate::codec::dictionary::Dictionary;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::record::RecordMeta;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const PACK: PackId = PackId([0x42; 16]);

fn header() -> Header {
    Header::new(Class::History, PACK, [7; 16], Timestamp(1_700_000_000_000), "0.1.0")
}

fn encoder(algorithm: Algorithm, dictionary: Option<&Dictionary>) -> Encoder {
    Encoder::new(Compression { algorithm, level: 3, threshold: 0 }, dictionary).unwrap()
}

fn dictionary() -> Dictionary {
    Dictionary::new(&br#"{"name":"value","number":12345,"list":[]}"#[..]).unwrap()
}

fn known(digest: &Digest) -> Option<Dictionary> {
    Some(dictionary()).filter(|known| known.id() == *digest)
}

fn meta(kind: &str, id: &str, upto: u64) -> RecordMeta {
    RecordMeta {
        id: RecordId {
            key: AggregateKey { kind: kind.into(), id: id.into() },
            lineage: Lineage(1),
            upto_version: Version(upto),
            kind: RecordKind::Increment,
            from_version: Version(upto - 1),
        },
        partition: PartitionNo(3),
        first_offset: Offset(100),
        last_offset: Offset(120),
        leader_epoch: 0,
        effective_time: Timestamp(1_700_000_000_000),
        chain: None,
        state_digest: None,
        is_deleted: false,
        is_quarantined: false,
        trail: None,
    }
}

fn open(pack: &FinishedPack) -> (Trailer, Footer) {
    match open_tail(pack.id, &pack.bytes, pack.bytes.len() as u64).unwrap() {
        OpenTail::Ready(ready) => *ready,
        OpenTail::Need(bytes) => panic!("`{bytes}` of `{}`", pack.bytes.len()),
    }
}

fn frame<'a>(bytes: &'a [u8], locator: &Locator) -> &'a [u8] {
    let range = locator.range();
    bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
}

prop_compose! {
    fn any_meta()(
        (kind, id) in ("[ab]", "[ab]{1,3}|.{1,30}"),
        (lineage, upto, span) in (1..3_u32, prop_oneof![1..4_u64, any::<u64>()], any::<u64>()),
        is_full: bool,
        (partition, first, last, epoch, time) in any::<(i32, i64, i64, i32, i64)>(),
        chain in prop::option::of(any::<[u8; 32]>()),
        state in prop::option::of(any::<[u8; 32]>()),
        (is_deleted, is_quarantined) in any::<(bool, bool)>(),
        trail in prop::option::of(prop::collection::btree_set(any::<i64>(), 0..5)),
    ) -> RecordMeta {
        let upto = upto.max(1);
        let (kind_of_record, from) = match is_full {
            true => (RecordKind::Full, 0),
            false => (RecordKind::Increment, upto - 1 - span % upto),
        };
        RecordMeta {
            id: RecordId {
                key: AggregateKey { kind: kind.as_str().into(), id: id.as_str().into() },
                lineage: Lineage(lineage), upto_version: Version(upto), kind: kind_of_record,
                from_version: Version(from),
            },
            partition: PartitionNo(partition), first_offset: Offset(first), last_offset: Offset(last),
            leader_epoch: epoch, effective_time: Timestamp(time), chain: chain.map(Digest),
            state_digest: state.map(Digest), is_deleted, is_quarantined,
            trail: trail.map(|trail| trail.into_iter().map(Offset).collect()),
        }
    }
}

fn records() -> impl Strategy<Value = Vec<(RecordMeta, Vec<u8>, usize)>> {
    let body = prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..120);
    prop::collection::vec((any_meta(), body, 0..6_usize), 0..40).prop_map(|mut records| {
        records.sort_by(|(a, ..), (b, ..)| a.id.cmp(&b.id));
        records.dedup_by(|(a, ..), (b, ..)| a.id == b.id);
        // Any order of adding: by how they are added, then by a hash of the place.
        records.sort_by_key(|(meta, _, how)| (*how, meta.first_offset));
        records
    })
}

/// Single frames of every codec and one block, all in one pack.
fn write(records: &[(RecordMeta, Vec<u8>, usize)]) -> FinishedPack {
    let mut writer = PackWriter::new(header());
    let mut encoders = Algorithm::ALL.map(|algorithm| encoder(algorithm, Some(&dictionary())));
    let mut block = Vec::new();
    for (meta, body, how) in records {
        match encoders.get_mut(*how) {
            Some(encoder) => assert_eq!(writer.add(meta.clone(), body, encoder).unwrap(), writer.len() - 1),
            None => block.push((meta.clone(), body.clone())),
        }
    }
    writer.add_block(block, &mut encoder(Algorithm::Zstd, None)).unwrap();
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn a_pack_gives_back_every_record_by_locator_and_by_footer(records in records()) {
        let pack = write(&records);
        let report = verify_pack(PACK, &pack.bytes, known).unwrap();
        prop_assert_eq!(&report.faults, &[]);
        prop_assert_eq!(report.raw_len, pack.raw_len);
        let (trailer, footer) = open(&pack);
        prop_assert_eq!(trailer.merkle_root, pack.merkle_root);
        prop_assert_eq!(footer.len(), records.len());
        let mut sorted: Vec<_> = pack.entries.iter().collect();
        sorted.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
        for (at, entry) in sorted.iter().enumerate() {
            prop_assert_eq!(&footer.meta(at).unwrap(), &entry.meta);
            prop_assert_eq!(&footer.locator(at).unwrap(), &entry.locator);
        }
        for ((meta, body, _), entry) in records.iter().zip(&pack.entries) {
            prop_assert_eq!(&entry.meta, meta);
            let locator = Locator::decode(&entry.locator.encode()).unwrap();
            prop_assert_eq!(&locator, &entry.locator);
            let dictionary = locator.dictionary.and_then(|digest| known(&digest));
            let read = read_entry(&meta.id, &locator, frame(&pack.bytes, &locator), dictionary.as_ref());
            prop_assert_eq!(&read.unwrap(), body);
        }
    }

    #[test]
    fn find_equals_a_naive_scan(records in records(), kind in "[abc]", id in "[ab]{1,3}") {
        let pack = write(&records);
        let (_, footer) = open(&pack);
        let has = |at: &usize, kind: &str, id: &str| {
            let key = footer.id(*at).unwrap().key;
            &*key.kind == kind && &*key.id == id
        };
        let keys = records.iter().map(|(meta, ..)| (&*meta.id.key.kind, &*meta.id.key.id));
        for (kind, id) in keys.chain([(kind.as_str(), id.as_str())]) {
            let naive: Vec<usize> = (0..footer.len()).filter(|at| has(at, kind, id)).collect();
            prop_assert_eq!(footer.find(kind, id).collect::<Vec<_>>(), naive);
        }
    }

    #[test]
    fn a_tail_of_any_length_opens_the_pack_or_says_how_much_it_needs(
        records in records(),
        tail in any::<prop::sample::Index>(),
    ) {
        let pack = write(&records);
        let len = pack.bytes.len();
        let given = tail.index(len + 1);
        match open_tail(PACK, &pack.bytes[len - given..], len as u64) {
            Err(_) => prop_assert!(given < TRAILER_LEN),
            Ok(OpenTail::Ready(ready)) => prop_assert_eq!(ready.1.len(), records.len()),
            Ok(OpenTail::Need(bytes)) => {
                prop_assert!(bytes > given as u64);
                let opened = open_tail(PACK, &pack.bytes[len - bytes as usize..], len as u64);
                prop_assert!(matches!(opened, Ok(OpenTail::Ready(_))));
            }
        }
    }

    #[test]
    fn the_order_of_adding_and_the_codec_do_not_change_the_merkle_root(records in records()) {
        let mut writer = PackWriter::new(header());
        for (meta, body, _) in records.iter().rev() {
            writer.add(meta.clone(), body, &mut encoder(Algorithm::Gzip, None)).unwrap();
        }
        prop_assert_eq!(writer.finish().unwrap().merkle_root, write(&records).merkle_root);
    }

    #[test]
    fn garbage_never_panics_a_locator(mut blob in prop::collection::vec(any::<u8>(), 0..80)) {
        let crc = crc32c::crc32c(&blob);
        blob.extend(crc.to_le_bytes());
        if let Ok(locator) = Locator::decode(&blob) {
            prop_assert_eq!(locator.range().end - locator.range().start, u64::from(locator.frame_len));
        }
    }
}

/// One entry of each shape: own frame, with dictionary, in a block, with everything that is optional.
fn small_pack() -> FinishedPack {
    let mut writer = PackWriter::new(header());
    let text = br#"{"name":"value","number":12345,"list":[]}{"name":"value","number":12346,"list":[]}"#;
    let full = RecordMeta {
        chain: Some(Digest([1; 32])),
        state_digest: Some(Digest([2; 32])),
        trail: Some(vec![Offset(100), Offset(107), Offset(120)]),
        is_deleted: true,
        ..meta("order", "o-2", 9)
    };
    let full =
        RecordMeta { id: RecordId { kind: RecordKind::Full, from_version: Version(0), ..full.id }, ..full };
    writer.add(full, text, &mut encoder(Algorithm::Zstd, Some(&dictionary()))).unwrap();
    writer.add(meta("order", "o-1", 4), b"plain", &mut encoder(Algorithm::None, None)).unwrap();
    for (n, algorithm) in (10..).zip([Algorithm::Gzip, Algorithm::Brotli, Algorithm::Lz4]) {
        writer.add(meta("order", "o-1", n), &text.repeat(3), &mut encoder(algorithm, None)).unwrap();
    }
    let block = (0..3).map(|n| (meta("bill", &format!("b-{n}"), 1), text.to_vec())).collect();
    writer.add_block(block, &mut encoder(Algorithm::Zstd, None)).unwrap();
    writer.finish().unwrap()
}

fn is_sound(bytes: &[u8]) -> bool {
    verify_pack(PACK, bytes, known).is_ok_and(|report| report.is_sound())
}

/// Goal: any damage is found, and no read gives other bytes. Method: every bit of a pack, and every length.
#[test]
fn every_flipped_bit_and_every_truncation_is_detected() {
    let pack = small_pack();
    assert!(is_sound(&pack.bytes));
    let (_, footer) = open(&pack);
    let read = |bytes: &[u8], entry: &FinishedEntry| {
        let locator = &entry.locator;
        let dictionary = locator.dictionary.and_then(|digest| known(&digest));
        read_entry(&entry.meta.id, locator, frame(bytes, locator), dictionary.as_ref())
    };
    let bodies: Vec<_> = pack.entries.iter().map(|entry| read(&pack.bytes, entry).unwrap()).collect();
    assert_eq!(footer.len(), bodies.len());
    let mut unreadable = 0;
    let mut bytes = pack.bytes.clone();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_sound(&bytes), "bit {bit}");
        for (entry, body) in pack.entries.iter().zip(&bodies) {
            match read(&bytes, entry) {
                Ok(read) => assert_eq!(&read, body, "bit {bit}"),
                Err(_) => unreadable += 1,
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(unreadable > 1_000);
    for len in 0..bytes.len() {
        assert!(!is_sound(&bytes[..len]), "length {len}");
        assert!(!is_sound(&bytes[bytes.len() - len..]), "length {len} from the end");
    }
    bytes.push(0);
    assert!(!is_sound(&bytes));
}

#[test]
fn every_flipped_bit_and_every_truncation_of_a_locator_is_an_error() {
    for entry in small_pack().entries {
        let inline = Some(vec![7; entry.locator.frame_len as usize].into());
        let blob = Locator { inline, ..entry.locator }.encode();
        for bit in 0..blob.len() * 8 {
            let mut blob = blob.clone();
            blob[bit / 8] ^= 1 << (bit % 8);
            assert!(Locator::decode(&blob).is_err(), "bit {bit}");
        }
        assert!((0..blob.len()).all(|len| Locator::decode(&blob[..len]).is_err()));
    }
}

#[test]
fn a_locator_reads_no_other_record_even_from_intact_bytes() {
    let pack = small_pack();
    let entry = &pack.entries[1];
    let id = &entry.meta.id;
    let key = |kind: &str, id: &str| AggregateKey { kind: kind.into(), id: id.into() };
    let others = [
        RecordId { key: key("order", "o-2"), ..id.clone() },
        RecordId { key: key("ordero", "-1"), ..id.clone() },
        RecordId { lineage: Lineage(2), ..id.clone() },
        RecordId { kind: RecordKind::Full, ..id.clone() },
        RecordId { upto_version: Version(5), ..id.clone() },
        RecordId { from_version: Version(2), ..id.clone() },
    ];
    let read = |id: &RecordId| read_entry(id, &entry.locator, frame(&pack.bytes, &entry.locator), None);
    assert_eq!(read(id).unwrap(), b"plain");
    for other in others {
        assert!(read(&other).is_err(), "{other:?}");
    }
}

#[test]
fn a_missing_wrong_or_needless_dictionary_is_named() {
    let pack = small_pack();
    let read = |entry: &FinishedEntry, dictionary: Option<&Dictionary>| {
        read_entry(&entry.meta.id, &entry.locator, frame(&pack.bytes, &entry.locator), dictionary)
    };
    let other = Dictionary::new(&b"other"[..]).unwrap();
    for wrong in [None, Some(&other)] {
        let error = read(&pack.entries[0], wrong).unwrap_err();
        assert!(error.detail.contains(&dictionary().id().to_string()), "{error}");
    }
    assert!(read(&pack.entries[1], Some(&other)).is_err());
    let report = verify_pack(PACK, &pack.bytes, |_| None).unwrap();
    assert_eq!(report.faults.iter().map(|fault| fault.entry).collect::<Vec<_>>(), [Some(7)]);
}

#[test]
fn another_pack_in_this_ones_place_is_refused() {
    let pack = small_pack();
    let error = open_tail(PackId([1; 16]), &pack.bytes, pack.bytes.len() as u64).unwrap_err();
    assert!(error.detail.contains(&PACK.to_string()), "{error}");
}

/// A sound pack whose footer says something else in one section.
fn with_section(pack: &FinishedPack, id: u8, raw: Option<&[u8]>) -> Vec<u8> {
    let (trailer, _) = open(pack);
    let (frames, footer) =
        pack.bytes[..pack.bytes.len() - TRAILER_LEN].split_at(trailer.footer_offset as usize);
    let sections = Sections::parse(footer).unwrap();
    let mut writer = SectionWriter::new(Class::Full).unwrap();
    for known in 1..=section::TRAILS {
        let old = sections.get(known).unwrap();
        match raw {
            Some(raw) if known == id => writer.put(known, raw).unwrap(),
            _ => writer.put(known, &old).unwrap(),
        }
    }
    if let Some(raw) = raw.filter(|_| id > section::TRAILS) {
        writer.put(id, raw).unwrap();
    }
    let footer = writer.bytes;
    let footer_sha256 = Digest(Sha256::digest(&footer).into());
    let trailer = Trailer { footer_len: footer.len() as u64, footer_sha256, ..trailer };
    [frames, &footer, &trailer.encode()].concat()
}

#[test]
fn reserved_and_unknown_kinds_are_refused_by_name() {
    let pack = small_pack();
    let entries = pack.entries.len();
    for (code, name) in [(b'T', "tombstone"), (b'X', "`X` is unknown")] {
        let kinds: Vec<i64> = (0..entries).map(|at| i64::from(if at == 2 { code } else { b'D' })).collect();
        let bytes = with_section(&pack, section::KIND, Some(&column::encode(&kinds)));
        let report = verify_pack(PACK, &bytes, known).unwrap();
        let fault = report.faults.iter().find(|fault| fault.entry == Some(2)).unwrap();
        assert!(fault.error.detail.contains(name), "{}", fault.error);
    }
}

#[test]
fn unknown_flags_and_sections_are_refused_unless_they_are_optional() {
    let pack = small_pack();
    assert!(is_sound(&with_section(&pack, 0, None)));
    assert!(is_sound(&with_section(&pack, 0x80, Some(b"later"))));
    assert!(verify_pack(PACK, &with_section(&pack, section::TRAILS + 1, Some(b"later")), known).is_err());
    let flags = column::encode(&vec![32; pack.entries.len()]);
    assert!(!is_sound(&with_section(&pack, section::FLAGS, Some(&flags))));
}

#[test]
fn sections_that_contradict_each_other_are_refused() {
    let pack = small_pack();
    let entries = pack.entries.len();
    let constant = |value: i64| column::encode(&vec![value; entries]);
    let mut ids = ids::Writer::default();
    ["b", "a", "c", "d", "e", "f", "g", "h"].into_iter().for_each(|id| ids.push(id));
    let bad = [
        (section::FRAME, constant(99)),
        (section::FRAME, constant(-1)),
        (section::BODY_LEN, constant(-1)),
        (section::BODY_LEN, constant(i64::MAX)),
        (section::UPTO_VERSION, constant(0)),
        (section::LINEAGE, constant(-1)),
        (section::PARTITION, constant(1 << 40)),
        (section::FRAME_LEN, column::encode(&[1; 6])),
        (section::FRAME_DICTIONARY, column::encode(&[2; 6])),
        (section::FRAME_ALGORITHM, column::encode(&[9; 6])),
        (section::CHAINS, vec![0; 31]),
        (section::TRAILS, vec![1]),
        (section::TYPES, b"\x01z\x08".to_vec()),
        (section::IDS, ids.bytes().to_vec()),
    ];
    for (id, raw) in bad {
        assert!(!is_sound(&with_section(&pack, id, Some(&raw))), "section {id}");
    }
}

#[test]
fn the_same_record_twice_and_records_out_of_bounds_are_refused() {
    let mut writer = PackWriter::new(header());
    let mut encoder = encoder(Algorithm::None, None);
    assert!(writer.add(meta("", "o-1", 1), b"", &mut encoder).is_err());
    assert!(writer.add(meta("order", &"x".repeat(1_025), 1), b"", &mut encoder).is_err());
    let backwards = RecordMeta { trail: Some(vec![Offset(2), Offset(1)]), ..meta("order", "o-1", 1) };
    assert!(writer.add(backwards, b"", &mut encoder).is_err());
    assert!(writer.is_empty());
    writer.add(meta("order", "o-1", 1), b"", &mut encoder).unwrap();
    writer.add(meta("order", "o-1", 1), b"", &mut encoder).unwrap();
    assert!(writer.finish().is_err());
}

/// Goal: blocks hold neighbours of one lane and end where they are long enough. Method: each other record is
/// of the other lane; what a block says of its bodies is what the footer says of them.
#[test]
fn blocks_hold_neighbours_of_one_lane_and_end_where_they_are_long_enough() {
    let compression = Compression { algorithm: Algorithm::Zstd, level: 1, threshold: 0 };
    let records: Vec<_> =
        (0..97).map(|n| (meta("order", &format!("o-{n:03}"), 1), vec![n as u8; 4_000])).collect();
    let mut writer = BlockWriter::new(header(), compression, 2, records.len()).unwrap();
    // Of each body its record, its frame and what its block says of it.
    let (mut open, mut told, mut blocks) = ([Vec::new(), Vec::new()], vec![None; records.len()], Vec::new());
    let mut take = |open: &mut Vec<usize>, block: Block<'_>| {
        assert_eq!(block.bodies.len(), open.len());
        for (at, body) in open.iter().zip(block.bodies) {
            assert_eq!(block.raw[body.start as usize..][..body.len as usize], records[*at].1);
            told[*at] = Some((block.frame, *body));
        }
        blocks.push(std::mem::take(open));
    };
    for (at, (meta, body)) in records.iter().enumerate() {
        let write = |block: &mut Vec<u8>| {
            block.extend_from_slice(body);
            Ok(())
        };
        let is_full = writer.add(at % 2, meta, write).unwrap();
        open[at % 2].push(at);
        assert_eq!(is_full, open[at % 2].len() == 5);
        if is_full {
            take(&mut open[at % 2], writer.close(at % 2).unwrap().unwrap());
        }
    }
    for (lane, open) in open.iter_mut().enumerate() {
        take(open, writer.close(lane).unwrap().unwrap());
        assert!(writer.close(lane).unwrap().is_none());
    }
    let pack = writer.finish().unwrap();
    assert!(is_sound(&pack.bytes));
    let OpenTail::Ready(opened) = open_tail(PACK, &pack.bytes, pack.bytes.len() as u64).unwrap() else {
        panic!("the whole object holds its footer")
    };
    assert_eq!((opened.0.entries, opened.0.frames, pack.frames.len()), (97, 20, 20));
    for (at, told) in told.into_iter().enumerate() {
        let (frame, body) = told.unwrap();
        let (locator, place) = (opened.1.locator(at).unwrap(), pack.frames[frame]);
        let frame = (locator.frame_offset, locator.frame_len, locator.frame_raw_len, locator.algorithm);
        assert_eq!(frame, (place.offset, place.len, place.raw_len, place.algorithm));
        assert_eq!((body.start, body.len, body.crc), (locator.body_start, locator.body_len, locator.crc));
    }
    // The other way to make it gives the same bytes.
    let mut writer = PackWriter::new(header());
    for block in blocks {
        let records = block.into_iter().rev().map(|at| records[at].clone()).collect();
        writer.add_block(records, &mut Encoder::new(compression, None).unwrap()).unwrap();
    }
    assert_eq!(writer.finish().unwrap().bytes, pack.bytes);
}

#[test]
fn a_pack_of_blocks_is_made_of_records_that_are_in_order_and_sound() {
    let compression = Compression::default();
    let add = |records: &[RecordMeta]| {
        let mut writer = BlockWriter::new(header(), compression, 1, 2).unwrap();
        records.iter().try_for_each(|meta| writer.add(0, meta, |_| Ok(())).map(drop))
    };
    let [one, two] = [meta("order", "o-1", 1), meta("order", "o-2", 1)];
    let bill = meta("bill", "o-3", 1);
    assert!(add(&[bill.clone(), one.clone(), two.clone()]).is_ok());
    assert!(add(&[two, one.clone()]).is_err());
    assert!(add(&[one.clone(), one.clone()]).is_err());
    assert!(add(&[one.clone(), bill]).is_err());
    assert!(add(&[meta("order", "", 1)]).is_err());
    assert!(add(&[one.clone(), RecordMeta { partition: PartitionNo(4), ..one }]).is_ok());
}

#[test]
fn a_large_footer_is_small_in_memory_and_cheap_to_ask() {
    let mut writer = PackWriter::new(header());
    let mut encoder = encoder(Algorithm::None, None);
    for n in 0..20_000_u64 {
        let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let meta = RecordMeta {
            first_offset: Offset((noise >> 40) as i64),
            effective_time: Timestamp(1_700_000_000_000 + (noise >> 36) as i64),
            ..meta("order", &format!("order-{noise:016x}"), 1 + n % 50)
        };
        writer.add(meta, &[0; 9], &mut encoder).unwrap();
    }
    let pack = writer.finish().unwrap();
    let (trailer, footer) = open(&pack);
    assert!(footer.heap_len() < 20_000 * 48, "{}", footer.heap_len() / 20_000);
    assert!(trailer.footer_len < 20_000 * 32, "{}", trailer.footer_len / 20_000);
    for entry in pack.entries.iter().step_by(37) {
        let found = footer.find("order", &entry.meta.id.key.id);
        assert_eq!(found.len(), 1);
        assert_eq!(footer.locator(found.start).unwrap(), entry.locator);
    }
}

//! Every codec round-trips, and no damaged or hostile bytes pass or exhaust memory.

use super::*;
use crate::domain::error::ErrorKind;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn encoder(algorithm: Algorithm, level: u8) -> Encoder {
    Encoder::new(Compression { algorithm, level, threshold: 0 }, None).unwrap()
}

fn text(len: usize) -> Vec<u8> {
    br#"{"name":"a state that repeats itself","n":12}"#.iter().copied().cycle().take(len).collect()
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| Sha256::digest(i.to_le_bytes())[0]).collect()
}

#[test]
fn every_codec_gives_back_what_it_was_given_at_every_level() {
    for algorithm in Algorithm::ALL {
        for level in 1..=9 {
            let raw = text(5_000 + usize::from(level));
            let encoded = encoder(algorithm, level).encode(&raw).unwrap();
            assert_eq!(encoded.algorithm, algorithm);
            assert!(algorithm == Algorithm::None || encoded.bytes.len() < raw.len() / 4);
            assert_eq!(decode(algorithm, &encoded.bytes, raw.len(), None).unwrap(), raw);
        }
    }
}

#[test]
fn codes_and_names_are_stable() {
    let table: Vec<_> = Algorithm::ALL.map(|algorithm| (algorithm.code(), algorithm.name())).into();
    assert_eq!(table, [(0, "none"), (1, "zstd"), (2, "gzip"), (3, "brotli"), (4, "lz4")]);
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::from_code(algorithm.code()), Ok(algorithm));
        assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
    }
    assert_eq!(Algorithm::from_code(5).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn what_is_short_or_does_not_shrink_is_stored_plain() {
    let mut encoder = Encoder::new(Compression::default(), None).unwrap();
    assert_eq!(encoder.encode(&text(63)).unwrap().algorithm, Algorithm::None);
    assert_eq!(encoder.encode(&text(64)).unwrap().algorithm, Algorithm::Zstd);
    assert_eq!(encoder.encode(&noise(300)).unwrap().algorithm, Algorithm::None);
}

#[test]
fn a_zstd_frame_keeps_its_magic_and_carries_no_size_checksum_or_dictionary_id() {
    let dictionary = Dictionary::new(text(2_000)).unwrap();
    let mut encoder = Encoder::new(Compression::default(), Some(&dictionary)).unwrap();
    let encoded = encoder.encode(&text(900)).unwrap();
    assert_eq!(encoded.bytes[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    assert_eq!(encoded.bytes[4], 0, "frame header descriptor");
    assert_eq!(encoded.dictionary, Some(dictionary.id()));
}

#[test]
fn a_dictionary_is_needed_to_read_what_it_helped_to_write() {
    let noise = noise(2_000);
    let dictionary = Dictionary::new(noise.clone()).unwrap();
    let mut encoder = Encoder::new(Compression::default(), Some(&dictionary)).unwrap();
    let encoded = encoder.encode(&noise[..900]).unwrap();
    assert!(encoded.bytes.len() < 100);
    assert_eq!(decode(Algorithm::Zstd, &encoded.bytes, 900, Some(&dictionary)).unwrap(), noise[..900]);
    assert!(decode(Algorithm::Zstd, &encoded.bytes, 900, None).is_err());
}

/// Goal: no bytes make a decoder give more than was claimed or claim more than the limit.
#[test]
fn bombs_are_refused_whatever_length_they_claim() {
    let zeros = vec![0; 8 << 20];
    for algorithm in [Algorithm::Zstd, Algorithm::Gzip, Algorithm::Brotli, Algorithm::Lz4] {
        let bomb = encoder(algorithm, 3).encode(&zeros).unwrap().bytes;
        for claim in [0, 1, 1_000, zeros.len() - 1, zeros.len() + 1, RAW_LEN_MAX, RAW_LEN_MAX + 1, usize::MAX]
        {
            assert!(decode(algorithm, &bomb, claim, None).is_err(), "{algorithm:?} {claim}");
        }
        assert_eq!(decode(algorithm, &bomb, zeros.len(), None).unwrap().len(), zeros.len());
    }
}

/// Goal: a small frame that claims much is only given room as it fills it. Method: truth far beyond the first
/// guess.
#[test]
fn a_frame_that_really_holds_much_is_given_the_room_it_fills() {
    let raw = text(40 << 20);
    for algorithm in [Algorithm::Zstd, Algorithm::Brotli] {
        let encoded = encoder(algorithm, 3).encode(&raw).unwrap();
        assert!(encoded.bytes.len() * 20 < raw.len(), "{algorithm:?} {}", encoded.bytes.len());
        assert!(decode(algorithm, &encoded.bytes, raw.len(), None).unwrap() == raw, "{algorithm:?}");
    }
}

#[test]
fn bytes_left_over_are_an_error() {
    for algorithm in Algorithm::ALL {
        let raw = text(3_000);
        let mut bytes = encoder(algorithm, 3).encode(&raw).unwrap().bytes;
        bytes.push(0);
        assert!(decode(algorithm, &bytes, raw.len(), None).is_err(), "{algorithm:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_round_trip_and_any_damage_is_an_error_or_some_other_bytes_of_the_same_length(
        raw in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            prop::collection::vec(0..4_u8, 0..3_000),
        ],
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        for algorithm in Algorithm::ALL {
            let encoded = encoder(algorithm, 3).encode(&raw).unwrap();
            prop_assert_eq!(&decode(encoded.algorithm, &encoded.bytes, raw.len(), None).unwrap(), &raw);
            if !encoded.bytes.is_empty() {
                let mut damaged = encoded.bytes.clone();
                damaged[flip.index(encoded.bytes.len())] ^= 1 << bit;
                if let Ok(other) = decode(encoded.algorithm, &damaged, raw.len(), None) {
                    prop_assert_eq!(other.len(), raw.len());
                }
                let cut = &encoded.bytes[..cut.index(encoded.bytes.len())];
                prop_assert!(decode(encoded.algorithm, cut, raw.len(), None).is_err());
            }
        }
    }

    #[test]
    fn garbage_never_panics_a_decoder(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        raw_len in 0..100_000_usize,
    ) {
        for algorithm in Algorithm::ALL {
            if let Ok(raw) = decode(algorithm, &bytes, raw_len, None) {
                prop_assert_eq!(raw.len(), raw_len);
            }
        }
    }
}

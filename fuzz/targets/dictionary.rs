//! Dictionaries: foreign bytes as one, and training. Input: `d`, the length of a dictionary (u16,
//! little-endian), the dictionary and a zstd frame; or `t` and samples that end at 0xff. A sample that starts
//! with `=` is of the same aggregate as the one before it, any other of the next aggregate.

use snapfold::codec::compress::{Algorithm, Compression, decode};
use snapfold::codec::dictionary::{AGGREGATES_MIN, Dictionary, Privacy, TOKEN_LEN_MIN, Trainer};
use snapfold::domain::record::RecordKind;
use std::collections::BTreeSet;

/// Training takes the longer the more there is, and needs a hundred times what it makes.
const DICTIONARY_LEN: usize = 256;

pub(crate) fn check(data: &[u8]) {
    match data {
        [b'd', a, b, rest @ ..] => {
            let (dictionary, frame) =
                rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*a, *b]))));
            foreign(dictionary, frame);
        }
        [b't', samples @ ..] => train(samples),
        _ => {}
    }
}

fn foreign(bytes: &[u8], frame: &[u8]) {
    let Ok(dictionary) = Dictionary::new(bytes) else { return };
    assert!(Dictionary::verified(dictionary.id(), bytes).is_ok());
    for claimed in [frame.len(), 4 * frame.len(), 1 << 16] {
        if let Ok(raw) = decode(Algorithm::Zstd, frame, claimed, Some(&dictionary)) {
            assert_eq!(raw.len(), claimed);
        }
    }
}

fn train(data: &[u8]) {
    let mut trainer = Trainer::new(RecordKind::Full, Privacy::Strict, Compression::default())
        .with_dictionary_len(DICTIONARY_LEN);
    let mut samples: Vec<(usize, &[u8])> = Vec::new();
    let mut aggregate = 0;
    for sample in data.split(|byte| *byte == 0xff).take(64) {
        aggregate += usize::from(!sample.starts_with(b"="));
        trainer.add(&aggregate.to_string(), sample);
        samples.push((aggregate, sample));
    }
    let Ok(Some(trained)) = trainer.train(None) else { return };
    for (_, sample) in &samples {
        // A sample without brackets and control characters is one token; of the others, nothing is claimed.
        let is_token = sample.iter().all(|byte| !matches!(byte, 0..=0x1f | 0x7f | b'{' | b'['));
        if !is_token || sample.len() < TOKEN_LEN_MIN {
            continue;
        }
        let has = |bytes: &[u8]| bytes.windows(sample.len()).any(|window| window == *sample);
        let sayers: BTreeSet<usize> =
            samples.iter().filter(|(_, other)| has(other)).map(|(aggregate, _)| *aggregate).collect();
        assert!(
            sayers.len() >= AGGREGATES_MIN || !has(trained.bytes()),
            "a rare token of {} aggregates is in the dictionary: {:?} in {:?}",
            sayers.len(),
            String::from_utf8_lossy(sample),
            String::from_utf8_lossy(trained.bytes())
        );
    }
}

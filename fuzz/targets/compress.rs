//! Decompression. Input: a digit, the code of the algorithm (5 is zstd with a dictionary); the claimed length
//! (u32, little-endian); the stored bytes. They are also compressed and read back.

use super::pack;
use snapfold::codec::compress::{Algorithm, Compression, Encoder, decode};

pub(crate) fn check(data: &[u8]) {
    let [code, a, b, c, d, stored @ ..] = data else { return };
    let claimed = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let dictionary = Some(pack::dictionary()).filter(|_| *code == b'5');
    let algorithm = match code {
        b'0'..=b'4' => Algorithm::from_code(code - b'0').expect("it is known"),
        b'5' => Algorithm::Zstd,
        _ => return,
    };
    if let Ok(raw) = decode(algorithm, stored, claimed, dictionary.as_ref()) {
        assert_eq!(raw.len(), claimed);
    }
    let compression = Compression { algorithm, level: 1 + (stored.len() % 3) as u8, threshold: 0 };
    let mut encoder = Encoder::new(compression, dictionary.as_ref()).expect("an encoder");
    let encoded = encoder.encode(stored).expect("it is short");
    let used = dictionary.as_ref().filter(|_| encoded.dictionary.is_some());
    let again = decode(encoded.algorithm, &encoded.bytes, encoded.raw_len, used);
    assert_eq!(again.as_deref(), Ok(stored), "what was compressed comes back");
}

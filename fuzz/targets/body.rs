//! Bodies of records. Input: `f` for a full one, `d` for an increment or `s` for a segment, then the body.

use snapfold::codec::body::{
    decode_full, decode_increment, decode_segment, encode_full, encode_increment, encode_segment,
};

pub(crate) fn check(data: &[u8]) {
    match data {
        [b'f', bytes @ ..] => full(bytes),
        [b'd', bytes @ ..] => increment(bytes, "o-1"),
        [b's', bytes @ ..] => segment(bytes, "o-1"),
        _ => {}
    }
}

pub(crate) fn full(bytes: &[u8]) {
    if let Ok(body) = decode_full(bytes) {
        assert_eq!(encode_full(&body), bytes, "a body has one encoding");
    }
}

pub(crate) fn increment(bytes: &[u8], aggregate_id: &str) {
    if let Ok(body) = decode_increment(bytes, aggregate_id) {
        let again = encode_increment(&body, aggregate_id).expect("what was read can be written");
        assert_eq!(again, bytes, "a body has one encoding");
    }
}

pub(crate) fn segment(bytes: &[u8], aggregate_id: &str) {
    if let Ok(body) = decode_segment(bytes, aggregate_id) {
        let again = encode_segment(&body, aggregate_id).expect("what was read can be written");
        assert_eq!(again, bytes, "a body has one encoding");
    }
}

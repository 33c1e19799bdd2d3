//! The hash chain of DESIGN section 6.4: event digests, the genesis of an aggregate and the links.

use super::Record;
use sha2::{Digest as _, Sha256};

fn lp(hash: &mut Sha256, bytes: Option<&[u8]>) {
    let length = bytes.map_or(u32::MAX, |b| u32::try_from(b.len()).expect("records are smaller than 4 GiB"));
    hash.update(length.to_be_bytes());
    hash.update(bytes.unwrap_or_default());
}

pub(crate) fn event_digest(record: &Record, headers: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("snapfold.event.v1");
    hash.update(record.record_time_ms.to_be_bytes());
    lp(&mut hash, record.key.as_deref());
    lp(&mut hash, record.value.as_deref());
    for name in headers {
        lp(&mut hash, record.header(name));
    }
    hash.finalize().into()
}

pub(crate) fn genesis(kind: &str, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("snapfold.genesis.v1");
    lp(&mut hash, Some(kind.as_bytes()));
    lp(&mut hash, Some(id.as_bytes()));
    hash.finalize().into()
}

pub(crate) fn link(previous: [u8; 32], version: u64, event: [u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("snapfold.link.v1");
    hash.update(previous);
    hash.update(version.to_be_bytes());
    hash.update(event);
    hash.finalize().into()
}

pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

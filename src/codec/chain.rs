//! The hash chain over an aggregate's events, as an auditor recomputes it from the topic (DESIGN section
//! 6.4).
//!
//! No offset, partition or topic goes in, so a mirrored or restored topic gives the same chain. Integers are
//! big-endian; `lp(x)` is a u32 length and the bytes, or `0xFFFFFFFF` for null. Skipped events are links too.

use crate::domain::ids::{AggregateKey, Digest, Version};
use crate::domain::record::StoredEvent;
use sha2::{Digest as _, Sha256};

const EVENT: &[u8] = b"snapfold.event.v1";
const GENESIS: &[u8] = b"snapfold.genesis.v1";
const LINK: &[u8] = b"snapfold.link.v1";

/// The digest of one event: its record time, key, value, and those headers whose names are in `named`.
///
/// Headers count in the order of their names, equal names in record order, each as `lp(name) | lp(value)`; a
/// name that the record does not carry adds nothing. `named` needs no order.
#[must_use]
pub fn event_digest(event: &StoredEvent, named: &[impl AsRef<str>]) -> Digest {
    let is_named = |name: &str| named.iter().any(|wanted| wanted.as_ref() == name);
    let mut headers: Vec<_> = event.headers.iter().filter(|(name, _)| is_named(name)).collect();
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hash = Sha256::new();
    hash.update(EVENT);
    hash.update(event.record_time.0.to_be_bytes());
    length_prefixed(&mut hash, event.key.as_deref());
    length_prefixed(&mut hash, event.value.as_deref());
    for (name, value) in headers {
        length_prefixed(&mut hash, Some(name.as_bytes()));
        length_prefixed(&mut hash, value.as_deref());
    }
    Digest(hash.finalize().into())
}

/// The chain before the first event.
#[must_use]
pub fn genesis(key: &AggregateKey) -> Digest {
    let mut hash = Sha256::new();
    hash.update(GENESIS);
    length_prefixed(&mut hash, Some(key.kind.as_bytes()));
    length_prefixed(&mut hash, Some(key.id.as_bytes()));
    Digest(hash.finalize().into())
}

/// The chain after the event at `version`.
#[must_use]
pub fn link(previous: Digest, version: Version, event: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(LINK);
    hash.update(previous.0);
    hash.update(version.0.to_be_bytes());
    hash.update(event.0);
    Digest(hash.finalize().into())
}

fn length_prefixed(hash: &mut Sha256, bytes: Option<&[u8]>) {
    // A record is far below 4 GiB; a longer one could only collide with itself, because the bytes follow.
    let len = bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1));
    hash.update(len.to_be_bytes());
    hash.update(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Timestamp;

    fn event() -> StoredEvent {
        StoredEvent {
            record_time: Timestamp(1_700_000_000_123),
            key: Some(b"o-1"[..].into()),
            value: Some(br#"{"n":1}"#[..].into()),
            headers: vec![
                ("b".into(), Some(b"2"[..].into())),
                ("trace".into(), Some(b"x"[..].into())),
                ("a".into(), None),
            ],
            ..StoredEvent::default()
        }
    }

    /// Method: the preimage spelled out byte by byte, hashed by the library.
    #[test]
    fn an_event_digest_is_the_hash_of_the_documented_bytes() {
        let mut bytes = b"snapfold.event.v1".to_vec();
        bytes.extend(1_700_000_000_123_u64.to_be_bytes());
        bytes.extend(b"\0\0\0\x03o-1\0\0\0\x07{\"n\":1}\0\0\0\x01a\xff\xff\xff\xff\0\0\0\x01b\0\0\0\x012");
        assert_eq!(event_digest(&event(), &["b", "a", "none"]).0, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn null_and_empty_differ_and_offsets_do_not_count() {
        let none: [&str; 0] = [];
        let base = event_digest(&event(), &none);
        let moved = StoredEvent { offset: crate::domain::ids::Offset(77), leader_epoch: 9, ..event() };
        assert_eq!(event_digest(&moved, &none), base);
        let null = StoredEvent { key: None, ..event() };
        let empty = StoredEvent { key: Some(b""[..].into()), ..event() };
        assert_ne!(event_digest(&null, &none), event_digest(&empty, &none));
    }

    #[test]
    fn genesis_and_link_are_the_hashes_of_the_documented_bytes() {
        let key = AggregateKey { kind: "order".into(), id: "o-1".into() };
        let start = genesis(&key);
        let bytes = b"snapfold.genesis.v1\0\0\0\x05order\0\0\0\x03o-1";
        assert_eq!(start.0, <[u8; 32]>::from(Sha256::digest(bytes)));
        let mut bytes = b"snapfold.link.v1".to_vec();
        bytes.extend(start.0);
        bytes.extend(b"\0\0\0\0\0\0\0\x02");
        bytes.extend([7; 32]);
        assert_eq!(link(start, Version(2), Digest([7; 32])).0, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }
}

//! The hash chain over the events of one aggregate: what an auditor recomputes (DESIGN section 6.4). No
//! offset enters
//! it, so it survives mirroring. Integers are big-endian; `lp(x)` = u32 length + bytes, 0xFFFFFFFF for null.

use super::ids::{AggregateKey, Digest, Lineage, Version};
use super::record::RawRecord;
use sha2::{Digest as _, Sha256};

fn lp(hash: &mut Sha256, bytes: Option<&[u8]>) {
    match bytes {
        None => hash.update(u32::MAX.to_be_bytes()),
        Some(bytes) => {
            let len = u32::try_from(bytes.len()).expect("a record is smaller than 4 GiB");
            hash.update(len.to_be_bytes());
            hash.update(bytes);
        }
    }
}

fn done(hash: Sha256) -> Digest {
    Digest(hash.finalize().into())
}

/// Digest of one event: its record time, key, value and the values of the headers that the mapping names, in
/// the order
/// of their names. One that the record lacks counts as null; of several of one name the last counts.
#[must_use]
pub fn event_digest(record: &RawRecord, named_headers: &[Box<str>]) -> Digest {
    debug_assert!(named_headers.is_sorted(), "the mapping sorts the headers it names");
    let mut hash = Sha256::new();
    hash.update(b"snapfold.event.v1");
    hash.update(record.record_time.0.to_be_bytes());
    lp(&mut hash, record.key.as_deref());
    lp(&mut hash, record.value.as_deref());
    for name in named_headers {
        let header = record.headers.iter().rev().find(|(header, _)| header == name);
        lp(&mut hash, header.and_then(|(_, value)| value.as_deref()));
    }
    done(hash)
}

/// Where the chain of an aggregate starts.
#[must_use]
pub fn genesis(kind: &str, id: &str) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"snapfold.genesis.v1");
    lp(&mut hash, Some(kind.as_bytes()));
    lp(&mut hash, Some(id.as_bytes()));
    done(hash)
}

/// The public id of the snapshot of a version: copies in several packs are one snapshot and have one id.
#[must_use]
pub fn snapshot_id(key: &AggregateKey, lineage: Lineage, version: Version) -> [u8; 16] {
    let mut hash = Sha256::new();
    lp(&mut hash, Some(key.kind.as_bytes()));
    lp(&mut hash, Some(key.id.as_bytes()));
    hash.update(lineage.0.to_be_bytes());
    hash.update(version.0.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

/// What an auditor signs or compares: that an aggregate had this chain and this state at a version, folded
/// with the reducer of this fingerprint.
#[must_use]
pub fn statement(
    genesis: Digest,
    version: Version,
    chain: Digest,
    state: Option<Digest>,
    fingerprint: Option<Digest>,
) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"snapfold.statement.v1");
    hash.update(genesis.0);
    hash.update(version.0.to_be_bytes());
    hash.update(chain.0);
    for digest in [state, fingerprint] {
        lp(&mut hash, digest.as_ref().map(|digest| &digest.0[..]));
    }
    done(hash)
}

/// The link at `version`, from the link before it and the event's digest.
#[must_use]
pub fn link(previous: Digest, version: Version, event: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"snapfold.link.v1");
    hash.update(previous.0);
    hash.update(version.0.to_be_bytes());
    hash.update(event.0);
    done(hash)
}

//! Newtypes for every number and digest that could be mixed up. They carry no behaviour beyond their own
//! meaning.

use std::fmt;
use std::sync::Arc;

/// Position of an event in its aggregate; the first event has version 1, "nothing folded yet" is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A Kafka offset within one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// A Kafka partition number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionNo(pub i32);

/// Milliseconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// An integer for one (topic id, fingerprint) pair; lineages never mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub u32);

/// A SHA-256 value.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Names one pack: a UUIDv7, minted when its flush starts; its first 48 bits are milliseconds since 1970.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub [u8; 16]);

/// Names one object of the ledger: a UUIDv7 like [`PackId`]. Of two about one thing, the larger is the later.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(pub [u8; 16]);

/// The aggregate an event belongs to: the stream's type and an opaque id of 1 to 1,024 bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregateKey {
    /// Aggregate type, as the stream's `type` names it.
    pub kind: Arc<str>,
    /// Aggregate id.
    pub id: Arc<str>,
}

impl Version {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl PackId {
    /// A UUIDv7 (RFC 9562 section 5.7) from a wall-clock time and 10 random bytes.
    #[must_use]
    pub fn mint(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.0).unwrap_or(0).to_be_bytes();
        let mut id = [0; 16];
        id[..6].copy_from_slice(&millis[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = 0x70 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        Self(id)
    }

    /// When the id was minted, by its minter's clock.
    #[must_use]
    pub fn minted_at(self) -> Timestamp {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0[..6]);
        Timestamp(i64::from_be_bytes(millis))
    }
}

impl LedgerId {
    /// As [`PackId::mint`].
    #[must_use]
    pub fn mint(now: Timestamp, random: [u8; 10]) -> Self {
        Self(PackId::mint(now, random).0)
    }

    /// What rows of a pack are deleted by that nobody deleted: they are garbage with it. The ledger knows no
    /// such name, a UUIDv8: who has lost the index meets neither the pack nor its rows.
    #[must_use]
    pub fn of_garbage(pack: PackId) -> Self {
        let mut id = pack.0;
        id[6] = 0x80 | (id[6] & 0x0f);
        Self(id)
    }

    /// Whether this is such a name.
    #[must_use]
    pub fn is_of_garbage(self) -> bool {
        self.0[6] >> 4 == 8
    }

    /// As [`PackId::minted_at`].
    #[must_use]
    pub fn minted_at(self) -> Timestamp {
        PackId(self.0).minted_at()
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // COST: every access to a pack writes its name; a word at a time takes a fifth of a byte at a time.
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().try_for_each(|word| write!(f, "{:016x}", u64::from_be_bytes(*word)))?;
    rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..6], f)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for AggregateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

macro_rules! display_as_number {
    ($($name:ident)*) => { $(impl fmt::Display for $name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
    })* };
}
display_as_number!(Version Offset PartitionNo Timestamp Lineage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_id_is_a_uuid_v7_that_remembers_when_it_was_minted() {
        let id = PackId::mint(Timestamp(1_700_000_000_123), [0xff; 10]);
        assert_eq!(id.minted_at(), Timestamp(1_700_000_000_123));
        assert_eq!(id.0[6] >> 4, 7);
        assert_eq!(id.0[8] >> 6, 0b10);
        assert!(id < PackId::mint(Timestamp(1_700_000_000_124), [0; 10]));
    }
}

//! zstd dictionaries: named by the SHA-256 of their bytes, at most 64 KiB, and trained so that they hold
//! nobody's data (`scrub`).
//!
//! A dictionary is a fact like a snapshot: packs list its digest, so it is never changed and never deleted
//! while a pack lists it. A missing one fails the read by name; a wrong one cannot be used, because its
//! digest differs.

mod decay;
mod scrub;
mod trainer;

pub use scrub::{AGGREGATES_MIN, TOKEN_LEN_MIN};
pub use trainer::{MILESTONES, Privacy, Trainer, Training};

use crate::domain::error::{Error, Result};
use crate::domain::ids::Digest;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use zstd::bulk::Decompressor;
use zstd::dict::DecoderDictionary;

/// The largest dictionary that is made or accepted.
pub const DICTIONARY_LEN_MAX: usize = 64 << 10;

/// A dictionary, ready for decoding. Cheap to clone.
#[derive(Clone)]
pub struct Dictionary {
    id: Digest,
    bytes: Arc<[u8]>,
    decoder: Arc<DecoderDictionary<'static>>,
}

impl Dictionary {
    /// A dictionary of these bytes. Fails if there are none or more than [`DICTIONARY_LEN_MAX`], or if zstd
    /// refuses them.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > DICTIONARY_LEN_MAX {
            return Err(Error::corrupt(format!("a dictionary has `{}` bytes", bytes.len())));
        }
        // `copy` panics for what zstd refuses (its magic and tables that are none), so zstd is asked first.
        let refused = |error| Error::corrupt(format!("zstd refuses a dictionary: {error}"));
        Decompressor::with_dictionary(&bytes).map_err(refused)?;
        let id = Digest(Sha256::digest(&bytes).into());
        let decoder = Arc::new(DecoderDictionary::copy(&bytes));
        Ok(Self { id, bytes, decoder })
    }

    /// The dictionary `id` from where it was stored. Fails if the bytes are not its own.
    pub fn verified(id: Digest, bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        let dictionary = Self::new(bytes)?;
        if dictionary.id != id {
            return Err(Error::corrupt(format!("dictionary `{id}` has the digest `{}`", dictionary.id)));
        }
        Ok(dictionary)
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The bytes as stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn decoder(&self) -> &DecoderDictionary<'static> {
        &self.decoder
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({}, {} bytes)", self.id, self.bytes.len())
    }
}

#[cfg(test)]
mod tests;

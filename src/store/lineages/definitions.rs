//! What fingerprints are of: the mapping, the reducer and the limits of a stream as text, one small object
//! for each fingerprint. With it a lineage whose configuration nobody has any more is folded as it was.
//!
//! The text is whatever the configuration makes of it (`config::Stream::definition`); whoever reads it back
//! folds only if its fingerprint is the one in the object's name, so damage is found and never believed.
//!
//! *Order*: before the entry of the log that names the fingerprint. *If it fails*: asking again is
//! harmless.
//! *What may leak*: the text of a lineage that never got its number.

use super::TRIES;
use crate::domain::error::Result;
use crate::domain::ids::Digest;
use crate::domain::outcome::PortError;
use crate::store::blobs::Blobs;
use crate::store::unavailable;

/// Where they are.
pub const FOLDER: &str = "v1/definitions/";
/// None is longer than that, so nothing longer is read.
const BYTES_MAX: u64 = 4 << 20;

fn name(fingerprint: Digest) -> String {
    format!("{FOLDER}{fingerprint}")
}

/// Keeps the text of a fingerprint, unless one is there.
///
/// # Errors
/// `Unavailable` if the store does not answer.
pub async fn keep(blobs: &dyn Blobs, fingerprint: Digest, text: &str) -> Result<()> {
    let name = name(fingerprint);
    let mut last = PortError::Missing;
    for _ in 0..TRIES {
        match blobs.put_new(&name, text.as_bytes()).await {
            Ok(()) | Err(PortError::Exists) => return Ok(()),
            Err(error @ PortError::Permanent(_)) => {
                return Err(unavailable(&format!("write `{name}`"), &error));
            }
            Err(error) => last = error,
        }
    }
    Err(unavailable(&format!("write `{name}`"), &last))
}

/// Takes away a text that cannot be read back as its fingerprint, so that another can be kept.
///
/// # Errors
/// `Unavailable` if the store does not answer.
pub async fn forget(blobs: &dyn Blobs, fingerprint: Digest) -> Result<()> {
    let name = name(fingerprint);
    let mut last = PortError::Missing;
    for _ in 0..TRIES {
        match blobs.delete(&name).await {
            Ok(()) | Err(PortError::Missing) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(unavailable(&format!("delete `{name}`"), &last))
}

/// The text of a fingerprint; none where nobody kept it.
///
/// # Errors
/// `Unavailable` if the store does not answer.
pub async fn read(blobs: &dyn Blobs, fingerprint: Digest) -> Result<Option<String>> {
    let name = name(fingerprint);
    let mut last = PortError::Missing;
    for _ in 0..TRIES {
        match blobs.get_range(&name, 0, BYTES_MAX).await {
            Ok(bytes) => return Ok(String::from_utf8(bytes.to_vec()).ok()),
            Err(PortError::Missing) => return Ok(None),
            Err(error) => last = error,
        }
    }
    Err(unavailable(&format!("read `{name}`"), &last))
}

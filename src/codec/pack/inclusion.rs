//! That a record is in a pack, for those who have not the pack: the record, and its path in the Merkle
//! tree up to the root that the trailer names.
//!
//! INVARIANT: what is made here holds; a pack of which any entry cannot be read has no root to lead to.

use super::reader::{Frames, OpenTail, open_tail};
use super::{identity, merkle};
use crate::codec::dictionary::Dictionary;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Digest, PackId, PartitionNo};
use crate::domain::record::RecordId;

/// A record and where it stands in the tree of its pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// Which record.
    pub id: RecordId,
    /// Its number among the entries of the pack.
    pub index: u64,
    /// How many entries there are.
    pub entries: u64,
    /// Its body, uncompressed.
    pub body: Vec<u8>,
    /// The subtrees beside it, the nearest first.
    pub path: Vec<Digest>,
    /// The root of the tree.
    pub root: Digest,
}

impl Inclusion {
    /// Whether record and path lead to the root.
    #[must_use]
    pub fn holds(&self) -> bool {
        let leaf = merkle::leaf(&identity(&self.id), &self.body);
        merkle::root_over(leaf, self.index, self.entries, &self.path) == Some(self.root)
    }
}

/// Proves that a record is in the pack whose bytes these are; `partition` tells entries of one name apart.
///
/// # Errors
/// `NotFound` if the pack does not hold the record, `Corrupt` if anything in the pack is damaged.
pub fn prove(
    pack: PackId,
    bytes: &[u8],
    (id, partition): (&RecordId, PartitionNo),
    dictionary: impl Fn(&Digest) -> Option<Dictionary>,
) -> Result<Inclusion> {
    let (trailer, footer) = match open_tail(pack, bytes, bytes.len() as u64)? {
        OpenTail::Ready(ready) => *ready,
        OpenTail::Need(_) => return Err(Error::corrupt("a footer is longer than its object")),
    };
    let (mut wanted, mut found) = (None, None);
    for at in footer.find(&id.key.kind, &id.key.id) {
        if footer.id(at)? == *id && footer.stretch(at)?.partition == partition {
            wanted = Some(at);
        }
    }
    let Some(wanted) = wanted else {
        return Err(Error::new(ErrorKind::NotFound, "corrupt", "the pack does not hold the record"));
    };
    // By frame, so that each is decoded once.
    let mut by_frame: Vec<usize> = (0..footer.len()).collect();
    by_frame.sort_by_key(|at| footer.frame(*at));
    let mut leaves = vec![Digest::default(); footer.len()];
    let mut frames = Frames::new(bytes);
    for at in by_frame {
        let (entry, locator) = (footer.id(at)?, footer.locator(at)?);
        let known = locator.dictionary.and_then(|digest| dictionary(&digest));
        let body = frames.body(&entry, &locator, known.as_ref())?;
        leaves[at] = merkle::leaf(&identity(&entry), body);
        if at == wanted {
            found = Some(body.to_vec());
        }
    }
    let inclusion = Inclusion {
        id: id.clone(),
        index: wanted as u64,
        entries: leaves.len() as u64,
        body: found.unwrap_or_default(),
        path: merkle::path(&leaves, wanted),
        root: trailer.merkle_root,
    };
    match inclusion.holds() {
        true => Ok(inclusion),
        false => Err(Error::corrupt("the entries disagree with the merkle root")),
    }
}

//! What an entry's bytes are bound to: identity bytes, the keyed CRC32C, and the Merkle tree of RFC 6962
//! section 2.1 (leaf prefix 0x00, node prefix 0x01, left subtree the largest power of two).

use crate::domain::ids::{Digest, Lineage, Version};
use sha2::{Digest as _, Sha256};

/// `lp(type) | lp(id) | u32 lineage | u8 kind | u64 from | u64 upto`, little-endian.
pub(super) fn identity(
    kind: &str,
    id: &str,
    lineage: Lineage,
    code: u8,
    from: Version,
    upto: Version,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(kind.len() + id.len() + 29);
    for name in [kind, id] {
        // Names are at most 1 KiB wherever they come from.
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(&lineage.0.to_le_bytes());
    out.push(code);
    out.extend_from_slice(&from.0.to_le_bytes());
    out.extend_from_slice(&upto.0.to_le_bytes());
    out
}

/// CRC32C over identity and uncompressed body.
pub(super) fn keyed_crc(identity: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(identity), body)
}

/// The leaf of one entry.
pub(super) fn leaf(identity: &[u8], body: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(identity);
    hash.update(body);
    Digest(hash.finalize().into())
}

/// The root over leaves in entry order; of no leaves, the hash of nothing.
pub(super) fn root(leaves: &[Digest]) -> Digest {
    // One subtree per set bit of the number of leaves so far, largest first; equal sizes merge as they arise.
    let mut subtrees: Vec<(usize, Digest)> = Vec::new();
    for leaf in leaves {
        subtrees.push((1, *leaf));
        while let [.., (left_size, left), (right_size, right)] = subtrees[..]
            && left_size == right_size
        {
            subtrees.truncate(subtrees.len() - 2);
            subtrees.push((left_size + right_size, node(left, right)));
        }
    }
    let fold = subtrees.into_iter().rev().map(|(_, digest)| digest).reduce(|right, left| node(left, right));
    fold.unwrap_or_else(|| Digest(Sha256::digest([]).into()))
}

fn node(left: Digest, right: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left.0);
    hash.update(right.0);
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word for word: MTH(D[n]) = SHA-256(0x01 | MTH(D[0:k]) | MTH(D[k:n])).
    fn defined(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest(Sha256::digest([]).into()),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(defined(&leaves[..split]), defined(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_root_is_the_one_that_rfc_6962_defines() {
        let leaves: Vec<_> = (0..40_u8).map(|n| leaf(&[], &[n])).collect();
        for n in 0..leaves.len() {
            assert_eq!(root(&leaves[..n]), defined(&leaves[..n]), "{n} leaves");
        }
    }

    /// Published vector: the root over the single leaf "" (certificate-transparency test data).
    #[test]
    fn the_leaf_of_nothing_is_the_published_one() {
        let hex = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(root(&[leaf(&[], &[])]).to_string(), hex);
    }
}

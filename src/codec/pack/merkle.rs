//! What an entry's bytes are bound to: identity bytes, the keyed CRC32C, and the Merkle tree of RFC 6962
//! section 2.1 (leaf prefix 0x00, node prefix 0x01, left subtree the largest power of two).

use super::kind_code;
use crate::domain::ids::Digest;
use crate::domain::record::RecordId;
use sha2::{Digest as _, Sha256};

/// `lp(type) | lp(id) | u32 lineage | u8 kind | u64 from | u64 upto`, little-endian, in place of what is in
/// `out`.
pub(super) fn identity(out: &mut Vec<u8>, id: &RecordId) {
    out.clear();
    for name in [&id.key.kind, &id.key.id] {
        // Names are at most 1 KiB wherever they come from.
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(&id.lineage.0.to_le_bytes());
    out.push(kind_code(id.kind));
    out.extend_from_slice(&id.from_version.0.to_le_bytes());
    out.extend_from_slice(&id.upto_version.0.to_le_bytes());
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

/// The tree over leaves that come in entry order.
#[derive(Default)]
pub(super) struct Tree {
    /// Leaves and root of one subtree per set bit of the number of leaves so far, largest first.
    subtrees: Vec<(usize, Digest)>,
}

impl Tree {
    /// Adds a leaf: subtrees of equal size merge as they arise.
    pub(super) fn push(&mut self, leaf: Digest) {
        let (mut size, mut right) = (1, leaf);
        while let Some((_, left)) = self.subtrees.pop_if(|(left, _)| *left == size) {
            (size, right) = (size * 2, node(left, right));
        }
        self.subtrees.push((size, right));
    }

    /// The root; of no leaves, the hash of nothing.
    pub(super) fn root(&self) -> Digest {
        let digests = self.subtrees.iter().rev().map(|(_, digest)| *digest);
        digests.reduce(|right, left| node(left, right)).unwrap_or_else(|| Digest(Sha256::digest([]).into()))
    }
}

/// The root over these leaves.
pub(super) fn root(leaves: &[Digest]) -> Digest {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The path from leaf `at` up to the root (RFC 6962 section 2.1.1): what the subtrees beside it come to, the
/// nearest first. Empty where there is no such leaf.
pub(super) fn path(leaves: &[Digest], at: usize) -> Vec<Digest> {
    if at >= leaves.len() || leaves.len() < 2 {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(split);
    let (mut path, beside) = match at.checked_sub(split) {
        None => (self::path(left, at), right),
        Some(at) => (self::path(right, at), left),
    };
    path.push(root(beside));
    path
}

/// The root that a leaf and its path lead to, where the leaf is number `at` of `count`; none where the path
/// is not as long as it must be (RFC 9162 section 2.1.3.2).
pub(super) fn root_over(leaf: Digest, at: u64, count: u64, path: &[Digest]) -> Option<Digest> {
    let (mut at, mut last) = (at, count.checked_sub(1).filter(|last| at <= *last)?);
    let mut root = leaf;
    for beside in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            root = node(*beside, root);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            root = node(root, *beside);
        }
        (at, last) = (at / 2, last / 2);
    }
    (last == 0).then_some(root)
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

    #[test]
    fn a_path_leads_from_its_leaf_to_the_root_and_from_no_other() {
        let leaves: Vec<_> = (0..40_u8).map(|n| leaf(&[], &[n])).collect();
        for count in 1..=leaves.len() {
            let some = &leaves[..count];
            for (at, own) in some.iter().enumerate() {
                let (path, wanted) = (path(some, at), root(some));
                let over = |leaf, at: usize, path: &[Digest]| root_over(leaf, at as u64, count as u64, path);
                assert_eq!(over(*own, at, &path), Some(wanted), "{at} of {count}");
                assert_ne!(over(leaf(&[], b"x"), at, &path), Some(wanted));
                if count > 1 {
                    assert_ne!(over(*own, (at + 1) % count, &path), Some(wanted), "{at} of {count}");
                    assert_eq!(over(*own, at, &path[1..]), None, "{at} of {count}");
                }
                assert_eq!(over(leaves[at], at, &[&path[..], &[wanted]].concat()), None);
            }
            assert_eq!(root_over(leaves[0], count as u64, count as u64, &[]), None);
        }
        assert_eq!(path(&[], 0), []);
    }

    /// Published vector: the root over the single leaf "" (certificate-transparency test data).
    #[test]
    fn the_leaf_of_nothing_is_the_published_one() {
        let hex = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(root(&[leaf(&[], &[])]).to_string(), hex);
    }
}

//! The manifest of a backup: which objects it holds, each with its length and its digest. Lines of words, so
//! that it can be read without a tool; the last is the SHA-256 of those before it.

use crate::codec::wire::from_hex;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Where manifests are, beside the objects.
pub const FOLDER: &str = "backups/";
const FORMAT: &str = "snapfold backup 1";

/// One object of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of all of them.
    pub sha256: Digest,
    /// Merkle root, of packs.
    pub root: Option<Digest>,
}

/// What one backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// When it was begun.
    pub begun: Timestamp,
    /// Its objects by name.
    pub objects: BTreeMap<String, Copied>,
    /// Objects that were damaged where they were copied from, and so are not in it.
    pub damaged: Vec<String>,
}

impl Manifest {
    /// The name of its object: of two manifests the larger name is the later.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{FOLDER}{:016}.manifest", self.begun.0)
    }

    /// All bytes of its objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.values().map(|object| object.bytes).sum()
    }

    /// Its text.
    #[must_use]
    pub fn encode(&self) -> String {
        let (count, bytes) = (self.objects.len(), self.bytes());
        let mut text = format!("{FORMAT}\nbegun {}\nobjects {count} {bytes}\n", self.begun);
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            text.write_fmt(arguments).expect("a text takes whatever is written to it");
        };
        for (name, Copied { bytes, sha256, root }) in &self.objects {
            match root {
                Some(root) => line(format_args!("object {sha256} {root} {bytes} {name}\n")),
                None => line(format_args!("object {sha256} - {bytes} {name}\n")),
            }
        }
        self.damaged.iter().for_each(|name| line(format_args!("damaged {name}\n")));
        let digest = Digest(Sha256::digest(text.as_bytes()).into());
        text + &format!("sha256 {digest}\n")
    }

    /// The manifest whose text this is.
    ///
    /// # Errors
    /// `Corrupt` for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("the manifest is damaged, or not one of this version");
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let mut manifest = Self::default();
        for line in text.lines().skip(1) {
            let (word, rest) = line.split_once(' ').ok_or_else(damaged)?;
            match word {
                "begun" => manifest.begun = Timestamp(rest.parse().map_err(|_| damaged())?),
                "object" => {
                    let (name, object) = object(rest).ok_or_else(damaged)?;
                    manifest.objects.insert(name.to_owned(), object);
                }
                "damaged" => manifest.damaged.push(rest.to_owned()),
                _ => {}
            }
        }
        // Whatever was read must say the same again, to the last byte.
        if manifest.encode() == text { Ok(manifest) } else { Err(damaged()) }
    }
}

fn object(line: &str) -> Option<(&str, Copied)> {
    let mut words = line.splitn(4, ' ');
    let sha256 = digest(words.next()?)?;
    let root = match words.next()? {
        "-" => None,
        root => Some(digest(root)?),
    };
    let bytes = words.next()?.parse().ok()?;
    Some((words.next()?, Copied { bytes, sha256, root }))
}

fn digest(text: &str) -> Option<Digest> {
    from_hex(text).map(Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_every_changed_byte_is_found() {
        let object = |n: u8, root| Copied { bytes: n.into(), sha256: Digest([n; 32]), root };
        let manifest = Manifest {
            begun: Timestamp(1_700_000_000_000),
            objects: [
                ("v1/dict/a".to_owned(), object(1, None)),
                ("v1/full/b c.sfp".to_owned(), object(2, Some(Digest([3; 32])))),
            ]
            .into(),
            damaged: vec!["v1/history/d.sfp".to_owned()],
        };
        let text = manifest.encode();
        assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest.clone()));
        assert_eq!((manifest.bytes(), manifest.name().as_str()), (3, "backups/0001700000000000.manifest"));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Manifest::decode(&bytes).is_err(), "byte {at}");
            assert!(Manifest::decode(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }
}

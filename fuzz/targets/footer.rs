//! Footers behind all checksums. Input: number of entries (u16, little-endian), number of frames (u16), where
//! the frames end (u32), then the sections; their lengths and checksums are made right.

use super::repair;
use sha2::{Digest as _, Sha256};
use snapfold::codec::pack::{Footer, Trailer};
use snapfold::domain::ids::Digest;

pub(crate) fn check(data: &[u8]) {
    let Some((counts, sections)) = data.split_first_chunk::<8>() else { return };
    let [a, b, c, d, e, f, g, h] = counts.map(u32::from);
    let bytes = repair::footer(sections);
    let trailer = Trailer {
        footer_offset: u64::from(e | f << 8 | g << 16 | h << 24),
        footer_len: bytes.len() as u64,
        entries: a | b << 8,
        frames: c | d << 8,
        frames_sha256: Digest([0; 32]),
        footer_sha256: Digest(Sha256::digest(&bytes).into()),
        merkle_root: Digest([0; 32]),
    };
    let Ok(footer) = Footer::parse(&bytes, &trailer) else { return };
    assert_eq!((footer.len(), footer.is_empty()), (trailer.entries as usize, trailer.entries == 0));
    assert!(footer.find("no such type", "o-1").is_empty());
    for at in 0..footer.len() {
        let locator = footer.locator(at).expect("codecs and dictionaries were checked");
        assert!(locator.range().end <= trailer.footer_offset, "a frame lies outside the pack");
        assert!(locator.body_start + locator.body_len <= locator.frame_raw_len, "a body leaves its frame");
        // A kind, or flags, of a later version are an error only where they are asked for.
        let (Ok(id), meta) = (footer.id(at), footer.meta(at)) else { continue };
        let mut found = footer.find(&id.key.kind, &id.key.id);
        assert!(found.contains(&at), "entry {at} is not found by its own key");
        assert!(found.all(|other| footer.id(other).ok().is_none_or(|other| other.key == id.key)));
        if let Ok(meta) = meta {
            assert_eq!((meta.id, meta.trail), (id, locator.trail));
        }
    }
    assert!(footer.find("", "").is_empty());
    assert!(footer.id(footer.len()).is_err() && footer.locator(footer.len()).is_err());
}

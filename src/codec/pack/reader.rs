//! Reading a pack: its end, one entry by its locator, or everything.

use super::footer::Footer;
use super::header::{Class, Header, TRAILER_LEN, Trailer};
use super::locator::Locator;
use super::{identity, merkle};
use crate::codec::compress::decode;
use crate::codec::dictionary::Dictionary;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, PackId};
use crate::domain::record::RecordId;
use sha2::{Digest as _, Sha256};

/// What the last bytes of an object gave.
#[derive(Clone, Debug)]
pub enum OpenTail {
    /// The footer is longer than that: ask for this many bytes from the end.
    Need(u64),
    /// All that is known about the pack without its frames.
    Ready(Box<(Trailer, Footer)>),
}

/// Opens a pack from its last bytes; 64 KiB are mostly enough, [`TRAILER_LEN`] the least.
///
/// `pack` is the pack that should be there: another one is corrupt, as is anything that disagrees with
/// itself.
pub fn open_tail(pack: PackId, tail: &[u8], object_len: u64) -> Result<OpenTail> {
    let (rest, trailer) = tail.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| too_short(object_len))?;
    let trailer = Trailer::parse(trailer, object_len)?;
    let Some(start) = usize::try_from(trailer.footer_len).ok().and_then(|len| rest.len().checked_sub(len))
    else {
        return Ok(OpenTail::Need(trailer.footer_len + TRAILER_LEN as u64));
    };
    let footer = Footer::parse(&rest[start..], &trailer)?;
    if footer.header().pack != pack {
        return Err(Error::corrupt(format!("pack `{}` is where `{pack}` should be", footer.header().pack)));
    }
    Ok(OpenTail::Ready(Box::new((trailer, footer))))
}

fn too_short(object_len: u64) -> Error {
    Error::corrupt(format!("an object of `{object_len}` bytes is too short for a pack"))
}

/// The body of one record from its frame's stored bytes (a range read, or the locator's own inline copy).
///
/// Fails unless the bytes decode to the claimed length and the checksum holds for exactly this record.
pub fn read_entry(
    id: &RecordId,
    locator: &Locator,
    frame: &[u8],
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>> {
    let raw = read_frame(locator, frame, dictionary)?;
    let body = body_in(&raw, id, locator)?;
    Ok(if body.len() == raw.len() { raw } else { body.to_vec() })
}

/// What the stored bytes of a record's frame decode to: its body, or a block with it and others.
///
/// Fails unless they decode to the claimed length.
pub fn read_frame(locator: &Locator, frame: &[u8], dictionary: Option<&Dictionary>) -> Result<Vec<u8>> {
    check_dictionary(locator, dictionary)?;
    if frame.len() != locator.frame_len as usize {
        let (found, wanted) = (frame.len(), locator.frame_len);
        return Err(Error::corrupt(format!("a frame of `{found}` bytes where `{wanted}` were expected")));
    }
    decode(locator.algorithm, frame, locator.frame_raw_len as usize, dictionary)
        .map_err(|error| error.context("read frame"))
}

/// The body of one record in its uncompressed frame.
///
/// Fails unless the checksum holds for exactly this record.
pub fn body_in<'a>(raw: &'a [u8], id: &RecordId, locator: &Locator) -> Result<&'a [u8]> {
    let body = part(raw, locator)?;
    if merkle::keyed_crc(&identity(id), body) != locator.crc {
        return Err(Error::corrupt(format!(
            "the record at version `{}` fails its checksum",
            id.upto_version
        )));
    }
    Ok(body)
}

fn check_dictionary(locator: &Locator, dictionary: Option<&Dictionary>) -> Result<()> {
    if dictionary.map(Dictionary::id) == locator.dictionary {
        return Ok(());
    }
    Err(match locator.dictionary {
        Some(wanted) => Error::corrupt(format!("dictionary `{wanted}` is missing")),
        None => Error::corrupt("a dictionary where none was used"),
    })
}

fn part<'a>(raw: &'a [u8], locator: &Locator) -> Result<&'a [u8]> {
    let rest = raw.get(locator.body_start as usize..);
    let body = rest.and_then(|rest| rest.get(..locator.body_len as usize));
    body.ok_or_else(|| Error::corrupt("a body lies outside its frame"))
}

/// Something wrong with a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry that it makes unreadable; none if it concerns the whole pack.
    pub entry: Option<usize>,
    /// What is wrong.
    pub error: Error,
}

/// What reading every byte of a pack found.
#[derive(Clone, Debug)]
pub struct PackReport {
    /// Its class.
    pub class: Class,
    /// Number of entries.
    pub entries: usize,
    /// Number of frames.
    pub frames: usize,
    /// Bytes of all readable bodies before compression.
    pub raw_len: u64,
    /// Everything that is wrong; empty for a sound pack.
    pub faults: Vec<Fault>,
}

impl PackReport {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Checks everything about a pack: both ends, that frames tile the space between, that every entry decodes
/// and holds its checksum, all digests and the Merkle root. `Err` only if the footer cannot be read at all.
pub fn verify_pack(
    pack: PackId,
    bytes: &[u8],
    dictionary: impl Fn(&Digest) -> Option<Dictionary>,
) -> Result<PackReport> {
    let (trailer, footer) = match open_tail(pack, bytes, bytes.len() as u64)? {
        OpenTail::Ready(ready) => *ready,
        OpenTail::Need(_) => return Err(too_short(bytes.len() as u64)),
    };
    let mut faults = Vec::new();
    let frames_start = footer.header_len();
    let whole = |detail: &str| Fault { entry: None, error: Error::corrupt(detail) };
    match Header::parse(bytes) {
        Ok((header, len)) if header == *footer.header() && len == frames_start => {}
        Ok(_) => faults.push(whole("header and footer describe different packs")),
        Err(error) => faults.push(Fault { entry: None, error }),
    }
    // The footer has shown that frames fill exactly this space.
    let frames = bytes.get(frames_start..trailer.footer_offset as usize).unwrap_or_default();
    if Sha256::digest(frames)[..] != trailer.frames_sha256.0 {
        faults.push(whole("the frames disagree with their digest"));
    }
    // By frame, so that each is decoded once, however the entries of two frames alternate.
    let mut by_frame: Vec<usize> = (0..footer.len()).collect();
    by_frame.sort_by_key(|at| footer.frame(*at));
    let mut leaves = vec![None; footer.len()];
    let mut raw_len = 0;
    let mut frames_read = Frames::new(bytes);
    for at in by_frame {
        match verify_entry(&footer, at, &dictionary, &mut frames_read) {
            Ok((leaf, len)) => {
                leaves[at] = Some(leaf);
                raw_len += len;
            }
            Err(error) => faults.push(Fault { entry: Some(at), error }),
        }
    }
    faults.sort_by_key(|fault| fault.entry);
    // With an entry missing the root cannot be computed, and the entry's own fault says so.
    let leaves: Option<Vec<Digest>> = leaves.into_iter().collect();
    if leaves.is_some_and(|leaves| merkle::root(&leaves) != trailer.merkle_root) {
        faults.push(whole("the entries disagree with the merkle root"));
    }
    let frames = trailer.frames as usize;
    Ok(PackReport { class: footer.header().class, entries: footer.len(), frames, raw_len, faults })
}

/// The Merkle root of a pack of whose bytes all are those that were written; nothing is decoded.
///
/// # Errors
/// `Corrupt` for any other bytes.
pub fn intact(pack: PackId, bytes: &[u8]) -> Result<Digest> {
    let (trailer, footer) = match open_tail(pack, bytes, bytes.len() as u64)? {
        OpenTail::Ready(ready) => *ready,
        OpenTail::Need(_) => return Err(too_short(bytes.len() as u64)),
    };
    let start = footer.header_len();
    let frames = bytes.get(start..trailer.footer_offset as usize).unwrap_or_default();
    let is_header =
        Header::parse(bytes).is_ok_and(|(header, len)| header == *footer.header() && len == start);
    if !is_header || Sha256::digest(frames)[..] != trailer.frames_sha256.0 {
        return Err(Error::corrupt("its header or its frames disagree with their digests"));
    }
    Ok(trailer.merkle_root)
}

/// Bodies of a pack that is in memory. The frame decoded last, or why it cannot be, is kept: a block is
/// decoded once if its entries are asked for one after the other.
pub struct Frames<'a> {
    pack: &'a [u8],
    /// Where the frame in `raw` starts; none starts at 0, where the header is.
    offset: u64,
    raw_len: u32,
    raw: Result<Vec<u8>>,
}

impl<'a> Frames<'a> {
    /// The frames of this object.
    #[must_use]
    pub fn new(pack: &'a [u8]) -> Self {
        Self { pack, offset: 0, raw_len: 0, raw: Ok(Vec::new()) }
    }

    /// The body of one record. Fails like [`read_entry`].
    pub fn body(
        &mut self,
        id: &RecordId,
        locator: &Locator,
        dictionary: Option<&Dictionary>,
    ) -> Result<&[u8]> {
        if (self.offset, self.raw_len) != (locator.frame_offset, locator.frame_raw_len) {
            check_dictionary(locator, dictionary)?;
            let range = locator.range();
            let stored = self.pack.get(range.start as usize..range.end as usize).unwrap_or_default();
            (self.offset, self.raw_len) = (locator.frame_offset, locator.frame_raw_len);
            self.raw = decode(locator.algorithm, stored, locator.frame_raw_len as usize, dictionary);
        }
        body_in(self.raw.as_deref().map_err(Clone::clone)?, id, locator)
    }
}

fn verify_entry(
    footer: &Footer,
    at: usize,
    dictionary: impl Fn(&Digest) -> Option<Dictionary>,
    frames: &mut Frames<'_>,
) -> Result<(Digest, u64)> {
    let id = footer.meta(at)?.id;
    let locator = footer.locator(at)?;
    let known = locator.dictionary.and_then(|digest| dictionary(&digest));
    let body = frames.body(&id, &locator, known.as_ref())?;
    Ok((merkle::leaf(&identity(&id), body), body.len() as u64))
}

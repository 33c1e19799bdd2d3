//! Checksums, digests and lengths made right again after the fuzzer has changed what they cover. Without this
//! hardly any input would come past them. Knows the layout of `docs/FORMAT.md`, not the code that reads it.

use sha2::{Digest, Sha256};

/// Bytes of a trailer.
const TRAILER_LEN: usize = 140;
/// Bytes of a header before the writer's name.
const HEADER_FIXED_LEN: usize = 54;
/// The section that repeats the header.
const HEADER_SECTION: u8 = 1;

/// The varint at the start of `bytes`, and its length.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((usize::try_from(value).ok()?, at + 1));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Where the checksum of the header at the start of `bytes` stands, if a header is there.
fn header_crc_at(bytes: &[u8]) -> Option<usize> {
    let (writer_len, len) = varint(bytes.get(HEADER_FIXED_LEN..)?)?;
    let dictionaries_at = (HEADER_FIXED_LEN + len).checked_add(writer_len)?;
    let (dictionaries, len) = varint(bytes.get(dictionaries_at..)?)?;
    let crc_at = dictionaries.checked_mul(32)?.checked_add(dictionaries_at + len)?;
    (crc_at.checked_add(4)? <= bytes.len()).then_some(crc_at)
}

fn put_crc(bytes: &mut [u8], at: usize) {
    let crc = crc32c::crc32c(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// A locator whose own checksum is right.
pub(crate) fn locator(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    out
}

/// A footer whose sections have the right lengths and checksums; the header in it as well.
pub(crate) fn footer(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rest.len() + 64);
    while let [id, algorithm, lens @ ..] = rest {
        let Some((raw_len, read)) = varint(lens) else { break };
        let Some((stored_len, more)) = varint(&lens[read..]) else { break };
        let after = &lens[read + more..];
        let stored_len = stored_len.min(after.len());
        let mut stored = after[..stored_len].to_vec();
        if *id == HEADER_SECTION
            && let Some(at) = header_crc_at(&stored)
        {
            put_crc(&mut stored, at);
        }
        let start = out.len();
        out.extend_from_slice(&[*id, *algorithm]);
        put_varint(&mut out, if *algorithm == 0 { stored_len } else { raw_len });
        put_varint(&mut out, stored_len);
        out.extend_from_slice(&stored);
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        rest = after[stored_len..].get(4..).unwrap_or_default();
    }
    out
}

/// A pack with the bytes of this one, whose two ends agree with what stands between them.
pub(crate) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    let (rest, trailer) = bytes.split_last_chunk::<TRAILER_LEN>()?;
    let claimed = usize::from(trailer[8]) | usize::from(trailer[9]) << 8;
    let (front, footer_bytes) = rest.split_at(rest.len().checked_sub(claimed)?);
    let mut out = front.to_vec();
    let frames_at = header_crc_at(&out)? + 4;
    put_crc(&mut out, frames_at - 4);
    let footer = footer(footer_bytes);
    let mut end = (out.len() as u64).to_le_bytes().to_vec();
    end.extend_from_slice(&(footer.len() as u64).to_le_bytes());
    // Counts of entries and frames stay as they are; so do the root and all that follows.
    end.extend_from_slice(&trailer[16..24]);
    end.extend_from_slice(&Sha256::digest(&out[frames_at..]));
    end.extend_from_slice(&Sha256::digest(&footer));
    end.extend_from_slice(&trailer[88..]);
    put_crc(&mut end, TRAILER_LEN - 12);
    out.extend_from_slice(&footer);
    out.extend_from_slice(&end);
    Some(out)
}

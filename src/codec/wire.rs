//! The smallest pieces of every stored form: little-endian integers, LEB128 varints, zigzag, length-prefixed
//! bytes, and a cursor over foreign bytes.
//!
//! The cursor never trusts a length: whatever it hands out is a slice of what is really there, and a count is
//! refused when the rest could not hold that many items. Varints must be minimal, so that every value has
//! exactly one encoding. (LEB128 as in DWARF 5 section 7.6; zigzag as in Protocol Buffers.)

use crate::domain::error::{Error, Result};

/// Appends `value` as a LEB128 varint (1 to 10 bytes).
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number so that small magnitudes are short.
pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a varint length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends `0` for none, else a varint of length + 1, and the bytes.
pub(crate) fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, optional_len(bytes));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// How [`put_optional`] writes a length: 0 for none, else length + 1.
pub(crate) fn optional_len(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| bytes.len() as u64 + 1)
}

/// Reads foreign bytes from front to back.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let Some((taken, rest)) = split else {
            return Err(Error::corrupt(format!("`{len}` bytes wanted where `{}` are left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let is_minimal = byte != 0 || shift == 0;
                let fits = shift < 63 || byte < 2;
                return if is_minimal && fits {
                    Ok(value)
                } else {
                    Err(Error::corrupt("a varint is malformed"))
                };
            }
        }
        Err(Error::corrupt("a varint is longer than 10 bytes"))
    }

    pub(crate) fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number of items of at least `item_len` bytes each that still have to follow.
    pub(crate) fn count(&mut self, item_len: usize) -> Result<usize> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(items) if items <= self.rest.len() / item_len.max(1) => Ok(items),
            _ => Err(Error::corrupt(format!(
                "`{count}` items claimed where `{}` bytes are left",
                self.rest.len()
            ))),
        }
    }

    /// A varint length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.varint()?;
        self.take(len)
    }

    /// What [`put_optional`] wrote.
    pub(crate) fn optional(&mut self) -> Result<Option<&'a [u8]>> {
        let len = self.varint()?;
        self.optional_of(len)
    }

    /// The bytes for a length that [`optional_len`] gave.
    pub(crate) fn optional_of(&mut self, len: u64) -> Result<Option<&'a [u8]>> {
        len.checked_sub(1).map(|len| self.take(len)).transpose()
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::corrupt("a text is not UTF-8"))
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Fails if anything is left.
    pub(crate) fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Error::corrupt(format!("`{left}` bytes too many"))),
        }
    }
}

/// The bytes that a text of two hex digits each writes; none unless there are exactly `N`.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_and_zigzags_round_trip(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_zigzag(&mut out, signed);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint().unwrap(), value);
            prop_assert_eq!(cursor.zigzag().unwrap(), signed);
            cursor.finish().unwrap();
        }

        #[test]
        fn whatever_reads_as_a_varint_is_written_back_as_the_same_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut cursor = Cursor::new(&bytes);
            if let Ok(value) = cursor.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - cursor.remaining()]);
            }
        }
    }

    #[test]
    fn a_count_that_the_rest_cannot_hold_is_refused() {
        assert_eq!(Cursor::new(&[2, 0, 0]).count(1), Ok(2));
        assert!(Cursor::new(&[3, 0, 0]).count(1).is_err());
        assert!(Cursor::new(&[2, 0, 0]).count(2).is_err());
    }
}

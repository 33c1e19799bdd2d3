//! Parts of an object: how they are asked for, and that an answer holds what was asked for. Pure.

use super::super::Blob;

/// Part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `len` bytes from `start`, fewer where the object ends.
    From { start: u64, len: u64 },
    /// The last bytes.
    Last(u64),
}

/// Beyond every object: some stores read positions as signed numbers.
const POSITION_MAX: u64 = 1 << 60;

impl Part {
    /// The value of `Range`. A range cannot be empty, so where nothing is asked for one byte is: whether the object
    /// is there has to be known all the same.
    pub(super) fn header(self) -> String {
        match self {
            Self::From { start, len } => {
                let start = start.min(POSITION_MAX);
                format!("bytes={start}-{}", start.saturating_add(len.max(1) - 1).min(POSITION_MAX))
            }
            Self::Last(len) => format!("bytes=-{}", len.clamp(1, POSITION_MAX)),
        }
    }

    /// Most bytes that an answer may have.
    pub(super) fn bytes_max(self) -> u64 {
        let (Self::From { len, .. } | Self::Last(len)) = self;
        len.max(1)
    }

    /// The bytes that were asked for, out of an answer, and the length of the object.
    ///
    /// # Errors
    /// What is wrong with the answer, if these bytes are not all in it.
    pub(super) fn taken(self, content_range: Option<&str>, mut body: Blob) -> Result<(Blob, u64), String> {
        // An answer without `Content-Range` is the whole object.
        let (first, whole) = match content_range {
            Some(text) => {
                let (first, last, whole) =
                    parse(text).ok_or_else(|| format!("`Content-Range: {text:.60}`"))?;
                if last - first + 1 != body.len() as u64 {
                    return Err(format!("{} bytes where {first} to {last} were announced", body.len()));
                }
                (first, whole)
            }
            None => (0, body.len() as u64),
        };
        let (start, end) = match self {
            Self::From { start, len } => (start.min(whole), start.saturating_add(len).min(whole)),
            Self::Last(len) => (whole.saturating_sub(len), whole),
        };
        let (Self::From { len: asked, .. } | Self::Last(asked)) = self;
        // Nothing was asked for, and the one byte that came instead is not it; or the whole object came, and it ends
        // before the range.
        if asked == 0 || (start == end && content_range.is_none()) {
            return Ok((Blob::new(), whole));
        }
        let (cut, keep) = (start.checked_sub(first), end - start);
        match cut.and_then(|cut| usize::try_from(cut).ok()) {
            Some(cut) if keep > 0 && cut as u64 + keep <= body.len() as u64 => {
                body.drain(..cut);
                // It fits: it was just compared with a length in memory.
                body.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                Ok((body, whole))
            }
            _ => Err(format!("{} bytes from {first} where {start} to {end} were asked for", body.len())),
        }
    }
}

/// The length of an object in the answer that a range lies outside of it (416): `bytes */LENGTH`.
pub(super) fn length_of_unsatisfied(content_range: &str) -> Option<u64> {
    number(content_range.trim().strip_prefix("bytes */")?)
}

/// First byte, last byte and the length of the object, of `bytes FIRST-LAST/LENGTH`.
fn parse(text: &str) -> Option<(u64, u64, u64)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, whole) = (number(first)?, number(last)?, number(whole)?);
    (first <= last && last < whole).then_some((first, last, whole))
}

fn number(digits: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_asks_for_at_least_a_byte_and_for_no_position_beyond_what_stores_read() {
        let from = |start, len| Part::From { start, len }.header();
        assert_eq!(from(0, 1), "bytes=0-0");
        assert_eq!(from(7, 0), "bytes=7-7");
        assert_eq!(from(7, 3), "bytes=7-9");
        assert_eq!(from(u64::MAX, u64::MAX), format!("bytes={POSITION_MAX}-{POSITION_MAX}"));
        assert_eq!(Part::Last(0).header(), "bytes=-1");
        assert_eq!(Part::Last(5).header(), "bytes=-5");
    }

    #[test]
    fn an_answer_is_taken_only_if_it_holds_what_was_asked_for() {
        let from = |start, len| Part::From { start, len };
        for (part, content_range, body, expected) in [
            (from(3, 4), Some("bytes 3-6/10"), "3456", Ok(("3456", 10))),
            (from(8, 4), Some("bytes 8-9/10"), "89", Ok(("89", 10))),
            (from(3, 0), Some("bytes 3-3/10"), "3", Ok(("", 10))),
            (Part::Last(0), Some("bytes 9-9/10"), "9", Ok(("", 10))),
            (Part::Last(3), Some("bytes 7-9/10"), "789", Ok(("789", 10))),
            (Part::Last(99), Some("bytes 0-9/10"), "0123456789", Ok(("0123456789", 10))),
            // A store that knows no ranges sends everything.
            (from(3, 4), None, "0123456789", Ok(("3456", 10))),
            (from(11, 4), None, "0123456789", Ok(("", 10))),
            (Part::Last(2), None, "0123456789", Ok(("89", 10))),
            (Part::Last(2), None, "", Ok(("", 0))),
            // More than was asked for.
            (from(3, 2), Some("bytes 2-6/10"), "23456", Ok(("34", 10))),
            // Less, or something else.
            (from(3, 4), Some("bytes 3-5/10"), "345", Err(())),
            (from(3, 4), Some("bytes 4-7/10"), "4567", Err(())),
            (from(3, 4), Some("bytes 3-6/10"), "345", Err(())),
            (Part::Last(3), Some("bytes 6-8/10"), "678", Err(())),
            (from(3, 4), Some("bytes 3-6/*"), "3456", Err(())),
            (from(3, 4), Some("bytes 6-3/10"), "3456", Err(())),
            (from(3, 4), Some("bytes 3-10/10"), "3456", Err(())),
            (from(3, 4), Some("bytes +3-6/10"), "3456", Err(())),
            (from(3, 4), Some("nonsense"), "3456", Err(())),
            (from(3, 4), Some("bytes 0-1/2"), "01", Err(())),
        ] {
            let taken = part.taken(content_range, body.as_bytes().to_vec());
            let expected = expected.map(|(bytes, whole)| (bytes.as_bytes().to_vec(), whole));
            assert_eq!(taken.map_err(|_| ()), expected, "{part:?} {content_range:?} {body}");
        }
    }
}

//! Strict JSON (RFC 8259) to values. Stricter than the grammar where API.md section 4.1 says so: repeated
//! member names, invalid UTF-8, lone surrogates, a byte order mark and trailing bytes are errors. U+0000 is
//! fine.
//!
//! Invariant: an error names a byte and a rule, never the content (event payloads do not belong in logs).

use super::{Document, Value};
use std::fmt;

/// Bounds on a document, checked before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the text in bytes.
    pub max_bytes: usize,
    /// Levels of arrays and objects; beyond [`Limits::DEPTH_MAX`] that is used.
    pub max_depth: usize,
    /// Members and elements in the whole document.
    pub max_members: usize,
}

impl Limits {
    /// No configuration goes deeper: 512 levels of recursion fit in any thread's stack.
    pub const DEPTH_MAX: usize = 512;
}

impl Default for Limits {
    /// 16 MiB (the default `maxStateBytes`), 128 levels, a million members and elements.
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_depth: 128, max_members: 1_000_000 }
    }
}

/// Which rule a text breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonFault {
    /// More bytes than the limit.
    TooLong,
    /// Nested deeper than the limit.
    TooDeep,
    /// More members and elements than the limit.
    TooManyMembers,
    /// The text starts with a byte order mark.
    ByteOrderMark,
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// The text ends inside a value.
    UnexpectedEnd,
    /// A value was expected.
    ExpectedValue,
    /// A member name was expected.
    ExpectedName,
    /// `:` was expected.
    ExpectedColon,
    /// `,` or the end of the array or object was expected.
    ExpectedComma,
    /// A number breaks the grammar: leading zero, no digit where one must be.
    BadNumber,
    /// A control character in a string is not escaped.
    ControlCharacter,
    /// An unknown escape, or `\u` without four hexadecimal digits.
    BadEscape,
    /// An escaped surrogate without its other half.
    LoneSurrogate,
    /// A member name was there before in the same object.
    DuplicateName,
    /// Something follows the document.
    TrailingBytes,
}

/// A broken rule and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The rule.
    pub fault: JsonFault,
    /// The byte it was noticed at; for a repeated name, the end of its object.
    pub offset: usize,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the document is longer than the limit",
            Self::TooDeep => "arrays and objects are nested deeper than the limit",
            Self::TooManyMembers => "the document has more members and elements than the limit",
            Self::ByteOrderMark => "the document starts with a byte order mark",
            Self::InvalidUtf8 => "the document is not valid UTF-8",
            Self::UnexpectedEnd => "the document ends too early",
            Self::ExpectedValue => "expected a value",
            Self::ExpectedName => "expected a member name in double quotes",
            Self::ExpectedColon => "expected `:` after a member name",
            Self::ExpectedComma => "expected `,` or the end of the array or object",
            Self::BadNumber => "the number does not follow the JSON grammar",
            Self::ControlCharacter => "a control character in a string must be escaped",
            Self::BadEscape => "unknown escape in a string",
            Self::LoneSurrogate => "an escaped surrogate lacks its other half",
            Self::DuplicateName => "a member name is repeated within its object",
            Self::TrailingBytes => "more bytes follow the document",
        })
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte `{}`", self.fault, self.offset)
    }
}

impl std::error::Error for JsonError {}

pub(super) type Result<T> = std::result::Result<T, JsonError>;

pub(super) fn fail<T>(fault: JsonFault, offset: usize) -> Result<T> {
    Err(JsonError { fault, offset })
}

impl Value {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// [`JsonError`] with the first rule found broken.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        Ok(Document::parse(bytes, limits)?.root().to_value())
    }
}

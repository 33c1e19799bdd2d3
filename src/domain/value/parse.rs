//! Strict JSON (RFC 8259) to values. Stricter than the grammar where API.md section 4.1 says so: repeated
//! member names, invalid UTF-8, lone surrogates, a byte order mark and trailing bytes are errors. U+0000 is
//! fine.
//!
//! Invariants: nothing is allocated for a length that is only claimed; the recursion is bounded by
//! `Limits::max_depth`; an error names a byte and a rule, never the content (event payloads do not belong in
//! logs).
//!
//! COST: the hot path of every worker. UTF-8 is checked once for the whole text; strings are scanned eight
//! bytes at a time and copied once; members and elements are collected on two stacks shared by all levels, so
//! that every array and object is allocated once, at its exact size.

use super::object::Member;
use super::{Object, Value};
use crate::domain::number::Number;
use crate::domain::text::Text;
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

type Result<T> = std::result::Result<T, JsonError>;

fn fail<T>(fault: JsonFault, offset: usize) -> Result<T> {
    Err(JsonError { fault, offset })
}

impl Value {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// [`JsonError`] with the first rule found broken.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        if bytes.len() > limits.max_bytes {
            return fail(JsonFault::TooLong, limits.max_bytes);
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return fail(JsonFault::ByteOrderMark, 0);
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return fail(JsonFault::InvalidUtf8, error.valid_up_to()),
        };
        let mut parser = Parser {
            text,
            bytes,
            at: 0,
            depth_left: limits.max_depth.min(Limits::DEPTH_MAX),
            members_left: limits.max_members,
            members: Vec::with_capacity(16),
            elements: Vec::new(),
        };
        let value = parser.value()?;
        match parser.peek() {
            None => Ok(value),
            Some(_) => fail(JsonFault::TrailingBytes, parser.at),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth_left: usize,
    members_left: usize,
    /// Members of all open objects, innermost last.
    members: Vec<Option<Member>>,
    /// Elements of all open arrays, innermost last.
    elements: Vec<Value>,
}

impl Parser<'_> {
    /// The next byte that is not white space, without taking it.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    /// Fails at the current byte, or for the lack of it.
    #[cold]
    fn unexpected<T>(&self, fault: JsonFault) -> Result<T> {
        let at_end = self.at >= self.bytes.len();
        fail(if at_end { JsonFault::UnexpectedEnd } else { fault }, self.at)
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Value::String)
            }
            Some(b'-' | b'0'..=b'9') => match Number::parse_at(self.text, self.at) {
                Ok((number, end)) => {
                    self.at = end;
                    Ok(Value::Number(number))
                }
                Err(offset) => {
                    self.at = offset;
                    self.unexpected(JsonFault::BadNumber)
                }
            },
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b't') => self.literal(b"true", Value::Bool(true)),
            Some(b'f') => self.literal(b"false", Value::Bool(false)),
            Some(b'n') => self.literal(b"null", Value::Null),
            _ => self.unexpected(JsonFault::ExpectedValue),
        }
    }

    fn literal(&mut self, word: &[u8], value: Value) -> Result<Value> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        self.at += rest.iter().zip(word).take_while(|(a, b)| a == b).count();
        self.unexpected(JsonFault::ExpectedValue)
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        if self.depth_left == 0 {
            return fail(JsonFault::TooDeep, self.at);
        }
        self.depth_left -= 1;
        self.at += 1;
        let value = inner(self);
        self.depth_left += 1;
        value
    }

    /// Counts one more member or element.
    fn count(&mut self) -> Result<()> {
        match self.members_left.checked_sub(1) {
            Some(left) => {
                self.members_left = left;
                Ok(())
            }
            None => fail(JsonFault::TooManyMembers, self.at),
        }
    }

    fn array(&mut self) -> Result<Value> {
        let start = self.elements.len();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(Vec::new()));
        }
        loop {
            self.count()?;
            let element = self.value()?;
            self.elements.push(element);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.unexpected(JsonFault::ExpectedComma),
            }
        }
        self.at += 1;
        Ok(Value::Array(self.elements.drain(start..).collect()))
    }

    fn object(&mut self) -> Result<Value> {
        let start = self.members.len();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(Object::new()));
        }
        loop {
            self.count()?;
            if self.peek() != Some(b'"') {
                return self.unexpected(JsonFault::ExpectedName);
            }
            self.at += 1;
            let name = self.string()?;
            if self.peek() != Some(b':') {
                return self.unexpected(JsonFault::ExpectedColon);
            }
            self.at += 1;
            let value = self.value()?;
            self.members.push(Some(Member { name, value }));
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.unexpected(JsonFault::ExpectedComma),
            }
        }
        let slots = self.members.drain(start..).collect();
        match Object::from_slots(slots) {
            Ok(object) => {
                self.at += 1;
                Ok(Value::Object(object))
            }
            Err(_) => fail(JsonFault::DuplicateName, self.at),
        }
    }

    /// The rest of a string whose opening quote was taken.
    fn string(&mut self) -> Result<Text> {
        let start = self.at;
        self.skip_plain();
        match self.bytes.get(self.at) {
            Some(b'"') => {
                let plain = &self.text[start..self.at];
                self.at += 1;
                Ok(plain.into())
            }
            Some(b'\\') => self.escaped_string(start),
            _ => self.unexpected(JsonFault::ControlCharacter),
        }
    }

    /// Goes on to the next quote, backslash, control character, or the end.
    #[inline]
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGH: u64 = ONES << 7;
        // COST: `has_zero(x)` marks bytes of `x` that are zero; a false mark can only be above a true one, so
        // the lowest mark is exact (little-endian: the first byte).
        let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        while let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let quote = has_zero(word ^ (ONES * u64::from(b'"')));
            let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
            let control = has_zero(word & (ONES * 0xe0));
            let marks = quote | backslash | control;
            if marks != 0 {
                self.at += (marks.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        while let Some(0x20..=0x21 | 0x23..=0x5b | 0x5d..) = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The rest of a string that started at `start` and has its first backslash here.
    fn escaped_string(&mut self, start: usize) -> Result<Text> {
        let mut plain = self.text[start..self.at].to_owned();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(plain.into());
                }
                Some(b'\\') => plain.push(self.escape()?),
                _ => return self.unexpected(JsonFault::ControlCharacter),
            }
            let run = self.at;
            self.skip_plain();
            plain.push_str(&self.text[run..self.at]);
        }
    }

    /// The character that the escape here stands for.
    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        self.at += 1;
        let plain = match self.bytes.get(self.at) {
            Some(escaped @ (b'"' | b'\\' | b'/')) => char::from(*escaped),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return self.unexpected(JsonFault::BadEscape),
        };
        self.at += 1;
        Ok(plain)
    }

    /// The character of the `\uXXXX` (or pair of them) whose backslash is at `start` and whose `u` is here.
    fn unicode_escape(&mut self, start: usize) -> Result<char> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..0xdc00 if self.bytes[self.at..].starts_with(b"\\u") => {
                self.at += 1;
                match self.hex4()? {
                    second @ 0xdc00..0xe000 => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => first,
                }
            }
            _ => first,
        };
        // Only half of a pair is not a character.
        char::from_u32(code).map_or_else(|| fail(JsonFault::LoneSurrogate, start), Ok)
    }

    /// The four hexadecimal digits after the `u` here.
    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.bytes.get(self.at).and_then(|byte| char::from(*byte).to_digit(16));
            let Some(digit) = digit else { return self.unexpected(JsonFault::BadEscape) };
            code = code * 16 + digit;
        }
        self.at += 1;
        Ok(code)
    }
}

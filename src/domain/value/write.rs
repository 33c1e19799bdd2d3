//! Values to JSON text: compact in member order, canonical, pretty; and the state digest.
//!
//! Strings have the escapes of RFC 8785 section 3.2.2.2 everywhere, so the compact and the canonical form of
//! a document differ in member order only. The canonical form is RFC 8785 with one exception: numbers keep
//! their exact text, because printing doubles would change what was folded (DESIGN.md section 6.4).

use super::{Object, Value};
use crate::domain::ids::Digest;
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;
use std::fmt;

impl Value {
    /// Appends the compact form, members in their order.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(elements) => {
                out.push(b'[');
                for (nth, element) in elements.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    element.write_json(out);
                }
                out.push(b']');
            }
            Self::Object(object) => {
                write_members(object.iter(), out, Self::write_json);
            }
            _ => self.write_scalar(out),
        }
    }

    /// The compact form as text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8(out).expect("strings and number texts are UTF-8, the rest is ASCII")
    }

    /// Appends the canonical form: no white space, members ordered by the UTF-16 code units of their names.
    pub fn canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(elements) => {
                out.push(b'[');
                for (nth, element) in elements.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    element.canonical(out);
                }
                out.push(b']');
            }
            Self::Object(object) => write_members(sorted(object).into_iter(), out, Self::canonical),
            _ => self.write_scalar(out),
        }
    }

    /// SHA-256 of the canonical form: the state digest, a snapshot's `checksum`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut canonical = Vec::new();
        self.canonical(&mut canonical);
        Digest(Sha256::digest(&canonical).into())
    }

    /// Appends the form for people: members in their order, two spaces per level, no line end after the last
    /// line.
    pub fn write_pretty(&self, out: &mut Vec<u8>) {
        self.write_indented(out, 0);
    }

    fn write_indented(&self, out: &mut Vec<u8>, level: usize) {
        match self {
            Self::Array(elements) if !elements.is_empty() => {
                out.push(b'[');
                for (nth, element) in elements.iter().enumerate() {
                    start_line(out, nth, level + 1);
                    element.write_indented(out, level + 1);
                }
                start_line(out, 0, level);
                out.push(b']');
            }
            Self::Object(object) if !object.is_empty() => {
                out.push(b'{');
                for (nth, (name, value)) in object.iter().enumerate() {
                    start_line(out, nth, level + 1);
                    write_string(name, out);
                    out.extend_from_slice(b": ");
                    value.write_indented(out, level + 1);
                }
                start_line(out, 0, level);
                out.push(b'}');
            }
            _ => self.write_json(out),
        }
    }

    fn write_scalar(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => number.write_to(out),
            Self::String(text) => write_string(text, out),
            Self::Array(_) | Self::Object(_) => self.write_json(out),
        }
    }

    /// Length of the compact form in bytes, without writing it.
    #[must_use]
    pub fn json_len(&self) -> usize {
        match self {
            Self::Null | Self::Bool(true) => 4,
            Self::Bool(false) => 5,
            Self::Number(number) => number.text_len(),
            Self::String(text) => string_len(text),
            Self::Array(elements) => {
                let commas = elements.len().saturating_sub(1);
                2 + commas + elements.iter().map(Self::json_len).sum::<usize>()
            }
            Self::Object(object) => {
                let commas = object.len().saturating_sub(1);
                let members = object.iter().map(|(name, value)| string_len(name) + 1 + value.json_len());
                2 + commas + members.sum::<usize>()
            }
        }
    }
}

fn write_members<'a>(
    members: impl Iterator<Item = (&'a str, &'a Value)>,
    out: &mut Vec<u8>,
    write: impl Fn(&Value, &mut Vec<u8>),
) {
    out.push(b'{');
    for (nth, (name, value)) in members.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

fn start_line(out: &mut Vec<u8>, nth: usize, level: usize) {
    if nth > 0 {
        out.push(b',');
    }
    out.push(b'\n');
    out.resize(out.len() + 2 * level, b' ');
}

/// The members by the UTF-16 code units of their names.
fn sorted(object: &Object) -> Vec<(&str, &Value)> {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by(|a, b| utf16_order(a.0, b.0));
    members
}

/// Order by UTF-16 code units. UTF-8 has code point order; the two differ only between U+E000..U+FFFF (lead
/// bytes EE and EF) and what needs surrogates, D800..DFFF, in UTF-16 (lead bytes from F0).
fn utf16_order(a: &str, b: &str) -> Ordering {
    match a.bytes().zip(b.bytes()).find(|(a, b)| a != b) {
        None => a.len().cmp(&b.len()),
        Some((0xee | 0xef, 0xf0..)) => Ordering::Greater,
        Some((0xf0.., 0xee | 0xef)) => Ordering::Less,
        Some((a, b)) => a.cmp(&b),
    }
}

/// What a byte of a string becomes: 0 stays, `u` is a `\u00xx` escape, any other letter a two-character
/// escape.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Whether a string has nothing to escape.
///
/// COST: eight bytes at a time, the last ones perhaps twice.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |word: [u8; 8]| {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        let word = u64::from_ne_bytes(word);
        // The high bit of some byte is set where one is below `n`, of those that have none themselves.
        let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
        let marks = below(word, b' ')
            | below(word ^ (ONES * u64::from(b'"')), 1)
            | below(word ^ (ONES * u64::from(b'\\')), 1);
        marks & (ONES << 7) == 0
    };
    match (bytes.as_chunks(), bytes.last_chunk()) {
        ((words, _), Some(last)) => words.iter().all(|word| plain(*word)) && plain(*last),
        _ => bytes.iter().fold(true, |is_plain, byte| is_plain & (ESCAPES[usize::from(*byte)] == 0)),
    }
}

/// Length of a string in quotes, with its escapes.
pub(crate) fn string_len(text: &str) -> usize {
    if is_plain(text.as_bytes()) {
        return 2 + text.len();
    }
    let extra = text.bytes().map(|byte| match ESCAPES[usize::from(byte)] {
        0 => 0,
        b'u' => 5,
        _ => 1,
    });
    2 + text.len() + extra.sum::<usize>()
}

/// Appends a string in quotes, with the escapes of RFC 8785.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.push(b'"');
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'0', b'0', high, low]);
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

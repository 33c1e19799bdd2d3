//! JSON text to marks: checks the whole text and notes where each value is, without building any of them.
//!
//! Invariants: nothing is allocated for a length that is only claimed; the errors are those of
//! [`super::parse`].
//!
//! COST: the hot path of every worker. What ends a run of plain bytes in a string is looked for in 64 bytes
//! at a time, without a branch; most strings are then one shift and one count. SUBTLE: `inline(always)` is
//! where the compiler would otherwise pass results through memory, in pieces that it reads back as a whole;
//! such a read waits until the writes are done, and that was a third of the time.

use super::object::SMALL_MAX;
use super::parse::{JsonFault, Limits, Result, fail};
use crate::domain::number;
use crate::domain::text::Text;
use std::borrow::Cow;

/// Where something is in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A string in the text, without its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    pub(super) span: Span,
    /// It has escapes.
    pub(super) escaped: bool,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Null,
    Bool(bool),
    /// A number of digits alone.
    Integer(Span),
    /// A number with a fraction or an exponent.
    Fraction(Span),
    String(Quoted),
    /// So many elements.
    Array(u32),
    /// So many members.
    Object(u32),
}

/// One value; those inside it follow on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Empty but for members.
    pub(super) name: Quoted,
    pub(super) shape: Shape,
    /// The mark after all that are inside this one.
    pub(super) after: u32,
}

const NAMELESS: Quoted = Quoted { span: Span { start: 0, end: 0 }, escaped: false };
/// Marks for which there is room at once; an event has fewer.
const MARKS: usize = 32;
/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// An array or object whose end was not seen yet.
struct Open {
    mark: u32,
    /// Its closing bracket.
    end: u8,
    /// Members or elements so far.
    inside: u32,
    /// A bit for each trait of a name that was there.
    seen: u64,
    /// A name may have been there before.
    doubtful: bool,
}

/// The marks of the one document that `text` is.
///
/// COST: one loop without recursion, in which the compiler keeps the place in a register.
pub(super) fn scan(text: &str, limits: &Limits) -> Result<Vec<Mark>> {
    let bytes = text.as_bytes();
    let depth_max = limits.max_depth.min(Limits::DEPTH_MAX);
    let mut members_left = limits.max_members;
    let mut marks = Vec::with_capacity(MARKS);
    let mut outer: Vec<Open> = Vec::with_capacity(8);
    let mut blocks = Blocks { bytes, start: usize::MAX, ends: 0 };
    let (mut at, mut name) = (0, NAMELESS);
    let mut open = None::<Open>;
    loop {
        at = skip_blank(bytes, at);
        let mut is_first = false;
        let shape = match bytes.get(at) {
            Some(b'"') => {
                let quoted = blocks.string(at)?;
                at = quoted.span.end as usize + 1;
                Shape::String(quoted)
            }
            Some(b'-' | b'0'..=b'9') => {
                let end = number::scan(bytes, at);
                let (end, is_integer) = end.or_else(|at| unexpected(bytes, at, JsonFault::BadNumber))?;
                let span = Span::new(at, end);
                at = end;
                if is_integer { Shape::Integer(span) } else { Shape::Fraction(span) }
            }
            Some(bracket @ (b'{' | b'[')) => {
                if outer.len() + usize::from(open.is_some()) == depth_max {
                    return fail(JsonFault::TooDeep, at);
                }
                outer.extend(open.replace(Open::new(*bracket, index(marks.len()))));
                at += 1;
                is_first = true;
                // Until its end is seen.
                Shape::Null
            }
            _ => literal(bytes, &mut at)?,
        };
        marks.push(Mark { name, shape, after: index(marks.len() + 1) });
        // What follows on a value, or on an opening bracket.
        let current = loop {
            at = skip_blank(bytes, at);
            let Some(current) = &mut open else {
                return if at == bytes.len() { Ok(marks) } else { fail(JsonFault::TrailingBytes, at) };
            };
            match bytes.get(at) {
                Some(end) if *end == current.end => current.close(text, &mut marks, at)?,
                _ if is_first => break current,
                Some(b',') => {
                    at += 1;
                    break current;
                }
                _ => return unexpected(bytes, at, JsonFault::ExpectedComma),
            }
            at += 1;
            is_first = false;
            open = outer.pop();
        };
        if members_left == 0 {
            return fail(JsonFault::TooManyMembers, at);
        }
        members_left -= 1;
        current.inside += 1;
        name = NAMELESS;
        if current.is_object() {
            name = blocks.name(at)?;
            current.note(name, text, &marks);
            at = after_colon(bytes, name.span.end as usize + 1)?;
        }
    }
}

impl Open {
    fn new(bracket: u8, mark: u32) -> Self {
        let end = if bracket == b'{' { b'}' } else { b']' };
        Self { mark, end, inside: 0, seen: 0, doubtful: false }
    }

    fn is_object(&self) -> bool {
        self.end == b'}'
    }

    /// Completes the mark, now that the end is at `at` and all inside is known.
    #[inline(always)]
    fn close(&self, text: &str, marks: &mut [Mark], at: usize) -> Result<()> {
        if self.doubtful && repeats_a_name(text, marks, self.mark as usize + 1) {
            return fail(JsonFault::DuplicateName, at);
        }
        let after = index(marks.len());
        let mark = &mut marks[self.mark as usize];
        mark.shape = if self.is_object() { Shape::Object(self.inside) } else { Shape::Array(self.inside) };
        mark.after = after;
        Ok(())
    }

    /// Notes whether a name may have been there before.
    ///
    /// COST: one bit per (length, first, last byte) settles most names without comparing them to the others.
    #[inline(always)]
    fn note(&mut self, name: Quoted, text: &str, marks: &[Mark]) {
        let bit = 1 << (trait_of(name.span.of(text).as_bytes()) % 64);
        if name.escaped || (self.seen & bit != 0 && self.may_have(name, text, marks)) {
            self.doubtful = true;
        }
        self.seen |= bit;
    }

    /// Whether a name is among those before it, as they are written; in a large object it is not looked for.
    fn may_have(&self, name: Quoted, text: &str, marks: &[Mark]) -> bool {
        if self.inside as usize > SMALL_MAX {
            return true;
        }
        let name = name.span.of(text);
        let mut at = self.mark as usize + 1;
        while let Some(mark) = marks.get(at) {
            if mark.name.span.of(text) == name {
                return true;
            }
            at = mark.after as usize;
        }
        false
    }
}

/// The next byte that is not white space.
#[inline]
fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Fails at a byte, or for the lack of it.
#[cold]
fn unexpected<T>(bytes: &[u8], at: usize, fault: JsonFault) -> Result<T> {
    fail(if at >= bytes.len() { JsonFault::UnexpectedEnd } else { fault }, at)
}

/// Where the value of a member starts whose name ends before `at`.
#[inline(always)]
fn after_colon(bytes: &[u8], at: usize) -> Result<usize> {
    let at = skip_blank(bytes, at);
    if bytes.get(at) == Some(&b':') { Ok(at + 1) } else { unexpected(bytes, at, JsonFault::ExpectedColon) }
}

fn literal(bytes: &[u8], at: &mut usize) -> Result<Shape> {
    let (word, shape): (&[u8], _) = match bytes.get(*at) {
        Some(b't') => (b"true", Shape::Bool(true)),
        Some(b'f') => (b"false", Shape::Bool(false)),
        Some(b'n') => (b"null", Shape::Null),
        _ => return unexpected(bytes, *at, JsonFault::ExpectedValue),
    };
    let rest = &bytes[*at..];
    if rest.starts_with(word) {
        *at += word.len();
        return Ok(shape);
    }
    let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
    unexpected(bytes, *at + same, JsonFault::ExpectedValue)
}

/// Whether a name is there twice among the members from the mark `first` on.
#[cold]
fn repeats_a_name(text: &str, marks: &[Mark], first: usize) -> bool {
    let mut names = Vec::new();
    let mut at = first;
    while let Some(mark) = marks.get(at) {
        names.push(mark.name.of(text));
        at = mark.after as usize;
    }
    if names.len() <= SMALL_MAX {
        return names.iter().enumerate().any(|(nth, name)| names[..nth].contains(name));
    }
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self { start: index(start), end: index(end) }
    }

    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a text is shorter than 4 GiB, and a mark takes a byte at least")
}

impl Quoted {
    /// What stands in the text, escapes undone.
    pub(super) fn of(self, text: &str) -> Cow<'_, str> {
        if self.escaped { Cow::Owned(self.unescaped(text)) } else { Cow::Borrowed(self.span.of(text)) }
    }

    #[inline(always)]
    pub(super) fn to_text(self, text: &str) -> Text {
        if self.escaped { self.unescaped(text).into() } else { self.span.of(text).into() }
    }

    #[cold]
    fn unescaped(self, text: &str) -> String {
        let mut plain = String::with_capacity((self.span.end - self.span.start) as usize);
        let mut rest = self.span.of(text);
        while let Some(run) = rest.find('\\') {
            plain.push_str(&rest[..run]);
            let (escaped, end) = escape(rest.as_bytes(), run).expect("the text was scanned");
            plain.push(escaped);
            rest = &rest[end..];
        }
        plain.push_str(rest);
        plain
    }
}

/// The text, 64 bytes at a time.
struct Blocks<'a> {
    bytes: &'a [u8],
    /// Where the block starts that `ends` is about.
    start: usize,
    /// A bit for each byte of the block that cannot stand in a string as it is.
    ends: u64,
}

impl Blocks<'_> {
    /// The string whose opening quote is at `at`.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<Quoted> {
        let start = at + 1;
        let mut end = self.end_of_run(start);
        let escaped = self.bytes.get(end) != Some(&b'"');
        if escaped {
            end = end_of_escaped(self.bytes, end)?;
        }
        Ok(Quoted { span: Span::new(start, end), escaped })
    }

    /// The name of the member that starts at `at`.
    #[inline(always)]
    fn name(&mut self, at: usize) -> Result<Quoted> {
        let at = skip_blank(self.bytes, at);
        match self.bytes.get(at) {
            Some(b'"') => self.string(at),
            _ => unexpected(self.bytes, at, JsonFault::ExpectedName),
        }
    }

    /// The next quote, backslash or control character from `at` on, or the end.
    #[inline(always)]
    fn end_of_run(&mut self, mut at: usize) -> usize {
        while at < self.bytes.len() {
            let start = at - at % BLOCK;
            if start != self.start {
                self.start = start;
                self.ends = ends(&self.bytes[start..]);
            }
            let ends = self.ends >> (at - start);
            if ends != 0 {
                return at + ends.trailing_zeros() as usize;
            }
            at = start + BLOCK;
        }
        self.bytes.len()
    }
}

/// The closing quote of a string whose first backslash, or what is wrong with it, is at `at`.
#[cold]
fn end_of_escaped(bytes: &[u8], mut at: usize) -> Result<usize> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape(bytes, at)?.1,
            Some(b' '..) => at += 1,
            _ => return unexpected(bytes, at, JsonFault::ControlCharacter),
        }
    }
}

/// The character that the escape at `start` stands for, and where it ends.
fn escape(bytes: &[u8], start: usize) -> Result<(char, usize)> {
    let at = start + 1;
    let plain = match bytes.get(at) {
        Some(escaped @ (b'"' | b'\\' | b'/')) => char::from(*escaped),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes, start),
        _ => return unexpected(bytes, at, JsonFault::BadEscape),
    };
    Ok((plain, at + 1))
}

/// The character of the `\uXXXX` (or pair of them) whose backslash is at `start`, and where it ends.
fn unicode_escape(bytes: &[u8], start: usize) -> Result<(char, usize)> {
    let (first, mut end) = (hex4(bytes, start + 2)?, start + 6);
    let mut code = first;
    if (0xd800..0xdc00).contains(&first) && bytes[end..].starts_with(b"\\u") {
        let second = hex4(bytes, end + 2)?;
        end += 6;
        if (0xdc00..0xe000).contains(&second) {
            code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        }
    }
    // Only half of a pair is not a character.
    char::from_u32(code).map_or_else(|| fail(JsonFault::LoneSurrogate, start), |plain| Ok((plain, end)))
}

/// Four hexadecimal digits.
fn hex4(bytes: &[u8], start: usize) -> Result<u32> {
    (start..start + 4).try_fold(0, |code, at| {
        let digit = bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        digit.map_or_else(|| unexpected(bytes, at, JsonFault::BadEscape), |digit| Ok(code * 16 + digit))
    })
}

/// A number that tells most names apart.
#[inline]
fn trait_of(name: &[u8]) -> u64 {
    let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
    (name.len() as u64) ^ u64::from(first).wrapping_mul(7) ^ u64::from(last).wrapping_mul(29)
}

/// A bit for each of the next 64 bytes that cannot stand in a string as it is; those beyond the end count.
fn ends(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(block) => ends_of(block),
        None => {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            ends_of(&block)
        }
    }
}

#[inline]
fn ends_of(block: &[u8; BLOCK]) -> u64 {
    // COST: the compiler makes vectors of this; each eight bits are then gathered by one multiplication.
    let flags = block.map(|byte| u8::from((byte < b' ') | (byte == b'"') | (byte == b'\\')));
    let (words, _) = flags.as_chunks::<8>();
    words
        .iter()
        .rev()
        .fold(0, |ends, word| ends << 8 | u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56)
}

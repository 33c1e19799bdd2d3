//! JSON texts that were checked as a whole, and of which only what is asked for becomes a [`Value`]: an
//! event's envelope is read where it stands.

use super::object::Member;
use super::parse::{JsonError, JsonFault, Limits, fail};
use super::pointer::array_index;
use super::scan::{Mark, Shape, scan};
use super::{Object, Pointer, Value};
use crate::domain::number::Number;
use std::borrow::Cow;

/// A JSON text and where its values are.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    marks: Vec<Mark>,
}

/// A value in a document.
#[derive(Clone, Copy, Debug)]
pub struct Part<'d> {
    document: &'d Document<'d>,
    mark: &'d Mark,
    /// Where the marks inside it start.
    inside: usize,
}

impl<'t> Document<'t> {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// [`JsonError`] with the first rule found broken.
    pub fn parse(bytes: &'t [u8], limits: &Limits) -> Result<Self, JsonError> {
        let bytes_max = limits.max_bytes.min(u32::MAX as usize - 1);
        if bytes.len() > bytes_max {
            return fail(JsonFault::TooLong, bytes_max);
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return fail(JsonFault::ByteOrderMark, 0);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, marks: scan(text, limits)? }),
            Err(error) => fail(JsonFault::InvalidUtf8, error.valid_up_to()),
        }
    }

    /// The whole document.
    #[must_use]
    pub fn root(&self) -> Part<'_> {
        self.part(0)
    }

    fn part(&self, at: usize) -> Part<'_> {
        Part { document: self, mark: &self.marks[at], inside: at + 1 }
    }

    /// The value of the mark at `at`.
    fn build(&self, at: usize) -> Value {
        let mark = &self.marks[at];
        match mark.shape {
            Shape::Null => Value::Null,
            Shape::Bool(truth) => Value::Bool(truth),
            Shape::Integer(span) => Value::Number(Number::of_integer(span.of(self.text))),
            Shape::Fraction(span) => Value::Number(Number::of_fraction(span.of(self.text))),
            Shape::String(quoted) => Value::String(quoted.to_text(self.text)),
            Shape::Array(elements) => {
                let mut next = at + 1;
                let element = |_| {
                    let element = self.build(next);
                    next = self.marks[next].after as usize;
                    element
                };
                Value::Array((0..elements).map(element).collect())
            }
            Shape::Object(members) => {
                let mut slots = Vec::with_capacity(members as usize);
                let mut next = at + 1;
                for _ in 0..members {
                    let mark = &self.marks[next];
                    let name = mark.name.to_text(self.text);
                    let value = self.build(next);
                    slots.push(Some(Member { name, value }));
                    next = mark.after as usize;
                }
                Value::Object(Object::from_unique(slots))
            }
        }
    }
}

impl<'d> Part<'d> {
    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.mark.shape, Shape::Null)
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(self) -> Option<Cow<'d, str>> {
        match self.mark.shape {
            Shape::String(quoted) => Some(quoted.of(self.document.text)),
            _ => None,
        }
    }

    /// The exact text of the number, if it is one.
    #[must_use]
    pub fn number_text(self) -> Option<&'d str> {
        match self.mark.shape {
            Shape::Integer(span) | Shape::Fraction(span) => Some(span.of(self.document.text)),
            _ => None,
        }
    }

    /// The integer, if it is one by its text; see [`Number::as_i64`].
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        match self.mark.shape {
            Shape::Integer(span) => Number::of_integer(span.of(self.document.text)).as_i64(),
            _ => None,
        }
    }

    /// What the pointer refers to, if it is there.
    #[must_use]
    pub fn pointer(self, pointer: &Pointer) -> Option<Self> {
        pointer.tokens().iter().try_fold(self, |part, token| part.child(token))
    }

    fn child(self, token: &str) -> Option<Self> {
        let (children, mut wanted) = match self.mark.shape {
            Shape::Array(elements) => (elements, Some(array_index(token)?)),
            Shape::Object(members) => (members, None),
            _ => return None,
        };
        let mut at = self.inside;
        for _ in 0..children {
            let child = self.document.part(at);
            let is_it = match &mut wanted {
                None => child.is_named(token),
                Some(0) => true,
                Some(before) => {
                    *before -= 1;
                    false
                }
            };
            if is_it {
                return Some(child);
            }
            at = child.mark.after as usize;
        }
        None
    }

    fn is_named(self, name: &str) -> bool {
        let quoted = self.mark.name;
        if quoted.escaped {
            return quoted.of(self.document.text) == name;
        }
        quoted.span.of(self.document.text) == name
    }

    /// The value, built.
    #[must_use]
    pub fn to_value(self) -> Value {
        self.document.build(self.inside - 1)
    }
}

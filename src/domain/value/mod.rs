//! JSON documents: states and event data. The one value type of the crate (`serde_json::Value` costs 20 times
//! the memory and does not keep `1.10`).
//!
//! | file | owns |
//! |---|---|
//! | [`document`] | texts that were checked, and what is read of them |
//! | [`leaves`] | what holds nothing else, and which of it is new |
//! | [`object`] | members in the order of their first insertion |
//! | [`parse`] | strict RFC 8259 text to values: limits and errors |
//! | [`pointer`] | RFC 6901 pointers |
//! | [`scan`] | checking a text |
//! | [`write`] | values to text: as folded, canonical, pretty; digests |
//!
//! Invariant: what comes from bytes is never deeper than the limit it was parsed with, so the recursive
//! functions here (and `drop`) need no limit of their own. Whoever nests values checks [`Value::depth`].

pub mod document;
pub mod leaves;
pub mod object;
pub mod parse;
pub mod pointer;
mod scan;
#[cfg(test)]
pub(super) mod strategy;
#[cfg(test)]
mod tests;
pub mod write;

pub use document::{Document, Part};
pub use object::Object;
pub use parse::{JsonError, Limits};
pub use pointer::Pointer;

use super::decimal::Decimal;
use super::number::Number;
use super::text::{self, Text};

/// A JSON value. `==` is exact: number texts and member order count; [`Value::eq_value`] is equality of
/// meaning.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number with its exact text.
    Number(Number),
    /// A string; any Unicode, U+0000 too.
    String(Text),
    /// An array.
    Array(Vec<Value>),
    /// An object; its members keep their order.
    Object(Object),
}

impl Value {
    /// `null`, `boolean`, `number`, `string`, `array` or `object`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// The integer, if it is one by its text; see [`Number::as_i64`].
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number().and_then(Number::as_i64)
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The array, if it is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&Vec<Self>> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The array, if it is one, to change it.
    #[must_use]
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Self>> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The object, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The object, if it is one, to change it.
    #[must_use]
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The member of an object; `None` for whatever has no such member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object().and_then(|object| object.get(name))
    }

    /// What the pointer refers to, if it is there.
    #[must_use]
    pub fn pointer(&self, pointer: &Pointer) -> Option<&Self> {
        pointer.tokens().iter().try_fold(self, |value, token| match value {
            Self::Object(object) => object.get(token),
            Self::Array(elements) => elements.get(pointer::array_index(token)?),
            _ => None,
        })
    }

    /// What the pointer refers to, if it is there, to change it.
    #[must_use]
    pub fn pointer_mut(&mut self, pointer: &Pointer) -> Option<&mut Self> {
        self.descend_mut(pointer.tokens())
    }

    pub(super) fn descend_mut(&mut self, tokens: &[Box<str>]) -> Option<&mut Self> {
        tokens.iter().try_fold(self, |value, token| match value {
            Self::Object(object) => object.get_mut(token),
            Self::Array(elements) => elements.get_mut(pointer::array_index(token)?),
            _ => None,
        })
    }

    /// Equality of meaning: numbers by value (`1 == 1.0`), objects without regard to member order.
    #[must_use]
    pub fn eq_value(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.eq_value(b),
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.eq_value(b))
            }
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| a.eq_value(b)))
            }
            _ => self == other,
        }
    }

    /// Levels of arrays and objects: 0 for a scalar, 1 for `[]`.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(elements) => 1 + elements.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(object) => 1 + object.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Bytes held on the heap, without the allocator's own overhead; for memory accounts.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(number) => number.heap_bytes(),
            Self::String(text) => text::heap_bytes(text),
            Self::Array(elements) => {
                let slots = elements.capacity() * size_of::<Self>();
                slots + elements.iter().map(Self::heap_bytes).sum::<usize>()
            }
            Self::Object(object) => object.heap_bytes(),
        }
    }
}

macro_rules! value_from {
    ($($source:ty: $name:ident => $value:expr;)*) => { $(impl From<$source> for Value {
        fn from($name: $source) -> Self { $value }
    })* };
}
value_from! {
    bool: truth => Self::Bool(truth);
    i32: integer => Self::Number(Number::from(i64::from(integer)));
    i64: integer => Self::Number(Number::from(integer));
    u32: integer => Self::Number(Number::from(i64::from(integer)));
    u64: integer => Self::Number(Number::from(integer));
    Number: number => Self::Number(number);
    Decimal: decimal => Self::Number(Number::from(decimal));
    &str: text => Self::String(text.into());
    String: text => Self::String(text.into());
    Box<str>: text => Self::String(text.into());
    Text: text => Self::String(text);
    Vec<Value>: elements => Self::Array(elements);
    Object: object => Self::Object(object);
}

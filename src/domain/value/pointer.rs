//! JSON pointers (RFC 6901): where something is in a document, as a list of reference tokens.

use std::fmt;
use std::str::FromStr;

/// A place in a document: `/items/0/name~1title`; the empty pointer is the whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    tokens: Vec<Box<str>>,
}

/// Why a text is not a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// A pointer that is not empty starts with `/`.
    #[error("a JSON pointer is empty or starts with `/`")]
    NoSlash,
    /// `~` is followed by `0` (for `~`) or `1` (for `/`).
    #[error("`~` in a JSON pointer must be written `~0`, `/` inside a name `~1`")]
    BadEscape,
}

impl Pointer {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`PointerError`].
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let tokens = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
        let tokens = tokens.split('/').map(unescape).collect::<Result<_, _>>()?;
        Ok(Self { tokens })
    }

    /// The unescaped reference tokens: member names or array indexes.
    #[must_use]
    pub fn tokens(&self) -> &[Box<str>] {
        &self.tokens
    }

    /// Whether this is the whole document.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Goes one level down.
    pub fn push(&mut self, token: impl Into<Box<str>>) {
        self.tokens.push(token.into());
    }

    /// Goes one level up and returns the token left behind.
    pub fn pop(&mut self) -> Option<Box<str>> {
        self.tokens.pop()
    }
}

fn unescape(token: &str) -> Result<Box<str>, PointerError> {
    if !token.contains('~') {
        return Ok(token.into());
    }
    let mut parts = token.split('~');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(PointerError::BadEscape),
        };
        plain.push(escaped);
        plain.push_str(rest);
    }
    Ok(plain.into())
}

/// The array index that a token is: decimal digits without leading zeros.
#[must_use]
pub fn array_index(token: &str) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with(['0', '+']);
    if canonical { token.parse().ok() } else { None }
}

impl FromStr for Pointer {
    type Err = PointerError;
    fn from_str(text: &str) -> Result<Self, PointerError> {
        Self::parse(text)
    }
}

impl<N: Into<Box<str>>> FromIterator<N> for Pointer {
    fn from_iter<I: IntoIterator<Item = N>>(tokens: I) -> Self {
        Self { tokens: tokens.into_iter().map(Into::into).collect() }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::{Limits, Value};

    #[test]
    fn the_examples_of_rfc_6901_section_5_hold() {
        let text =
            r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        let document = Value::parse(text.as_bytes(), &Limits::default()).unwrap();
        let at = |pointer: &str| document.pointer(&Pointer::parse(pointer).unwrap()).map(Value::to_json);
        assert_eq!(at("").as_deref(), Some(text));
        assert_eq!(at("/foo").as_deref(), Some(r#"["bar","baz"]"#));
        assert_eq!(at("/foo/0").as_deref(), Some(r#""bar""#));
        let names = ["/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", "/k\"l", "/ ", "/m~0n"];
        for (number, pointer) in names.iter().enumerate() {
            assert_eq!(at(pointer), Some(number.to_string()), "{pointer}");
            assert_eq!(Pointer::parse(pointer).unwrap().to_string(), *pointer);
        }
    }

    #[test]
    fn escapes_are_undone_once_and_nothing_else_is_an_escape() {
        assert_eq!(&*Pointer::parse("/~01").unwrap().tokens()[0], "~1");
        assert_eq!(Pointer::parse("/a~2"), Err(PointerError::BadEscape));
        assert_eq!(Pointer::parse("/a~"), Err(PointerError::BadEscape));
        assert_eq!(Pointer::parse("a/b"), Err(PointerError::NoSlash));
        assert_eq!(Pointer::parse("//").unwrap().tokens().len(), 2);
    }

    #[test]
    fn only_canonical_digits_are_array_indexes() {
        assert_eq!(
            ["0", "10", "18446744073709551615"].map(array_index),
            [Some(0), Some(10), Some(usize::MAX)]
        );
        for token in ["", "-", "01", "00", "+1", "-1", "1.0", "1e0", " 1", "18446744073709551616"] {
            assert_eq!(array_index(token), None, "{token}");
        }
    }
}

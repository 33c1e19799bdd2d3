//! What a person wrote, with the place where it stands: the tree that config files, rules and tests are read
//! from. A [`Node`] keeps numbers as text (`1.10` stays `1.10`) and mapping keys as they are written, because
//! a member name is text. Every complaint is a [`Problem`] with a place and a fix; readers collect all of
//! them.

use crate::domain::number::Number;
use crate::domain::value::{Object, Value};
use std::fmt;

/// A place in a text; line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Something wrong with what was written: where, what, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub span: Span,
    /// What is wrong: one lowercase sentence without a full stop, values in backticks.
    pub message: String,
    /// How to fix it, in the same style.
    pub hint: String,
}

/// One node of a document, with the place of its first character.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the node starts.
    pub span: Span,
    /// What the node is.
    pub kind: NodeKind,
}

/// What a [`Node`] can be. Members of a mapping keep their order; their keys are unique and always `String`
/// nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number in JSON's grammar, digits as written.
    Number(Number),
    /// A text.
    String {
        /// The text itself.
        text: Box<str>,
        /// Written without quotes.
        plain: bool,
        /// Where the text's first character stands, if the source holds the text character by character.
        origin: Option<Span>,
    },
    /// `[ … ]`.
    Sequence(Vec<Node>),
    /// `{ … }`.
    Mapping(Vec<(Node, Node)>),
}

impl Span {
    /// A place; both numbers count from 1.
    #[must_use]
    pub fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }

    /// The place `characters` further right.
    #[must_use]
    pub fn right(self, characters: usize) -> Self {
        let characters = u32::try_from(characters).unwrap_or(u32::MAX);
        Self { line: self.line, column: self.column.saturating_add(characters) }
    }
}

impl Problem {
    /// A problem at `span` with its message and hint.
    pub fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: hint.into() }
    }
}

impl Node {
    /// The text of a `String` node.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::String { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The members of a `Mapping` node.
    #[must_use]
    pub fn members(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            NodeKind::Mapping(members) => Some(members),
            _ => None,
        }
    }

    /// The elements of a `Sequence` node.
    #[must_use]
    pub fn elements(&self) -> Option<&[Node]> {
        match &self.kind {
            NodeKind::Sequence(elements) => Some(elements),
            _ => None,
        }
    }

    /// The member called `name` of a `Mapping` node.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.members()?.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// What the node is, for messages: `a mapping`, `a text`.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self.kind {
            NodeKind::Null => "null",
            NodeKind::Bool(_) => "a boolean",
            NodeKind::Number(_) => "a number",
            NodeKind::String { .. } => "a text",
            NodeKind::Sequence(_) => "a sequence",
            NodeKind::Mapping(_) => "a mapping",
        }
    }

    /// The place of the text's character number `characters` (from 0), as exact as the source allows.
    #[must_use]
    pub fn place_in_text(&self, characters: usize) -> Span {
        match &self.kind {
            NodeKind::String { origin: Some(origin), .. } => origin.right(characters),
            _ => self.span,
        }
    }

    /// The JSON value the node writes down literally.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Null => Value::Null,
            NodeKind::Bool(truth) => Value::Bool(*truth),
            NodeKind::Number(number) => Value::Number(number.clone()),
            NodeKind::String { text, .. } => Value::from(&**text),
            NodeKind::Sequence(elements) => Value::Array(elements.iter().map(Node::to_value).collect()),
            NodeKind::Mapping(members) => {
                let mut object = Object::new();
                for (key, value) in members {
                    object.insert(key.text().expect("mapping keys are String nodes"), value.to_value());
                }
                Value::Object(object)
            }
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (hint: {})", self.span, self.message, self.hint)
    }
}

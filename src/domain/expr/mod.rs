//! Expressions: jq's syntax over the event's data (`.`), `$event` and `$state`, exactly the subset of API.md
//! section
//! 3. A total language: no loops, no recursion, bounded depth, bounded output; the same input gives the same
//!   bytes.
//!
//! | file | owns |
//! |---|---|
//! | [`lexer`] | tokens |
//! | [`parser`] | precedences (jq's), what is refused and what to write instead |
//! | [`eval`] | what an expression means |
//! | [`print`] | the canonical text, for the fingerprint |

mod eval;
mod lexer;
mod parser;
mod print;
#[cfg(test)]
mod tests;

pub use eval::{Budget, Scope};
pub(crate) use eval::{noun, number_poison};

use crate::domain::text::Text;
use crate::domain::value::Value;
use std::fmt;

/// Most tokens of one expression; with it, no tree is deeper than the stack can take.
pub const TOKENS_MAX: usize = 1_000;
/// Deepest nesting of brackets and `if`s in one expression.
pub const NESTING_MAX: usize = 64;

/// An expression that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    root: Ast,
    reads_state: bool,
}

/// Why a text is not an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Number of the character at fault, from 0.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// A member of `$event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Type,
    Id,
    Version,
    Time,
    Key,
    Headers,
}

#[derive(Clone, Debug, PartialEq)]
enum Ast {
    Constant(Value),
    Input,
    State,
    Event,
    EventField(Field),
    Path(Box<Ast>, Vec<Step>),
    Negate(Box<Ast>),
    Arithmetic(Operator, Box<Ast>, Box<Ast>),
    Compare(Comparison, Box<Ast>, Box<Ast>),
    And(Box<Ast>, Box<Ast>),
    Or(Box<Ast>, Box<Ast>),
    Alternative(Box<Ast>, Box<Ast>),
    Pipe(Box<Ast>, Box<Ast>),
    /// Condition and branch of `if` and each `elif`, then the `else`.
    If(Vec<(Ast, Ast)>, Box<Ast>),
    /// A text with holes.
    Concat(Vec<Ast>),
    Length,
    Has(Box<Ast>),
    Not,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Name(Text),
    Index(i64),
    /// `[expression]`, over what `.` is where the whole path stands.
    Computed(Ast),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expr {
    /// Reads an expression.
    ///
    /// # Errors
    /// The first thing that is not of the supported subset, with its place.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
    }

    /// Whether it looks at `$state`.
    #[must_use]
    pub fn reads_state(&self) -> bool {
        self.reads_state
    }

    /// The value, if it does not depend on the event or the state.
    #[must_use]
    pub fn constant(&self) -> Option<&Value> {
        match &self.root {
            Ast::Constant(value) => Some(value),
            _ => None,
        }
    }
}

impl ParseError {
    fn new(at: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: hint.into() }
    }
}

impl Field {
    const ALL: [(&'static str, Self); 6] = [
        ("type", Self::Type),
        ("id", Self::Id),
        ("version", Self::Version),
        ("time", Self::Time),
        ("key", Self::Key),
        ("headers", Self::Headers),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {} (hint: {})", self.message, self.at + 1, self.hint)
    }
}

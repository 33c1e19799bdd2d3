//! Why an event could not be folded by a reducer: one closed list of codes. What happens to a poison event is
//! the stream's `onPoison`; here it only gets a name. Details name members and operations of the reducer and
//! kinds of values, never values of the event: they may be logged.

use std::fmt;

/// An event that the reducer cannot fold. The state is as it was before the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// One of the constants of this file.
    pub code: &'static str,
    /// What happened, in one lowercase sentence without a full stop; names in backticks.
    pub detail: String,
}

/// A value has a type that the operation, the path or the operator does not take.
pub const TYPE: &str = "reducer-type";
/// An array index that is beyond the array.
pub const INDEX: &str = "reducer-index";
/// A number beyond 38 digits, or a computation that ends there.
pub const OVERFLOW: &str = "reducer-overflow";
/// A division, or a remainder, by zero.
pub const DIVISION: &str = "reducer-division-by-zero";
/// One event makes the reducer copy too many bytes.
pub const SIZE: &str = "reducer-size";
/// A value would be nested too deeply in the state.
pub const DEPTH: &str = "reducer-depth";
/// A JSON patch that is malformed or does not apply.
pub const PATCH: &str = "reducer-patch";

/// All codes, for the documentation and its test.
pub const CODES: [&str; 7] = [TYPE, INDEX, OVERFLOW, DIVISION, SIZE, DEPTH, PATCH];

impl Poison {
    /// Poison with one of the codes of this file.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The same poison, told from one step further out: `add to total: cannot add a text`.
    #[must_use]
    pub fn context(mut self, doing: &str) -> Self {
        self.detail = format!("{doing}: {}", self.detail);
        self
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Poison {}

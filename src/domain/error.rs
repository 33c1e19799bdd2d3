//! Errors by what the caller must do about them. Expected things (a duplicate, a poison event) are outcomes,
//! not errors.

use std::fmt;

/// What the caller must do; maps to one HTTP status, exit code, retry rule and log level each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the request or the configuration.
    Invalid,
    /// There is no such aggregate, version or snapshot.
    NotFound,
    /// It was there and can no longer be rebuilt.
    Gone,
    /// Bytes disagree with their checksum, digest or chain: fall back to an older source.
    Corrupt,
    /// A dependency did not answer, or an answer was incomplete: try again.
    Unavailable,
    /// Lost a precondition: look again, then decide again.
    Conflict,
    /// Our own bug.
    Internal,
}

/// A fault, with a stable code from the closed list of `API.md` section 4.2 and what was being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What to do about it.
    pub kind: ErrorKind,
    /// Stable kebab-case code.
    pub code: &'static str,
    /// What happened, in one lowercase sentence without a full stop; values in backticks.
    pub detail: String,
}

/// The result of whatever can fail for a reason of its own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its code and detail.
    pub fn new(kind: ErrorKind, code: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, code, detail: detail.into() }
    }

    /// Bytes that disagree with themselves or with what names them.
    pub fn corrupt(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, "corrupt", detail)
    }

    /// The same error, told from one step further out: `read frame: checksum mismatch`.
    #[must_use]
    pub fn context(mut self, doing: &str) -> Self {
        self.detail = format!("{doing}: {}", self.detail);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Error {}

//! What a port can say when it fails: whether the write surely did not happen, or may have.

use std::fmt;

/// Why a port call failed, by what the caller knows afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortError {
    /// It surely did not happen; trying again may help.
    NotDone(String),
    /// It may have happened, now or later: repeat the identical call until it is acknowledged, or abandon the
    /// flush.
    Unknown(String),
    /// Trying again cannot help (rights, a missing bucket or table): say so and stop.
    Permanent(String),
    /// There is no such object. Never used for "could not find out".
    Missing,
    /// An object of that name is there already.
    Exists,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDone(what) => write!(f, "not done: {what}"),
            Self::Unknown(what) => write!(f, "outcome unknown: {what}"),
            Self::Permanent(what) => write!(f, "refused: {what}"),
            Self::Missing => f.write_str("no such object"),
            Self::Exists => f.write_str("the object exists already"),
        }
    }
}

impl std::error::Error for PortError {}

/// The result of a port call.
pub type PortResult<T> = Result<T, PortError>;

//! Why a command failed, what to do about it, and the exit code that scripts read.

use std::io;
use std::process::ExitCode;

/// The exit codes, as `API.md` section 1 lists them; success is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something failed, or `--exit-code` found a difference.
    Failure = 1,
    /// The command line, or the question it asks, cannot be understood.
    Usage = 2,
    /// There is no such aggregate, version, snapshot or code, or no longer.
    NotFound = 3,
    /// What is stored is not what it should be.
    Verification = 4,
    /// The server, or something that it needs, does not answer.
    Unreachable = 5,
    /// The configuration is wrong.
    Config = 6,
    /// What the command supposed is no longer so.
    Conflict = 7,
}

/// A command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What happened, for people; empty if the command has said it already.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The result of a command.
pub type Done<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a message and no hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// A failure that the command has told already.
    #[must_use]
    pub fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// A command line that cannot be understood, and how to write it.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message).hint(hint)
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code of the process.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl From<io::Error> for Failure {
    /// Writing failed. A reader that went away (`| head`) needs no message.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::told(Exit::Failure),
            _ => Self::new(Exit::Failure, format!("write the output: {error}")),
        }
    }
}

//! What a command that checks things found, one line each: `ok`, `warn` or `fail`, what was looked at,
//! what was found, and what to do about it.

use super::args::Format;
use super::failure::{Done, Exit, Failure};
use super::screen::{Screen, printable};
use super::yaml;
use crate::domain::value::{Object, Value};

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) came: Came,
    /// What was looked at, as scripts name it.
    pub(super) name: String,
    pub(super) found: String,
    /// What to do; empty where nothing is.
    pub(super) hint: String,
}

impl Check {
    pub(super) fn ok(name: &str, found: impl Into<String>) -> Self {
        Self { came: Came::Ok, name: name.to_owned(), found: found.into(), hint: String::new() }
    }

    pub(super) fn warn(name: &str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { came: Came::Warn, name: name.to_owned(), found: found.into(), hint: hint.into() }
    }

    pub(super) fn fail(name: &str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { came: Came::Fail, name: name.to_owned(), found: found.into(), hint: hint.into() }
    }

    fn word(&self) -> &'static str {
        match self.came {
            Came::Ok => "ok",
            Came::Warn => "warn",
            Came::Fail => "fail",
        }
    }

    fn value(&self) -> Value {
        let text = |text: &str| Value::String(text.into());
        let hint = if self.hint.is_empty() { Value::Null } else { text(&self.hint) };
        Value::Object(Object::from_iter([
            ("status", text(self.word())),
            ("check", text(&self.name)),
            ("found", text(&self.found)),
            ("hint", hint),
        ]))
    }
}

/// Prints the checks; one that failed ends the command with `exit`.
pub(super) fn print(checks: &[Check], format: Format, exit: Exit, screen: &mut Screen<'_>) -> Done {
    let has_failed = checks.iter().any(|check| check.came == Came::Fail);
    let all = || {
        let items = checks.iter().map(Check::value).collect();
        Value::Object(Object::from_iter([("ok", Value::Bool(!has_failed)), ("checks", Value::Array(items))]))
    };
    match format {
        Format::Table => {
            for check in checks {
                screen.line(&format!("{:<4}  {}: {}", check.word(), check.name, printable(&check.found)))?;
                if !check.hint.is_empty() {
                    screen.line(&format!("      -> {}", printable(&check.hint)))?;
                }
            }
        }
        Format::Ndjson => {
            for check in checks {
                screen.line(&check.value().to_json())?;
            }
        }
        Format::Json => screen.line(&all().to_json())?,
        Format::Yaml => write!(screen.out, "{}", yaml::text(&all()))?,
    }
    if has_failed { Err(Failure::told(exit)) } else { Ok(()) }
}

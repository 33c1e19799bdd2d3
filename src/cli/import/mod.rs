//! `import`: history that exists elsewhere as records, one a line, for `dev --events - --records` or any
//! producer.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | a record as a line, what was left out |
//! | `git.rs` | the commits of a repository that touched documents |
//! | `table.rs` | rows of a CSV file, lines of an NDJSON file |
//!
//! INVARIANT: documents and rows keep the text of their numbers.
//! *If it fails*: what cannot be an event is left out, counted, and the first of it named; nothing is
//! guessed.

mod git;
mod table;

use super::args::{ImportCommand, ImportSource};
use super::failure::{Done, Exit, Failure};
use super::screen::{Screen, printable};
use crate::domain::ids::Timestamp;
use crate::domain::value::{Limits, Object, Value};

/// Bounds of one document or line.
const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_depth: Limits::DEPTH_MAX, max_members: 5_000_000 };
/// What was left out and is named.
const NAMED_MAX: u64 = 5;

pub(super) fn run(command: &ImportCommand, screen: &mut Screen<'_>) -> Done {
    let (source, config) = match command {
        ImportCommand::Git(args) => (&args.source, git::CONFIG),
        ImportCommand::Csv(args) => (&args.source, table::CONFIG),
        ImportCommand::Ndjson(args) => (&args.source, table::CONFIG),
    };
    let ImportSource { print_config } = source;
    if *print_config {
        return Ok(screen.out.write_all(config.as_bytes())?);
    }
    let mut records = Records { screen, written: 0, left_out: 0 };
    match command {
        ImportCommand::Git(args) => git::import(args, &mut records)?,
        ImportCommand::Csv(args) => table::csv(args, &mut records)?,
        ImportCommand::Ndjson(args) => table::ndjson(args, &mut records)?,
    }
    records.end()
}

/// One event on its way.
#[derive(Debug, Default)]
struct Record {
    key: String,
    headers: Vec<(&'static str, String)>,
    /// Now, where it is none.
    time: Option<Timestamp>,
    /// None deletes.
    value: Option<Value>,
}

/// Writes records as lines.
struct Records<'a, 'b> {
    screen: &'a mut Screen<'b>,
    written: u64,
    left_out: u64,
}

impl Records<'_, '_> {
    fn write(&mut self, record: Record) -> Done {
        let headers: Object =
            record.headers.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
        let mut line = Object::new();
        line.insert("key", Value::from(record.key));
        line.insert("headers", Value::Object(headers));
        if let Some(Timestamp(ms)) = record.time {
            line.insert("timestamp", Value::from(ms));
        }
        line.insert("value", record.value.unwrap_or_default());
        self.written += 1;
        self.screen.line(&Value::Object(line).to_json())
    }

    /// Something that cannot be an event.
    fn leave_out(&mut self, what: &str, why: &str) {
        self.left_out += 1;
        if self.left_out <= NAMED_MAX {
            self.screen.say(&format!("left out: {}: {why}", printable(what)));
        }
    }

    fn end(self) -> Done {
        let Self { screen, written, left_out } = self;
        screen.say(&format!("{written} events, {left_out} left out"));
        if written > 0 {
            return Ok(());
        }
        let hint = "look at what was left out, and at the arguments";
        Err(Failure::new(Exit::Failure, "nothing was imported").hint(hint))
    }
}

//! `import csv` and `import ndjson`: each row or line an event, its columns or members the data.

use super::{LIMITS, Record, Records};
use crate::cli::address::place;
use crate::cli::args::{ImportCsvArgs, ImportNdjsonArgs, ImportRows};
use crate::cli::failure::{Done, Exit, Failure};
use crate::domain::ids::Timestamp;
use crate::domain::moment;
use crate::domain::number::Number;
use crate::domain::value::{Object, Pointer, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A configuration that folds what this imports.
pub(super) const CONFIG: &str = include_str!("../../../config/rows.yaml");

fn open(path: &Path) -> Done<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(path)
        .map_err(|error| Failure::new(Exit::NotFound, format!("open `{}`: {error}", path.display())))?;
    Ok(Box::new(file))
}

pub(super) fn csv(args: &ImportCsvArgs, records: &mut Records<'_, '_>) -> Done {
    let delimiter = u8::try_from(args.delimiter)
        .map_err(|_| Failure::usage("the delimiter is no ASCII character", "write `--delimiter ';'`"))?;
    let mut reader =
        ::csv::ReaderBuilder::new().delimiter(delimiter).flexible(false).from_reader(open(&args.file)?);
    let columns = reader.headers().map_err(|error| unreadable(&error.to_string()))?.clone();
    let column = |name: &str| -> Done<usize> {
        columns.iter().position(|column| column == name).ok_or_else(|| {
            let known: Vec<&str> = columns.iter().collect();
            Failure::usage(format!("there is no column `{name}`"), format!("there are {}", known.join(", ")))
        })
    };
    let id = column(&args.rows.id)?;
    let kind = args.rows.event_type_at.as_deref().map(column).transpose()?;
    let time = args.rows.time.as_deref().map(column).transpose()?;
    for (nth, row) in reader.records().enumerate() {
        // The first line holds the names.
        let what = format!("row {}", nth + 2);
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                records.leave_out(&what, &error.to_string());
                continue;
            }
        };
        let data = columns.iter().zip(&row).map(|(name, text)| (name, cell(text, args.texts)));
        let event = Row {
            id: row.get(id).map(str::to_owned),
            kind: kind.and_then(|kind| row.get(kind)).map(str::to_owned),
            time: time.map(|time| row.get(time).unwrap_or_default().to_owned()),
            data: Value::Object(data.collect::<Object>()),
        };
        event.write(&what, &args.rows, records)?;
    }
    Ok(())
}

/// A number keeps its text; nothing is null; everything else is text.
fn cell(text: &str, only_texts: bool) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    match Number::parse(text) {
        Ok(number) if !only_texts => Value::Number(number),
        _ => Value::from(text),
    }
}

pub(super) fn ndjson(args: &ImportNdjsonArgs, records: &mut Records<'_, '_>) -> Done {
    let id = place(&args.rows.id)?;
    let kind = args.rows.event_type_at.as_deref().map(place).transpose()?;
    let time = args.rows.time.as_deref().map(place).transpose()?;
    let data = args.data.as_deref().map(place).transpose()?;
    for (nth, line) in BufReader::new(open(&args.file)?).split(b'\n').enumerate() {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let what = format!("line {}", nth + 1);
        let value = match Value::parse(&line, &LIMITS) {
            Ok(value) => value,
            Err(error) => {
                records.leave_out(&what, &format!("it is no JSON: {error}"));
                continue;
            }
        };
        let text = |at: &Pointer| value.pointer(at).map(plain);
        let event = Row {
            id: text(&id),
            kind: kind.as_ref().and_then(text),
            time: time.as_ref().map(|time| text(time).unwrap_or_default()),
            data: data.as_ref().map_or(Some(&value), |at| value.pointer(at)).cloned().unwrap_or_default(),
        };
        event.write(&what, &args.rows, records)?;
    }
    Ok(())
}

/// A text without its quotes, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_json(), str::to_owned)
}

struct Row {
    id: Option<String>,
    kind: Option<String>,
    time: Option<String>,
    data: Value,
}

impl Row {
    fn write(self, what: &str, rows: &ImportRows, records: &mut Records<'_, '_>) -> Done {
        let Some(id) = self.id.filter(|id| !id.is_empty()) else {
            records.leave_out(what, &format!("it has no `{}`", rows.id));
            return Ok(());
        };
        let time = match self.time.as_deref().map(moment_of) {
            None => None,
            Some(Some(time)) => Some(time),
            Some(None) => {
                let why = "its time is neither RFC 3339, nor a date, nor epoch milliseconds";
                records.leave_out(what, why);
                return Ok(());
            }
        };
        let kind = self.kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| rows.event_type.clone());
        records.write(Record { key: id, headers: vec![("type", kind)], time, value: Some(self.data) })
    }
}

fn moment_of(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp).or_else(|| moment::parse(text))
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Exit::Failure, format!("the file cannot be read: {why}"))
        .hint("the first line names the columns; `--delimiter ';'` where it is no comma")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_numbers_with_their_text_null_or_text() {
        let json = |text| cell(text, false).to_json();
        assert_eq!(json("1.10"), "1.10");
        assert_eq!(json("007"), "\"007\"", "no JSON number: an id, as likely as not");
        assert_eq!(json(""), "null");
        assert_eq!(json("true"), "\"true\"");
        assert_eq!(cell("1.10", true).to_json(), "\"1.10\"");
    }

    #[test]
    fn times_are_dates_or_milliseconds() {
        assert_eq!(moment_of("1700000000000"), Some(Timestamp(1_700_000_000_000)));
        assert_eq!(moment_of("1970-01-02"), Some(Timestamp(86_400_000)));
        assert_eq!(moment_of("yesterday"), None);
    }
}

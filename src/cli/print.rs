//! Answers of the API in the format that was asked for. The table of each command is its own business.

use super::args::Format;
use super::client::{Body, List};
use super::failure::Done;
use super::screen::Screen;
use super::yaml;
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};

/// Prints an answer as JSON or YAML; false for the table, which the command prints itself.
pub(super) fn body(screen: &mut Screen<'_>, format: Format, body: &Body) -> Done<bool> {
    match format {
        Format::Table => return Ok(false),
        Format::Json => unchanged(screen, body)?,
        Format::Ndjson => screen.line(&body.value.to_json())?,
        Format::Yaml => write!(screen.out, "{}", yaml::text(&body.value))?,
    }
    Ok(true)
}

/// Prints what no server told, as JSON or YAML; the table is the command's own.
pub(super) fn value(screen: &mut Screen<'_>, format: Format, value: &Value) -> Done {
    let body = Body { bytes: value.to_json().into_bytes(), value: value.clone() };
    self::body(screen, format, &body).map(drop)
}

/// Prints a list as JSON or YAML, with one entry a line as NDJSON; false for the table.
pub(super) fn list(screen: &mut Screen<'_>, format: Format, list: &List) -> Done<bool> {
    match (format, &list.only) {
        (Format::Table, _) => return Ok(false),
        (Format::Ndjson, _) => {
            for item in &list.items {
                screen.line(&item.to_json())?;
            }
        }
        (_, Some(only)) => return body(screen, format, only),
        (_, None) => {
            // Several pages read as one that is not cut.
            let mut object = Object::new();
            object.insert("items", Value::Array(list.items.clone()));
            object.insert("nextCursor", Value::Null);
            let value = Value::Object(object);
            return body(screen, format, &Body { bytes: value.to_json().into_bytes(), value });
        }
    }
    Ok(true)
}

/// Named numbers that this process found out itself.
pub(super) fn figures(screen: &mut Screen<'_>, format: Format, figures: &[(&str, u64)]) -> Done {
    let members = figures.iter().map(|(name, figure)| (*name, Value::Number(Number::from(*figure))));
    let value = Value::Object(Object::from_iter(members));
    let all = Body { bytes: value.to_json().into_bytes(), value };
    if body(screen, format, &all)? {
        return Ok(());
    }
    for (name, figure) in figures {
        screen.line(&format!("{name:<12} {figure}"))?;
    }
    Ok(())
}

/// The state as indented JSON, numbers and member order as they came.
pub(super) fn state(screen: &mut Screen<'_>, state: &Value) -> Done {
    let mut out = Vec::new();
    state.write_pretty(&mut out);
    out.push(b'\n');
    Ok(screen.out.write_all(&out)?)
}

/// Says that a list goes on.
pub(super) fn cut(screen: &mut Screen<'_>, list: &List) {
    if list.is_cut {
        screen.say(&format!("there are more than these {}: raise `--limit`", list.items.len()));
    }
}

fn unchanged(screen: &mut Screen<'_>, body: &Body) -> Done {
    screen.out.write_all(&body.bytes)?;
    // A file or a terminal ends with a line; an answer does not have to.
    if body.bytes.last() != Some(&b'\n') {
        screen.out.write_all(b"\n")?;
    }
    Ok(())
}

/// The member at a path, as text for a line: texts without quotes, `-` for what is not there.
pub(super) fn cell(value: &Value, path: &[&str]) -> String {
    match path.iter().try_fold(value, |at, name| at.get(name)) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => super::screen::printable(text),
        Some(other) => other.to_json(),
    }
}

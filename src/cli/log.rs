//! `log`: the events of an aggregate, newest first, one line `version time type id`; with `-p`
//! what each changed, with `--path` only what changed one field.

use super::address::Address;
use super::args::{Format, LogArgs};
use super::client::{Client, Query};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::{Align, Ink, Screen, columns};
use super::{blame, changes};
use crate::domain::patch::diff;
use crate::domain::value::Value;

pub(super) fn run(args: &LogArgs, screen: &mut Screen<'_>) -> Done {
    if let Some(path) = &args.path {
        return blame::history(args, path, screen);
    }
    let address = Address::whole(&args.address)?;
    if args.patch && args.asking.output != Format::Table {
        let hint = "`diff TYPE/ID A..B -o json` prints the change between two versions as a JSON patch";
        return Err(Failure::usage("`-p` is for people, and has no other format", hint));
    }
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let list = client.list(&address, "/events", &vec![("order", "desc".to_owned())], args.limit)?;
    if print::list(screen, args.asking.output, &list)? {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    let lines = columns(&[Align::Right, Align::Left, Align::Left, Align::Left], &rows);
    let mut after = None;
    for (item, line) in list.items.iter().zip(&lines) {
        if !args.patch {
            screen.line(line)?;
            continue;
        }
        screen.line(&screen.ink(Ink::Name, line))?;
        after = change(&client, &address, item, after.take(), screen)?;
    }
    print::cut(screen, &list);
    Ok(())
}

fn row(event: &Value) -> Vec<String> {
    let is_skipped = event.get("skipped").and_then(Value::as_bool) == Some(true);
    let mark = match cell(event, &["poison", "code"]).as_str() {
        _ if !is_skipped => String::new(),
        "-" => "  (skipped)".to_owned(),
        code => format!("  (skipped: {code})"),
    };
    let text = |name: &str| cell(event, &[name]);
    vec![text("version"), text("timestamp"), text("type"), format!("{}{mark}", text("id"))]
}

/// Prints what an event changed. `after` is the state at its version if it is known already; what is returned
/// is the state before it, which is that of the next line.
fn change(
    client: &Client,
    address: &Address,
    event: &Value,
    after: Option<Value>,
    screen: &mut Screen<'_>,
) -> Done<Option<Value>> {
    let version = event.get("version").and_then(Value::as_i64).unwrap_or_default();
    let state = |version: i64| -> Done<Option<Value>> {
        let query: Query = vec![("version", version.to_string())];
        match client.get(address, "/state", &query) {
            Ok(body) => Ok(body.value.get("state").cloned()),
            // Its history may begin later than its events.
            Err(failure) if failure.exit == Exit::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    };
    let after = match after {
        Some(after) => Some(after),
        None => state(version)?,
    };
    let before = if version > 1 { state(version - 1)? } else { Some(Value::Null) };
    match (&before, &after) {
        (Some(before), Some(after)) => {
            let lines = changes::lines(&diff(before, after), before, screen)?;
            if lines.is_empty() {
                screen.line("    (no change)")?;
            }
            for line in lines {
                screen.line(&format!("    {line}"))?;
            }
        }
        _ => screen.line("    (not known: the states before or after can no longer be rebuilt)")?,
    }
    screen.line("")?;
    Ok(before)
}

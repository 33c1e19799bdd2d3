//! `blame`: who wrote each field of a state last, with its value; and `log --path`: all that ever happened to
//! one.

use super::address::{self, Address};
use super::args::{BlameArgs, Format, LogArgs};
use super::client::{Client, Query};
use super::failure::Done;
use super::get;
use super::print::{self, cell};
use super::screen::{Align, Ink, Screen, columns, printable};
use crate::domain::value::{Pointer, Value};

/// Characters of a value in a line.
const VALUE_MAX: usize = 80;

pub(super) fn run(args: &BlameArgs, screen: &mut Screen<'_>) -> Done {
    let (address, moment) = Address::split(&args.address)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let mut query = get::selector(&client, &address, &moment, &Query::new())?;
    if let Some(path) = &args.path {
        query.push(("path", address::place(path)?.to_string()));
    }
    let body = client.get(&address, "/blame", &query)?;
    let fields = body.value.get("fields").and_then(Value::as_array);
    let fields = fields.map(Vec::as_slice).unwrap_or_default();
    if args.asking.output == Format::Ndjson {
        return fields.iter().try_for_each(|field| screen.line(&field.to_json()));
    }
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    let version = cell(&body.value, &["version"]);
    screen.say(&format!("version {version} ({})", cell(&body.value, &["timestamp"])));
    if let ([], Some(path)) = (fields, &args.path) {
        screen.say(&format!("nothing is at {} in that state", printable(path)));
    }
    // The values are those of the version that was told, whatever came since.
    let state = client.get(&address, "/state", &vec![("version", version)])?;
    let state = state.value.get("state").unwrap_or(&Value::Null);
    let rows: Vec<Vec<String>> = fields.iter().map(|field| row(field, state)).collect();
    let align = [Align::Right, Align::Left, Align::Left, Align::Left, Align::Left];
    columns(&align, &rows).iter().try_for_each(|line| screen.line(line))
}

fn row(field: &Value, state: &Value) -> Vec<String> {
    let text = |name: &str| cell(field, &[name]);
    let path = field.get("path").and_then(Value::as_str).unwrap_or_default();
    let value = path.parse::<Pointer>().ok().and_then(|path| state.pointer(&path));
    vec![text("version"), text("timestamp"), text("eventType"), shown_path(path), short(value)]
}

/// The changes of one field, newest first.
pub(super) fn history(args: &LogArgs, path: &str, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let query: Query = vec![("order", "desc".to_owned()), ("path", address::place(path)?.to_string())];
    let list = client.list(&address, "/history", &query, args.limit)?;
    if print::list(screen, args.asking.output, &list)? {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = list.items.iter().map(change).collect();
    for (line, item) in
        columns(&[Align::Right, Align::Left, Align::Left, Align::Left], &rows).iter().zip(&list.items)
    {
        let ink = match (item.get("before"), item.get("after")) {
            (None, _) => Ink::Added,
            (_, None) => Ink::Removed,
            _ => Ink::Changed,
        };
        screen.line(&screen.ink(ink, line))?;
    }
    print::cut(screen, &list);
    Ok(())
}

fn change(item: &Value) -> Vec<String> {
    let text = |name: &str| cell(item, &[name]);
    let what = match (item.get("before"), item.get("after")) {
        (None, after) => format!("+ {}", short(after)),
        (before, None) => format!("- {}", short(before)),
        (before, after) => format!("{} -> {}", short(before), short(after)),
    };
    vec![text("version"), text("timestamp"), text("eventType"), what]
}

fn shown_path(path: &str) -> String {
    if path.is_empty() { "(state)".to_owned() } else { printable(path) }
}

fn short(value: Option<&Value>) -> String {
    let text = value.map(Value::to_json).unwrap_or_default();
    let mut short: String = text.chars().take(VALUE_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    printable(&short)
}

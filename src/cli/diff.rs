//! `diff`: what changed between two moments of an aggregate.

use super::address::{self, Address};
use super::args::{DiffArgs, Format};
use super::changes;
use super::client::{Client, Query};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::Screen;
use crate::domain::patch::JsonPatch;
use crate::domain::value::Value;

pub(super) fn run(args: &DiffArgs, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let (from, to) = address::range(&args.range)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let mut query: Query = vec![("from", from)];
    query.extend(to.map(|to| ("to", to)));
    let body = client.get(&address, "/diff", &query)?;
    let patch = body.value.get("patch").unwrap_or(&Value::Null);
    let is_same = patch.as_array().is_some_and(Vec::is_empty);
    match args.asking.output {
        Format::Ndjson => {
            for operation in patch.as_array().into_iter().flatten() {
                screen.line(&operation.to_json())?;
            }
        }
        format if print::body(screen, format, &body)? => {}
        _ => {
            let end = |side: &str| {
                format!(
                    "{} ({})",
                    cell(&body.value, &[side, "version"]),
                    cell(&body.value, &[side, "timestamp"])
                )
            };
            screen.say(&format!("version {} -> {}", end("from"), end("to")));
            if is_same {
                screen.say("no difference");
            } else {
                lines(&client, &address, &body.value, patch, screen)?;
            }
        }
    }
    if args.exit_code && !is_same { Err(Failure::told(Exit::Failure)) } else { Ok(()) }
}

/// The patch says what is new; what was is in the state it starts from.
fn lines(client: &Client, address: &Address, diff: &Value, patch: &Value, screen: &mut Screen<'_>) -> Done {
    let patch = JsonPatch::parse(patch).map_err(|error| {
        let message = format!("the difference cannot be read: {error}");
        Failure::new(Exit::Failure, message).hint("`-o json` prints it as it came")
    })?;
    let version = cell(diff, &["from", "version"]);
    let from = client.get(address, "/state", &vec![("version", version)])?;
    let state = from.value.get("state").unwrap_or(&Value::Null);
    for line in changes::lines(&patch, state, screen)? {
        screen.line(&line)?;
    }
    Ok(())
}

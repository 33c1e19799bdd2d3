//! `watch`: the changes of an aggregate as they happen. A connection that breaks is made again from the
//! version that was shown last, so nothing is left out.

use super::address::Address;
use super::args::{Format, WatchArgs};
use super::changes;
use super::client::{Client, Query, Told};
use super::failure::{Done, Exit, Failure};
use super::print::cell;
use super::screen::{Ink, Screen};
use crate::domain::patch::{Budget, JsonPatch};
use crate::domain::value::{Limits, Value};
use std::time::Duration;

/// Before a connection is made again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(args: &WatchArgs, screen: &mut Screen<'_>) -> Done {
    if matches!(args.asking.output, Format::Json | Format::Yaml) {
        let hint = "use `-o ndjson`, one change a line, or leave `-o` out";
        return Err(Failure::usage("a stream that does not end has no such format", hint));
    }
    let address = Address::whole(&args.address)?;
    let client = Client::new(&args.asking.server)?;
    let (mut seen, mut state) = start(&client, &address, args.from_version)?;
    screen.say(&format!("{address} from version {seen} on, Ctrl-C ends"));
    let mut left = args.limit.unwrap_or(u64::MAX);
    loop {
        let mut shown = Ok(());
        let told = client.watch(&address, seen, &mut |event| {
            shown = show(event, args.asking.output, &mut seen, &mut state, screen);
            left -= 1;
            shown.is_ok() && left > 0
        });
        shown?;
        match told? {
            Told::Enough => return Ok(()),
            Told::Broken(why) => screen.say(&format!("the connection ended ({why}), connecting again")),
        }
        pause(AGAIN);
    }
}

/// The version that was seen before the first change to show, and its state.
fn start(client: &Client, address: &Address, from: Option<u64>) -> Done<(u64, Value)> {
    let query: Query = match from.map(|from| from.saturating_sub(1)) {
        Some(0) => return Ok((0, Value::Null)),
        Some(before) => vec![("version", before.to_string())],
        None => Query::new(),
    };
    let body = client.get(address, "/state", &query)?.value;
    let version = body.get("version").and_then(Value::as_i64).and_then(|version| u64::try_from(version).ok());
    let state = body.get("state").cloned().unwrap_or(Value::Null);
    match version {
        Some(version) => Ok((version, state)),
        None => Err(Failure::new(Exit::Failure, "the server told no version")),
    }
}

fn show(event: &Value, format: Format, seen: &mut u64, state: &mut Value, screen: &mut Screen<'_>) -> Done {
    if let Some(version) = event.get("version").and_then(Value::as_i64) {
        *seen = u64::try_from(version).unwrap_or(*seen);
    }
    if format == Format::Ndjson {
        screen.line(&event.to_json())?;
        return Ok(screen.out.flush()?);
    }
    let text = |name: &str| cell(event, &[name]);
    let line = format!("{}  {}  {}  {}", text("version"), text("timestamp"), text("type"), text("id"));
    screen.line(&screen.ink(Ink::Name, &line))?;
    let patch = JsonPatch::parse(event.get("patch").unwrap_or(&Value::Null)).map_err(|error| {
        let message = format!("a change cannot be read: {error}");
        Failure::new(Exit::Failure, message).hint("`-o ndjson` prints changes as they came")
    })?;
    for line in changes::lines(&patch, state, screen)? {
        screen.line(&format!("    {line}"))?;
    }
    let budget = Budget { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX };
    patch.apply(state, &budget).map_err(|error| {
        Failure::new(Exit::Failure, format!("a change does not fit the state before it: {error}"))
    })?;
    Ok(screen.out.flush()?)
}

#[expect(clippy::disallowed_methods, reason = "a command waits in real time, there is no task")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

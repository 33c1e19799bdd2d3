//! `erase`: an aggregate is erased for good; or what became of an erasure.

use super::address::Address;
use super::args_refold::EraseArgs;
use super::client::{Client, Query};
use super::create::text;
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::{Screen, printable};
use crate::domain::value::{Object, Value};
use std::io::{BufRead, IsTerminal};

pub(super) fn run(args: &EraseArgs, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let client = Client::new(&args.asking.server)?;
    let body = match &args.reason {
        None => client.get(&address, "/erasure", &Query::new())?,
        Some(reason) => {
            if !args.yes {
                confirm(&address, screen)?;
            }
            let mut request = Object::new();
            request.insert("reason", text(reason));
            if let Some(name) = &args.request_id {
                request.insert("requestId", text(name));
            }
            client.post_at(&Client::path(&address, ":erase"), &Value::Object(request).to_json())?
        }
    };
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    let of = |name: &str| cell(&body.value, &[name]);
    let packs = body.value.get("packs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let gone = packs.iter().filter(|pack| pack.get("gone").and_then(Value::as_bool) == Some(true)).count();
    screen.line(&format!(
        "{}/{} erased at {} (version {}): {} rows and {} dead letters left, {gone} of {} packs gone",
        printable(&address.kind),
        printable(&address.id),
        of("erasedAt"),
        of("version"),
        of("rowsLeft"),
        of("deadLettersLeft"),
        packs.len()
    ))?;
    for pack in packs {
        let left = pack.get("gone").and_then(Value::as_bool) != Some(true);
        screen.line(&format!("{}  {}", if left { "left" } else { "gone" }, cell(pack, &["name"])))?;
    }
    let list = |name: &str| body.value.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for pack in list("rewritten") {
        let of = |name: &str| cell(pack, &[name]);
        let (at, from, to, records) = (of("at"), of("from"), of("to"), of("records"));
        screen.line(&format!("rewritten  {from} as {to} at {at}: {records} records of others"))?;
    }
    for dictionary in list("dictionaries").iter().filter_map(Value::as_str) {
        screen.line(&format!("may hold strings of it  v1/dict/{dictionary}"))?;
    }
    let complete = body.value.get("complete").and_then(Value::as_bool) == Some(true);
    screen.line(&match complete {
        true => format!("complete since {}: no row, dead letter or object tells of it", of("completedAt")),
        false => "not complete: `snapfold gc` and the duty of the workers go on with it".to_owned(),
    })?;
    screen.line("not covered: the events in the topic, and backups")
}

/// Somebody at a terminal types the address again; a script says `--yes`.
fn confirm(address: &Address, screen: &mut Screen<'_>) -> Done {
    let name = format!("{}/{}", address.kind, address.id);
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("an erasure cannot be undone", "say so with `--yes`"));
    }
    screen.say(&format!("`{}` will be erased for good. Type TYPE/ID again to go on:", printable(&name)));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim_end() == name {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "that is not it: nothing was erased"))
}

//! `schedule ls|put|rm|run|pause|resume`: snapshots at due times.

use super::address::Address;
use super::args::{ScheduleCommand, ScheduleLsArgs, SchedulePutArgs, ScheduleRef};
use super::client::{Body, Client};
use super::create::{members, text};
use super::failure::Done;
use super::print::{self, cell};
use super::screen::{Align, Screen, columns, printable};
use crate::domain::value::{Object, Value};

pub(super) fn run(command: &ScheduleCommand, screen: &mut Screen<'_>) -> Done {
    match command {
        ScheduleCommand::Ls(args) => ls(args, screen),
        ScheduleCommand::Put(args) => put(args, screen),
        ScheduleCommand::Rm(args) => {
            let client = Client::new(&args.asking.server)?;
            let answer = client.delete_at(&Client::schedule(&args.name, ""))?;
            if !print::body(screen, args.asking.output, &answer)? {
                screen.say(&format!("schedule {} is gone", printable(&args.name)));
            }
            Ok(())
        }
        ScheduleCommand::Run(args) => call(args, ":run", screen),
        ScheduleCommand::Pause(args) => call(args, ":pause", screen),
        ScheduleCommand::Resume(args) => call(args, ":resume", screen),
    }
}

fn call(args: &ScheduleRef, call: &str, screen: &mut Screen<'_>) -> Done {
    let client = Client::new(&args.asking.server)?;
    let answer = client.post_at(&Client::schedule(&args.name, call), "")?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    told(&answer, screen)
}

fn put(args: &SchedulePutArgs, screen: &mut Screen<'_>) -> Done {
    let target = match (&args.address, &args.kind) {
        (Some(address), _) => {
            let address = Address::whole(address)?;
            let one = Object::from_iter([("type", text(&address.kind)), ("id", text(&address.id))]);
            ("aggregate", Value::Object(one))
        }
        (None, kind) => {
            let kind = kind.as_deref().unwrap_or_default();
            let prefix = args.prefix.as_deref().unwrap_or_default();
            let many = Object::from_iter([("type", text(kind)), ("prefix", text(prefix))]);
            ("selector", Value::Object(many))
        }
    };
    let mut all = vec![
        target,
        ("schedule", text(&args.cron)),
        ("timezone", text(&args.timezone)),
        ("enabled", Value::Bool(!args.paused)),
    ];
    all.extend(args.jitter.as_deref().map(|jitter| ("jitter", text(jitter))));
    let client = Client::new(&args.asking.server)?;
    let answer = client.put_at(&Client::schedule(&args.name, ""), &members(&all))?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    told(&answer, screen)
}

fn ls(args: &ScheduleLsArgs, screen: &mut Screen<'_>) -> Done {
    let client = Client::new(&args.asking.server)?;
    let list = client.list_at("/v1/schedules", args.limit)?;
    if print::list(screen, args.asking.output, &list)? {
        return Ok(());
    }
    if list.items.is_empty() {
        screen.say("no schedules; `schedule put NAME TYPE/ID --cron '0 2 * * *'` makes one");
        return Ok(());
    }
    let head = ["NAME", "OF", "SCHEDULE", "ZONE", "NEXT", "LAST", "CREATED", "FAILED", "ON TIME"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(list.items.iter().map(row));
    use Align::{Left, Right};
    for line in columns(&[Left, Left, Left, Left, Left, Left, Right, Right, Right], &rows) {
        screen.line(&line)?;
    }
    print::cut(screen, &list);
    Ok(())
}

fn told(answer: &Body, screen: &mut Screen<'_>) -> Done {
    let cells = row(&answer.value);
    screen.line(&cells[..6].join("  "))
}

/// A schedule as cells.
fn row(item: &Value) -> Vec<String> {
    let text = |path: &[&str]| printable(&cell(item, path));
    let of = match item.get("aggregate") {
        Some(_) => format!("{}/{}", text(&["aggregate", "type"]), text(&["aggregate", "id"])),
        None => format!("{}/{}*", text(&["selector", "type"]), text(&["selector", "prefix"])),
    };
    let is_enabled = item.get("enabled").and_then(Value::as_bool) == Some(true);
    let next = if is_enabled { text(&["nextRun"]) } else { "paused".to_owned() };
    let last = item.get("lastRuns").and_then(Value::as_array).and_then(|runs| runs.first());
    let of_last = |name: &str| last.map_or_else(|| "-".to_owned(), |run| printable(&cell(run, &[name])));
    vec![
        text(&["name"]),
        of,
        text(&["schedule"]),
        text(&["timezone"]),
        next,
        of_last("started"),
        of_last("created"),
        of_last("failed"),
        text(&["onTimeRatio"]),
    ]
}

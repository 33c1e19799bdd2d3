//! `snapshot ls|show|verify`: what is stored of an aggregate. The commands that change it are in `create` and
//! `keeping`.

use super::address::{Address, Moment};
use super::args::{SnapshotCommand, SnapshotLsArgs, SnapshotShowArgs, SnapshotVerifyArgs, VerifyMode};
use super::client::{Client, Query};
use super::compact;
use super::create;
use super::failure::{Done, Exit, Failure};
use super::keeping;
use super::print::{self, cell};
use super::screen::{Align, Screen, columns};
use crate::domain::value::Value;

pub(super) fn run(command: &SnapshotCommand, screen: &mut Screen<'_>) -> Done {
    match command {
        SnapshotCommand::Ls(args) => ls(args, screen),
        SnapshotCommand::Show(args) => show(args, screen),
        SnapshotCommand::Verify(args) => verify(args, screen),
        SnapshotCommand::Create(args) => create::run(args, screen),
        SnapshotCommand::Rm(args) => keeping::rm(args, screen),
        SnapshotCommand::Hold(args) => keeping::hold(args, screen),
        SnapshotCommand::Release(args) => keeping::release(args, screen),
        SnapshotCommand::Compact(args) => compact::run(args, screen),
        SnapshotCommand::Pin(args) => create::note(args, &[("pinned", Value::Bool(true))], screen),
        SnapshotCommand::Unpin(args) => create::note(args, &[("pinned", Value::Bool(false))], screen),
        SnapshotCommand::Label(args) => {
            let label = args.label.as_deref().map_or(Value::Null, create::text);
            create::note(&args.note, &[("label", label)], screen)
        }
    }
}

fn ls(args: &SnapshotLsArgs, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let list = client.list(&address, "/snapshots", &Query::new(), args.limit)?;
    if print::list(screen, args.asking.output, &list)? {
        return Ok(());
    }
    if list.items.is_empty() {
        screen.say("no snapshots: the state is folded from checkpoints and events");
        return Ok(());
    }
    let head = ["VERSION", "TIME", "KIND", "TRIGGER", "SIZE", "RAW", "ALGORITHM", "ID"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(list.items.iter().map(|item| {
        let meta = |name: &str| cell(item, &["metadata", name]);
        vec![
            cell(item, &["version"]),
            cell(item, &["timestamp"]),
            meta("kind"),
            meta("trigger"),
            meta("size"),
            meta("rawSize"),
            meta("algorithm"),
            cell(item, &["id"]),
        ]
    }));
    use Align::{Left, Right};
    for line in columns(&[Right, Left, Left, Left, Right, Right, Left, Left], &rows) {
        screen.line(&line)?;
    }
    print::cut(screen, &list);
    Ok(())
}

fn show(args: &SnapshotShowArgs, screen: &mut Screen<'_>) -> Done {
    let (address, version) = at_version(&args.address, args.version)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let which = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
    let body = client.get(&address, &format!("/snapshots/{which}"), &Query::new())?;
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    let text = |name: &str| cell(&body.value, &[name]);
    screen.say(&format!("snapshot {} at version {} · {}", text("id"), text("version"), text("timestamp")));
    for (name, value) in
        body.value.get("metadata").and_then(Value::as_object).into_iter().flat_map(|it| it.iter())
    {
        if !value.is_null() {
            screen.say(&format!("  {name}: {}", cell(value, &[])));
        }
    }
    print::state(screen, body.value.get("data").unwrap_or(&Value::Null))
}

fn verify(args: &SnapshotVerifyArgs, screen: &mut Screen<'_>) -> Done {
    let (address, version) = at_version(&args.address, args.version)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let mode = match args.mode {
        VerifyMode::Checksum => "checksum",
        VerifyMode::Pack => "pack",
        VerifyMode::Replay => "replay",
    };
    let mut query: Query = vec![("mode", mode.to_owned())];
    query.extend(version.map(|version| ("version", version.to_string())));
    let body = client.post(&address, "/verify", &query)?;
    let is_ok = body.value.get("ok").and_then(Value::as_bool) == Some(true);
    if !print::body(screen, args.asking.output, &body)? {
        let problems = body.value.get("problems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let rows: Vec<Vec<String>> = problems
            .iter()
            .map(|problem| {
                let is_healed = problem.get("healed").and_then(Value::as_bool) == Some(true);
                let mark = if is_healed { " (healed: reads answer from elsewhere)" } else { "" };
                let text = |name: &str| cell(problem, &[name]);
                vec![text("version"), text("code"), format!("{}{mark}", text("detail"))]
            })
            .collect();
        for line in columns(&[Align::Right, Align::Left, Align::Left], &rows) {
            screen.line(&line)?;
        }
        let checked = cell(&body.value, &["checked"]);
        screen.say(&match (is_ok, problems.len()) {
            (true, 0) => format!("ok: {checked} records and events checked ({mode})"),
            (_, 1) => format!("1 problem in {checked} records and events ({mode})"),
            (_, count) => format!("{count} problems in {checked} records and events ({mode})"),
        });
    }
    if is_ok { Ok(()) } else { Err(Failure::told(Exit::Verification)) }
}

/// An address that may end with a version, which is all that a stored snapshot goes by.
pub(super) fn at_version(text: &str, version: Option<u64>) -> Done<(Address, Option<u64>)> {
    if version.is_some() {
        return Ok((Address::whole(text)?, version));
    }
    match Address::split(text)? {
        (address, Moment::Head) => Ok((address, None)),
        (address, Moment::Version(version)) => Ok((address, Some(version))),
        (..) => {
            let hint = "write TYPE/ID@VERSION; `get` answers for any moment";
            Err(Failure::usage(format!("`{text}` names no version"), hint))
        }
    }
}

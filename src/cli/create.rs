//! `snapshot create|pin|unpin|label`: snapshots on demand, and what is noted on them.

use super::address::Address;
use super::args::{SnapshotCreateArgs, SnapshotNoteArgs};
use super::client::{Body, Client};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::{Screen, printable};
use super::snapshot::at_version;
use super::watch::pause;
use crate::domain::number::Number;
use crate::domain::value::{Limits, Object, Value};
use std::io::{IsTerminal, Read};
use std::time::Duration;

/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(200);
/// Looks between two lines about it.
const LOOKS_PER_LINE: u32 = 5;

pub(super) fn run(args: &SnapshotCreateArgs, screen: &mut Screen<'_>) -> Done {
    match (&args.address, &args.kind) {
        (Some(address), _) => one(&Address::whole(address)?, args, screen),
        (None, Some(kind)) => all(kind, args, screen),
        (None, None) => {
            Err(Failure::usage("nothing is named", "write `snapshot create TYPE/ID` or `--type TYPE`"))
        }
    }
}

/// A text as JSON.
pub(super) fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// Members as the text of a JSON object.
pub(super) fn body(members: &[(&str, Value)]) -> String {
    let mut object = Object::new();
    for (name, value) in members {
        object.insert(*name, value.clone());
    }
    Value::Object(object).to_json()
}

fn one(address: &Address, args: &SnapshotCreateArgs, screen: &mut Screen<'_>) -> Done {
    let mut members = Vec::new();
    members.extend(args.version.map(|version| ("version", Value::Number(Number::from(version)))));
    members.extend(args.label.as_deref().map(|label| ("label", text(label))));
    members.extend(args.reason.as_deref().map(|reason| ("reason", text(reason))));
    if let Some(file) = &args.state {
        members.push(("state", state(file)?));
    }
    let client = Client::new(&args.asking.server)?;
    let answer = client.post_at(&Client::path(address, "/snapshots"), &body(&members))?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    told(&answer, screen)
}

/// One line about a snapshot.
fn told(answer: &Body, screen: &mut Screen<'_>) -> Done {
    let text = |path: &[&str]| printable(&cell(&answer.value, path));
    let mut line = format!(
        "{}  {}  {}  {}",
        text(&["version"]),
        text(&["timestamp"]),
        text(&["metadata", "kind"]),
        text(&["id"])
    );
    if answer.value.get("metadata").and_then(|meta| meta.get("pinned")).and_then(Value::as_bool) == Some(true)
    {
        line.push_str("  pinned");
    }
    let label = answer.value.get("metadata").and_then(|meta| meta.get("label")).and_then(Value::as_str);
    if let Some(label) = label {
        line.push_str(&format!("  {}", printable(label)));
    }
    screen.line(&line)
}

/// The state in a file, its numbers as they are written there.
fn state(file: &str) -> Done<Value> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut bytes),
        file => std::fs::File::open(file).and_then(|mut open| open.read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format!("read `{file}`: {error}"), "name a JSON file, or `-`"))?;
    let limits = Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    Value::parse(&bytes, &limits)
        .map_err(|error| Failure::usage(format!("`{file}` is no JSON: {error}"), "give the state as JSON"))
}

/// Starts a job for all aggregates of a type and follows it to its end.
fn all(kind: &str, args: &SnapshotCreateArgs, screen: &mut Screen<'_>) -> Done {
    let client = Client::new(&args.asking.server)?;
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let selector = Object::from_iter([("type", text(kind)), ("prefix", text(prefix))]);
    let started = client.post_at("/v1/snapshots:batch", &body(&[("selector", Value::Object(selector))]))?;
    let id = started.value.get("jobId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let path = format!("/v1/jobs/{id}");
    screen.say(&format!("job {}; it goes on if this command ends", printable(&id)));
    let is_shown = std::io::stderr().is_terminal();
    let mut looks = 0;
    let job = loop {
        let job = client.get_at(&path)?;
        if job.value.get("status").and_then(Value::as_str) != Some("running") {
            break job;
        }
        looks += 1;
        if is_shown && looks % LOOKS_PER_LINE == 0 {
            screen.say(&format!("{} done", cell(&job.value, &["progress", "done"])));
        }
        pause(LOOK);
    };
    let is_done = job.value.get("status").and_then(Value::as_str) == Some("done");
    let failed = job.value.get("result").and_then(|result| result.get("failed")).and_then(Value::as_i64);
    if !print::body(screen, args.asking.output, &job)? {
        let count = |name: &str| cell(&job.value, &["result", name]);
        screen.line(&format!(
            "created {}  there already {}  failed {}",
            count("created"),
            count("exists"),
            count("failed")
        ))?;
        let failures = job.value.get("result").and_then(|result| result.get("failures"));
        for item in failures.and_then(Value::as_array).into_iter().flatten() {
            let text = |path: &[&str]| printable(&cell(item, path));
            let (id, code, detail) =
                (text(&["aggregateId"]), text(&["error", "code"]), text(&["error", "detail"]));
            screen.say(&format!("{id}: {code}: {detail}"));
        }
    }
    match (is_done, failed) {
        (true, Some(0)) => Ok(()),
        (true, _) => Err(Failure::told(Exit::Failure)),
        (false, _) => {
            let why = printable(&cell(&job.value, &["error", "detail"]));
            let status = cell(&job.value, &["status"]);
            Err(Failure::new(Exit::Failure, format!("the job is {}: {why}", printable(&status))))
        }
    }
}

/// Notes something on a snapshot.
pub(super) fn note(args: &SnapshotNoteArgs, members: &[(&str, Value)], screen: &mut Screen<'_>) -> Done {
    let (address, version) = at_version(&args.address, args.version)?;
    let Some(version) = version else {
        let hint = "write TYPE/ID@VERSION; `snapshot ls TYPE/ID` lists the versions";
        return Err(Failure::usage(format!("`{}` names no version", args.address), hint));
    };
    let client = Client::new(&args.asking.server)?;
    let path = Client::path(&address, &format!("/snapshots/{version}"));
    let answer = client.patch_at(&path, &body(members))?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    told(&answer, screen)
}

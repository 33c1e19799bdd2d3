//! `get`: the state of an aggregate at one moment on stdout, where it came from on stderr.

use super::address::{Address, Moment};
use super::args::GetArgs;
use super::client::{Body, Client, Query};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::Screen;
use crate::domain::value::Value;

pub(super) fn run(args: &GetArgs, screen: &mut Screen<'_>) -> Done {
    let (address, moment) = moment(args)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let mut freshness = Query::new();
    freshness.extend(args.min_version.map(|version| ("minVersion", version.to_string())));
    freshness.extend(args.wait.clone().map(|wait| ("wait", wait)));
    let mut query = selector(&client, &address, &moment, &freshness)?;
    query.extend(args.basis.clone().map(|basis| ("basis", basis)));
    let body = client.get(&address, "/state", &query)?;
    if print::body(screen, args.asking.output, &body)? {
        return Ok(());
    }
    screen.say(&provenance(&body));
    for note in notes(&body.value) {
        screen.say(&note);
    }
    print::state(screen, body.value.get("state").unwrap_or(&Value::Null))
}

/// The parameters that ask for a moment, after those of `freshness`.
pub(super) fn selector(
    client: &Client,
    address: &Address,
    moment: &Moment,
    freshness: &Query,
) -> Done<Query> {
    let mut query = freshness.clone();
    query.extend(match moment {
        Moment::Head => None,
        Moment::Version(version) => Some(("version", version.to_string())),
        Moment::Time(time) => Some(("at", time.clone())),
        Moment::Offset(place) => Some(("offset", place.clone())),
        Moment::Back(back) => Some(("version", before_head(client, address, freshness, *back)?.to_string())),
    });
    Ok(query)
}

fn moment(args: &GetArgs) -> Done<(Address, Moment)> {
    let given = match (args.version, &args.at, &args.offset) {
        (Some(version), ..) => Moment::Version(version),
        (_, Some(time), _) => Moment::Time(time.clone()),
        (.., Some(place)) => Moment::Offset(place.clone()),
        (None, None, None) => return Address::split(&args.address),
    };
    Ok((Address::whole(&args.address)?, given))
}

/// The version so many before the head. Should the head move on meanwhile, it is still that version.
fn before_head(client: &Client, address: &Address, freshness: &Query, back: u64) -> Done<u64> {
    // Only the state waits for a version.
    let route = if freshness.is_empty() { "" } else { "/state" };
    let head = client.get(address, route, freshness)?;
    let version = head.value.get("version").and_then(Value::as_i64).and_then(|head| u64::try_from(head).ok());
    let head = version.unwrap_or_default();
    match head.checked_sub(back) {
        Some(version) if version > 0 => Ok(version),
        _ => {
            let message = format!("{back} versions before the head of `{address}` there was nothing yet");
            Err(Failure::new(Exit::NotFound, message).hint(format!("its newest version is {head}")))
        }
    }
}

/// `version 37 of 41 · 2026-11-24T09:58:12.004Z · snapshot+events: snapshot 20 and 17 events · 1.8 ms`
fn provenance(body: &Body) -> String {
    let text = |name: &str| cell(&body.value, &[name]);
    let events = match text("eventsReplayed").as_str() {
        "1" => "1 event".to_owned(),
        events => format!("{events} events"),
    };
    let from = match (text("snapshotVersion").as_str(), events.as_str()) {
        // From memory: nothing was folded.
        ("-", "0 events") => String::new(),
        ("-", events) => format!(": {events}"),
        (snapshot, events) => format!(": snapshot {snapshot} and {events}"),
    };
    let (version, head, time) = (text("version"), text("headVersion"), text("timestamp"));
    let (source, ms) = (text("source"), text("reconstructionTimeMs"));
    format!("version {version} of {head} · {time} · {source}{from} · {ms} ms")
}

/// What is unusual about an answer.
pub(super) fn notes(value: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    if value.get("deleted").and_then(Value::as_bool) == Some(true) {
        notes.push("deleted at this version".to_owned());
    }
    if let Some(quarantined) = value.get("quarantined").filter(|quarantined| !quarantined.is_null()) {
        let text = |name: &str| cell(quarantined, &[name]);
        notes.push(format!(
            "quarantined since {}: `{}` at version {}; this is the last good state (`snapfold explain {}`)",
            text("since"),
            text("code"),
            text("version"),
            text("code")
        ));
    }
    notes
}

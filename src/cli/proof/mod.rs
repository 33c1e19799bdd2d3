//! `proof`: what proves a version, from a server; and checking such a proof without any.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the command |
//! | `check.rs` | everything that a proof says, computed anew |
//! | `events.rs` | an auditor's own copy of the topic's records |

mod check;
mod events;

use super::address::Address;
use super::args::Format;
use super::audit_args::ProofArgs;
use super::checks::{self, Came};
use super::client::{Client, Query};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::screen::{Screen, printable};
use super::snapshot::at_version;
use crate::domain::value::{Limits, Value};
use std::io::Read;

/// Whatever a server answers may be read.
const LIMITS: Limits =
    Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };

pub(super) fn run(args: &ProofArgs, screen: &mut Screen<'_>) -> Done {
    match (&args.check, &args.address) {
        (Some(file), address) => offline(file, address.as_deref(), args, screen),
        (None, Some(address)) => fetch(address, args, screen),
        (None, None) => {
            Err(Failure::usage("nothing is named", "write `proof TYPE/ID` or `proof --check FILE`"))
        }
    }
}

/// Prints the proof as the server gives it, checked on the way.
fn fetch(address: &str, args: &ProofArgs, screen: &mut Screen<'_>) -> Done {
    let (address, version) = at_version(address, args.version)?;
    let client = Client::new(&args.asking.server)?.within(args.lineage);
    let mut query = Query::new();
    query.extend(version.map(|version| ("version", version.to_string())));
    query.extend(args.after.map(|after| ("after", after.to_string())));
    let body = client.get(&address, "/proof", &query)?;
    let checks = check::all(&body.value, None);
    for check in checks.iter().filter(|check| check.came == Came::Fail) {
        screen.say(&format!("fail  {}: {}", check.name, printable(&check.found)));
    }
    if checks.iter().any(|check| check.came == Came::Fail) {
        let hint = "`snapfold snapshot verify` tells what is wrong with what is stored";
        return Err(Failure::new(Exit::Verification, "the server's proof does not hold").hint(hint));
    }
    // A proof is a file to keep: for people it is the same JSON, and what it proves is said beside it.
    let format = if args.asking.output == Format::Table { Format::Json } else { args.asking.output };
    print::body(screen, format, &body)?;
    let text = |name: &str| printable(&cell(&body.value, &[name]));
    screen.say(&format!("proof of version {} · statement {}", text("version"), text("statement")));
    Ok(())
}

fn offline(file: &str, address: Option<&str>, args: &ProofArgs, screen: &mut Screen<'_>) -> Done {
    let proof = read(file)?;
    if let Some(text) = address {
        let (address, version) = at_version(text, args.version)?;
        about(&proof, &address, version)?;
    }
    let events = args.events.as_deref().map(|file| bytes(file).and_then(|bytes| events::read(file, &bytes)));
    let checks = check::all(&proof, events.transpose()?.as_deref());
    checks::print(&checks, args.asking.output, Exit::Verification, screen)
}

/// Refuses a proof of something else.
fn about(proof: &Value, address: &Address, version: Option<u64>) -> Done {
    let text = |name: &str| proof.get(name).and_then(Value::as_str).unwrap_or_default();
    let told = proof.get("version").and_then(Value::as_i64).and_then(|told| u64::try_from(told).ok());
    let is_same = text("aggregateType") == address.kind && text("aggregateId") == address.id;
    if is_same && version.is_none_or(|version| told == Some(version)) {
        return Ok(());
    }
    let of = format!("{}/{}@{}", text("aggregateType"), text("aggregateId"), told.unwrap_or_default());
    Err(Failure::new(Exit::Verification, format!("this is a proof of `{}`", printable(&of))))
}

fn bytes(file: &str) -> Done<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut bytes),
        file => std::fs::File::open(file).and_then(|mut open| open.read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format!("read `{file}`: {error}"), "name a file, or `-`"))?;
    Ok(bytes)
}

fn read(file: &str) -> Done<Value> {
    Value::parse(&bytes(file)?, &LIMITS).map_err(|error| {
        let hint = "give the JSON that `snapfold proof TYPE/ID` printed";
        Failure::usage(format!("`{file}` is no JSON: {error}"), hint)
    })
}

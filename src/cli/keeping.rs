//! `snapshot rm|hold|release`: what is no longer kept, and what must be.

use super::address::Address;
use super::args::Asking;
use super::client::{Client, Query};
use super::create::text;
use super::failure::{Done, Failure};
use super::print::{self, cell};
use super::screen::{Screen, printable};
use super::snapshot::at_version;
use crate::domain::value::{Object, Value};
use clap::Args;
use std::io::{BufRead, IsTerminal};

/// `snapshot rm`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotRmArgs {
    /// The aggregate, and the snapshot's version unless many are meant
    #[arg(value_name = "TYPE/ID[@VERSION]")]
    pub address: String,
    /// The snapshot's version; the address is then TYPE/ID alone
    #[arg(long, value_name = "N", conflicts_with_all = ["before_version", "before"])]
    pub version: Option<u64>,
    /// All snapshots of versions below this one that nothing needs
    #[arg(long, value_name = "N", conflicts_with = "before", value_parser = clap::value_parser!(u64).range(1..))]
    pub before_version: Option<u64>,
    /// All snapshots whose effective time is before this that nothing needs
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// Give events that newer snapshots need another place first
    #[arg(long, conflicts_with_all = ["before_version", "before"])]
    pub rebase: bool,
    /// Only tell what would go, and what that frees
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `snapshot hold`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotHoldArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

/// `snapshot release`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotReleaseArgs {
    /// The aggregate
    #[arg(value_name = "TYPE/ID")]
    pub address: String,
    /// Server and format.
    #[command(flatten)]
    pub asking: Asking,
}

pub(super) fn rm(args: &SnapshotRmArgs, screen: &mut Screen<'_>) -> Done {
    let mut query = Query::new();
    query.extend(args.before_version.map(|version| ("beforeVersion", version.to_string())));
    query.extend(args.before.clone().map(|time| ("before", time)));
    let (address, route, what) = if query.is_empty() {
        let (address, version) = at_version(&args.address, args.version)?;
        let Some(version) = version else {
            let hint = "write TYPE/ID@VERSION, or --before-version or --before for many";
            return Err(Failure::usage(format!("`{}` names no version", args.address), hint));
        };
        (address, format!("/snapshots/{version}"), format!("snapshot {version} of {}", args.address))
    } else {
        let address = Address::whole(&args.address)?;
        (address, "/snapshots".to_owned(), format!("older snapshots of {}", args.address))
    };
    let flags = [("rebase", args.rebase), ("dryRun", args.dry_run)];
    query.extend(flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| (name, "true".to_owned())));
    if !args.dry_run && !args.yes {
        confirm(&format!("delete {}? It cannot be undone", printable(&what)), screen)?;
    }
    let client = Client::new(&args.asking.server)?;
    let answer = client.delete(&address, &route, &query)?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    let list = |name: &str| answer.value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let verb = if args.dry_run { "would go" } else { "deleted" };
    let versions: Vec<String> = list("deleted").iter().map(Value::to_json).collect();
    screen.line(&format!(
        "{verb}: {}; {} bytes",
        if versions.is_empty() { "none".to_owned() } else { versions.join(" ") },
        cell(&answer.value, &["freedBytes"])
    ))?;
    for item in list("kept") {
        screen.line(&format!("kept: {}  {}", cell(&item, &["version"]), cell(&item, &["reason"])))?;
    }
    Ok(())
}

/// Asks whoever sits there; nobody does where stdin is no terminal.
fn confirm(question: &str, screen: &mut Screen<'_>) -> Done {
    let refused = |why: &str| Failure::usage(why.to_owned(), "add --yes, or look first with --dry-run");
    if !std::io::stdin().is_terminal() {
        return Err(refused("nobody can be asked whether that is meant"));
    }
    screen.say(&format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(refused("nothing was deleted")),
    }
}

pub(super) fn hold(args: &SnapshotHoldArgs, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let mut body = Object::new();
    if let Some(reason) = &args.reason {
        body.insert("reason", text(reason));
    }
    let client = Client::new(&args.asking.server)?;
    let answer = client.put_at(&Client::path(&address, "/hold"), &Value::Object(body).to_json())?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    screen.line(&format!("held since {}", printable(&cell(&answer.value, &["since"]))))
}

pub(super) fn release(args: &SnapshotReleaseArgs, screen: &mut Screen<'_>) -> Done {
    let address = Address::whole(&args.address)?;
    let client = Client::new(&args.asking.server)?;
    let answer = client.delete(&address, "/hold", &Query::new())?;
    if print::body(screen, args.asking.output, &answer)? {
        return Ok(());
    }
    screen.line("not held")
}

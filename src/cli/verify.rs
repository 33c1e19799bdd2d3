//! `verify`: many aggregates at once, by a job of the server. What is wrong goes to stdout, how far it is
//! to stderr.

use super::audit_args::{Tier, VerifyArgs};
use super::client::{Body, Client};
use super::failure::{Done, Exit, Failure};
use super::print::{self, cell};
use super::recovery;
use super::screen::{Align, Screen, columns, printable};
use super::watch::pause;
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};
use std::io::IsTerminal;
use std::time::Duration;

/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(200);
/// Letters of the bar.
const BAR: u64 = 30;

pub(super) fn run(args: &VerifyArgs, screen: &mut Screen<'_>) -> Done {
    if let Some(config) = args.config.as_deref().filter(|_| args.offline) {
        return recovery::verify(config, &args.sets, screen);
    }
    let client = Client::new(&args.asking.server)?;
    let started = client.post_at("/v1/verify", &body(args))?;
    let id = started.value.get("jobId").and_then(Value::as_str).unwrap_or_default().to_owned();
    screen.say(&format!("job {}; it goes on if this command ends", printable(&id)));
    let job = follow(&client, &format!("/v1/jobs/{id}"), screen)?;
    let status = job.value.get("status").and_then(Value::as_str).unwrap_or_default();
    let is_ok = job.value.get("result").and_then(|result| result.get("ok")).and_then(Value::as_bool);
    if !print::body(screen, args.asking.output, &job)? {
        told(&job, screen)?;
    }
    match (status, is_ok) {
        ("done", Some(true)) => Ok(()),
        ("done", _) => Err(Failure::told(Exit::Verification)),
        (other, _) => {
            let why = printable(&cell(&job.value, &["error", "detail"]));
            Err(Failure::new(Exit::Failure, format!("the job is {}: {why}", printable(other))))
        }
    }
}

fn body(args: &VerifyArgs) -> String {
    let text = |text: &str| Value::String(text.into());
    let tier = match args.tier {
        Tier::Structure => "structure",
        Tier::Sample => "sample",
        Tier::Full => "full",
        Tier::Replay => "replay",
    };
    let mut members = vec![("tier", text(tier))];
    members.extend(args.kind.as_deref().map(|kind| ("type", text(kind))));
    members.extend(args.prefix.as_deref().map(|prefix| ("prefix", text(prefix))));
    members.extend(args.sample.map(|sample| ("sample", Value::Number(Number::from(sample)))));
    Value::Object(Object::from_iter(members)).to_json()
}

/// Waits for the end of a job; a terminal sees how far it is.
fn follow(client: &Client, path: &str, screen: &mut Screen<'_>) -> Done<Body> {
    let is_shown = std::io::stderr().is_terminal();
    loop {
        let job = client.get_at(path)?;
        let is_running = job.value.get("status").and_then(Value::as_str) == Some("running");
        if is_shown {
            let count = |name: &str| {
                let count = job.value.get("progress").and_then(|progress| progress.get(name));
                count.and_then(Value::as_i64).and_then(|count| u64::try_from(count).ok())
            };
            let end = if is_running { "" } else { "\n" };
            let bar = bar(count("done").unwrap_or_default(), count("total"));
            write!(screen.err, "\r{bar}{end}").unwrap_or_default();
            screen.err.flush().unwrap_or_default();
        }
        if !is_running {
            return Ok(job);
        }
        pause(LOOK);
    }
}

/// A bar of what is known by now.
fn bar(done: u64, total: Option<u64>) -> String {
    let Some(total) = total else { return format!("{done} done") };
    let filled = (done * BAR).checked_div(total).unwrap_or(BAR).min(BAR);
    let (full, empty) = ("#".repeat(filled as usize), ".".repeat((BAR - filled) as usize));
    format!("[{full}{empty}] {done} of {total}")
}

fn told(job: &Body, screen: &mut Screen<'_>) -> Done {
    let result = job.value.get("result");
    let findings = result.and_then(|result| result.get("findings")).and_then(Value::as_array);
    let rows: Vec<Vec<String>> = findings
        .into_iter()
        .flatten()
        .map(|finding| {
            let text = |name: &str| printable(&cell(finding, &[name]));
            let is_healed = finding.get("healed").and_then(Value::as_bool) == Some(true);
            let mark = if is_healed { " (healed: reads answer from elsewhere)" } else { "" };
            let whose = match text("aggregateId").as_str() {
                "-" => text("aggregateType"),
                id => format!("{}/{id}", text("aggregateType")),
            };
            vec![whose, text("version"), text("code"), format!("{}{mark}", text("detail"))]
        })
        .collect();
    for line in columns(&[Align::Left, Align::Right, Align::Left, Align::Left], &rows) {
        screen.line(&line)?;
    }
    let count = |name: &str| cell(&job.value, &["result", name]);
    let (problems, shown) = (count("problems"), rows.len().to_string());
    let more = if problems == shown { String::new() } else { format!(" (the first {shown} are shown)") };
    screen.say(&format!(
        "{problems} problems{more}: {} aggregates, {} rows, {} packs of {} bytes, {} events in {} ms ({})",
        count("aggregates"),
        count("rows"),
        count("packs"),
        count("bytes"),
        count("events"),
        count("elapsedMs"),
        count("tier")
    ));
    if count("uncovered") != "0" {
        screen.say(&format!("{} aggregates have versions that only the topic can give", count("uncovered")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Asking, Format};

    #[test]
    fn the_bar_is_as_full_as_what_is_known() {
        assert_eq!(bar(7, None), "7 done");
        assert_eq!(bar(1, Some(2)), format!("[{}{}] 1 of 2", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(0, Some(0)), format!("[{}] 0 of 0", "#".repeat(30)));
        assert_eq!(bar(9, Some(9)), format!("[{}] 9 of 9", "#".repeat(30)));
    }

    #[test]
    fn the_body_names_what_was_typed() {
        let asking = Asking { server: String::new(), output: Format::Table };
        let args = VerifyArgs {
            tier: Tier::Sample,
            kind: Some("order".into()),
            prefix: None,
            sample: Some(5),
            offline: false,
            config: None,
            sets: Vec::new(),
            asking,
        };
        assert_eq!(body(&args), r#"{"tier":"sample","type":"order","sample":5}"#);
    }
}

//! Every version of every aggregate, and the moments around its events, through HTTP against the ledger: the
//! sample that comes with the program, and real data where it is there.
//!
//! `SNAPFOLD_TEST_FULL=1` asks about all aggregates of the large streams; otherwise some of them, all
//! versions.

use crate::ledger::{Ledger, Selector, Taken};
use crate::process::Program;
use crate::site::{Sending, Site, settled};
use crate::truth::{
    Question, ask_settled, bundled_spec, id_of, is_full, lines, questions, real, record, repository, sources,
    time_of,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

const COMPAT: &str = include_str!("../../config/compat.yaml");
const FINES: &str = include_str!("../../config/fines.yaml");
const SAMPLE: &str = "assets/browser-compat/compat-releases.ndjson.zst";

/// Every n-th aggregate of some lines, so that about `events` events are theirs.
fn chosen(lines: &[String], events: usize) -> BTreeSet<String> {
    let ids: BTreeSet<&str> = lines.iter().map(|line| id_of(line)).collect();
    let step = if is_full() { 1 } else { lines.len().div_ceil(events).max(1) };
    ids.into_iter().step_by(step).map(str::to_owned).collect()
}

/// The ledger of these aggregates.
fn ledger(kind: &str, config: &str, lines: &[String], ids: &BTreeSet<String>) -> Ledger {
    let mut ledger = Ledger::new(bundled_spec(kind, config));
    for (offset, line) in lines.iter().enumerate().filter(|(_, line)| ids.contains(id_of(line))) {
        let taken = ledger.push(record(offset, line));
        assert!(matches!(taken, Taken::Applied(_)), "line {offset}: {taken:?}");
    }
    ledger
}

/// Folds a file with `dev` and compares what it answers with the ledger.
fn compare(kind: &str, config: &str, file: &Path, arguments: &[&str], events: usize, times: usize) {
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let mut all = vec!["dev", "--port", "0", "--data-dir", &data];
    all.extend(arguments);
    let mut dev = Program::start(&all);
    let lines = lines(file);
    let chosen = chosen(&lines, events);
    let ledger = ledger(kind, config, &lines, &chosen);
    let ids: Vec<&str> = ledger.aggregates().collect();
    let api = dev.ready();
    let fed = begun.elapsed();
    let outcome = ask_settled(&api.url, kind, questions(&ledger, &ids, times));
    let all: BTreeSet<&str> = lines.iter().map(|line| id_of(line)).collect();
    println!(
        "{kind}: {} questions about {} of {} aggregates ({}); fed and folded by both in {fed:.1?}, asked in {:.1?}; {:?}",
        outcome.asked,
        ids.len(),
        all.len(),
        if ids.len() == all.len() { "all" } else { "SNAPFOLD_TEST_FULL=1 asks about all" },
        begun.elapsed() - fed,
        sources(&api.url, kind, &ids),
    );
    outcome.must_be_right(kind);
    let ended = dev.stop();
    assert!(ended.err.contains(&format!("fed {} events", lines.len())), "{}", ended.err);
}

/// The same over a data set of that name, with its own configuration, where it is there.
fn compare_real(kind: &str, config: &str, name: &str, events: usize, times: usize) {
    let Some(file) = real(&format!("{name}.ndjson.zst")) else { return };
    let path = repository(&format!("config/{name}.yaml")).display().to_string();
    let arguments = ["--config", &path, "--events", &file.display().to_string()];
    compare(kind, config, &file, &arguments, events, times);
}

#[test]
fn the_bundled_sample_is_answered_at_every_version_and_time() {
    compare("compat", COMPAT, &repository(SAMPLE), &[], 1_500, 6);
}

#[test]
fn real_fines_are_answered_at_every_version_and_time() {
    compare_real("fine", FINES, "fines", 1_500, 100);
}

#[test]
fn real_documents_are_answered_at_every_version_and_time() {
    compare_real("compat", COMPAT, "compat", 700, 6);
}

/// The broker has forgotten most of the log: what a new process answers comes from rest.
#[test]
fn a_new_process_answers_what_the_broker_has_forgotten() {
    let site = Site::new(COMPAT, "checkpoint: { interval: 300ms }", "compat", 1);
    let lines = lines(&repository(SAMPLE));
    let chosen = chosen(&lines, 800);
    let ledger = ledger("compat", COMPAT, &lines, &chosen);
    let mut worker = site.worker();
    let api = worker.ready();
    let sent = |line: &String| Sending {
        partition: 0,
        key: Some(id_of(line).as_bytes().to_vec()),
        value: Some(line.clone().into_bytes()),
        time_ms: time_of(line),
    };
    // The broker keeps 5 MiB: no more than that may be uncovered.
    let (mut batch, mut bytes, mut count) = (Vec::new(), 0, 0_u64);
    for (nth, line) in lines.iter().enumerate() {
        bytes += line.len();
        batch.push(sent(line));
        if bytes > 2 << 20 || nth + 1 == lines.len() {
            site.send(&batch);
            count += batch.len() as u64;
            settled(&api, count, true);
            (batch, bytes) = (Vec::new(), 0);
        }
    }
    worker.kill();
    let mut worker = site.worker();
    let api = worker.ready();
    settled(&api, count, true);
    let ids: Vec<&str> = ledger.aggregates().collect();
    let outcome = ask_settled(&api.url, "compat", questions(&ledger, &ids, 3));
    println!("restarted: {} questions; {:?}", outcome.asked, sources(&api.url, "compat", &ids));
    outcome.must_be_right("after a restart");
    assert_eq!(api.figure("snapfold_damaged_records_total"), 0.0);
    let one = Question::of(&ledger, ids[0], Selector::Version(1));
    let reply = api.get(&one.path("compat")).unwrap();
    assert_ne!(reply.json()["source"], "memory", "a new process has nothing of it in memory");
    worker.stop();
}

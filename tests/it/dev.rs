//! `snapfold dev` as a user runs it: what it prints works when it is pasted, and what goes wrong says so.

use crate::kill::{Dice, event, noise};
use crate::ledger::{Ledger, OnPoison, Record};
use crate::process::{Ended, Program, binary, command, until};
use crate::site::{ORDERS, orders_spec};
use crate::truth::{ask_settled, is_full, places, questions, real, repository};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pastes the commands that `dev` has printed into a shell; what each printed.
fn paste(dev: &Program) -> Vec<(String, String)> {
    let commands = || -> Vec<String> {
        let out = dev.out();
        out.lines().skip(1).map(|line| line.trim().to_owned()).collect()
    };
    until("four commands", || commands().len() == 4);
    let out = dev.out();
    assert!(out.starts_with("try:\n"), "{out}");
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = |line: String| {
        let done = Command::new("sh").args(["-c", &line]).env("PATH", &path).output().unwrap();
        let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        assert!(done.status.success(), "{line}: {:?} {out} {err}", done.status);
        assert!(!out.trim().is_empty(), "{line} prints nothing: {err}");
        (line, out)
    };
    commands().into_iter().map(run).collect()
}

/// A folder with a configuration whose ids are in the value, and events.
struct Own {
    folder: tempfile::TempDir,
}

impl Own {
    fn new(config: &str, events: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        std::fs::write(folder.path().join("events.ndjson"), events).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn dev(&self, more: &[&str]) -> Program {
        let (config, events) = (self.path("config.yaml"), self.path("events.ndjson"));
        let mut all = vec!["dev", "--port", "0", "--config", &config, "--events", &events];
        all.extend(more);
        Program::start(&all)
    }
}

/// [`ORDERS`] with the id in the value.
fn in_value() -> String {
    ORDERS.replace("aggregateId: key", "aggregateId: /order")
}

fn line(order: &str, nth: usize) -> String {
    let order = serde_json::to_string(order).unwrap();
    let data = r#"{"sku":"a","qty":1,"price":1.10}"#;
    format!(
        r#"{{"order":{order},"type":"ItemAdded","id":"e{nth}","at":{},"data":{data}}}"#,
        1_000 * (nth + 1)
    ) + "\n"
}

/// A command that must end with this code, and what it says on stderr.
fn fails(program: Program, code: i32, says: &[&str]) -> Ended {
    let ended = program.end();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    says.iter().for_each(|text| assert!(ended.err.contains(text), "`{text}` is not in {}", ended.err));
    ended
}

#[test]
fn the_commands_for_the_bundled_sample_work_and_stderr_is_quiet() {
    let mut dev = Program::start(&["dev", "--port", "0"]);
    dev.ready();
    let pasted = paste(&dev);
    assert!(pasted[0].0.contains("get") && pasted[2].0.contains("diff") && pasted[3].0.contains("log"));
    let ended = dev.stop();
    let known = ["fed ", "serving on ", "stopping: ", "wrote "];
    let noise = |line: &&str| !known.iter().any(|known| line.starts_with(known));
    let noise: Vec<&str> = ended.err.lines().filter(noise).collect();
    assert!(noise.is_empty(), "{noise:#?}");
    assert!(ended.err.contains("fed 12546 events\n"), "{}", ended.err);
    let wrote = ended.err.lines().find(|line| line.starts_with("wrote ")).unwrap();
    assert!(!wrote.starts_with("wrote 0 snapshots") && wrote.contains(" packs"), "{wrote}");
}

#[test]
fn the_commands_for_own_data_work_whatever_the_ids_are() {
    for id in ["plain", "it's a/b c", "a\"b $HOME `x`;|&", "ü%2F?#", "x@7", "x~1", "x@2020-01-01", "-n"] {
        let events: String = (0..9).map(|nth| line(if nth < 7 { id } else { "other" }, nth)).collect();
        let own = Own::new(&in_value(), &events);
        let mut dev = own.dev(&["--partitions", "2"]);
        dev.ready();
        let pasted = paste(&dev);
        let head: serde_json::Value = serde_json::from_str(&pasted[0].1).unwrap();
        assert_eq!(head["eventCount"].to_string(), "7", "{id}: {pasted:?}");
        let middle: serde_json::Value = serde_json::from_str(&pasted[1].1).unwrap();
        assert_eq!(middle["eventCount"].to_string(), "4", "{id}: {pasted:?}");
        assert_eq!(pasted[3].1.lines().filter(|line| line.contains("ItemAdded")).count(), 7, "{pasted:?}");
        dev.stop();
    }
}

#[test]
fn events_come_from_a_pipe_and_a_cut_line_is_told() {
    let own = Own::new(&in_value(), "");
    let config = own.path("config.yaml");
    let mut command = command(&["dev", "--port", "0", "--config", &config, "--events", "-"]);
    command.stdin(Stdio::piped());
    let mut dev = Program::spawn(command);
    let mut text: String = (0..5).map(|nth| line("a", nth)).collect();
    text.push_str(r#"{"order":"a","ty"#);
    dev.pour(text.as_bytes());
    let api = dev.ready();
    let state = api.get("/v1/aggregates/order/a").unwrap();
    assert_eq!((state.status, state.json()["version"].as_u64()), (200, Some(5)), "{state:?}");
    let ended = dev.stop();
    let says = "standard input ends in the middle of line 6: its 16 bytes were not fed";
    assert!(ended.err.contains(says) && ended.err.contains("fed 5 events"), "{}", ended.err);
}

#[test]
fn exit_ends_it_and_what_was_written_is_told() {
    let own = Own::new(&in_value(), &(0..500).map(|nth| line("a", nth)).collect::<String>());
    let data = own.path("data");
    let ended = own.dev(&["--exit", "--data-dir", &data]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let wrote = ended.err.lines().last().unwrap();
    assert!(wrote.starts_with("wrote ") && wrote.ends_with(&format!("to {data}")), "{}", ended.err);
    assert!(ended.err.contains("fed 500 events"), "{}", ended.err);
    assert!(Path::new(&data).join("blobs").is_dir());
}

#[test]
fn ctrl_c_while_events_come_covers_what_was_folded() {
    let own = Own::new(&in_value(), "");
    let config = own.path("config.yaml");
    let mut command = command(&["dev", "--port", "0", "--config", &config, "--events", "-"]);
    // The pipe stays open: the input has not ended.
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    let dev = Program::spawn(command);
    drop(std::io::Write::write_all(
        &mut writer,
        (0..3_000).map(|nth| line("a", nth)).collect::<String>().as_bytes(),
    ));
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!dev.err().contains("serving on"), "it serves before all events are fed: {}", dev.err());
    dev.interrupt();
    let ended = dev.end();
    drop(writer);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("stopping: ") && ended.err.contains("wrote "), "{}", ended.err);
}

#[test]
fn what_is_wrong_is_told_with_its_exit_code() {
    let own = Own::new(&in_value(), &line("a", 0));
    let config = own.path("config.yaml");
    let missing = Program::start(&["dev", "--port", "0", "--config", &config, "--events", "no/such.ndjson"]);
    fails(missing, 1, &["no/such.ndjson", "hint"]);
    let missing = Program::start(&["dev", "--port", "0", "--config", "no/such.yaml"]);
    fails(missing, 6, &["no/such.yaml", "hint"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fails(Program::start(&["dev", "--port", &port]), 1, &[&port, "--port"]);
    // A record whose line is none.
    let not_records = own.dev(&["--records"]);
    fails(not_records, 1, &["line 1", "--records"]);
    // The key is the only place of the id, and a line has none.
    let keyed = Own::new(ORDERS, &line("a", 0));
    fails(keyed.dev(&[]), 6, &["map.aggregateId", "--records"]);
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once() {
    let broken = in_value()
        .replace("eventThreshold: 5", "eventThreshold: -5")
        .replace("format: json", "format: jason")
        .replace("timeThreshold: 10s", "timeTreshold: 10s");
    let own = Own::new(&broken, &line("a", 0));
    let ended = fails(own.dev(&[]), 6, &["eventThreshold", "jason", "timeTreshold", "config.yaml:"]);
    assert!(ended.out.is_empty(), "{}", ended.out);
}

#[test]
fn several_streams_need_a_type_before_the_file() {
    let second = in_value()
        .replace("streams:", "")
        .replace("type: order", "type: other")
        .replace("topic: orders", "topic: others");
    let own = Own::new(&format!("{}{second}", in_value()), &line("a", 0));
    fails(own.dev(&["--exit"]), 2, &["several streams", "order", "other"]);
    let (config, events) = (own.path("config.yaml"), own.path("events.ndjson"));
    let of = |given: &str| {
        Program::start(&["dev", "--port", "0", "--exit", "--config", &config, "--events", given])
    };
    fails(of(&format!("unknown={events}")), 2, &["order", "other"]);
    let ended = of(&format!("other={events}")).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("fed 1 events"), "{}", ended.err);
}

#[test]
fn more_data_than_the_broker_keeps_is_all_there() {
    let (mut dice, mut ledger) = (
        Dice(5),
        Ledger::new({
            let mut spec = orders_spec(OnPoison::Quarantine);
            spec.map.aggregate_id = places(&["/order"]);
            spec
        }),
    );
    let mut events = String::new();
    let mut offset = 0;
    while events.len() < 30 << 20 {
        // Hardly to be compressed, so that what is stored is large too.
        let padding = noise(&mut dice, 9_600);
        let order = format!("o{}", dice.below(60));
        let event = event(&mut dice, offset, &padding);
        let line = format!("{{\"order\":\"{order}\",{}", &event[1..]);
        let time = serde_json::from_str::<serde_json::Value>(&line).unwrap()["at"].as_i64().unwrap();
        ledger.push(Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            record_time_ms: time,
            key: Some(order.into_bytes()),
            value: Some(line.clone().into_bytes()),
            headers: Vec::new(),
        });
        events.push_str(&line);
        events.push('\n');
        offset += 1;
    }
    let own = Own::new(&in_value(), &events);
    let mut dev = own.dev(&["--partitions", "1"]);
    let api = dev.ready();
    let ids: Vec<&str> = ledger.aggregates().step_by(if is_full() { 1 } else { 6 }).collect();
    ask_settled(&api.url, "order", questions(&ledger, &ids, 5)).must_be_right("30 MiB in one partition");
    let ended = dev.stop();
    assert!(ended.err.contains(&format!("fed {offset} events")), "{}", ended.err);
}

#[test]
fn both_real_streams_can_be_played_by_the_files_of_the_repository() {
    for (name, config) in
        [("fines.ndjson.zst", "config/fines.yaml"), ("compat.ndjson.zst", "config/compat.yaml")]
    {
        let Some(file): Option<PathBuf> = real(name) else { continue };
        let (config, file) = (repository(config).display().to_string(), file.display().to_string());
        let mut dev = Program::start(&["dev", "--port", "0", "--config", &config, "--events", &file]);
        dev.ready();
        paste(&dev);
        dev.stop();
    }
}

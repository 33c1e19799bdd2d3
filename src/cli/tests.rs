//! Whole commands, from the command line to what is printed and the exit code. Servers answer canned bodies
//! of `API.md`; the outputs are golden texts.

use super::args::{Command, CommandLine};
use super::screen::Screen;
use super::serve::{Canned, Served, serve};
use clap::{CommandFactory, Parser};

const STATE: &str = r#"{"aggregateType":"order","aggregateId":"o-42","version":37,"headVersion":41,
    "deleted":false,"timestamp":"2026-11-24T09:58:12.004Z","position":{"topic":"orders","partition":4,
    "offset":18231},"fromSnapshot":true,"snapshotVersion":20,"eventsReplayed":17,
    "reconstructionTimeMs":1.8,"source":"snapshot+events","lastEvent":{"type":"ItemAdded",
    "id":"e-881"},"lineage":1,"state":{"status":"placed","total":12.50,
    "big":123456789012345678901234567890}}"#;
const DIFF: &str = r#"{"from":{"version":35,"timestamp":"2026-11-24T09:00:00.000Z"},"to":{"version":37,
    "timestamp":"2026-11-24T09:58:12.004Z"},"format":"json-patch","patch":[{"op":"replace",
    "path":"/total","value":12.50},{"op":"remove","path":"/hold"},{"op":"add","path":"/items/b",
    "value":{"qty":1,"tags":["x"]}}]}"#;

/// Runs a command against a server; stdout, stderr and exit code.
fn run(served: Option<&Served>, line: &str) -> (String, String, u8) {
    let mut words: Vec<&str> = std::iter::once("snapfold").chain(line.split(' ')).collect();
    if let Some(served) = served {
        words.extend(["--server", &served.url]);
    }
    let command: Command = CommandLine::try_parse_from(words).expect("a command line").command;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen { out: &mut out, err: &mut err, is_coloured: false };
    let exit = match super::run(command, &mut screen) {
        Ok(()) => 0,
        Err(failure) => {
            screen.fail(&failure);
            failure.exit as u8
        }
    };
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(out), text(err), exit)
}

#[test]
fn the_command_line_is_sound() {
    CommandLine::command().debug_assert();
}

#[test]
fn get_prints_the_state_with_its_digits_and_where_it_came_from() {
    let served = serve(&[("GET", "/v1/aggregates/order/o-42/state?version=37", 200, STATE)]);
    let pretty =
        "{\n  \"status\": \"placed\",\n  \"total\": 12.50,\n  \"big\": 123456789012345678901234567890\n}\n";
    let from =
        "version 37 of 41 · 2026-11-24T09:58:12.004Z · snapshot+events: snapshot 20 and 17 events · 1.8 ms\n";
    for line in ["get order/o-42@37", "get order/o-42 --version 37"] {
        assert_eq!(run(Some(&served), line), (pretty.into(), from.into(), 0), "{line}");
    }
    let (out, err, exit) = run(Some(&served), "get order/o-42@37 -o json");
    assert_eq!((out, err, exit), (format!("{STATE}\n"), String::new(), 0));
    let (out, ..) = run(Some(&served), "get order/o-42@37 -o yaml");
    assert!(
        out.ends_with("state:\n  status: placed\n  total: 12.50\n  big: 123456789012345678901234567890\n"),
        "{out}"
    );
    let (out, ..) = run(Some(&served), "get order/o-42@37 -o ndjson");
    assert_eq!(out.lines().count(), 1);
}

#[test]
fn ids_and_moments_are_encoded_and_freshness_is_passed_on() {
    let served = serve(&[]);
    run(Some(&served), "get compat/api/Win%dow@2022-03-31");
    run(Some(&served), "get order/a@b --at 2026-11-24T10:00:00+02:00 --min-version 3 --wait 2s");
    run(Some(&served), "get order/ü --offset 4:18231");
    run(Some(&served), "get order/o-42");
    assert_eq!(
        served.asked(),
        [
            "GET /v1/aggregates/compat/api%2FWin%25dow/state?at=2022-03-31",
            "GET /v1/aggregates/order/a%40b/state?minVersion=3&wait=2s&at=2026-11-24T10%3A00%3A00%2B02%3A00",
            "GET /v1/aggregates/order/%C3%BC/state?offset=4%3A18231",
            "GET /v1/aggregates/order/o-42/state",
        ]
    );
}

#[test]
fn versions_before_the_head_are_counted_from_the_head() {
    const HEAD: &str = r#"{"aggregateType":"order","aggregateId":"o-42","version":41}"#;
    let served = serve(&[
        ("GET", "/v1/aggregates/order/o-42", 200, HEAD),
        ("GET", "/v1/aggregates/order/o-42/state?version=37", 200, STATE),
    ]);
    assert_eq!(run(Some(&served), "get order/o-42~4").2, 0);
    let (out, err, exit) = run(Some(&served), "get order/o-42~41");
    let said = "error: 41 versions before the head of `order/o-42` there was nothing yet\nhint: its newest version is 41\n";
    assert_eq!((out, err.as_str(), exit), (String::new(), said, 3));
}

#[test]
fn what_is_unusual_about_a_state_is_said() {
    const DELETED: &str = r#"{"version":3,"headVersion":3,"deleted":true,
    "timestamp":"2026-11-24T09:58:12.004Z","snapshotVersion":null,"eventsReplayed":1,
    "reconstructionTimeMs":0,"source":"events","state":null,"quarantined":{"code":"version-gap",
    "version":5,"offset":77,"since":"2026-11-24T10:00:00.000Z"}}"#;
    let served = serve(&[("GET", "/v1/aggregates/order/o-42/state", 200, DELETED)]);
    let said = "version 3 of 3 · 2026-11-24T09:58:12.004Z · events: 1 event · 0 ms\ndeleted at this version\n\
                quarantined since 2026-11-24T10:00:00.000Z: `version-gap` at version 5; \
                this is the last good state (`snapfold explain version-gap`)\n";
    assert_eq!(run(Some(&served), "get order/o-42"), ("null\n".into(), said.into(), 0));
}

#[test]
fn problems_of_the_api_are_shown_with_hint_and_decide_the_exit_code() {
    const PROBLEMS: &[Canned] = &[
        (
            "GET",
            "/v1/aggregates/a/404/state",
            404,
            r#"{"code":"unknown-aggregate","detail":"no \u001b[2J","hint":"check"}"#,
        ),
        ("GET", "/v1/aggregates/a/409/state", 409, r#"{"code":"conflict","detail":"d"}"#),
        ("GET", "/v1/aggregates/a/410/state", 410, r#"{"code":"history-gone","detail":"d"}"#),
        ("GET", "/v1/aggregates/a/413/state", 413, r#"{"code":"too-much-work","detail":"d"}"#),
        ("GET", "/v1/aggregates/a/422/state", 422, r#"{"code":"bad-selector","detail":"d"}"#),
        ("GET", "/v1/aggregates/a/503/state", 503, r#"{"code":"not-caught-up","detail":"d"}"#),
        ("GET", "/v1/aggregates/a/html/state", 404, "<html>"),
        ("GET", "/v1/aggregates/a/text/state", 200, "hello"),
        ("GET", "/v1/aggregates/a/moved/state", 302, "{}"),
    ];
    let served = serve(PROBLEMS);
    let (out, err, exit) = run(Some(&served), "get a/404");
    assert_eq!(
        (out.as_str(), err.as_str(), exit),
        ("", "error: unknown-aggregate: no \\u{1b}[2J\nhint: check\n", 3)
    );
    for (id, expected) in
        [("409", 7), ("410", 3), ("413", 1), ("422", 2), ("503", 5), ("html", 1), ("text", 1), ("moved", 1)]
    {
        assert_eq!(run(Some(&served), &format!("get a/{id}")).2, expected, "{id}");
    }
}

#[test]
fn no_server_is_exit_5_and_says_how_to_start_one() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let (_, err, exit) = run(None, &format!("get order/o-42 --server http://127.0.0.1:{port}"));
    assert_eq!(exit, 5, "{err}");
    assert!(err.contains("snapfold dev") && err.contains(&port.to_string()), "{err}");
    for server in ["https://127.0.0.1", "127.0.0.1:8080", "http://", "http://a b"] {
        let words = ["snapfold", "get", "order/o-42", "--server", server];
        let Command::Get(args) = CommandLine::try_parse_from(words).expect("a line").command else {
            panic!()
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, is_coloured: false };
        let failure = super::get::run(&args, &mut screen).expect_err(server);
        assert_eq!(failure.exit as u8, 2, "{server}: {failure:?}");
    }
}

const EVENTS: &str = r#"{"items":[{"version":10,"type":"ItemAdded","id":"e-10",
    "timestamp":"2026-11-24T09:58:12.004Z"},{"version":9,"type":null,"id":null,
    "timestamp":"2026-11-24T09:00:00.000Z","skipped":true,"poison":{"code":"bad-time","detail":"d"}}],
    "nextCursor":"c-9"}"#;
const MORE: &str = r#"{"items":[{"version":8,"type":"Created","id":"e-8","timestamp":"2026-11-24T08:00:00.000Z"}],"nextCursor":null}"#;

#[test]
fn log_is_one_line_an_event_and_follows_pages_up_to_its_limit() {
    let served = serve(&[
        ("GET", "/v1/aggregates/order/o-42/events?order=desc&limit=2", 200, EVENTS),
        ("GET", "/v1/aggregates/order/o-42/events?order=desc&limit=50", 200, EVENTS),
        ("GET", "/v1/aggregates/order/o-42/events?order=desc&limit=48&cursor=c-9", 200, MORE),
    ]);
    let two = "10  2026-11-24T09:58:12.004Z  ItemAdded  e-10\n 9  2026-11-24T09:00:00.000Z  -          -  (skipped: bad-time)\n";
    let more = "there are more than these 2: raise `--limit`\n";
    assert_eq!(run(Some(&served), "log order/o-42 -n 2"), (two.into(), more.into(), 0));
    let three = format!("{two} 8  2026-11-24T08:00:00.000Z  Created    e-8\n");
    assert_eq!(run(Some(&served), "log order/o-42"), (three, String::new(), 0));
    assert_eq!(run(Some(&served), "log order/o-42 -n 2 -o json").0, format!("{EVENTS}\n"));
    let (out, ..) = run(Some(&served), "log order/o-42 -o json");
    assert!(
        out.starts_with(r#"{"items":[{"version":10,"#) && out.ends_with("}],\"nextCursor\":null}\n"),
        "{out}"
    );
    assert_eq!(run(Some(&served), "log order/o-42 -o ndjson").0.lines().count(), 3);
}

#[test]
fn log_with_patch_shows_what_each_event_changed() {
    const TWO: &str = r#"{"items":[{"version":2,"type":"Paid","id":"b",
    "timestamp":"2026-11-24T09:00:00.000Z"},{"version":1,"type":"Created","id":"a",
    "timestamp":"2026-11-24T08:00:00.000Z"}],"nextCursor":null}"#;
    let served = serve(&[
        ("GET", "/v1/aggregates/order/o/events?order=desc&limit=50", 200, TWO),
        ("GET", "/v1/aggregates/order/o/state?version=2", 200, r#"{"state":{"due":0.00,"lines":[1]}}"#),
        ("GET", "/v1/aggregates/order/o/state?version=1", 200, r#"{"state":{"due":1.10,"lines":[1]}}"#),
    ]);
    let golden = "2  2026-11-24T09:00:00.000Z  Paid     b\n    ~ /due  1.10 -> 0.00\n\n\
                  1  2026-11-24T08:00:00.000Z  Created  a\n    + /due  1.10\n    + /lines/0  1\n\n";
    assert_eq!(run(Some(&served), "log order/o -p"), (golden.into(), String::new(), 0));
    assert_eq!(served.asked().len(), 3, "each state is asked for once: {:?}", served.asked());
    assert_eq!(run(Some(&served), "log order/o -p -o json").2, 2);
}

#[test]
fn log_with_patch_goes_on_where_history_is_gone() {
    const ONE: &str = r#"{"items":[{"version":9,"type":"Paid","id":"b","timestamp":"2026-11-24T09:00:00.000Z"}],"nextCursor":null}"#;
    let served = serve(&[
        ("GET", "/v1/aggregates/order/o/events?order=desc&limit=50", 200, ONE),
        ("GET", "/v1/aggregates/order/o/state?version=9", 200, r#"{"state":{}}"#),
        ("GET", "/v1/aggregates/order/o/state?version=8", 410, r#"{"code":"history-gone","detail":"d"}"#),
    ]);
    let (out, _, exit) = run(Some(&served), "log order/o -p");
    assert!(exit == 0 && out.contains("can no longer be rebuilt"), "{exit} {out}");
}

#[test]
fn diff_shows_old_and_new_and_its_exit_code_tells_if_there_is_any() {
    let same = r#"{"from":{"version":35,"timestamp":"t"},"to":{"version":36,"timestamp":"u"},"format":"json-patch","patch":[]}"#;
    let answers: Vec<Canned> = vec![
        ("GET", "/v1/aggregates/order/o-42/diff?from=-6&to=-4", 200, DIFF),
        ("GET", "/v1/aggregates/order/o-42/diff?from=%402026-11-24&to=37", 200, DIFF),
        ("GET", "/v1/aggregates/order/o-42/diff?from=35", 200, same),
        (
            "GET",
            "/v1/aggregates/order/o-42/state?version=35",
            200,
            r#"{"state":{"total":10.0,"hold":true,"items":{"a":{}}}}"#,
        ),
    ];
    let served = serve(answers.leak());
    let golden = "~ /total  10.0 -> 12.50\n- /hold  true\n+ /items/b/qty  1\n+ /items/b/tags/0  \"x\"\n";
    let said = "version 35 (2026-11-24T09:00:00.000Z) -> 37 (2026-11-24T09:58:12.004Z)\n";
    assert_eq!(run(Some(&served), "diff order/o-42 -6..-4"), (golden.into(), said.into(), 0));
    assert_eq!(run(Some(&served), "diff order/o-42 @2026-11-24..37"), (golden.into(), said.into(), 0));
    assert_eq!(run(Some(&served), "diff order/o-42 -6..-4 --exit-code").2, 1);
    assert_eq!(
        run(Some(&served), "diff --exit-code order/o-42 -6..-4 -o json"),
        (format!("{DIFF}\n"), String::new(), 1)
    );
    assert_eq!(run(Some(&served), "diff order/o-42 -6..-4 -o ndjson").0.lines().count(), 3);
    let (out, err, exit) = run(Some(&served), "diff order/o-42 35.. --exit-code");
    assert_eq!((out.as_str(), err.as_str(), exit), ("", "version 35 (t) -> 36 (u)\nno difference\n", 0));
    assert_eq!(run(None, "diff order/o-42 35").2, 2);
}

#[test]
fn snapshots_are_listed_shown_and_verified() {
    const META: &str = r#""metadata":{"eventType":"ItemAdded","compressed":true,"size":412,
    "rawSize":1630,"checksum":"sha256:9f","createdFromVersion":10,"kind":"full","algorithm":"zstd",
    "trigger":"events","createdAt":"2026-11-24T10:00:00.000Z","creationTimeMs":3,"label":null}"#;
    let list: &'static str = format!(
        r#"{{"items":[{{"id":"abc","version":20,
    "timestamp":"2026-11-24T09:58:12.004Z",{META}}}],"nextCursor":null}}"#
    )
    .leak();
    let one: &'static str = format!(
        r#"{{"id":"abc","version":20,"timestamp":"2026-11-24T09:58:12.004Z","data":{{"total":1.10}},{META}}}"#
    )
    .leak();
    let answers: Vec<Canned> = vec![
        ("GET", "/v1/aggregates/order/o-42/snapshots?limit=50", 200, list),
        ("GET", "/v1/aggregates/order/o-42/snapshots/latest", 200, one),
        ("GET", "/v1/aggregates/order/o-42/snapshots/20", 200, one),
        (
            "POST",
            "/v1/aggregates/order/o-42/verify?mode=checksum",
            200,
            r#"{"mode":"checksum","ok":true,"checked":41,"problems":[]}"#,
        ),
        (
            "POST",
            "/v1/aggregates/order/o-42/verify?mode=replay&version=20",
            200,
            r#"{"mode":"replay","ok":false,"checked":20,"problems":[{"code":"corrupt","version":20,"detail":"checksum mismatch","healed":true}]}"#,
        ),
    ];
    let served = serve(answers.leak());
    let golden = "\
VERSION  TIME                      KIND  TRIGGER  SIZE   RAW  ALGORITHM  ID
     20  2026-11-24T09:58:12.004Z  full  events    412  1630  zstd       abc
";
    assert_eq!(run(Some(&served), "snapshot ls order/o-42"), (golden.into(), String::new(), 0));
    let (out, err, exit) = run(Some(&served), "snapshot show order/o-42");
    assert_eq!((out.as_str(), exit), ("{\n  \"total\": 1.10\n}\n", 0));
    assert!(
        err.starts_with("snapshot abc at version 20 · 2026-11-24T09:58:12.004Z\n  eventType: ItemAdded\n"),
        "{err}"
    );
    assert_eq!(run(Some(&served), "snapshot show order/o-42@20").0, out);
    assert_eq!(run(Some(&served), "snapshot show order/o-42~1").2, 2);
    let ok = "ok: 41 records and events checked (checksum)\n";
    assert_eq!(run(Some(&served), "snapshot verify order/o-42"), (String::new(), ok.into(), 0));
    let found = "20  corrupt  checksum mismatch (healed: reads answer from elsewhere)\n";
    let said = "1 problem in 20 records and events (replay)\n";
    assert_eq!(
        run(Some(&served), "snapshot verify order/o-42@20 --mode replay"),
        (found.into(), said.into(), 4)
    );
}

/// A file of the repository; the tests may run anywhere.
fn in_repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_configurations_of_the_repository_are_valid_and_their_tests_pass() {
    for (name, said, warned) in [
        ("config/compat.yaml", "streams compat; 3 tests passed", None),
        ("config/fines.yaml", "streams fine; 9 tests passed", None),
        ("config/embedded.yaml", "streams order; 1 test passed", None),
        ("config/cluster.yaml", "streams order; 1 test passed", Some("`0.0.0.0:8080` can be reached")),
        ("config/formats.yaml", "streams payment, order, customer, shipment; 2 tests passed", None),
    ] {
        let file = in_repository(name);
        let (out, err, exit) = run(None, &format!("config check --config {file}"));
        assert_eq!((out, exit), (format!("{file}: ok: {said}\n"), 0));
        assert!(warned.map_or(err.is_empty(), |it| err.lines().count() == 1 && err.contains(it)), "{err}");
        let (out, err, exit) = run(None, &format!("reducer test --config {file}"));
        assert_eq!(exit, 0, "{err}");
        assert!(out.lines().all(|line| line.starts_with(&file) && line.ends_with("  pass")), "{out}");
    }
}

#[test]
fn a_failing_test_is_named_with_place_and_paths() {
    let file = std::env::temp_dir().join(format!("snapfold-cli-{}.yaml", std::process::id()));
    let text = "\
streams:
  - type: t
    topic: t
    map: { aggregateId: key, eventType: /type }
    reducer:
      on: { A: [ { add: { n: .n } } ] }
    compression: { algorithm: lz4, level: 9 }
    tests:
      - given: [ { type: A, data: { n: 1 } } ]
        then: { n: 1.0 }
      - given: [ { type: A, data: { n: 1 } } ]
        then: { n: 2, m: 3 }
      - given: [ { type: A, data: { n: x } } ]
        then: {}
";
    std::fs::write(&file, text).expect("a file for a moment");
    let name = file.display().to_string();
    let (out, err, exit) = run(None, &format!("reducer test --config {name}"));
    let (check_out, check_err, check_exit) = run(None, &format!("config check --config {name}"));
    std::fs::remove_file(&file).expect("it was written");
    assert_eq!((err.as_str(), exit), ("3 tests, 2 failed\n", 1));
    let golden = "FILE:9:9  t  pass\nFILE:11:9  t  DIFFERS\n    /n: expected 2, got 1\n    /m: expected 3, got nothing\nFILE:13:9  t  POISON\n";
    assert!(out.replace(&name, "FILE").starts_with(golden), "{out}");
    assert_eq!((check_out.as_str(), check_exit), ("", 6));
    let check_err = check_err.replace(&name, "FILE");
    assert!(check_err.starts_with("warning: FILE:7:43: lz4 has one level"), "{check_err}");
    assert!(check_err.contains("error: 2 of 3 tests of the reducers failed\n"), "{check_err}");
}

#[test]
fn config_show_and_schema_print_to_stdout_and_a_missing_file_is_exit_6() {
    let (out, err, exit) = run(
        None,
        &format!("config show --config {} --set http.listen=127.0.0.1:1", in_repository("config/fines.yaml")),
    );
    assert_eq!((err.as_str(), exit), ("", 0));
    assert!(out.contains("  listen: \"127.0.0.1:1\"  # --set\n"), "{out}");
    assert!(run(None, "config schema").0.starts_with("{\n  \"$schema\""));
    let (out, err, exit) = run(None, "config check --config no/such.yaml");
    assert!(exit == 6 && out.is_empty() && err.contains("`no/such.yaml`"), "{err}");
}

#[test]
fn the_rest_prints_what_it_promises() {
    assert_eq!(run(None, "version").0, concat!("snapfold ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(run(None, "explain history-gone").0.starts_with("## history-gone\n"));
    assert_eq!(run(None, "explain nonsense").2, 3);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(run(None, &format!("completions {shell}")).0.contains("snapfold"), "{shell}");
    }
}

#[test]
fn the_command_line_refuses_what_makes_no_sense() {
    for line in [
        "get",
        "get order/o-42 --version 1 --at 2026-11-24",
        "get order/o-42 --wait 2s",
        "log a/b -n 0",
        "diff a/b",
        "nonsense",
    ] {
        let words = std::iter::once("snapfold").chain(line.split(' '));
        let error = CommandLine::try_parse_from(words).expect_err(line);
        assert!(error.use_stderr(), "{line}");
    }
}

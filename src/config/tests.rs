//! One golden case for each kind of problem, the layers with their origins, secrets, and the memory sum.

use super::*;

pub(super) const STREAM: &str = "streams:\n  - type: order\n    topic: orders\n    map: { aggregateId: key, eventType: /type }\n    reducer: merge\n";

fn sources(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Sources {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources {
        file: Some(("f.yaml".to_owned(), text.to_owned())),
        env,
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
    }
}

fn fetch(secret: &SecretRef) -> Result<String, String> {
    match secret {
        SecretRef::File(path) if path == "secret" => Ok("hunter2\n".to_owned()),
        SecretRef::Environment(name) if name == "SECRET" => Ok("hunter3".to_owned()),
        _ => Err("there is none".to_owned()),
    }
}

pub(super) fn loaded(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Config {
    load(&sources(text, env, sets), &fetch).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(super) fn problems(text: &str, env: &[(&str, &str)], sets: &[&str]) -> String {
    load(&sources(text, env, sets), &fetch)
        .map_or_else(|problems| problems.to_string(), |_| "no problem".to_owned())
}

/// The problem that `section`, put before a sound stream, is told as; its first line and its hint.
pub(super) fn told(section: &str) -> String {
    let text = format!("{section}\n{STREAM}");
    let found = problems(&text, &[], &[]);
    assert!(found.ends_with("\n1 problem"), "{found}");
    let lines: Vec<&str> = found.lines().filter(|line| !line.contains(" | ")).collect();
    lines[..2].join("\n")
}

/// The same for keys of a stream.
fn told_of_stream(keys: &str) -> String {
    let found = problems(&format!("{STREAM}    {keys}\n"), &[], &[]);
    assert!(found.ends_with("\n1 problem"), "{found}");
    let lines: Vec<&str> = found.lines().filter(|line| !line.contains(" | ")).collect();
    lines[..2].join("\n")
}

#[test]
fn a_problem_has_place_excerpt_and_hint() {
    let golden = "\
f.yaml:1:10: `broker` is not a key
  1 | kafka: { broker: x }
    |          ^
  hint: did you mean `brokers`?
1 problem";
    assert_eq!(problems(&format!("kafka: {{ broker: x }}\n{STREAM}"), &[], &[]), golden);
}

#[test]
fn every_kind_of_problem_of_one_value_is_told_with_its_fix() {
    for (section, golden) in [
        (
            "nonsense: 1",
            "f.yaml:1:1: `nonsense` is not a key\n  hint: the keys here are kafka, index, blobs, registry, http, \
             memory, parallelism, checkpoint, flush, cache, scrub, gc, compaction, deadLetters, streams",
        ),
        (
            "memory: { limit: 1024 }",
            "f.yaml:1:18: `1024` has no unit\n  hint: write a whole number and `KiB`, `MiB` or `GiB`, as in `64KiB`",
        ),
        (
            "memory: { limit: 1GB }",
            "f.yaml:1:18: `GB` is not a unit of a size\n  hint: write a whole number and `KiB`, `MiB` or `GiB`, as in `64KiB`",
        ),
        (
            "checkpoint: { interval: 10 }",
            "f.yaml:1:25: `10` has no unit\n  hint: write a whole number and `ms`, `s`, `m`, `h` or `d`, as in `250ms` or `10m`",
        ),
        ("checkpoint: { interval: 0s }", "f.yaml:1:25: `0s` is nothing\n  hint: write more than 0"),
        (
            "cache: { enabled: maybe }",
            "f.yaml:1:19: `maybe` is neither true nor false\n  hint: write `true` or `false`",
        ),
        (
            "parallelism: { flushes: 65 }",
            "f.yaml:1:25: `65` is not allowed here\n  hint: a whole number from 1 to 64",
        ),
        (
            "kafka: { brokers: [a, b] }",
            "f.yaml:1:19: a sequence where one value should be\n  hint: host:port of one or more brokers, separated by commas",
        ),
        (
            "kafka: { group: \"\" }",
            "f.yaml:1:17: `group` is empty\n  hint: the consumer group that all workers of a deployment share",
        ),
        (
            "kafka: localhost",
            "f.yaml:1:8: a text where a mapping should be\n  hint: its keys are brokers, group, properties",
        ),
        (
            "kafka: { properties: { group.id: x } }",
            "f.yaml:1:24: `group.id` may not be set\n  hint: remove it: it is `kafka.group`",
        ),
        (
            "kafka: { properties: { a: [] } }",
            "f.yaml:1:27: not a text and not a reference to a secret\n  hint: write a text, `{ fromFile: PATH }` or `{ fromEnv: NAME }`",
        ),
        (
            "kafka: { properties: { a: { fromEnv: NO } } }",
            "f.yaml:1:27: cannot read environment variable `NO`: there is none\n  hint: check its name and rights",
        ),
    ] {
        assert_eq!(told(section), golden);
    }
}

#[test]
fn every_kind_of_problem_of_a_section_is_told_with_its_fix() {
    for (section, golden) in [
        (
            "index: { scylla: {}, embedded: { path: x } }",
            "f.yaml:1:32: two indexes: `scylla` and `embedded`\n  hint: keep one of them",
        ),
        (
            "index: { embedded: {} }",
            "f.yaml:1:20: `path` is missing\n  hint: add it: a folder; created if its parent exists",
        ),
        (
            "blobs: { s3: { bucket: b }, directory: { path: x } }",
            "f.yaml:1:40: two places for packs: `s3` and `directory`\n  hint: keep one of them",
        ),
        (
            "registry: {}",
            "f.yaml:1:11: `url` is missing\n  hint: add it: base URL of a Confluent-compatible schema registry",
        ),
        (
            "http: { auth: { tokens: [] } }",
            "f.yaml:1:9: `auth` is not available in this version\n  hint: remove it",
        ),
        (
            "http: { listen: \"8080\" }",
            "f.yaml:1:17: `8080` is not an address\n  hint: write HOST:PORT, as in `127.0.0.1:8080`",
        ),
        (
            "deadLetters: { topic: a b }",
            "f.yaml:1:23: `a b` cannot be the name of a topic\n  hint: a topic has at most 249 letters, digits, `.`, `_` and `-`",
        ),
    ] {
        assert_eq!(told(section), golden);
    }
}

#[test]
fn every_kind_of_problem_of_a_stream_is_told_with_its_fix() {
    for (keys, golden) in [
        (
            "format: avro",
            "f.yaml:6:13: `format: avro` without `registry`\n  hint: say where schemas are: `registry: { url: … }`",
        ),
        (
            "format: protobuf",
            "f.yaml:6:13: `protobuf` is not a choice here\n  hint: one of json, avro, cloudevents, debezium, debezium-outbox",
        ),
        ("onPoison: drop", "f.yaml:6:15: `drop` is not a choice here\n  hint: one of skip, quarantine, halt"),
        (
            "history: 90",
            "f.yaml:6:14: `90` is not a choice here\n  hint: one of forever, snapshots, or a duration such as `90d`",
        ),
        (
            "snapshot: { strategy: full }",
            "f.yaml:2:5: `strategy: full` keeps no events, so it cannot keep this history\n  hint: \
             use `strategy: incremental`, which keeps every event, or say `history: snapshots`",
        ),
        (
            "snapshot: { maxWriteAmplification: lots }",
            "f.yaml:6:40: `lots` is not a number from 0 to 1000\n  hint: write a number with at most three decimals, as in `1.0`",
        ),
        (
            "limits: { maxStateBytes: 1KiB }",
            "f.yaml:6:30: a state may be smaller than one event\n  hint: raise `maxStateBytes` or lower `maxEventBytes`",
        ),
        (
            "retention: { archiveAfter: 90d }",
            "f.yaml:6:32: `archiveAfter` without an archive\n  hint: say where to: \
             `blobs: { archive: { directory: { path: … } } }`, or `archive: { s3: { bucket: … } }`",
        ),
        (
            "retention: { retentionPeriod: soon }",
            "f.yaml:6:35: `soon` is not a duration\n  hint: write a whole number and `ms`, `s`, `m`, `h` or `d`, as in `250ms` or `10m`",
        ),
        (
            "tests: 3",
            "f.yaml:6:12: a number where a list of tests should be\n  hint: write `tests: [ { given: [ … ], then: { … } } ]`",
        ),
    ] {
        assert_eq!(told_of_stream(keys), golden);
    }
    let test = told_of_stream("tests: [ { given: [ { type: A, dat: 1 } ], then: 1 } ]");
    assert!(test.starts_with("f.yaml:6:36: `dat` is not known here"), "{test}");
}

#[test]
fn what_is_missing_or_malformed_in_a_stream_is_all_told_at_once() {
    let text = "\
kafka: { group: [] }
index: { embedded: {} }
http: { listen: x }
streams:
  - type: a/b
    format: avro
    onPoison: drop
    map: { aggregateId: nowhere, versionBase: 0 }
    reducer:
      on:
        A: [ { add: { total: \".qty *\" } } ]
        B: [ { frobnicate: {} } ]
  - { type: a/b, topic: t, map: { aggregateId: key, eventType: /t }, reducer: mergr }
  - { type: c, topic: t, map: { aggregateId: key, eventType: /t }, reducer: merge }
";
    let found = problems(text, &[], &[]);
    for (place, message) in [
        ("1:17", "a sequence where one value should be"),
        ("2:20", "`path` is missing"),
        ("3:17", "`x` is not an address"),
        ("5:11", "a type has no `/`, no blanks and at most 200 bytes"),
        ("5:5", "`topic` is missing"),
        ("6:13", "`format: avro` without `registry`"),
        ("7:15", "`drop` is not a choice here"),
        ("8:25", "`nowhere` is none of key"),
        ("8:10", "`map.eventType` is missing"),
        ("8:47", "`versionBase` without `version`"),
        ("11:", ""),
        ("12:", ""),
        ("13:79", "`mergr` is not a reducer"),
        ("13:13", "a second stream of type `a/b`; the first is at 5:11"),
        ("14:23", "a second stream on topic `t`; the first is at 13:25"),
    ] {
        assert!(
            found.contains(&format!("f.yaml:{place}{}{message}", if message.is_empty() { "" } else { ": " })),
            "{place} {message}\n{found}"
        );
    }
    let lines: Vec<u32> = found
        .lines()
        .filter_map(|line| line.strip_prefix("f.yaml:")?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.is_sorted(), "{found}");
}

#[test]
fn a_format_brings_the_places_it_knows_and_the_file_replaces_them_one_by_one() {
    let stream = |keys: &str| {
        let text = format!("streams:\n  - {{ type: order, topic: orders, {keys} }}\n");
        loaded(&text, &[], &[]).streams[0].clone()
    };
    let mapping = |keys: &str| stream(keys).mapping.to_string();
    assert_eq!(
        mapping("format: cloudevents, reducer: replace"),
        "id header:\"ce_subject\" | key\ntype header:\"ce_type\"\nevent header:\"ce_id\"\ntime header:\"ce_time\"\n"
    );
    assert_eq!(
        mapping("format: cloudevents, map: { aggregateId: /order, data: /body }, reducer: replace"),
        "id value:\"/order\"\ntype header:\"ce_type\"\nevent header:\"ce_id\"\ntime header:\"ce_time\"\ndata value:\"/body\"\n"
    );
    assert_eq!(
        mapping("format: debezium-outbox, reducer: merge"),
        "id key\ntype header:\"eventType\" | header:\"type\"\nevent header:\"id\"\ntime \n"
    );
    let rows = stream("format: debezium");
    assert_eq!(
        rows.mapping.to_string(),
        "id key\ntype value:\"/op\"\nevent \ntime value:\"/source/ts_ms\" | value:\"/ts_ms\"\n"
    );
    assert_eq!(rows.reducer.fingerprint_text(), "debezium");
    let same = "format: json, map: { aggregateId: key, eventType: /op, time: [/source/ts_ms, /ts_ms] }";
    assert_ne!(rows.fingerprint(), stream(&format!("{same}, reducer: debezium")).fingerprint());
}

#[test]
fn a_registry_is_a_plain_url_and_perhaps_a_login() {
    let text = |registry: &str| format!("registry: {{ {registry} }}\n{STREAM}");
    let config =
        loaded(&text("url: \"http://r:8081/\", username: u, password: { fromEnv: SECRET }"), &[], &[]);
    let registry = config.registry.clone().expect("it is there");
    assert_eq!(registry.url, "http://r:8081");
    assert_eq!(
        registry.login.as_ref().map(|(user, secret)| (&**user, secret.reveal())),
        Some(("u", "hunter3"))
    );
    let shown = format!("{config:?}{}", show(&config));
    assert!(!shown.contains("hunter"), "{shown}");
    for (registry, says) in [
        ("url: r", "not the plain URL"),
        ("url: \"http://me:hunter2@r\"", "not the plain URL"),
        ("url: \"http://r\", username: u", "`username` without `password`"),
        ("url: \"http://r\", password: hunter2", "`password` without `username`"),
    ] {
        let found = problems(&text(registry), &[], &[]);
        assert!(found.contains(says) && !found.contains("hunter"), "{found}");
    }
}

#[test]
fn a_text_that_is_no_yaml_and_one_without_streams_are_told() {
    assert!(problems("kafka: [", &[], &[]).starts_with("f.yaml:"));
    let empty = problems("", &[], &[]);
    assert!(empty.starts_with("f.yaml:1:1: there is no stream\n"), "{empty}");
    let none = load(&Sources::default(), &fetch).map_err(|problems| problems.to_string());
    assert!(none.is_err_and(|text| text.starts_with("defaults:1:1: there is no stream\n")));
}

#[test]
fn arguments_win_over_the_environment_and_that_over_the_file() {
    let text = format!("kafka: {{ group: file, brokers: file:1 }}\n{STREAM}");
    let env = [("SNAPFOLD__KAFKA__GROUP", "env"), ("SNAPFOLD__KAFKA__BROKERS", "env:1"), ("OTHER", "x")];
    let config = loaded(&text, &env, &["kafka.brokers=set:1"]);
    assert_eq!((config.kafka.group.as_str(), config.kafka.brokers.as_str()), ("env", "set:1"));
    let shown = show(&config);
    assert!(shown.contains("  group: env  # SNAPFOLD__KAFKA__GROUP\n"), "{shown}");
    assert!(shown.contains("  brokers: \"set:1\"  # --set\n"), "{shown}");
    assert!(
        shown.contains("  - type: order  # file:3\n") && shown.contains("  limit: 1GiB  # default\n"),
        "{shown}"
    );
    let env = [
        ("SNAPFOLD__STREAMS__0__SNAPSHOT__EVENT_THRESHOLD", "7"),
        ("SNAPFOLD__STREAMS__0__REDUCER", "replace"),
    ];
    let config = loaded(STREAM, &env, &["streams[0].topic=other", "streams[0].map.time=[/a, /b]"]);
    let stream = &config.streams[0];
    assert_eq!((stream.events_max, &*stream.topic, stream.mapping.time.len()), (7, "other", 2));
}

#[test]
fn problems_of_layers_name_the_variable_or_the_argument_and_never_its_value() {
    let env = [("SNAPFOLD__KAFKA__GRUP", "x"), ("SNAPFOLD__MEMORY__LIMIT", "12")];
    let sets = [
        "kafka",
        "nonsense.a=b",
        "streams[2].type=x",
        "http.listen=",
        "kafka.properties.sasl.password={fromEnv: NO}",
    ];
    let found = problems(STREAM, &env, &sets);
    for line in [
        "SNAPFOLD__KAFKA__GRUP: `GRUP` is not a key",
        "SNAPFOLD__MEMORY__LIMIT: `12` has no unit",
        "--set kafka: no `=` in the argument",
        "--set nonsense.a: `nonsense` is not a key",
        "--set streams[2].type: `streams` has no entry 2",
        "--set http.listen: `listen` is empty",
        "--set kafka.properties.sasl.password: cannot read environment variable `NO`: there is none",
    ] {
        assert!(found.contains(&format!("{line}\n")), "{line}\n{found}");
    }
}

#[test]
fn an_argument_that_replaces_a_section_hides_what_the_environment_set_in_it() {
    let config = loaded(STREAM, &[("SNAPFOLD__KAFKA__GROUP", "env")], &["kafka={ group: set }"]);
    assert!(show(&config).contains("  group: set  # --set\n"), "{}", show(&config));
}

#[test]
fn secrets_are_read_and_never_printed() {
    let text = format!(
        "kafka:\n  properties:\n    a: {{ fromFile: secret }}\n    b: {{ fromEnv: SECRET }}\n    sasl.password: hunter4\n{STREAM}"
    );
    let env = [("SNAPFOLD__KAFKA__PROPERTIES__SSL_KEY_PASSWORD", "#hunter5")];
    let config =
        loaded(&text, &env, &["kafka.properties.c={hunter6", "kafka.properties.d={fromFile: secret}"]);
    let secrets: Vec<(&str, &str)> =
        config.kafka.properties.iter().map(|(name, secret)| (name.as_str(), secret.reveal())).collect();
    let expected = [
        ("a", "hunter2"),
        ("b", "hunter3"),
        ("c", "{hunter6"),
        ("d", "hunter2"),
        ("sasl.password", "hunter4"),
        ("ssl.key.password", "#hunter5"),
    ];
    assert_eq!(secrets, expected);
    let (debug, shown) = (format!("{config:?}"), show(&config));
    assert!(!debug.contains("hunter") && !shown.contains("hunter"), "{debug}\n{shown}");
    assert!(shown.contains("    a: {\"fromFile\":\"secret\"}  # file:3\n"), "{shown}");
    assert!(
        shown.contains("    ssl.key.password: \"***\"  # SNAPFOLD__KAFKA__PROPERTIES__SSL_KEY_PASSWORD\n"),
        "{shown}"
    );
    let warned =
        "f.yaml:3:5: `sasl.password` stands in the file: write `{ fromFile: PATH }` or `{ fromEnv: NAME }`";
    assert_eq!(config.warnings(), [warned]);
    // Nor does the line of a problem show one.
    let found = problems(
        &format!("kafka: {{ broker: x, properties: {{ sasl.password: hunter4 }} }}\n{STREAM}"),
        &[],
        &[],
    );
    assert!(found.contains("did you mean `brokers`") && !found.contains("hunter"), "{found}");
}

#[test]
fn the_password_of_a_cluster_is_a_secret() {
    let scylla = "username: me\n    password: hunter7\n    tls: { enabled: true, ca: a.pem }";
    let config = loaded(&format!("index:\n  scylla:\n    {scylla}\n{STREAM}"), &[], &[]);
    let Index::Scylla(Scylla { login: Some((user, password)), tls, .. }) = &config.index else {
        panic!("{:?}", config.index)
    };
    assert_eq!((user.as_str(), password.reveal()), ("me", "hunter7"));
    assert_eq!(tls, &Some(Tls { ca: Some("a.pem".into()) }));
    let warned =
        "f.yaml:4:15: `password` stands in the file: write `{ fromFile: PATH }` or `{ fromEnv: NAME }`";
    assert_eq!(config.warnings(), [warned]);
    let (debug, shown) = (format!("{config:?}"), show(&config));
    assert!(!debug.contains("hunter") && !shown.contains("hunter"), "{debug}\n{shown}");
    assert!(shown.contains("    password: \"***\"  # file:4\n"), "{shown}");
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let keys = "compression: { algorithm: lz4, level: 9, dictionary: off }";
    let text = format!("http: {{ listen: 0.0.0.0:80, admin: \"[::1]:9090\" }}\n{STREAM}    {keys}\n");
    let config = loaded(&text, &[], &[]);
    assert_eq!(
        config.warnings(),
        [
            "f.yaml:7:43: lz4 has one level: every `level` from 1 to 9 compresses the same",
            "f.yaml:7:58: only zstd has dictionaries: this value makes no difference",
            "f.yaml:1:17: `0.0.0.0:80` can be reached from other machines, and nothing asks who is there",
        ]
    );
    assert!(loaded(STREAM, &[], &[]).warnings().is_empty());
}

#[test]
fn memory_that_does_not_suffice_is_told_as_a_sum_and_the_sum_suffices() {
    let found = told("memory: { limit: 64MiB }");
    let (_, sum) = found.split_once("too small: ").expect(&found);
    let (parts, rest) = sum.split_once(" = ").expect(&found);
    let mib = |text: &str| text.trim_end_matches("MiB").parse::<u64>().expect(&found);
    let total: u64 = parts.split(" + ").map(|part| mib(part.rsplit(' ').next().expect(&found))).sum();
    assert_eq!(total, mib(rest.lines().next().expect(&found)), "{found}");
    // What the user sizes counts in full, what is left out is made to fit.
    let big = told("memory: { limit: 1GiB }\nflush: { maxBytes: 512MiB }");
    assert!(big.contains("flushes 2576MiB"), "{big}");
    let config = loaded(&format!("memory: {{ limit: 192MiB }}\n{STREAM}"), &[], &[]);
    assert_eq!(
        (config.flush_bytes_max, config.cache.map(|cache| cache.bytes_max)),
        (6 << 20, Some(24 << 20))
    );
    assert!(show(&config).contains("  maxBytes: 24MiB  # fits memory.limit\n"), "{}", show(&config));
    let budget = config.budget;
    let parts =
        budget.base + budget.kafka_queues + budget.flushes + budget.index + budget.cache + budget.states;
    assert_eq!(parts, 192 << 20, "{budget:?}");
}

#[test]
fn every_default_is_one_that_its_key_allows() {
    fn each(keys: &[keys::Key], path: &str) {
        for key in keys {
            let name = format!("{path}{}", key.name);
            match key.shape {
                keys::Shape::Section(inner) => each(inner, &format!("{name}.")),
                keys::Shape::Sections(inner) => each(inner, &format!("{name}[0].")),
                _ => {
                    let Some(default) = key.default else { continue };
                    // A default that stands in the file changes nothing, except that two stores
                    // exclude each other.
                    let bucket: &[&str] = match &*name {
                        name if name.starts_with("blobs.s3") => &["blobs.s3.bucket=b"],
                        name if name.starts_with("blobs.archive") => &["blobs.archive.s3.bucket=b"],
                        _ => &[],
                    };
                    let version: &[&str] =
                        if name.ends_with("versionBase") { &["streams[0].map.version=/v"] } else { &[] };
                    let set = format!("{name}={default}");
                    let sets: Vec<&str> =
                        bucket.iter().chain(version).copied().chain([set.as_str()]).collect();
                    if default != "\"\"" {
                        loaded(STREAM, &[], &sets);
                    }
                }
            }
        }
    }
    each(keys::ROOT, "");
}

#[test]
fn the_fingerprint_follows_reducer_mapping_and_limits_only() {
    let fingerprint =
        |keys: &str| loaded(&format!("{STREAM}    {keys}\n"), &[], &[]).streams[0].fingerprint();
    let plain = fingerprint("");
    for same in [
        "history: 90d",
        "snapshot: { eventThreshold: 3 }",
        "compression: { level: 9 }",
        "tests: []",
        "onPoison: halt",
    ] {
        assert_eq!(fingerprint(same), plain, "{same}");
    }
    for other in ["onPoison: skip", "limits: { maxEventBytes: 2MiB }"] {
        assert_ne!(fingerprint(other), plain, "{other}");
    }
    let set = |argument: &str| loaded(STREAM, &[], &[argument]).streams[0].fingerprint();
    for other in [
        "streams[0].reducer=replace",
        "streams[0].map.time=/t",
        "streams[0].map.version=/v",
        "streams[0].type=o",
    ] {
        assert_ne!(set(other), plain, "{other}");
    }
    assert_eq!(set("streams[0].topic=elsewhere"), plain);
}

//! `docs/SEED.md` answers each part of the interface that users asked for: with names that exist, and with
//! tests that exist. Reads files, like all of tidy.

use super::Repo;

/// What users named, in their words: methods, fields, configuration, tables, measures of success, risks.
const ASKED: &str = "createSnapshot createSnapshotBatch getSnapshot getLatestSnapshot getSnapshotsInRange \
    reconstructState reconstructStateAtTime deleteSnapshot deleteSnapshotsBefore compactSnapshots \
    getSnapshotStats scheduleSnapshot \
    Snapshot.id Snapshot.aggregateId Snapshot.version Snapshot.timestamp Snapshot.data \
    Snapshot.metadata.eventType Snapshot.metadata.compressed Snapshot.metadata.size \
    Snapshot.metadata.checksum Snapshot.metadata.createdFromVersion \
    StateReconstruction.aggregateId StateReconstruction.version StateReconstruction.timestamp \
    StateReconstruction.state StateReconstruction.fromSnapshot StateReconstruction.eventsReplayed \
    StateReconstruction.reconstructionTime \
    SnapshotSchedule.aggregateId SnapshotSchedule.schedule SnapshotSchedule.enabled SnapshotSchedule.nextRun \
    SnapshotConfig.eventThreshold SnapshotConfig.timeThreshold SnapshotConfig.sizeThreshold \
    SnapshotConfig.maxSnapshots SnapshotConfig.retentionPeriod SnapshotConfig.archiveAfter \
    SnapshotConfig.compressionEnabled SnapshotConfig.compressionLevel SnapshotConfig.parallelProcessing \
    SnapshotConfig.cacheEnabled SnapshotConfig.cacheTTL \
    Serializer.serialize Serializer.deserialize Serializer.compress Serializer.decompress \
    Compression.algorithm Compression.level Compression.threshold \
    event_snapshots.id event_snapshots.aggregate_id event_snapshots.version event_snapshots.timestamp \
    event_snapshots.data event_snapshots.metadata event_snapshots.created_at event_snapshots.updated_at \
    event_snapshots.unique event_snapshots.by_version event_snapshots.by_time \
    snapshot_schedules snapshot_stats.created snapshot_stats.deleted snapshot_stats.total_size \
    snapshot_stats.average_creation_ms \
    success.creation success.reconstruction success.storage success.validation success.schedules \
    risk.corruption risk.performance risk.storage_growth";

/// Files in which a name of ours must stand: the reference that it belongs to.
const REFERENCES: &[&str] = &[
    "schemas/openapi.json",
    "schemas/config.schema.json",
    "docs/CONFIG.md",
    "docs/METRICS.md",
    "docs/FORMAT.md",
    "docs/benchmarks.md",
    "schemas/",
    "src/domain/",
    "src/codec/",
];

/// One row of the document: what was asked for, our names, our tests (file, function).
type Row<'a> = (&'a str, Vec<&'a str>, Vec<(&'a str, &'a str)>);

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let cells = |line| -> Option<Row<'_>> {
        let mut cells = str::strip_prefix(line, "| `")?.trim_end_matches(['|', ' ']).split(" | ");
        let (asked, ours, tests) = (cells.next()?, cells.next()?, cells.next()?);
        let tests = quoted(tests).into_iter().map(|test| test.split_once(": ").unwrap_or((test, "")));
        Some((asked.trim_end_matches(['`', ' ']), quoted(ours), tests.collect()))
    };
    text.lines().filter_map(cells).collect()
}

/// What is wrong with the document.
fn findings(repo: &Repo, asked: &str) -> Vec<String> {
    let Some(text) = repo.get("docs/SEED.md") else { return vec!["docs/SEED.md is missing".into()] };
    let rows = rows(text);
    let mut wrong = Vec::new();
    for term in asked.split_whitespace() {
        match rows.iter().filter(|(row, ..)| *row == term).count() {
            1 => {}
            count => wrong.push(format!("`{term}` has {count} rows")),
        }
    }
    let references: Vec<&String> = repo
        .iter()
        .filter(|(path, _)| REFERENCES.iter().any(|reference| path.starts_with(reference)))
        .map(|(_, text)| text)
        .collect();
    for (term, ours, tests) in &rows {
        if !asked.split_whitespace().any(|known| known == *term) {
            wrong.push(format!("`{term}` was not asked for"));
        }
        if ours.is_empty() || tests.is_empty() {
            wrong.push(format!("`{term}` names nothing of ours, or no test"));
        }
        for name in ours {
            // A method and its path stand apart in the description of the API.
            let name = name.split_once(" /").map_or((*name).to_owned(), |(_, path)| format!("/{path}"));
            if !references.iter().any(|text| text.contains(&name)) {
                wrong.push(format!("`{term}`: nothing is called `{name}`"));
            }
        }
        for (path, test) in tests {
            let there = repo.get(*path).is_some_and(|text| text.contains(&format!("fn {test}(")));
            if test.is_empty() || !there {
                wrong.push(format!("`{term}`: `{path}` has no test `{test}`"));
            }
        }
    }
    wrong
}

#[test]
fn the_rule_finds_each_wrong_row() {
    let repo = |document: &str| -> Repo {
        let files = [
            ("docs/SEED.md", document),
            ("docs/CONFIG.md", "`cache.ttl`"),
            ("schemas/openapi.json", r#"{ "/v1/stats": { "get": {} } }"#),
            ("tests/it/a.rs", "fn it_works() {}"),
        ];
        files.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
    };
    let good = "| asked | ours | test |\n|---|---|---|\n| `a` | `cache.ttl`, `GET /v1/stats` | `tests/it/a.rs: it_works` |\n";
    assert_eq!(findings(&repo(good), "a"), Vec::<String>::new());
    let wrong = [
        (good.to_owned(), "a b"),
        (format!("{good}{}", good.lines().last().unwrap_or_default()), "a"),
        (good.to_owned(), ""),
        (good.replace("cache.ttl", "cache.tll"), "a"),
        (good.replace("/v1/stats", "/v1/stat5"), "a"),
        (good.replace("it_works", "it_w"), "a"),
        (good.replace("a.rs: it_works", "a.rs"), "a"),
        (good.replace("`tests/it/a.rs: it_works`", "none"), "a"),
    ];
    for (document, asked) in wrong {
        assert!(!findings(&repo(&document), asked).is_empty(), "{document}");
    }
    assert!(!findings(&Repo::new(), "").is_empty());
}

#[test]
fn every_part_of_the_users_interface_is_answered() {
    let wrong = findings(&super::repository(), ASKED);
    assert!(wrong.is_empty(), "docs/SEED.md:\n{}", wrong.join("\n"));
}

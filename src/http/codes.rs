//! Every code that an answer, a dead letter, a quarantine mark or a halted partition can carry: one closed
//! list. A code never changes its meaning; `docs/ERRORS.md` and `snapfold explain CODE` print this table.
//!
//! Codes with a status answer requests. Those without one only say what is wrong
//! with an event or a partition.

/// One code.
#[derive(Debug)]
pub struct Code {
    /// Its stable name.
    pub code: &'static str,
    /// The HTTP status of problems with it.
    pub status: Option<u16>,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What to do, where a problem does not know better.
    pub hint: &'static str,
    /// All of it as Markdown.
    pub page: &'static str,
}

impl Code {
    /// The same request may succeed later, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.status, Some(429 | 503))
    }
}

/// What is known about a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

/// The page of a code, as Markdown.
#[must_use]
pub fn page(code: &str) -> Option<&'static str> {
    find(code).map(|known| known.page)
}

/// All pages, as they are kept in `docs/ERRORS.md`.
#[must_use]
pub fn reference() -> String {
    let pages: Vec<&str> = CODES.iter().map(|code| code.page).collect();
    format!("{HEAD}{}", pages.join("\n"))
}

const HEAD: &str = "\
# Codes

Every code that an answer of the API, a dead letter, a quarantined aggregate or a partition that stands
still can carry. A code keeps its meaning for ever; `snapfold explain CODE` prints its section. Answers are
`application/problem+json` with `code`, `detail`, `hint` and `retryable`. This file is generated from
`src/http/codes.rs`.

";

macro_rules! codes {
    (answers { $($code:literal $status:literal $title:literal $means:literal $hint:literal)* }
     events { $($event:literal $named:literal $says:literal $advice:literal)* }) => {
        /// The table: first what answers requests, then what is wrong with events and partitions.
        pub const CODES: &[Code] = &[
            $(Code {
                code: $code,
                status: Some($status),
                title: $title,
                hint: $hint,
                page: concat!("## ", $code, "\n\n", $title, ", HTTP ", $status, ". ", $means,
                    "\n\nWhat to do: ", $hint, ".\n"),
            },)*
            $(Code {
                code: $event,
                status: None,
                title: $named,
                hint: $advice,
                page: concat!("## ", $event, "\n\n", $named, ". ", $says, "\n\nWhat to do: ", $advice, ".\n"),
            },)*
        ];
    };
}

codes! {
    answers {
        "unknown-aggregate" 404 "No such aggregate"
            "No stream has this type, or no event of this id has been seen. A new aggregate is known once its first event is folded."
            "check type and id; `GET /v1/aggregates?type=TYPE` lists what there is"
        "version-beyond-head" 404 "The version does not exist yet"
            "The aggregate has fewer events than that; `headVersion` is its newest version."
            "ask for `headVersion` or an earlier one, or wait with `minVersion` and `wait`"
        "before-first-event" 404 "The aggregate did not exist yet"
            "The time or offset lies before the first event of the aggregate; `firstTime` is when that happened."
            "ask for `firstTime` or a later moment"
        "no-snapshot" 404 "No such snapshot"
            "No snapshot is stored at this version, under this id, or at all. The state can be had all the same, snapshots only make it fast."
            "`GET …/snapshots` lists what is stored; `GET …/state?version=N` answers for every version"
        "unknown-job" 404 "No such job"
            "Jobs are known to the process that runs them, for an hour after they have ended, and 1,000 at the most. They end with their process."
            "ask the worker that started it, or start it again: what is done already is not done twice"
        "unknown-schedule" 404 "No such schedule"
            "No schedule has this name; one that was deleted has none either."
            "`GET /v1/schedules` lists what there is; `PUT /v1/schedules/{name}` makes one"
        "unknown-route" 404 "No such route"
            "Nothing is served at this path. Ids are one part of the path: `/` in an id is written `%2F`."
            "compare the path with the list of routes; percent-encode ids, `/` as `%2F`"
        "wrong-method" 405 "The route does not take this method"
            "The path exists, but not for this method; the header `Allow` names the methods it has."
            "use a method that `Allow` names"
        "conflict" 409 "Somebody else was there first"
            "What the request supposed is no longer so. Of an event: a version was folded before from other bytes; the first stays."
            "look again, then decide again; for events, `POST …/verify?mode=replay` finds all of them"
        "state-mismatch" 409 "The state is another one"
            "A state that was given, or stored, is not what the events fold to."
            "compare with `GET …/state`; for a stored one, `POST …/verify` tells which record is wrong and whether it healed"
        "needed-by-increments" 409 "Newer snapshots need this one"
            "Increments hold only the events since the snapshot before them, so that one cannot be deleted alone."
            "delete with `rebase=true`, which gives its events to the next snapshot first"
        "lineage-changed" 409 "The reducer or the topic is another one"
            "What is stored was folded by another reducer or mapping, or from a topic that was deleted and created again. Lineages never mix."
            "go back to the former configuration, fold what is stored again with `snapfold refold`, or the topic with `--new-lineage`"
        "history-gone" 410 "That moment can no longer be rebuilt"
            "What the version was folded from has been removed, and the topic no longer has it; `earliestVersion` is the first one that can be had."
            "ask for `earliestVersion` or a later one; keep more with `history: forever`"
        "lineage-dropped" 410 "The lineage was dropped"
            "An old lineage is readable until somebody drops it; then its rows and packs go, and nothing brings them back."
            "ask without `lineage`, or for one that `GET /v1/lineages` lists as readable"
        "erased" 410 "The aggregate was erased"
            "Its events and states were removed on request and cannot be brought back."
            "nothing; the erasure itself is on record"
        "too-much-work" 413 "The question costs too much"
            "More events would have to be read than one question may; `events` says how many, `max` how many may be."
            "take a snapshot near that version first, or ask for a version closer to one that `GET …/snapshots` lists"
        "bad-selector" 422 "The question cannot be understood"
            "A parameter of the query or a part of the path is unknown, repeated, contradicted by another, or no valid value."
            "correct the parameter that `detail` names"
        "bad-body" 422 "The body of the request cannot be understood"
            "It is too long, no JSON, or has other members than the route takes."
            "correct what `detail` names"
        "bad-schedule" 422 "The schedule cannot be understood"
            "The cron expression is none, is never due, or the time zone or the jitter is none. `detail` names the character from which on it is wrong."
            "write five fields, as in `0 2 * * *`, an IANA time zone, as in `Europe/Berlin`, and a duration, as in `30s`"
        "legal-hold" 423 "A legal hold protects it"
            "Nothing of the aggregate may be removed while the hold stands."
            "lift the hold with `DELETE …/hold` if that is allowed"
        "overloaded" 429 "Too many questions at once"
            "As many questions as may wait for a read are waiting. Nothing is wrong with this one."
            "repeat after `Retry-After`, with fewer requests at the same time"
        "corrupt" 500 "Stored bytes are damaged"
            "Bytes disagree with their checksum, digest or chain, and nothing else holds what they held. A wrong state is never served."
            "`POST …/verify` names the records; restore the pack from a backup"
        "internal" 500 "A mistake of the program"
            "Something happened that cannot happen. The connection and other requests go on."
            "report it with the `Request-Id` and the log lines that carry it"
        "not-caught-up" 503 "Not folded yet"
            "The version or offset that the answer must know of has not been folded within `wait`; `headVersion` and `position` say how far it is."
            "repeat after `Retry-After`, or allow a longer `wait` (at most 30s)"
        "rebuilding" 503 "A new lineage is being folded"
            "A new reducer or mapping is folding the topic from its start; heads are answered once it has passed the old position."
            "repeat later; `snapfold_partition_position_offset` shows how far it is"
        "dependency-down" 503 "Something that is needed does not answer"
            "The index, the blob store or Kafka did not answer, or not completely. That is never read as absence."
            "repeat after `Retry-After`; `/readyz?verbose` and the log name the dependency"
    }
    events {
        "history-incomplete" "The first version is missing"
            "The first event that was seen of the aggregate has a version above 1: earlier ones are not in the topic."
            "produce the history into the topic, or drop `map.version` so that versions are counted"
        "bad-version" "The version of the event is no version"
            "It is no whole number, or lies before the first one."
            "correct the producer or `map.version`; for sources that count from 0, set `versionBase: 0`"
        "quarantined" "The aggregate stands still"
            "An earlier event of the aggregate could not be folded. It answers with its last good version; its later events are dead letters."
            "see the first dead letter of the aggregate for the reason; correct the reducer or the producer, then retry"
        "version-gap" "A version is missing"
            "The event's version does not follow on the one before it."
            "produce the missing event; the aggregate goes on from there after a retry"
        "bad-json" "The value is no JSON"
            "The record's value cannot be read under the rules for input: UTF-8, no duplicate members, no lone surrogates, within the limits."
            "correct the producer; `detail` says where it breaks"
        "bad-avro" "The value is no Avro"
            "The value is not in a registry's wire format, not what its schema says, or beyond the limits as JSON. Where a schema cannot be had, the partition waits."
            "correct the producer; `detail` says where it breaks"
        "bad-cloudevent" "The record is no CloudEvent"
            "Neither a header `ce_specversion` nor a member `specversion` says that it is one, or its data is neither JSON nor text."
            "correct the producer, or use `format: json` for plain records"
        "cloudevents-batch" "The record is a batch of CloudEvents"
            "A batch in one record has no single aggregate, version or offset."
            "let the producer send one event in each record"
        "bad-debezium" "The record is no row change"
            "The value has no `op` of `c`, `u`, `d` or `r`: it may come from a topic of schema changes, of transactions or of heartbeats, or be flattened."
            "read the topic of one table; without the transformation ExtractNewRecordState, or as `format: json`"
        "debezium-no-row" "The change is about no row"
            "The table was emptied (`t`), or a message was written to the log (`m`). No aggregate changes: the rows of an emptied table keep their last state."
            "leave such changes out at the connector (`skipped.operations=t`), or delete rows instead of truncating the table"
        "no-key-and-value" "The record has neither key nor value"
            "Such a record may be an old format that the client could not read. It is never taken for a deletion."
            "correct the producer"
        "no-aggregate-id" "The event has no aggregate id"
            "None of the places of `map.aggregateId` yields one."
            "correct the producer, or add a place to `map.aggregateId`"
        "bad-aggregate-id" "The aggregate id is no id"
            "Ids are 1 to 1,024 bytes of UTF-8."
            "correct the producer or `map.aggregateId`"
        "no-event-type" "The event has no type"
            "None of the places of `map.eventType` yields one."
            "correct the producer, or add `const:NAME` as last place of `map.eventType`"
        "bad-time" "The time of the event is no time"
            "It is neither RFC 3339, nor a date, nor whole epoch milliseconds."
            "correct the producer, or leave `map.time` out to use the record's timestamp"
        "state-too-large" "The state would be too large"
            "After the event the state would be longer than `limits.maxStateBytes`."
            "keep less in the state, or raise the limit"
        "bad-state" "The state before the event cannot be read"
            "The bytes of the state are not what was written, or are over the limits of the configuration."
            "see whether `limits` were lowered; else `POST …/verify` finds the damaged record"
        "reducer-type" "A value has the wrong type"
            "An operation, path or operator of the reducer does not take a value of this type; a missing value is null."
            "write `.x // 0` where a value may be missing, or correct the producer"
        "reducer-index" "An index is beyond the array"
            "A path of the reducer or the patch names an element that is not there."
            "append instead, or correct the producer"
        "reducer-overflow" "A number is too large"
            "Numbers have at most 38 digits, results of arithmetic too."
            "keep such numbers as text"
        "reducer-division-by-zero" "A division by zero"
            "An expression divides by zero, or takes a remainder of it."
            "guard the expression: `if .n == 0 then null else .sum / .n end`"
        "reducer-size" "One event copies too much"
            "The operations of one event would write more than the limit allows."
            "split the event, or correct the producer"
        "reducer-depth" "The state would be nested too deeply"
            "A value would lie deeper than `limits.maxDepth`."
            "flatten the state, or raise the limit"
        "reducer-patch" "The patch does not apply"
            "The JSON patch is malformed, a `test` fails, or a path is not there."
            "correct the producer; `detail` names the operation"
        "topic-recreated" "The topic was deleted and created again"
            "Offsets mean other events now, so the partition stands still."
            "start a new lineage with `--new-lineage`, or restore the topic"
        "partitions-changed" "The topic has got more partitions"
            "Producers that hash keys now put aggregates into other partitions, so histories are torn: added partitions stand still, and a start is refused."
            "copy the topic key by key to a new one with the partitions you want; where no aggregate has moved, start with `--accept-partitions`"
        "log-compacted" "The topic is compacted"
            "Kafka deletes the older events of each key of such a topic, so what is folded from it depends on when it is read; its partitions stand still."
            "set `cleanup.policy=delete` on the topic; if events are gone already, start a new lineage from a complete copy"
        "log-truncated" "The log was cut"
            "Events that were folded are no longer in the log, others may have taken their offsets, so the partition stands still."
            "find out why the topic lost acknowledged events; a new lineage folds what is there now"
        "unreadable" "The aggregate cannot be read from rest"
            "Its stored records are damaged or gone, and the topic no longer has their events. Its new events are dead letters; the partition goes on."
            "`POST …/verify` names the records; restore their packs from a backup, then retry the dead letters"
        "retention-passed" "The log starts too late"
            "The topic has removed events that nothing had covered yet, or that only a checkpoint held which cannot be read any more, so the partition stands still."
            "restore the events or the checkpoint's pack, or start a new lineage; give the topic a longer retention"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_the_repository_is_the_one_that_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ERRORS.md");
        if std::env::var_os("SNAPFOLD_BLESS").is_some() {
            std::fs::write(path, reference()).expect("the reference can be written");
        }
        let kept = std::fs::read_to_string(path).expect("docs/ERRORS.md is part of the repository");
        assert!(kept == reference(), "write it anew: SNAPFOLD_BLESS=1 cargo test --lib http::codes");
    }

    #[test]
    fn a_code_is_listed_once_and_the_contract_is_complete() {
        for (at, code) in CODES.iter().enumerate() {
            assert!(CODES[at + 1..].iter().all(|other| other.code != code.code), "{} twice", code.code);
            assert!(!code.hint.ends_with('.') && !code.title.ends_with('.'), "{}", code.code);
        }
        let contract = "unknown-aggregate version-beyond-head before-first-event no-snapshot history-gone \
            history-incomplete erased bad-selector bad-body bad-version conflict state-mismatch \
            needed-by-increments too-much-work not-caught-up rebuilding quarantined legal-hold overloaded \
            dependency-down lineage-changed corrupt";
        for code in contract.split_whitespace().chain(crate::domain::poison::CODES) {
            assert!(page(code).is_some(), "{code}");
        }
        assert_eq!(page("no-such-code"), None);
    }

    /// Goal: no code without a page. Method: read the sources for what makes errors, poison and findings.
    #[test]
    fn every_code_that_the_sources_make_has_a_page() {
        let mut found = 0;
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("the sources are there") {
                let path = entry.expect("the sources are there").path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("tests.rs") {
                    found += check(&std::fs::read_to_string(&path).expect("a source is text"));
                }
            }
        }
        assert!(found > 20, "only {found} codes were found: the search is wrong");
    }

    fn check(source: &str) -> usize {
        let source = source.split("#[cfg(test)]").next().expect("a split has a first part");
        let made = ["Poison::new(", "Error::new(", "Problem::new(", "code: \""];
        let codes = made.iter().flat_map(|made| source.split(made).skip(1).map(|rest| (*made, rest)));
        let quoted = codes.filter_map(|(made, rest)| {
            let rest = if made.ends_with('"') { rest } else { rest.trim_start().strip_prefix(kind(rest))? };
            let rest = rest.trim_start().strip_prefix('"').unwrap_or(rest);
            rest.split('"').next()
        });
        let quoted = quoted.filter(|code| {
            !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        });
        quoted.map(|code| assert!(page(code).is_some(), "`{code}` has no page")).count()
    }

    /// The first argument of `Error::new`.
    fn kind(rest: &str) -> &str {
        let rest = rest.trim_start();
        if rest.starts_with("ErrorKind::") { rest.split_inclusive(',').next().unwrap_or("") } else { "" }
    }
}

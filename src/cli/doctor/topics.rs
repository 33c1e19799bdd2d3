//! What a topic is set to do with its records, against what the stream promises; whether it may be read;
//! whether it is still the one that was folded.
//!
//! The rules are functions of what was found, so that each is tested without a broker.

use crate::cli::checks::Check;
use crate::config::{Config, History, Stream};
use crate::domain::outcome::PortError;
use crate::kafka::probe::{self, Seen};
use crate::kafka::{ConsumerSettings, Topics};
use crate::store::lineages::Activation;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the question for settings may stay open: brokers that do not know it never answer.
const PATIENCE: Duration = Duration::from_secs(5);
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const BROKERS: &str = "check `kafka.brokers`, `kafka.properties`, and that the brokers are up";

pub(super) async fn all(
    settings: &ConsumerSettings,
    config: &Config,
    stream: &Stream,
    active: Result<&Option<Activation>, &String>,
) -> Vec<Check> {
    let (settings_of, topic) = (settings.clone(), stream.topic.clone());
    let looked = tokio::task::spawn_blocking(move || probe::look(&settings_of, &topic)).await;
    let name = |what: &str| format!("{}.{what}", stream.kind);
    let seen = match looked {
        Ok(Ok(Ok(seen))) => seen,
        Ok(Ok(Err(error))) => return vec![Check::fail(&name("topic"), error.to_string(), BROKERS)],
        Ok(Err(error)) => return vec![Check::fail(&name("topic"), error.detail, "see `kafka.properties`")],
        Err(error) => return vec![Check::fail(&name("topic"), error.to_string(), BROKERS)],
    };
    let mut checks = rights(stream, &seen);
    checks.extend(known(stream, &seen, active));
    let told = async { Topics::new(settings).map_err(|error| PortError::NotDone(error.detail)) };
    let told = async { told.await?.settings(&stream.topic).await };
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(told)) => checks.extend(set(stream, config.checkpoint.interval_ms, &told)),
        Ok(Err(error)) => checks.push(untold(stream, &error.to_string())),
        Err(_) => checks.push(untold(stream, "no answer in time")),
    }
    checks
}

fn untold(stream: &Stream, why: &str) -> Check {
    let hint = "grant DESCRIBE_CONFIGS on the topic, or look at retention and `cleanup.policy` yourself";
    Check::warn(&format!("{}.settings", stream.kind), format!("brokers do not tell them: {why}"), hint)
}

/// Whether topic and group may be used.
fn rights(stream: &Stream, seen: &Seen) -> Vec<Check> {
    let name = |what: &str| format!("{}.{what}", stream.kind);
    let records: i64 = seen.bounds.iter().map(|(start, end)| end.0 - start.0).sum();
    let read = match &seen.read {
        Ok(Some(())) => Check::ok(&name("topic"), format!("{records} records can be read")),
        Ok(None) => Check::warn(
            &name("topic"),
            "there are no records, so it is not known whether they could be read",
            "write one and look again",
        ),
        Err(error) => Check::fail(&name("topic"), error.to_string(), "grant READ and DESCRIBE on the topic"),
    };
    let group = match &seen.committed {
        Ok(count) => {
            let found = format!("offsets are committed for {count} of {} partitions", seen.partitions);
            Check::ok(&name("group"), found)
        }
        Err(error) => Check::fail(&name("group"), error.to_string(), "grant READ on the consumer group"),
    };
    vec![read, group]
}

/// Whether it is the topic, and the fold, that is noted in the blob store.
fn known(stream: &Stream, seen: &Seen, active: Result<&Option<Activation>, &String>) -> Vec<Check> {
    let name = |what: &str| format!("{}.{what}", stream.kind);
    let active = match active {
        Ok(Some(active)) => active,
        Ok(None) => return vec![Check::ok(&name("lineage"), "it has not been folded yet")],
        Err(why) => return vec![Check::fail(&name("lineage"), why, "see whether the blob store is whole")],
    };
    let lineage = if active.topic_id != seen.topic_id {
        let found = "the topic was deleted and created again";
        Check::fail(&name("lineage"), found, "restore it, or start with `--new-lineage`")
    } else if active.fingerprint != stream.fingerprint() {
        let found = format!("lineage {} was folded with another reducer or mapping", active.lineage);
        Check::fail(&name("lineage"), found, "use that one, or start with `--new-lineage`")
    } else {
        Check::ok(&name("lineage"), format!("lineage {}, the same reducer and mapping", active.lineage))
    };
    let partitions = match active.partitions {
        Some(noted) if noted != seen.partitions => Check::fail(
            &name("partitions"),
            format!("the topic has {}, {noted} are noted", seen.partitions),
            "see `partitions-changed` in docs/ERRORS.md",
        ),
        _ => Check::ok(&name("partitions"), format!("{}, as noted", seen.partitions)),
    };
    vec![lineage, partitions]
}

/// What the topic is set to.
fn set(stream: &Stream, checkpoint_ms: u64, told: &BTreeMap<String, String>) -> Vec<Check> {
    vec![
        compaction(stream, told),
        retention(stream, checkpoint_ms, told),
        timestamps(stream, told),
        sizes(stream, told),
    ]
}

fn number(told: &BTreeMap<String, String>, name: &str) -> Option<i64> {
    told.get(name).and_then(|text| text.parse().ok())
}

fn compaction(stream: &Stream, told: &BTreeMap<String, String>) -> Check {
    let name = format!("{}.compaction", stream.kind);
    let policy = told.get("cleanup.policy").map_or("", String::as_str);
    match policy.split(',').any(|one| one.trim() == "compact") {
        true => Check::fail(
            &name,
            format!("`cleanup.policy={policy}`: Kafka deletes older events of each key"),
            "set `cleanup.policy=delete`: no worker starts on it otherwise",
        ),
        false => Check::ok(&name, format!("`cleanup.policy={policy}`")),
    }
}

fn days(ms: u64) -> String {
    match ms {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= 2 * HOUR_MS => format!("{} hours", ms / HOUR_MS),
        ms => format!("{} s", ms / 1_000),
    }
}

/// How long the topic keeps events, against how long they may be needed from there: until they are covered,
/// and where only states are kept for as long as history is promised.
fn retention(stream: &Stream, checkpoint_ms: u64, told: &BTreeMap<String, String>) -> Check {
    let name = format!("{}.retention", stream.kind);
    let time = number(told, "retention.ms").and_then(|ms| u64::try_from(ms).ok());
    let size = number(told, "retention.bytes").filter(|bytes| *bytes >= 0);
    let are_events_kept = stream.strategy.keeps_events();
    let kept = if are_events_kept { "packs keep the events" } else { "only states are kept" };
    let promised = match stream.history {
        History::Forever => "for ever".to_owned(),
        History::Ms(ms) => days(ms),
        History::Snapshots => "in snapshots".to_owned(),
    };
    let promise_ms = match (are_events_kept, stream.history) {
        (true, _) | (_, History::Snapshots) => 0,
        (false, History::Forever) => u64::MAX,
        (false, History::Ms(ms)) => ms,
    };
    let found = time.map_or("the topic keeps them for ever".to_owned(), |ms| {
        format!("the topic keeps them {}", days(ms))
    });
    // A worker that is down at night must not lose what came in the evening.
    let least = checkpoint_ms.saturating_mul(60).max(HOUR_MS);
    match (time, size) {
        (Some(ms), _) if ms < promise_ms => Check::fail(
            &name,
            format!("{found}, history is promised {promised}, and {kept}"),
            "raise `retention.ms`, or set `snapshot.strategy: incremental`",
        ),
        (Some(ms), _) if ms < least => Check::fail(
            &name,
            format!("{found}: what no worker has folded by then is lost for good"),
            "raise `retention.ms` to a week: longer than workers may be down",
        ),
        (_, Some(bytes)) => Check::warn(
            &name,
            format!("`retention.bytes={bytes}`: however fast events come, older ones go"),
            "set `retention.bytes=-1`, or make sure that it holds more than a day",
        ),
        (Some(ms), _) if ms < DAY_MS => Check::warn(
            &name,
            format!("{found}: workers must not be down for longer"),
            "raise `retention.ms` to a week",
        ),
        (Some(ms), _) if !are_events_kept => Check::warn(
            &name,
            format!("versions between snapshots can be had for {} only: {kept}", days(ms)),
            "set `snapshot.strategy: incremental` and `history: forever` to keep every version",
        ),
        _ => Check::ok(&name, format!("{found}; history is kept {promised}: {kept}")),
    }
}

fn timestamps(stream: &Stream, told: &BTreeMap<String, String>) -> Check {
    let name = format!("{}.timestamps", stream.kind);
    let kind = told.get("message.timestamp.type").map_or("", String::as_str);
    match (kind, stream.mapping.time.is_empty()) {
        ("LogAppendTime", true) => Check::warn(
            &name,
            "`LogAppendTime`, and no `map.time`: an event's time is when a broker took it",
            "map the time that events carry; and a mirrored topic has other times, so its chain differs",
        ),
        ("LogAppendTime", false) => Check::warn(
            &name,
            "`LogAppendTime`: a mirrored topic has other record times, so its chain differs",
            "set `message.timestamp.type=CreateTime` before the first event that is to be proven",
        ),
        (_, true) => Check::ok(&name, format!("`{kind}`: times are those that producers give records")),
        (_, false) => Check::ok(&name, format!("`{kind}`; times are mapped from events")),
    }
}

fn sizes(stream: &Stream, told: &BTreeMap<String, String>) -> Check {
    let name = format!("{}.sizes", stream.kind);
    let largest = number(told, "max.message.bytes").and_then(|bytes| u64::try_from(bytes).ok());
    let limit = stream.event_limits.max_bytes as u64;
    match largest.filter(|largest| *largest > limit + (64 << 10)) {
        Some(largest) => Check::warn(
            &name,
            format!("the topic takes records of {largest} bytes, `limits.maxEventBytes` is {limit}"),
            "raise `limits.maxEventBytes`: larger events are poison",
        ),
        None => Check::ok(&name, format!("events may have {limit} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::checks::Came;
    use crate::cli::source::load_text;
    use crate::domain::ids::{Digest, Lineage, Offset};
    use crate::store::lineages::Role;

    fn stream(more: &str) -> Stream {
        let text = format!(
            "index: {{ embedded: {{ path: i }} }}\nblobs: {{ directory: {{ path: b }} }}\n\
             streams: [ {{ type: a, topic: a, map: {{ aggregateId: key, eventType: /t }}, reducer: merge{more} }} ]\n"
        );
        load_text("f.yaml", &text, &[]).map_err(|failure| failure.message).unwrap().streams.remove(0)
    }

    fn told(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn retention_must_outlast_workers_and_where_only_states_are_kept_it_bounds_history() {
        let came = |more: &str, ms: &str, bytes: &str| {
            retention(&stream(more), 10_000, &told(&[("retention.ms", ms), ("retention.bytes", bytes)])).came
        };
        assert_eq!(came("", "604800000", "-1"), Came::Ok);
        assert_eq!(came("", "-1", "-1"), Came::Ok);
        assert_eq!(came("", "80000000", "-1"), Came::Warn, "less than a day");
        assert_eq!(came("", "60000", "-1"), Came::Fail, "a minute");
        assert_eq!(came("", "-1", "1000000"), Came::Warn, "by size");
        let full = ", history: snapshots, snapshot: { strategy: full }";
        assert_eq!(came(full, "604800000", "-1"), Came::Warn);
        assert_eq!(came(full, "-1", "-1"), Came::Ok);
    }

    #[test]
    fn compaction_times_and_sizes_are_judged() {
        let compact = |policy| compaction(&stream(""), &told(&[("cleanup.policy", policy)])).came;
        assert_eq!((compact("delete"), compact("compact, delete")), (Came::Ok, Came::Fail));
        let times = |kind| timestamps(&stream(""), &told(&[("message.timestamp.type", kind)])).came;
        assert_eq!((times("CreateTime"), times("LogAppendTime")), (Came::Ok, Came::Warn));
        let size = |bytes| sizes(&stream(""), &told(&[("max.message.bytes", bytes)])).came;
        assert_eq!((size("1048588"), size("10000000")), (Came::Ok, Came::Warn));
    }

    #[test]
    fn another_topic_fold_or_number_of_partitions_than_noted_is_a_failure() {
        let stream = stream("");
        let seen = Seen {
            partitions: 4,
            topic_id: 7,
            bounds: vec![(Offset(0), Offset(9))],
            read: Ok(Some(())),
            committed: Ok(4),
        };
        let noted = Activation {
            topic: "a".into(),
            topic_id: 7,
            fingerprint: stream.fingerprint(),
            lineage: Lineage(1),
            partitions: Some(4),
            mapping: None,
            role: Role::Active,
        };
        let came = |active: Option<Activation>| -> Vec<Came> {
            known(&stream, &seen, Ok(&active)).into_iter().map(|check| check.came).collect()
        };
        assert_eq!(came(None), [Came::Ok]);
        assert_eq!(came(Some(noted.clone())), [Came::Ok, Came::Ok]);
        assert_eq!(came(Some(Activation { topic_id: 8, ..noted.clone() })), [Came::Fail, Came::Ok]);
        assert_eq!(
            came(Some(Activation { fingerprint: Digest([1; 32]), ..noted.clone() })),
            [Came::Fail, Came::Ok]
        );
        assert_eq!(came(Some(Activation { partitions: Some(2), ..noted })), [Came::Ok, Came::Fail]);
        let refused = Seen { read: Err(PortError::Permanent("no".into())), ..seen.clone() };
        assert_eq!(rights(&stream, &refused)[0].came, Came::Fail);
        let refused = Seen { committed: Err(PortError::Permanent("no".into())), ..seen };
        assert_eq!(rights(&stream, &refused)[1].came, Came::Fail);
    }
}

//! Answers of the API against the ledger: every field that says what an aggregate was.

use crate::ledger::place::as_time;
use crate::ledger::{Expected, Ledger, Map, OnPoison, Record, Selector, Spec, Versions};
use crate::process::{Api, Reply};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};

/// Clients that ask at the same time.
const CLIENTS: usize = 3;

/// One list of places.
pub(crate) fn places(list: &[&str]) -> Vec<String> {
    list.iter().map(|place| (*place).to_owned()).collect()
}

/// The stream that config/compat.yaml and config/fines.yaml describe; their mappings are the same.
pub(crate) fn bundled_spec(kind: &str, config: &str) -> Spec {
    Spec {
        kind: kind.to_owned(),
        map: Map {
            aggregate_id: places(&["key", "/aggregateId"]),
            event_type: places(&["/type"]),
            version: places(&["/version"]),
            event_id: places(&["/id"]),
            time: places(&["/timestamp"]),
            data: places(&["/data"]),
        },
        versions: Versions::Given { base: 1 },
        reducer_yaml: reducer(config),
        on_poison: OnPoison::Quarantine,
        max_event_bytes: 1 << 20,
        max_state_bytes: 16 << 20,
        max_depth: 128,
    }
}

/// The text of `reducer` in a configuration of one stream.
pub(crate) fn reducer(config: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = config.lines().skip_while(|line| !line.trim_start().starts_with("reducer:"));
    let first = lines.next().expect("the stream has a reducer");
    let inline = first.trim_start().trim_start_matches("reducer:").split(" #").next().unwrap_or("").trim();
    if !inline.is_empty() {
        return inline.to_owned();
    }
    let of = |line: &&str| line.trim().is_empty() || indent(line) > indent(first);
    lines.take_while(of).collect::<Vec<_>>().join("\n")
}

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of a compressed file.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A file of the data folder, or nothing, said aloud.
pub(crate) fn real(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("SNAPFOLD_DATA").map(PathBuf::from);
    let path = given.unwrap_or_else(|| repository("../shared/data")).join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: `{name}` is not there; SNAPFOLD_DATA names the folder");
    None
}

/// Whether everything is asked.
pub(crate) fn is_full() -> bool {
    std::env::var("SNAPFOLD_TEST_FULL").is_ok_and(|value| value == "1")
}

/// The aggregate of a line of the bundled kind.
pub(crate) fn id_of(line: &str) -> &str {
    let from = line.find("\"aggregateId\":\"").expect("every line has an id") + 15;
    line[from..].split('"').next().expect("a split has a first part")
}

/// When the event of a line happened.
pub(crate) fn time_of(line: &str) -> i64 {
    let from = line.find("\"timestamp\":\"").expect("every line has a time") + 13;
    let text = line[from..].split('"').next().expect("a split has a first part");
    as_time(&Value::String(text.to_owned())).expect("a time")
}

/// A record as `dev` writes a line: the id is the key, the event's time the record's.
pub(crate) fn record(offset: usize, line: &str) -> Record {
    Record {
        partition: 0,
        offset: i64::try_from(offset).unwrap(),
        record_time_ms: time_of(line),
        key: Some(id_of(line).as_bytes().to_vec()),
        value: Some(line.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// One question and its only right answer.
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) selector: Selector,
    pub(crate) expected: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    aggregate_id: String,
    version: u64,
    head_version: Option<u64>,
    deleted: bool,
    timestamp: String,
    state_digest: Option<String>,
    chain: String,
    last_event: LastEvent,
    quarantined: Option<Mark>,
    #[serde(borrow)]
    state: &'a RawValue,
}

#[derive(Deserialize)]
struct LastEvent {
    r#type: String,
    id: Option<String>,
}

#[derive(Deserialize)]
struct Mark {
    code: String,
    version: u64,
    offset: i64,
}

/// What the ledger calls the reasons of the product, which tells some of them apart.
pub(crate) fn reason(code: &str) -> &str {
    match code {
        "no-aggregate-id" | "bad-aggregate-id" | "no-key-and-value" => "no-aggregate",
        "bad-json" => "undecodable",
        "no-event-type" => "bad-type",
        code if code.starts_with("reducer-") => "reducer",
        code => code,
    }
}

/// An id as a part of a path.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Question {
    pub(crate) fn of(ledger: &Ledger, id: &str, selector: Selector) -> Self {
        Self { id: id.to_owned(), selector, expected: ledger.expect(id, selector) }
    }

    pub(crate) fn path(&self, kind: &str) -> String {
        let selector = match self.selector {
            Selector::Head => String::new(),
            Selector::Version(version) => format!("?version={version}"),
            Selector::At(ms) => format!("?at={ms}"),
            Selector::Offset(partition, offset) => format!("?offset={partition}:{offset}"),
        };
        format!("/v1/aggregates/{kind}/{}/state{selector}", encoded(&self.id))
    }

    /// What is wrong with an answer; `is_growing` while events are under way, so that heads may lag behind.
    pub(crate) fn judge(&self, reply: &Reply, is_growing: bool) -> Result<(), String> {
        match (&self.expected, reply.status) {
            (Expected::State(_), 200) => self.judge_state(&reply.body, is_growing),
            (Expected::NoGoodVersion(mark), 200) => {
                let body = reply.json();
                let told = &body["quarantined"];
                let is_right = body["version"] == 0
                    && told["code"].as_str().map(reason) == Some(mark.code)
                    && told["offset"] == mark.offset;
                is_right.then_some(()).ok_or_else(|| format!("{body} instead of {mark:?}"))
            }
            (Expected::State(_), status) => Err(format!("status {status}: {}", reply.body)),
            (expected, status) => {
                let (wanted, code) = match expected {
                    Expected::Unknown => (404, "unknown-aggregate"),
                    Expected::BeyondHead { .. } => (404, "version-beyond-head"),
                    Expected::BeforeFirst { .. } => (404, "before-first-event"),
                    Expected::NoGoodVersion(mark) => (404, mark.code),
                    _ => (422, "bad-selector"),
                };
                let body = reply.json();
                let mut is_right = status == wanted && body["code"] == code;
                if let Expected::BeyondHead { head } = expected {
                    is_right &= body["headVersion"] == *head;
                }
                if let Expected::BeforeFirst { first_time_ms } = expected {
                    is_right &= as_time(&body["firstTime"]) == Some(*first_time_ms);
                }
                is_right.then_some(()).ok_or_else(|| format!("{status} {body} instead of {wanted} {code}"))
            }
        }
    }

    fn judge_state(&self, body: &str, is_growing: bool) -> Result<(), String> {
        let Expected::State(answer) = &self.expected else { return Err("a state".to_owned()) };
        let shown: Shown<'_> = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        let mut wrong = Vec::new();
        let mut same = |what: &str, is: &dyn std::fmt::Debug, should: &dyn std::fmt::Debug| {
            let (is, should) = (format!("{is:?}"), format!("{should:?}"));
            if is != should {
                wrong.push(format!("{what} {is:.300} instead of {should:.300}"));
            }
        };
        same("id", &shown.aggregate_id, &self.id);
        same("version", &shown.version, &answer.version);
        same("deleted", &shown.deleted, &answer.deleted);
        let time = as_time(&Value::String(shown.timestamp.clone()));
        same("time", &time, &Some(answer.effective_time_ms));
        // What there is not has no digest.
        let digest = (!answer.deleted).then(|| format!("sha256:{}", answer.state_digest));
        same("state digest", &shown.state_digest, &digest);
        same("chain", &shown.chain, &format!("sha256:{}", answer.chain));
        same("event type", &shown.last_event.r#type, &answer.last_event_type.as_deref().unwrap_or(""));
        same("event id", &shown.last_event.id, &answer.last_event_id);
        same("state", &shown.state.get(), &answer.state_text);
        if is_growing {
            same(
                "head within bounds",
                &shown.head_version.is_none_or(|head| head <= answer.head_version),
                &true,
            );
        } else {
            same("head version", &shown.head_version, &Some(answer.head_version));
            // Only the newest version carries the mark: the earlier ones are what they always were.
            let should = answer.quarantined.as_ref().filter(|_| answer.version == answer.head_version);
            let mark =
                shown.quarantined.map(|mark| (mark.version, mark.offset, reason(&mark.code).to_owned()));
            same("quarantine", &mark, &should.map(|mark| (mark.version, mark.offset, mark.code.to_owned())));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// What was asked, and everything that was wrong.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) asked: u64,
    pub(crate) wrong: Vec<String>,
}

impl Outcome {
    pub(crate) fn must_be_right(&self, what: &str) {
        let shown: Vec<&str> = self.wrong.iter().take(10).map(String::as_str).collect();
        assert!(self.wrong.is_empty(), "{what}: {} of {} wrong: {shown:#?}", self.wrong.len(), self.asked);
        assert!(self.asked > 0, "{what}: nothing was asked");
    }
}

/// Asks through several connections and judges each answer with `judge`.
pub(crate) fn ask(
    url: &str,
    kind: &str,
    questions: impl Iterator<Item = Question>,
    judge: impl Fn(&Question, Result<Reply, String>) -> Result<(), String> + Sync,
) -> Outcome {
    let (sender, receiver) = mpsc::sync_channel::<Question>(64);
    let (receiver, outcome) = (Mutex::new(receiver), Mutex::new(Outcome::default()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let api = Api::new(url);
                loop {
                    let Ok(question) = receiver.lock().unwrap().recv() else { return };
                    let path = question.path(kind);
                    let judged = judge(&question, api.get(&path));
                    let mut outcome = outcome.lock().unwrap();
                    outcome.asked += 1;
                    outcome.wrong.extend(judged.err().map(|why| format!("{path}: {why}")));
                }
            });
        }
        questions.for_each(|question| sender.send(question).unwrap());
        drop(sender);
    });
    outcome.into_inner().unwrap()
}

/// Asks where nothing moves: every answer must be the ledger's.
pub(crate) fn ask_settled(url: &str, kind: &str, questions: impl Iterator<Item = Question>) -> Outcome {
    ask(url, kind, questions, |question, reply| question.judge(&reply?, false))
}

/// Every version, the head, one version too many, and times just before, at and after events: of all, or of
/// so many of each aggregate.
pub(crate) fn questions<'a>(
    ledger: &'a Ledger,
    ids: &'a [&'a str],
    times_max: usize,
) -> impl Iterator<Item = Question> + 'a {
    ids.iter().flat_map(move |id| {
        let head = ledger.head(id);
        let times = ledger.boundary_times(id);
        let step = times.len().div_ceil(times_max).max(1);
        let at = (0..times.len()).step_by(step).map(|nth| Selector::At(times[nth])).collect::<Vec<_>>();
        let versions = (1..=head + 1).map(Selector::Version);
        let all = std::iter::once(Selector::Head).chain(versions).chain(at);
        all.map(move |selector| Question::of(ledger, id, selector))
    })
}

/// How many of each source answered, for the record.
pub(crate) fn sources(url: &str, kind: &str, ids: &[&str]) -> BTreeMap<String, u64> {
    let api = Api::new(url);
    let mut sources = BTreeMap::new();
    for id in ids.iter().step_by((ids.len() / 200).max(1)) {
        let reply = api.get(&format!("/v1/aggregates/{kind}/{}/state?version=1", encoded(id))).unwrap();
        *sources.entry(reply.json()["source"].to_string()).or_default() += 1;
    }
    sources
}

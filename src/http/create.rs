//! `POST …/snapshots`: one snapshot on demand.
//!
//! *Order*: a state that was given is compared before anything is written.

use super::notes::Note;
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Shared, body, encode, json};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{PartitionNo, Version};
use crate::domain::patch;
use crate::domain::value::{Limits, Value};
use crate::lookup::owners::{Owners, Wanted};
use crate::lookup::{Asked, Freshness, Lookup, Made, Refusal, Selector, Which};
use crate::worker::Handle;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{StreamExt, iter};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The route, also of the list of snapshots.
pub(super) const ROUTE: &str = "/v1/aggregates/{type}/{id}/snapshots";
/// Bytes of the longest body: a state of 16 MiB, which is the most that is folded by default.
pub(super) const BODY_BYTES_MAX: usize = 17 << 20;
/// Bytes of the longest difference that is shown.
const DIFFERENCE_BYTES_MAX: usize = 64 << 10;
/// Snapshots that one request of the API has in work at the same time.
pub(super) const AT_ONCE: usize = 512;
/// How long one snapshot may take, the same as where another worker is asked for it.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Snapshots that are asked of another worker at once.
const ELSEWHERE_MAX: usize = 256;

/// What a body asks for.
#[derive(Debug, Default, PartialEq)]
struct Request {
    version: Option<Version>,
    state: Option<Value>,
    note: Note,
}

impl Request {
    /// Nothing is a snapshot of the head.
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut request = Self::default();
        if bytes.trim_ascii().is_empty() {
            return Ok(request);
        }
        for (name, value) in members(bytes)? {
            match &*name {
                "version" => request.version = Some(version_of(&value)?),
                "state" => request.state = Some(value),
                other if request.note.take(other, &value)? => {}
                other => {
                    return Err(unknown_member(other, &["version", "state", "label", "pinned", "reason"]));
                }
            }
        }
        Ok(request)
    }
}

/// The members of a body, their numbers as they were written.
pub(super) fn members(bytes: &[u8]) -> Result<Vec<(String, Value)>, Problem> {
    const LIMITS: Limits =
        Limits { max_bytes: BODY_BYTES_MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let value = Value::parse(bytes, &LIMITS)
        .map_err(|error| Problem::new("bad-body", format!("the body is no JSON: {error}")))?;
    let Value::Object(object) = value else {
        return Err(Problem::new("bad-body", "the body is no JSON object"));
    };
    Ok(object.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
}

pub(super) fn version_of(value: &Value) -> Result<Version, Problem> {
    let version = value.as_number().and_then(|number| query::version(&number.to_string()));
    version.ok_or_else(|| Problem::new("bad-body", "`version` is a whole number from 1 on"))
}

pub(super) fn unknown_member(name: &str, known: &[&str]) -> Problem {
    let detail = format!("the body has the unknown member `{}`", query::shown(name));
    Problem::new("bad-body", detail).hint(format!("it may have {}", query::named(known)))
}

pub(super) async fn post(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let target = path.target(&shared)?;
    let request = Request::parse(&body::bytes(sent, BODY_BYTES_MAX).await?)?;
    let version = match &request.state {
        Some(given) => Some(agree(&target, request.version, given).await?),
        None => request.version,
    };
    let maker = Maker::of(&shared, &target.kind, &target.lookup)?;
    let made = maker.one(&target.id, version).await?;
    let (mut meta, found) = target.lookup.snapshot(&target.id, Which::Version(made.version)).await?;
    request.note.keep(&target.lookup, &mut meta).await?;
    let state = encode::shown(&found.aggregate)?;
    let body = json::object(|body| encode::snapshot(body, &meta, Some((&found.aggregate, &state))));
    let status = if made.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, super::answer(body)).into_response();
    let place = format!("{}/{}", uri.path().trim_end_matches('/'), made.version);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// The version whose fold is the state that was given.
async fn agree(target: &Target, version: Option<Version>, given: &Value) -> Result<Version, Problem> {
    const LIMITS: Limits =
        Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let selector = version.map_or(Selector::Head, Selector::Version);
    let found = target.lookup.state(&target.id, selector, Freshness::default()).await?;
    let version = found.aggregate.version;
    let folded = match found.aggregate.state.to_json() {
        None => Value::Null,
        Some(text) => {
            let value = Value::parse(&text, &LIMITS);
            value.map_err(|error| Error::corrupt(format!("read a state: {error}")))?
        }
    };
    if folded.digest() == given.digest() {
        return Ok(version);
    }
    Err(mismatch(version, &folded, given))
}

fn mismatch(version: Version, folded: &Value, given: &Value) -> Problem {
    let patch = patch::diff(folded, given).to_value().to_json().into_bytes();
    let detail = format!("the events up to version {version} do not fold to the state that was given");
    let problem = Problem::new("state-mismatch", detail);
    match patch.len() {
        0..=DIFFERENCE_BYTES_MAX => problem
            .hint("`difference` leads from the fold to the state that was given; numbers count as written")
            .difference(patch),
        _ => problem.hint(
            "the difference is too long to be shown: compare with `GET …/state?version=N`; numbers count as written",
        ),
    }
}

/// Takes snapshots of one stream, wherever its partitions are folded.
#[derive(Clone)]
pub(super) struct Maker {
    own: Handle,
    owners: Arc<Owners>,
    lookup: Arc<Lookup>,
}

/// Where a snapshot has to be taken, or what became of it.
enum Step {
    Done(Asked<Made>),
    Elsewhere(PartitionNo),
}

impl Maker {
    pub(super) fn of(shared: &Shared, kind: &Arc<str>, lookup: &Arc<Lookup>) -> Result<Self, Problem> {
        let (own, owners) = (shared.app.workers.get(kind), shared.app.owners.get(kind));
        let Some((own, owners)) = own.zip(owners) else {
            return Err(Problem::new("internal", "a stream has no worker"));
        };
        Ok(Self { own: own.clone(), owners: Arc::clone(owners), lookup: Arc::clone(lookup) })
    }

    /// The worker of this process.
    pub(super) fn own(&self) -> &Handle {
        &self.own
    }

    /// Who folds the partitions that it does not.
    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// One snapshot.
    pub(super) async fn one(&self, id: &str, version: Option<Version>) -> Asked<Made> {
        let wanted = Wanted { id: id.to_owned(), version: version.map(|version| version.0) };
        let made = self.all(vec![wanted]).await.pop();
        made.unwrap_or(Err(Refusal::UnknownAggregate))
    }

    /// Many snapshots, beside each other; what became of each, in order.
    pub(super) async fn all(&self, wanted: Vec<Wanted>) -> Vec<Asked<Made>> {
        let steps = iter(wanted.clone()).map(|wanted| self.clone().here(wanted)).buffered(AT_ONCE);
        let steps: Vec<Step> = steps.collect().await;
        let mut outcomes: Vec<Option<Asked<Made>>> = Vec::with_capacity(steps.len());
        let mut elsewhere: BTreeMap<PartitionNo, Vec<usize>> = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            outcomes.push(match step {
                Step::Done(outcome) => Some(outcome),
                Step::Elsewhere(partition) => {
                    elsewhere.entry(partition).or_default().push(at);
                    None
                }
            });
        }
        let parts = elsewhere.into_iter().flat_map(|(partition, places)| {
            let parts: Vec<(PartitionNo, Vec<usize>)> =
                places.chunks(ELSEWHERE_MAX).map(|part| (partition, part.to_vec())).collect();
            parts
        });
        let asked = iter(parts).map(|(partition, places)| {
            let part: Vec<Wanted> = places.iter().map(|at| wanted[*at].clone()).collect();
            async move { (places, partition, self.owners.take_elsewhere(partition, &part).await) }
        });
        let answers: Vec<_> = asked.buffer_unordered(4).collect().await;
        for (places, partition, answer) in answers {
            let answer = answer.unwrap_or_else(|| vec![Err(unowned(partition)); places.len()]);
            for (at, outcome) in places.into_iter().zip(answer) {
                outcomes[at] = Some(outcome);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Refusal::UnknownAggregate))).collect()
    }

    /// Takes a snapshot if the partition is folded here.
    async fn here(self, wanted: Wanted) -> Step {
        let partition = match self.lookup.place(&wanted.id).await {
            Ok(Some(partition)) => partition,
            Ok(None) => return Step::Done(Err(Refusal::UnknownAggregate)),
            Err(refusal) => return Step::Done(Err(refusal)),
        };
        let version = wanted.version.map(Version);
        let creating = self.lookup.create(&self.own, partition, &wanted.id, version);
        let created = tokio::time::timeout(TAKE_TIMEOUT, creating).await.unwrap_or_else(|_| {
            let detail = "the snapshot was not acknowledged in time; it may still be written";
            Err(Refusal::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail)))
        });
        match created {
            Ok(Some(made)) => Step::Done(Ok(made)),
            Ok(None) => Step::Elsewhere(partition),
            Err(refusal) => Step::Done(Err(refusal)),
        }
    }
}

fn unowned(partition: PartitionNo) -> Refusal {
    let detail = format!("no worker that could be reached folds partition {partition} now");
    Refusal::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_name_a_version_and_a_state_whose_numbers_stay_as_written() {
        assert_eq!(Request::parse(b" ").unwrap(), Request::default());
        assert_eq!(Request::parse(b"{}").unwrap(), Request::default());
        let request = Request::parse(br#"{"version":7,"state":{"total":1.10}}"#).unwrap();
        assert_eq!(request.version, Some(Version(7)));
        assert_eq!(request.state.unwrap().to_json(), r#"{"total":1.10}"#);
        assert_eq!(Request::parse(br#"{"state":null}"#).unwrap().state, Some(Value::Null));
        for wrong in
            ["[]", "{", r#"{"version":0}"#, r#"{"version":1.5}"#, r#"{"version":"1"}"#, r#"{"verison":1}"#]
        {
            assert_eq!(Request::parse(wrong.as_bytes()).unwrap_err().code, "bad-body", "{wrong}");
        }
    }

    #[test]
    fn a_difference_is_shown_while_it_is_short() {
        let value = |text: &str| Value::parse(text.as_bytes(), &Limits::default()).unwrap();
        let short = mismatch(Version(3), &value(r#"{"a":1.10}"#), &value(r#"{"a":1.1}"#));
        let body: serde_json::Value = serde_json::from_slice(&short.body("/v1/x")).unwrap();
        assert_eq!(body["difference"][0]["path"], "/a");
        let long = value(&format!(r#"{{"a":"{}"}}"#, "x".repeat(DIFFERENCE_BYTES_MAX)));
        let long = mismatch(Version(3), &value("{}"), &long);
        let body: serde_json::Value = serde_json::from_slice(&long.body("/v1/x")).unwrap();
        assert_eq!((body.get("difference"), &body["code"]), (None, &"state-mismatch".into()));
    }
}

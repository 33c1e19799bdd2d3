//! Answers that are none: `application/problem+json` (RFC 9457) out of refusals and faults.
//!
//! A handler returns a [`Problem`]; the edge writes it out, because only the edge knows the request's path.
//! Which status a code has, and what to do about it, is the table of [`codes`](super::codes).

use super::codes::{self, Code};
use super::json::{self, Object};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{Offset, PartitionNo, Timestamp, Version};
use crate::lookup::Refusal;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Where the codes are described, from the root of the repository.
const PAGES: &str = "docs/ERRORS.md";

/// What a refusal says besides its code.
#[derive(Clone, Debug, Default, PartialEq)]
struct Extras {
    head_version: Option<Version>,
    earliest_version: Option<Version>,
    first_time: Option<Timestamp>,
    position: Option<(PartitionNo, Offset)>,
    events: Option<(u64, u64)>,
    /// A JSON patch from the state that is to the one that was given.
    difference: Option<Vec<u8>>,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    detail: String,
    hint: Option<String>,
    extras: Box<Extras>,
}

impl Problem {
    /// A problem with a code of the table and what happened, in one lowercase sentence without a full stop.
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let status = codes::find(code).and_then(|known| known.status).unwrap_or(500);
        let status = StatusCode::from_u16(status).expect("the statuses of the table are valid");
        Self { code, status, detail: detail.into(), hint: None, extras: Box::default() }
    }

    /// A parameter, or a part of the path, that cannot be understood, and how to write it.
    pub(super) fn selector(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new("bad-selector", detail).hint(hint)
    }

    /// The same problem with a better hint than that of its code.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same problem with a JSON patch that tells how a state that was given differs.
    #[must_use]
    pub(super) fn difference(mut self, patch: Vec<u8>) -> Self {
        self.extras.difference = Some(patch);
        self
    }

    /// What goes into a log line: never the detail of a problem that the request itself made.
    pub(super) fn log(&self, route: &str, request: &str) {
        let status = self.status.as_u16();
        if self.status.is_server_error() {
            tracing::warn!(status, code = self.code, route, request, detail = self.detail, "request failed");
        }
    }

    fn known(&self) -> &'static Code {
        codes::find(self.code).unwrap_or_else(|| codes::find("internal").expect("it is in the table"))
    }

    /// The same question may be answered later.
    pub(super) fn is_retryable(&self) -> bool {
        self.known().is_retryable()
    }

    /// The body.
    pub(super) fn body(&self, instance: &str) -> Vec<u8> {
        let known = self.known();
        json::object(|body| {
            body.text("type", &format!("{PAGES}#{}", known.code)).text("title", known.title);
            body.number("status", self.status.as_u16()).text("code", self.code);
            body.text("detail", &self.detail).text("hint", self.hint.as_deref().unwrap_or(known.hint));
            body.flag("retryable", known.is_retryable()).text("instance", instance);
            self.extras.write(body);
        })
    }
}

impl Extras {
    fn write(&self, body: &mut Object<'_>) {
        if let Some(version) = self.head_version {
            body.number("headVersion", version);
        }
        if let Some(version) = self.earliest_version {
            body.number("earliestVersion", version);
        }
        if let Some(time) = self.first_time {
            body.time("firstTime", time);
        }
        if let Some((partition, offset)) = self.position {
            body.object("position", |at| {
                at.number("partition", partition).number("offset", offset);
            });
        }
        if let Some((events, max)) = self.events {
            body.number("events", events).number("max", max);
        }
        if let Some(difference) = &self.difference {
            body.raw("difference", difference);
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.known().is_retryable() {
            let seconds = if self.code == "rebuilding" { "10" } else { "1" };
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let answers = codes::find(error.code).is_some_and(|known| known.status.is_some());
        let code = match error.kind {
            _ if answers => error.code,
            ErrorKind::Invalid => "bad-selector",
            ErrorKind::NotFound => "unknown-aggregate",
            ErrorKind::Gone => "history-gone",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unavailable => "dependency-down",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Internal => "internal",
        };
        Self::new(code, error.detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let with =
            |code, detail: String, extras| Self { extras: Box::new(extras), ..Self::new(code, detail) };
        let none = Extras::default();
        match refusal {
            Refusal::UnknownAggregate => {
                Self::new("unknown-aggregate", "no event of this aggregate is known")
            }
            // Versions start at 1, so there is none to point to.
            Refusal::VersionBeyondHead { head: Version(0) } => {
                Self::new("version-beyond-head", "the aggregate was quarantined before its first version")
                    .hint("`GET …/state` says under `quarantined` where it stands still and why")
            }
            Refusal::VersionBeyondHead { head } => {
                let extras = Extras { head_version: Some(head), ..none };
                with("version-beyond-head", format!("the newest version is {head}"), extras)
            }
            Refusal::BeforeFirstEvent { first_time } => {
                let extras = Extras { first_time: Some(first_time), ..none };
                with("before-first-event", "the aggregate has no event so early".to_owned(), extras)
            }
            Refusal::NoSnapshot => Self::new("no-snapshot", "no such snapshot is stored"),
            Refusal::HistoryGone { earliest } => {
                let extras = Extras { earliest_version: earliest, ..none };
                with("history-gone", "what it was folded from is no longer there".to_owned(), extras)
            }
            Refusal::NotCaughtUp { head, position } => {
                let extras = Extras { head_version: head, position, ..none };
                with("not-caught-up", "what is asked for has not been folded yet".to_owned(), extras)
            }
            Refusal::WrongPartition { partition } => {
                let detail =
                    format!("the aggregate lives in partition {partition}, `offset` names another one");
                Self::selector(detail, format!("write `offset={partition}:OFFSET`"))
            }
            Refusal::TooMuchWork { events, max } => {
                let extras = Extras { events: Some((events, max)), ..none };
                let detail = format!("at least {events} events would have to be read, {max} may be");
                with("too-much-work", detail, extras)
            }
            Refusal::Failed(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(problem: &Problem) -> serde_json::Value {
        serde_json::from_slice(&problem.body("/v1/x")).expect("a problem is JSON")
    }

    #[test]
    fn an_erasure_is_told_as_one() {
        let erased = Error::new(ErrorKind::Gone, "erased", "it was erased");
        let problem = Problem::from(Refusal::from(erased));
        assert_eq!((problem.status.as_u16(), problem.code), (410, "erased"));
    }

    #[test]
    fn refusals_have_their_status_and_say_what_they_know() {
        let version = Version(41);
        let at = (PartitionNo(4), Offset(18_231));
        let cases = [
            (Refusal::UnknownAggregate, 404, "unknown-aggregate", "instance", "/v1/x".into()),
            (
                Refusal::VersionBeyondHead { head: version },
                404,
                "version-beyond-head",
                "headVersion",
                41.into(),
            ),
            (
                Refusal::BeforeFirstEvent { first_time: Timestamp(0) },
                404,
                "before-first-event",
                "firstTime",
                "1970-01-01T00:00:00.000Z".into(),
            ),
            (Refusal::NoSnapshot, 404, "no-snapshot", "retryable", false.into()),
            (
                Refusal::HistoryGone { earliest: Some(version) },
                410,
                "history-gone",
                "earliestVersion",
                41.into(),
            ),
            (
                Refusal::NotCaughtUp { head: None, position: Some(at) },
                503,
                "not-caught-up",
                "position",
                serde_json::json!({ "partition": 4, "offset": 18_231 }),
            ),
            (Refusal::WrongPartition { partition: at.0 }, 422, "bad-selector", "retryable", false.into()),
            (Refusal::TooMuchWork { events: 9, max: 5 }, 413, "too-much-work", "max", 5.into()),
        ];
        for (refusal, status, code, member, value) in cases {
            let problem = Problem::from(refusal);
            let body = written(&problem);
            assert_eq!((problem.status.as_u16(), &body["code"]), (status, &code.into()));
            assert_eq!(body["status"], status);
            assert_eq!(body[member], value, "{code}");
            assert_eq!(body["type"], format!("docs/ERRORS.md#{code}"));
        }
    }

    #[test]
    fn faults_keep_their_code_if_it_answers_requests_and_get_that_of_their_kind_if_not() {
        let of = |kind, code| {
            let problem = Problem::from(Error::new(kind, code, "a `b` failed"));
            (problem.status.as_u16(), problem.code)
        };
        assert_eq!(of(ErrorKind::Unavailable, "overloaded"), (429, "overloaded"));
        assert_eq!(of(ErrorKind::Unavailable, "dependency-down"), (503, "dependency-down"));
        assert_eq!(of(ErrorKind::Conflict, "lineage-changed"), (409, "lineage-changed"));
        assert_eq!(of(ErrorKind::Internal, "corrupt"), (500, "corrupt"));
        assert_eq!(of(ErrorKind::Internal, "no-such-code"), (500, "internal"));
        assert_eq!(of(ErrorKind::Corrupt, "version-gap"), (500, "corrupt"));
        assert_eq!(of(ErrorKind::Gone, "retention-passed"), (410, "history-gone"));
    }

    #[test]
    fn an_aggregate_without_any_version_has_no_head_to_point_to() {
        let problem = Problem::from(Refusal::VersionBeyondHead { head: Version(0) });
        let body = written(&problem);
        assert_eq!((problem.status.as_u16(), &body["code"]), (404, &"version-beyond-head".into()));
        assert_eq!(body.get("headVersion"), None);
        assert!(body["hint"].as_str().is_some_and(|hint| hint.contains("quarantined")), "{body}");
    }

    #[test]
    fn what_may_be_repeated_says_when() {
        for (code, seconds) in [("overloaded", Some("1")), ("rebuilding", Some("10")), ("corrupt", None)] {
            let response = Problem::new(code, "x").into_response();
            let after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(after, seconds);
        }
    }
}

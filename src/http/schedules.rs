//! `/v1/schedules`: which snapshots are taken at which times.

use super::cursor::Cursor;
use super::edge::BODY_BYTES_MAX;
use super::json::{self, Object};
use super::path::{self, Path, is_id};
use super::problem::Problem;
use super::query::{Query, shown};
use super::{Shared, answer, body};
use crate::domain::ids::AggregateKey;
use crate::domain::schedule::{JITTER_MS_MAX, Part, Schedule, Target, Times, Unreadable};
use crate::upkeep::schedules::{Change, RunTotal, View};
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// The route of one schedule; what is done to it is part of the name's segment.
pub(super) const ROUTE: &str = "/v1/schedules/{name}";
/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    aggregate: Option<One>,
    selector: Option<Many>,
    schedule: String,
    #[serde(default = "utc")]
    timezone: String,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    jitter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    prefix: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}

impl Request {
    fn says(self, shared: &Shared) -> Result<Schedule, Problem> {
        let target = match (self.aggregate, self.selector) {
            (Some(One { id, .. }), None) if !is_id(&id) => {
                let detail = format!("an aggregate id has 1 to 1,024 bytes, this one has {}", id.len());
                return Err(Problem::new("bad-body", detail));
            }
            (Some(One { kind, id }), None) => {
                let (kind, _) = path::stream(shared, &kind)?;
                Target::Aggregate(AggregateKey { kind, id: id.into() })
            }
            (None, Some(Many { kind, prefix })) => {
                let (kind, _) = path::stream(shared, &kind)?;
                Target::Selector { kind, prefix: prefix.into() }
            }
            _ => {
                return Err(Problem::new("bad-body", "the body has `aggregate` or `selector`, one of them").hint(
                    "write `\"aggregate\":{\"type\":…,\"id\":…}` or `\"selector\":{\"type\":…,\"prefix\":…}`",
                ));
            }
        };
        Times::parse(&self.schedule, &self.timezone).map_err(unreadable)?;
        Ok(Schedule {
            target,
            cron: self.schedule.into(),
            timezone: self.timezone.into(),
            enabled: self.enabled,
            jitter_ms: self.jitter.as_deref().map_or(Ok(0), jitter)?,
        })
    }
}

fn unreadable(why: Unreadable) -> Problem {
    let name = match why.part {
        Part::Schedule => "schedule",
        Part::Timezone => "timezone",
    };
    let detail = format!("{} (character {} of `{name}`)", why.detail, why.position);
    Problem::new("bad-schedule", detail).hint(why.hint)
}

/// Units of a jitter and their milliseconds, the largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn jitter(text: &str) -> Result<u64, Problem> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let ms = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    ms.filter(|ms| *ms <= JITTER_MS_MAX).ok_or_else(|| {
        Problem::new("bad-schedule", format!("`{}` is no jitter", shown(text)))
            .hint("write a whole number and `ms`, `s`, `m` or `h`, at most a day, as in `30s`")
    })
}

fn jitter_text(ms: u64) -> String {
    let fits = UNITS.iter().find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor));
    let (unit, factor) = fits.copied().unwrap_or(("s", 1_000));
    format!("{}{unit}", ms / factor)
}

fn name(text: &str) -> Result<&str, Problem> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text);
    }
    let detail = format!("`{}` is no name of a schedule", shown(text));
    let hint = format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`");
    Err(Problem::selector(detail, hint))
}

pub(super) async fn list(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["limit", "cursor"])?;
    let limit = query.limit()?;
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::Schedules(name)) => Some(name),
        Some(_) => return Err(Cursor::foreign()),
    };
    // One more than is shown tells whether the list goes on.
    let mut views = shared.app.schedules.list(after.as_deref(), limit + 1).await?;
    let goes_on = views.len() > limit;
    views.truncate(limit);
    let last = views.last().filter(|_| goes_on);
    let next = last.map(|view| Cursor::Schedules(view.name.to_string()).encode());
    Ok(answer(json::list(&views, next.as_deref(), write)))
}

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let view = shared.app.schedules.get(name(path.get("name"))?).await?;
    Ok(answer(json::object(|body| write(body, &view))))
}

pub(super) async fn put(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let name = name(path.get("name"))?;
    let request: Request = body::json(sent, BODY_BYTES_MAX).await?;
    let (view, is_new) = shared.app.schedules.put(name, request.says(&shared)?).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, answer(json::object(|body| write(body, &view)))).into_response())
}

pub(super) async fn delete(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let view = shared.app.schedules.change(name(path.get("name"))?, Change::Delete).await?;
    Ok(answer(json::object(|body| write(body, &view))))
}

/// `:run`, `:pause`, `:resume`.
pub(super) async fn post(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let calls = [("run", Change::RunNow), ("pause", Change::Pause), ("resume", Change::Resume)];
    let (of, call) = path.get("name").rsplit_once(':').unwrap_or_default();
    let Some((_, change)) = calls.into_iter().find(|(known, _)| *known == call) else {
        return Err(path::unknown(uri).await);
    };
    Query::parse(&uri, &[])?;
    let view = shared.app.schedules.change(name(of)?, change).await?;
    Ok(answer(json::object(|body| write(body, &view))))
}

fn write(body: &mut Object<'_>, view: &View) {
    let View { name, says, next, last, on_time } = view;
    body.text("name", name);
    match &says.target {
        Target::Aggregate(AggregateKey { kind, id }) => body.object("aggregate", |body| {
            body.text("type", kind).text("id", id);
        }),
        Target::Selector { kind, prefix } => body.object("selector", |body| {
            body.text("type", kind).text("prefix", prefix);
        }),
    };
    body.text("schedule", &says.cron).text("timezone", &says.timezone).flag("enabled", says.enabled);
    body.text("jitter", &jitter_text(says.jitter_ms));
    match next.first() {
        Some(due) => body.time("nextRun", *due),
        None => body.null("nextRun"),
    };
    body.raws("nextRuns", &next.iter().map(|due| json::moment(*due)).collect::<Vec<_>>());
    body.objects("lastRuns", last, |body, run: &RunTotal| {
        body.time("due", run.due).time("started", run.started).time("finished", run.finished);
        body.number("created", run.created).number("exists", run.exists).number("failed", run.failed);
    });
    body.number_or_null("onTimeRatio", *on_time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::{app, ready};
    use crate::http::{Inner, router};
    use axum::http::Request as HttpRequest;
    use std::sync::Arc;

    #[test]
    fn jitters_are_durations_with_their_units_up_to_a_day() {
        for (text, ms) in [("0s", 0), ("250ms", 250), ("90s", 90_000), ("5m", 300_000), ("24h", 86_400_000)] {
            assert_eq!(jitter(text).ok(), Some(ms), "{text}");
        }
        for wrong in ["", "5", "s", "25h", "1d", "99999999999999999999s", "-1s"] {
            assert_eq!(jitter(wrong).unwrap_err().code, "bad-schedule", "{wrong}");
        }
        for (ms, text) in [(0, "0s"), (250, "250ms"), (90_000, "90s"), (300_000, "5m"), (86_400_000, "24h")] {
            assert_eq!(jitter_text(ms), text);
        }
    }

    #[test]
    fn names_are_plain() {
        assert!(name("nightly-2.full_x").is_ok());
        for wrong in ["", "a b", "a:b", "ä", "a/b", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(name(wrong).unwrap_err().code, "bad-selector", "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let problem = unreadable(Times::parse("0 24 * * *", "UTC").unwrap_err());
        let body: serde_json::Value = serde_json::from_slice(&problem.body("")).unwrap();
        assert_eq!((&body["code"], &body["status"]), (&"bad-schedule".into(), &422.into()));
        assert!(body["detail"].as_str().unwrap().ends_with("(character 3 of `schedule`)"), "{body}");
        assert!(body["hint"].as_str().unwrap().contains("0-23"), "{body}");
    }

    #[tokio::test]
    async fn routes_know_their_calls() {
        let app = app(ready());
        let shared: Shared = Arc::new(Inner::new(app.clone()));
        let both = r#"{"schedule":"* * * * *"}"#;
        let request: Request = serde_json::from_str(both).unwrap();
        assert_eq!(request.says(&shared).unwrap_err().code, "bad-body");
        let ask = |method: &str, path: &str| {
            let request = HttpRequest::builder().method(method).uri(path).body(Body::empty()).unwrap();
            tower::ServiceExt::oneshot(router(app.clone()), request)
        };
        assert_eq!(ask("POST", "/v1/schedules/a:jump").await.unwrap().status(), 404);
        assert_eq!(ask("POST", "/v1/schedules/a").await.unwrap().status(), 404);
        assert_eq!(ask("POST", "/v1/schedules/a:run").await.unwrap().status(), 404, "no such schedule");
        assert_eq!(ask("GET", "/v1/schedules/a").await.unwrap().status(), 404);
        assert_eq!(ask("GET", "/v1/schedules").await.unwrap().status(), 200);
    }
}

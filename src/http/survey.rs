//! `POST /v1/verify`: many aggregates verified by a job, in tiers.
//!
//! *If it fails*: what was found until then is the job's result.
//! *If cancelled*: nothing is lost, nothing was written.

use super::create::{members, unknown_member};
use super::edge::BODY_BYTES_MAX;
use super::jobs::{Job, Outcome};
use super::json::{self, Object};
use super::path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, body, jobs};
use crate::domain::value::Value;
use crate::lookup::{Lookup, Progress, SurveyAsk, SurveyFinding, Surveyed, Tier};
use crate::telemetry::metrics::{VERIFIED_RECORDS, VERIFY_FINDINGS};
use crate::telemetry::stopwatch::Stopwatch;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use std::sync::Arc;

/// The route.
pub(super) const ROUTE: &str = "/v1/verify";
/// Of so many aggregates the tier `sample` reads one, if nothing else is asked for.
const ONE_IN: u64 = 100;

/// What a body asks for.
#[derive(Debug, PartialEq)]
struct Request {
    tier: Tier,
    kind: Option<String>,
    prefix: String,
    one_in: u64,
}

/// The tier of a name.
fn tier(name: &str) -> Option<Tier> {
    Some(match name {
        "structure" => Tier::Structure,
        "sample" => Tier::Sample,
        "full" => Tier::Full,
        "replay" => Tier::Replay,
        _ => return None,
    })
}

fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Structure => "structure",
        Tier::Sample => "sample",
        Tier::Full => "full",
        Tier::Replay => "replay",
    }
}

impl Request {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut request = Self { tier: Tier::Structure, kind: None, prefix: String::new(), one_in: ONE_IN };
        let mut is_sized = false;
        if !bytes.trim_ascii().is_empty() {
            for (name, value) in members(bytes)? {
                let text = || value.as_str().map(str::to_owned).ok_or_else(|| not(&name, "a text"));
                match &*name {
                    "tier" => {
                        let tiers = "`structure`, `sample`, `full` or `replay`";
                        request.tier = tier(&text()?).ok_or_else(|| not("tier", tiers))?;
                    }
                    "type" => request.kind = Some(text()?),
                    "prefix" => request.prefix = text()?,
                    "sample" => {
                        request.one_in = one_in(&value)?;
                        is_sized = true;
                    }
                    other => return Err(unknown_member(other, &["tier", "type", "prefix", "sample"])),
                }
            }
        }
        if is_sized && request.tier != Tier::Sample {
            return Err(Problem::new("bad-body", "`sample` is for the tier `sample`"));
        }
        if !request.prefix.is_empty() && request.kind.is_none() {
            return Err(Problem::new("bad-body", "`prefix` without `type`").hint("name the type as well"));
        }
        Ok(request)
    }
}

fn not(name: &str, what: &str) -> Problem {
    Problem::new("bad-body", format!("`{name}` is not {what}"))
}

fn one_in(value: &Value) -> Result<u64, Problem> {
    let whole = value.as_i64().and_then(|whole| u64::try_from(whole).ok()).filter(|whole| *whole > 0);
    whole.ok_or_else(|| not("sample", "a whole number from 1 on: of so many aggregates one is read"))
}

pub(super) async fn post(State(shared): State<Shared>, uri: Uri, sent: Body) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let request = Request::parse(&body::bytes(sent, BODY_BYTES_MAX).await?)?;
    let streams: Vec<Arc<Lookup>> = match &request.kind {
        Some(kind) => vec![path::stream(&shared, kind)?.1],
        None => shared.app.streams.by_type.values().cloned().collect(),
    };
    let job = shared.jobs.start(&shared, "verify", None, move |job| async move {
        let started = Stopwatch::start();
        let mut out = Surveyed::default();
        let done = run(&streams, &request, &job, &mut out).await;
        measure(request.kind.as_deref().unwrap_or("all"), &out);
        let result = result(request.tier, &out, started);
        match done {
            Ok(()) => Outcome::Done(result),
            Err(problem) => Outcome::Failed(result, problem),
        }
    })?;
    Ok(jobs::started(&job))
}

async fn run(
    streams: &[Arc<Lookup>],
    request: &Request,
    job: &Arc<Job>,
    out: &mut Surveyed,
) -> Result<(), Problem> {
    let ask = SurveyAsk { tier: request.tier, prefix: request.prefix.clone(), one_in: request.one_in };
    let progress = Told { job: Arc::clone(job), known: std::sync::atomic::AtomicU64::new(0) };
    for lookup in streams {
        lookup.survey(&ask, &progress, out).await?;
    }
    if request.tier == Tier::Full
        && request.kind.is_none()
        && let Some(any) = streams.first()
    {
        any.survey_rest(&progress, out).await?;
    }
    Ok(())
}

/// A job hears how far its survey is.
struct Told {
    job: Arc<Job>,
    known: std::sync::atomic::AtomicU64,
}

impl Progress for Told {
    fn advance(&self, done: u64) {
        self.job.advance(done);
    }

    fn more(&self, known: u64) {
        let before = self.known.fetch_add(known, std::sync::atomic::Ordering::Relaxed);
        self.job.total(before + known);
    }
}

fn measure(stream: &str, out: &Surveyed) {
    metrics::counter!(VERIFIED_RECORDS.name, "stream" => stream.to_owned()).increment(out.rows + out.events);
    for finding in &out.findings {
        let stream = finding.kind.to_string();
        metrics::counter!(VERIFY_FINDINGS.name, "stream" => stream, "code" => finding.code).increment(1);
    }
}

fn result(tier: Tier, out: &Surveyed, started: Stopwatch) -> Vec<u8> {
    json::object(|body| {
        body.text("tier", name(tier)).flag("ok", out.problems == 0);
        body.number("aggregates", out.aggregates).number("rows", out.rows).number("packs", out.packs);
        body.number("bytes", out.bytes).number("rawBytes", out.raw_bytes).number("events", out.events);
        body.number("problems", out.problems).number("healed", out.healed);
        body.objects("findings", &out.findings, finding);
        body.number("uncovered", out.uncovered);
        body.objects("uncoveredExamples", &out.uncovered_ids, |body, (id, (from, to))| {
            body.text("aggregateId", id).number("fromVersion", from).number("toVersion", to);
        });
        body.number("elapsedMs", started.ms() as u64);
    })
}

fn finding(body: &mut Object<'_>, finding: &SurveyFinding) {
    body.text("aggregateType", &finding.kind);
    body.text_or_null("aggregateId", finding.id.as_deref()).number_or_null("version", finding.version);
    body.text("code", finding.code).text("detail", &finding.detail).flag("healed", finding.healed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let request = Request::parse(b"").unwrap();
        assert_eq!((request.tier, request.one_in), (Tier::Structure, ONE_IN));
        let request =
            Request::parse(br#"{"tier":"sample","type":"order","prefix":"o-","sample":7}"#).unwrap();
        assert_eq!((request.tier, request.one_in, &*request.prefix), (Tier::Sample, 7, "o-"));
        for wrong in [
            &br#"{"tier":"deep"}"#[..],
            br#"{"tier":"full","sample":7}"#,
            br#"{"tier":"sample","sample":0}"#,
            br#"{"prefix":"o-"}"#,
            br#"{"kind":"order"}"#,
            b"[]",
        ] {
            assert_eq!(Request::parse(wrong).unwrap_err().code, "bad-body", "{wrong:?}");
        }
        for tier in [Tier::Structure, Tier::Sample, Tier::Full, Tier::Replay] {
            assert_eq!(super::tier(name(tier)), Some(tier));
        }
    }
}

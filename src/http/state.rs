//! `GET …/state`: the state at a version, a time or an offset, or the newest.

use super::edge::append_timing;
use super::encode::{self, About, Shown, StateView, shown};
use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::lookup::{Answer, Freshness, Source};
use crate::telemetry::metrics::{RECONSTRUCTION_EVENTS, RECONSTRUCTION_SECONDS};
use crate::telemetry::stopwatch::Stopwatch;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

pub(super) async fn get(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = ["version", "at", "offset", "minVersion", "minOffset", "wait", "basis", "explain", "lineage"];
    let query = Query::parse(&uri, &known)?;
    let (selector, freshness, basis) = (query.selector()?, query.freshness()?, query.basis()?);
    let view = StateView { is_settled: basis.is_some(), is_explained: query.flag("explain")? };
    if basis.is_some() && freshness != Freshness::default() {
        let hint = "leave `minVersion`, `minOffset` and `wait` out: what a basis has seen does not grow";
        return Err(Problem::selector("`basis` and a demand for freshness contradict each other", hint));
    }
    let target = path.target_in(&shared, &query).await?;
    let watch = Stopwatch::start();
    let found = match &basis {
        Some(_) => target.lookup.state_in(&target.id, selector, basis.as_ref()).await?,
        None => target.lookup.state(&target.id, selector, freshness).await?,
    };
    let took_ms = watch.ms();
    measure(&target.kind, &found, took_ms);
    let state = shown(&found.aggregate)?;
    let tag = tag(&found, &state);
    let mut response = if is_known(&headers, &tag) && !view.is_explained {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let about = About { kind: &target.kind, id: &target.id, topic: &target.topic };
        answer(json::object(|body| encode::state(body, &about, &found, &state, took_ms, view)))
    };
    let tag = HeaderValue::from_str(&tag).expect("digits and letters are visible");
    response.headers_mut().insert(header::ETAG, tag);
    append_timing(response.headers_mut(), "reconstruct", took_ms);
    Ok(response)
}

fn measure(stream: &str, answer: &Answer, took_ms: f64) {
    let source = match answer.source {
        Source::Memory => "memory",
        Source::Cache => "cache",
        Source::Rest => "rest",
    };
    let stream = stream.to_string();
    metrics::counter!(RECONSTRUCTION_EVENTS.name, "stream" => stream.clone())
        .increment(answer.provenance.events);
    metrics::histogram!(RECONSTRUCTION_SECONDS.name, "stream" => stream, "source" => source)
        .record(took_ms / 1_000.0);
}

/// Weak, because where an answer comes from may differ: equal tags mean equal
/// version, head, state and standing.
fn tag(answer: &Answer, shown: &Shown) -> String {
    let aggregate = &answer.aggregate;
    let digest = shown.digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
    let standing = if aggregate.quarantine.is_some() { "q" } else { "" };
    let digest = digest.get(..16).unwrap_or(&digest);
    let head = answer.head_version.map_or_else(|| "none".to_owned(), |head| head.to_string());
    format!("W/\"{}.{}.{head}-{digest}{standing}\"", answer.lineage, aggregate.version)
}

/// RFC 9110, 13.1.2: tags are compared weakly.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    given.flat_map(|value| value.split(',')).any(|one| one.trim() == "*" || strong(one) == strong(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_among_others_whether_weak_or_not() {
        let mut headers = HeaderMap::new();
        assert!(!is_known(&headers, "W/\"1.2.3-ab\""));
        headers.append(header::IF_NONE_MATCH, HeaderValue::from_static("\"x\", \"1.2.3-ab\""));
        assert!(is_known(&headers, "W/\"1.2.3-ab\""));
        assert!(!is_known(&headers, "W/\"1.2.4-ab\""));
        headers.append(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(is_known(&headers, "W/\"1.2.4-ab\""));
    }
}

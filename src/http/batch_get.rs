//! `POST /v1/aggregates/{type}:batchGet`: many aggregates at one instant.
//!
//! *Order*: the log's ends are read first, and every answer is folded from what lies before them: what one
//! item knows of, all know of, whichever partitions they are in. The basis makes the cut repeatable.

use super::encode::{self, About, StateView, shown};
use super::path::{self, Path};
use super::problem::Problem;
use super::query::{self, TIME};
use super::{Shared, answer, body, json};
use crate::lookup::{Basis, Lookup, Selector};
use crate::telemetry::stopwatch::Stopwatch;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use futures_util::stream::{StreamExt, iter};
use serde::Deserialize;
use std::sync::Arc;

/// The route's template: a parameter takes a whole segment, so the call is part of it.
pub(super) const ROUTE: &str = "/v1/aggregates/{typeAndCall}";
/// Bytes of the longest body: a thousand ids of the longest kind.
pub(super) const BODY_BYTES_MAX: usize = 2 << 20;
/// Aggregates of one question.
const IDS_MAX: usize = 1_000;
/// Questions of one batch that are answered at the same time.
const AT_ONCE: usize = 8;
/// Bytes of all states together.
const STATES_BYTES_MAX: usize = 64 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    ids: Vec<String>,
    version: Option<u64>,
    at: Option<At>,
    basis: Option<String>,
}

/// A time as text, or epoch milliseconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Text(String),
    Ms(i64),
}

pub(super) async fn post(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    query::Query::parse(&uri, &[])?;
    let Some(kind) = path.get("typeAndCall").strip_suffix(":batchGet") else {
        return Err(path::unknown(uri).await);
    };
    let (kind, lookup) = path::stream(&shared, kind)?;
    let request: Request = body::json(sent, BODY_BYTES_MAX).await?;
    let selector = selector(&request)?;
    check(&request.ids)?;
    let basis = match request.basis.as_deref().map(str::parse::<Basis>) {
        None => lookup.basis_now().await?,
        Some(Ok(basis)) => basis,
        Some(Err(bad)) => return Err(Problem::new("bad-body", format!("`basis`: {bad}"))),
    };
    let topic = path::topic(&shared, &kind);
    let items = answers(&lookup, &request.ids, (selector, &basis), (&kind, &topic)).await?;
    Ok(answer(json::object(|body| {
        body.text("basis", &basis.to_string());
        body.raws("items", &items);
    })))
}

/// Each answer as the text of an item, in the order asked.
async fn answers(
    lookup: &Arc<Lookup>,
    ids: &[String],
    (selector, basis): (Selector, &Basis),
    (kind, topic): (&str, &str),
) -> Result<Vec<Vec<u8>>, Problem> {
    let ask = |id: String| {
        let (lookup, basis) = (Arc::clone(lookup), basis.clone());
        async move {
            let watch = Stopwatch::start();
            let found = lookup.state_in(&id, selector, Some(&basis)).await;
            (id, found, watch.ms())
        }
    };
    let mut asked = iter(ids.to_vec()).map(ask).buffered(AT_ONCE);
    let (mut items, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    while let Some((id, found, took_ms)) = asked.next().await {
        let item = match found {
            Ok(found) => {
                let state = shown(&found.aggregate)?;
                let about = About { kind, id: &id, topic };
                json::object(|body| {
                    let view = StateView { is_settled: true, is_explained: false };
                    body.text("status", "found");
                    encode::state(body, &about, &found, &state, took_ms, view);
                })
            }
            Err(refusal) => {
                let problem = Problem::from(refusal);
                json::object(|body| {
                    body.text("aggregateId", &id).text("status", "failed");
                    body.raw("error", &problem.body(""));
                })
            }
        };
        bytes += item.len();
        if bytes > STATES_BYTES_MAX {
            let detail = format!("the states are longer than {} MiB together", STATES_BYTES_MAX >> 20);
            return Err(Problem::new("too-much-work", detail).hint("ask for fewer ids at once"));
        }
        items.push(item);
    }
    Ok(items)
}

fn selector(request: &Request) -> Result<Selector, Problem> {
    match (request.version, &request.at) {
        (Some(_), Some(_)) => {
            Err(Problem::new("bad-body", "`version` and `at` both select a moment").hint("keep one of them"))
        }
        (None, None) => Ok(Selector::Head),
        (Some(version), None) => query::version(&version.to_string())
            .map(Selector::Version)
            .ok_or_else(|| Problem::new("bad-body", "`version` is a whole number from 1 on")),
        (None, Some(at)) => {
            let text = match at {
                At::Text(text) => text.clone(),
                At::Ms(ms) => ms.to_string(),
            };
            query::time(&text)
                .map(Selector::Time)
                .ok_or_else(|| Problem::new("bad-body", "`at` is no time").hint(TIME))
        }
    }
}

fn check(ids: &[String]) -> Result<(), Problem> {
    if ids.is_empty() || ids.len() > IDS_MAX {
        let detail = format!("`ids` has {} ids, 1 to {IDS_MAX} may be asked for at once", ids.len());
        return Err(Problem::new("bad-body", detail));
    }
    match ids.iter().find(|id| !path::is_id(id)) {
        None => Ok(()),
        Some(id) => {
            let detail = format!("an aggregate id has 1 to 1,024 bytes, one of `ids` has {}", id.len());
            Err(Problem::new("bad-body", detail))
        }
    }
}

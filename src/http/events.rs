//! `GET …/events`: the events of an aggregate, oldest or newest first; `GET …/events/{version}`: one.

use super::cursor::{Cursor, Order};
use super::encode;
use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn list(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["fromVersion", "toVersion", "order", "limit", "cursor", "lineage"])?;
    let (from, to) = query.versions()?;
    let (order, limit) = (query.order()?, query.limit()?);
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::Events(of, version)) if of == order => Some(version),
        Some(_) => return Err(Cursor::foreign()),
    };
    let target = path.target_in(&shared, &query).await?;
    let range = order.rest(from, to, after);
    let mut events = match range {
        // One more than is shown tells whether the list goes on.
        Some((from, to)) => {
            target.lookup.events(&target.id, from, to, order == Order::Descending, limit + 1).await?
        }
        None => Vec::new(),
    };
    let goes_on = events.len() > limit;
    events.truncate(limit);
    let last = events.last().filter(|_| goes_on).map(|event| Cursor::Events(order, event.version).encode());
    let body = json::list(&events, last.as_deref(), |body, event| encode::event(body, &target.topic, event));
    Ok(answer(body))
}

pub(super) async fn one(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["lineage"])?;
    let version = path.version()?;
    let target = path.target_in(&shared, &query).await?;
    let events = target.lookup.events(&target.id, version, Some(version), false, 1).await?;
    let event = events.first().ok_or_else(|| {
        Problem::new("internal", format!("the lookup gave no event for version {version}, which exists"))
    })?;
    Ok(answer(json::object(|body| encode::event(body, &target.topic, event))))
}

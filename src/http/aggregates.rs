//! `GET /v1/aggregates`: the aggregates of a type; `GET /v1/aggregates/{type}/{id}`: the head of one.

use super::cursor::Cursor;
use super::encode::{self, About};
use super::path::{Path, stream};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::lookup::Lookup;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

/// Pages that one request looks through where most aggregates are deleted; then it answers with what it has.
const PAGES_MAX: usize = 20;

pub(super) async fn head(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["lineage"])?;
    let target = path.target_in(&shared, &query).await?;
    let head = target.lookup.head(&target.id).await?;
    let about = About { kind: &target.kind, id: &target.id, topic: &target.topic };
    Ok(answer(encode::head(&about, &head)))
}

pub(super) async fn list(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["type", "prefix", "limit", "cursor", "deleted"])?;
    let Some(kind) = query.get("type") else {
        return Err(Problem::selector("`type` is missing", "write `type=TYPE`"));
    };
    let (limit, with_deleted) = (query.limit()?, query.flag("deleted")?);
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::Aggregates(id)) => Some(id),
        Some(_) => return Err(Cursor::foreign()),
    };
    let (kind, lookup) = stream(&shared, kind)?;
    let prefix = query.get("prefix").unwrap_or_default();
    let wanted = Wanted { prefix, limit, with_deleted };
    let (items, next) = wanted.page(&lookup, after).await?;
    let next = next.map(|id| Cursor::Aggregates(id).encode());
    let body = json::list(&items, next.as_deref(), |body, item| encode::list_item(body, &kind, item));
    Ok(answer(body))
}

struct Wanted<'a> {
    prefix: &'a str,
    limit: usize,
    with_deleted: bool,
}

impl Wanted<'_> {
    /// A page, and the id after which the list goes on.
    async fn page(
        &self,
        lookup: &Lookup,
        mut after: Option<String>,
    ) -> Result<(Vec<crate::lookup::ListItem>, Option<String>), Problem> {
        let mut items = Vec::new();
        for _ in 0..PAGES_MAX {
            // One more than is shown tells whether the list goes on.
            let more = self.limit + 1 - items.len();
            let page = lookup.aggregates(self.prefix, after.as_deref(), more).await?;
            let is_last = page.len() < more;
            after = page.last().map(|item| item.id.to_string()).or(after);
            items.extend(page.into_iter().filter(|item| self.with_deleted || item.deleted != Some(true)));
            if items.len() > self.limit {
                items.truncate(self.limit);
                let next = items.last().map(|item| item.id.to_string());
                return Ok((items, next));
            }
            if is_last {
                return Ok((items, None));
            }
        }
        Ok((items, after))
    }
}

//! `GET /v1/dead-letters`: events that could not be folded, by type, partition and offset.

use super::cursor::Cursor;
use super::encode;
use super::path::stream;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::domain::ids::{Offset, PartitionNo};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use std::ops::Bound;
use std::sync::Arc;

pub(super) async fn list(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["type", "limit", "cursor", "payload"])?;
    let (limit, with_value) = (query.limit()?, query.flag("payload")?);
    let only = query.get("type").map(|kind| stream(&shared, kind)).transpose()?.map(|(kind, _)| kind);
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::DeadLetters(kind, partition, offset)) => Some((kind, partition, offset)),
        Some(_) => return Err(Cursor::foreign()),
    };
    let start = after.as_ref().map_or("", |(kind, ..)| kind);
    let mut letters = Vec::new();
    let streams = &shared.app.streams.by_type;
    for (kind, lookup) in streams.range::<str, _>((Bound::Included(start), Bound::Unbounded)) {
        if only.as_ref().is_some_and(|only| only != kind) {
            continue;
        }
        // One more than is shown tells whether the list goes on.
        let more = limit + 1 - letters.len();
        if more == 0 {
            break;
        }
        let page = lookup.dead_letters(place(after.as_ref(), kind), more).await?;
        letters.extend(page.into_iter().map(|letter| (Arc::clone(kind), letter)));
    }
    let goes_on = letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| goes_on).map(|(kind, letter)| {
        Cursor::DeadLetters(kind.to_string(), letter.key.partition, letter.offset).encode()
    });
    let body = json::list(&letters, next.as_deref(), |body, (kind, letter)| {
        encode::dead_letter(body, kind, letter, with_value);
    });
    Ok(answer(body))
}

/// Where the letters of a type go on.
fn place(after: Option<&(String, PartitionNo, Offset)>, kind: &str) -> Option<(PartitionNo, Offset)> {
    after.filter(|(of, ..)| of == kind).map(|(_, partition, offset)| (*partition, *offset))
}

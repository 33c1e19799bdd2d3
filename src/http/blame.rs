//! `GET …/blame` and `GET …/history`: who wrote each field last, and all that ever happened to one.

use super::cursor::{Cursor, Order};
use super::path::Path;
use super::problem::Problem;
use super::query::{Query, SELECTORS};
use super::{Shared, answer, encode, json};
use crate::lookup::Over;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn blame(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let [version, at, offset] = SELECTORS;
    let query = Query::parse(&uri, &[version, at, offset, "path", "basis", "lineage"])?;
    let (selector, basis) = (query.selector()?, query.basis()?);
    let place = query.pointer()?.unwrap_or_default();
    let target = path.target_in(&shared, &query).await?;
    let blame = target.lookup.blame(&target.id, selector, basis.as_ref(), &place).await?;
    Ok(answer(encode::blame(&blame, basis.is_some())))
}

pub(super) async fn history(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let known = ["path", "fromVersion", "toVersion", "order", "limit", "cursor", "basis", "lineage"];
    let query = Query::parse(&uri, &known)?;
    let Some(place) = query.pointer()? else {
        let hint = "write a JSON pointer, as in `path=/total`; `path=` is the whole state";
        return Err(Problem::selector("`path` is missing", hint));
    };
    let (order, limit, basis) = (query.order()?, query.limit()?, query.basis()?);
    let (from, to) = query.versions()?;
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::FieldHistory(way, version)) if way == order => Some(version),
        Some(_) => return Err(Cursor::foreign()),
    };
    let target = path.target_in(&shared, &query).await?;
    let rest = order.rest(from, to, after);
    let (items, next) = match rest {
        None => (Vec::new(), None),
        Some((from, to)) => {
            let over = Over { from, to, descending: order == Order::Descending, limit, basis };
            let found = target.lookup.field_history(&target.id, &place, over).await?;
            (found.items, found.next.map(|version| Cursor::FieldHistory(order, version).encode()))
        }
    };
    Ok(answer(json::object(|body| {
        body.text("path", &place.to_string());
        body.objects("items", &items, encode::field_change);
        body.text_or_null("nextCursor", next.as_deref());
    })))
}

//! `GET …/events`: the events of an aggregate, oldest or newest first; `GET …/events/{version}`: one.

use super::cursor::{Cursor, Order};
use super::encode;
use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::domain::ids::Version;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn list(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["fromVersion", "toVersion", "order", "limit", "cursor"])?;
    let (from, to) = (query.version("fromVersion")?, query.version("toVersion")?);
    let (order, limit) = (query.order()?, query.limit()?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(Problem::selector("`fromVersion` is after `toVersion`", "exchange them"));
    }
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::Events(of, version)) if of == order => Some(version),
        Some(_) => return Err(Cursor::foreign()),
    };
    let target = path.target(&shared)?;
    let range = rest(from.unwrap_or(Version(1)), to, order, after);
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

/// What is left of a range after a cursor.
fn rest(
    from: Version,
    to: Option<Version>,
    order: Order,
    after: Option<Version>,
) -> Option<(Version, Option<Version>)> {
    let Some(after) = after else { return Some((from, to)) };
    let (from, to) = match order {
        Order::Ascending => (from.max(after.next()), to),
        Order::Descending => {
            let before = Version(after.0 - 1);
            (from, Some(to.map_or(before, |to| to.min(before))))
        }
    };
    to.is_none_or(|to| from <= to).then_some((from, to))
}

pub(super) async fn one(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let version = path.version()?;
    let target = path.target(&shared)?;
    let events = target.lookup.events(&target.id, version, Some(version), false, 1).await?;
    let event = events.first().ok_or_else(|| {
        Problem::new("internal", format!("the lookup gave no event for version {version}, which exists"))
    })?;
    Ok(answer(json::object(|body| encode::event(body, &target.topic, event))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leaves_what_lies_beyond_it() {
        use Order::{Ascending, Descending};
        let v = Version;
        assert_eq!(rest(v(3), Some(v(9)), Ascending, None), Some((v(3), Some(v(9)))));
        assert_eq!(rest(v(3), Some(v(9)), Ascending, Some(v(5))), Some((v(6), Some(v(9)))));
        assert_eq!(rest(v(3), None, Ascending, Some(v(5))), Some((v(6), None)));
        assert_eq!(rest(v(3), Some(v(9)), Ascending, Some(v(9))), None);
        assert_eq!(rest(v(3), None, Descending, Some(v(5))), Some((v(3), Some(v(4)))));
        assert_eq!(rest(v(3), Some(v(9)), Descending, Some(v(3))), None);
        assert_eq!(rest(v(1), None, Descending, Some(v(1))), None);
    }
}

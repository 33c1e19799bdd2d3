//! `GET …/diff`: what leads from one version to another.

use super::encode;
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::{Query, Side, side};
use super::{Shared, answer};
use crate::domain::ids::Version;
use crate::lookup::{Freshness, Refusal, Selector};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["from", "to", "format"])?;
    query.choice("format", &["json-patch"])?;
    let Some(from) = query.get("from") else {
        let hint = "write `from=35`, `from=-1` (one before the head) or `from=@TIME`";
        return Err(Problem::selector("`from` is missing", hint));
    };
    let from = side("from", from)?;
    let to = query.get("to").map_or(Ok(Side::At(Selector::Head)), |to| side("to", to))?;
    let target = path.target(&shared)?;
    let (from, to) = (moment(&target, from).await?, moment(&target, to).await?);
    Ok(answer(encode::diff(&target.lookup.diff(&target.id, from, to).await?)))
}

/// The moment that a side means.
async fn moment(target: &Target, side: Side) -> Result<Selector, Problem> {
    let back = match side {
        Side::At(selector) => return Ok(selector),
        Side::BeforeHead(back) => back,
    };
    let head = target.lookup.state(&target.id, Selector::Head, Freshness::default()).await?;
    match head.aggregate.version.0.checked_sub(back).filter(|version| *version > 0) {
        Some(version) => Ok(Selector::Version(Version(version))),
        None => Err(Refusal::BeforeFirstEvent { first_time: head.aggregate.first_time }.into()),
    }
}

//! `GET …/diff`: what leads from one moment to another, as a JSON patch, a merge patch, or leaf by leaf.

use super::encode;
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::{Query, Side, side};
use super::{Shared, answer};
use crate::domain::ids::Version;
use crate::domain::patch;
use crate::lookup::{Basis, Diff, Refusal, Selector};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["from", "to", "format", "basis", "lineage"])?;
    let format = query.choice("format", &["json-patch", "merge-patch", "tree"])?;
    let Some(from) = query.get("from") else {
        let hint = "write `from=35`, `from=-1` (one before the head) or `from=@TIME`";
        return Err(Problem::selector("`from` is missing", hint));
    };
    let from = side("from", from)?;
    let to = query.get("to").map_or(Ok(Side::At(Selector::Head)), |to| side("to", to))?;
    let basis = query.basis()?;
    let target = path.target_in(&shared, &query).await?;
    let (from, to) =
        (moment(&target, from, basis.as_ref()).await?, moment(&target, to, basis.as_ref()).await?);
    let diff = target.lookup.diff(&target.id, from, to, basis.as_ref()).await?;
    Ok(answer(encode::diff(&diff, format, &patch(&diff, format)?, basis.is_some())))
}

/// The text of the patch.
fn patch(diff: &Diff, format: &str) -> Result<Vec<u8>, Problem> {
    let (before, after) = (&diff.before, &diff.after);
    match format {
        "tree" => Ok(encode::leaf_changes(before, after)),
        "merge-patch" => {
            let patch = patch::merge_diff(before, after).ok_or_else(|| {
                Problem::selector(
                    "a merge patch cannot say that a member becomes null",
                    "ask for `format=json-patch` or `format=tree`",
                )
            })?;
            Ok(patch.to_json().into_bytes())
        }
        _ => Ok(patch::diff(before, after).to_value().to_json().into_bytes()),
    }
}

/// The moment that a side means.
async fn moment(target: &Target, side: Side, basis: Option<&Basis>) -> Result<Selector, Problem> {
    let back = match side {
        Side::At(selector) => return Ok(selector),
        Side::BeforeHead(back) => back,
    };
    let head = target.lookup.state_in(&target.id, Selector::Head, basis).await?;
    match head.aggregate.version.0.checked_sub(back).filter(|version| *version > 0) {
        Some(version) => Ok(Selector::Version(Version(version))),
        None => Err(Refusal::BeforeFirstEvent { first_time: head.aggregate.first_time }.into()),
    }
}

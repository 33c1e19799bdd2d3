//! `GET …/proof`: all that an auditor needs to check one version without this server.

use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, encode};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["version", "after", "lineage"])?;
    let (version, after) = (query.version("version")?, query.version("after")?);
    let target = path.target_in(&shared, &query).await?;
    let proof = target.lookup.proof(&target.id, version, after).await?;
    Ok(answer(encode::proof(&target.kind, &target.topic, &target.id, &proof)))
}

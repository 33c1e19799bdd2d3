//! What other workers ask this one about the partitions that it folds. Not part of the interface: its bytes
//! may change from version to version (`lookup::owners`).

use super::path::{Path, stream};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, body, compact};
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::partition::Listing;
use crate::domain::row::PartitionKey;
use crate::lookup::owners;
use crate::worker::Handle;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// The worker of a stream and the log that a path names; of another lineage it knows nothing.
fn owned(shared: &Shared, path: &Path) -> Option<(Handle, PartitionKey)> {
    let (kind, lookup) = stream(shared, path.get("type")).ok()?;
    let log = lookup.log_of(PartitionNo(path.get("partition").parse().ok()?));
    let is_same = log.lineage == Lineage(path.get("lineage").parse().ok()?);
    let worker = shared.app.workers.get(&kind).cloned()?;
    is_same.then_some((worker, log))
}

/// 404 says that this worker does not fold that partition.
fn answer(told: Option<Vec<u8>>) -> Response {
    let Some(bytes) = told else { return StatusCode::NOT_FOUND.into_response() };
    let kind = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

pub(super) async fn head(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["id"])?;
    let Some((worker, log)) = owned(&shared, &path) else { return Ok(answer(None)) };
    Ok(answer(owners::tell_head(&worker, &log, query.get("id").unwrap_or_default()).await))
}

/// Bytes of the longest request for snapshots between workers.
pub(super) const WANTED_BYTES_MAX: usize = 2 << 20;

pub(super) async fn take(State(shared): State<Shared>, path: Path, sent: Body) -> Result<Response, Problem> {
    let Some((worker, log)) = owned(&shared, &path) else { return Ok(answer(None)) };
    let wanted: Vec<owners::Wanted> = body::json(sent, WANTED_BYTES_MAX).await?;
    let (_, lookup) = stream(&shared, path.get("type"))?;
    Ok(answer(owners::tell_made(&worker, &lookup, log.partition, wanted).await))
}

pub(super) async fn compact(
    State(shared): State<Shared>,
    path: Path,
    sent: Body,
) -> Result<Response, Problem> {
    let Some((worker, log)) = owned(&shared, &path) else { return Ok(answer(None)) };
    let order: compact::Order = body::json(sent, WANTED_BYTES_MAX).await?;
    let (kind, _) = stream(&shared, path.get("type"))?;
    let compactor = compact::compactor(&shared, &kind)?;
    Ok(answer(compact::tell(&compactor, &worker, log.partition, &order).await?))
}

pub(super) async fn list(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["prefix", "after", "limit"])?;
    let Some((worker, log)) = owned(&shared, &path) else { return Ok(answer(None)) };
    let listing = Listing {
        prefix: query.get("prefix").unwrap_or_default().into(),
        after: query.get("after").map(Into::into),
        limit: query.limit()?,
    };
    Ok(answer(owners::tell_list(&worker, &log, listing).await))
}

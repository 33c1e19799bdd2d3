//! Stored snapshots: their list, one of them, its stored bytes.

use super::cursor::{Cursor, Order};
use super::encode;
use super::path::{Path, stream};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::lookup::{Answer, Refusal, SnapshotFilter, SnapshotMeta, StoredBlob, Which};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};

pub(super) async fn list(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let known = ["fromVersion", "toVersion", "from", "to", "limit", "cursor", "order", "lineage"];
    let query = Query::parse(&uri, &known)?;
    let (limit, order) = (query.limit()?, query.order()?);
    let after = match query.cursor()? {
        None => None,
        Some(Cursor::Snapshots(of, version)) if of == order => Some(version),
        Some(_) => return Err(Cursor::foreign()),
    };
    let filter = SnapshotFilter {
        from_version: query.version("fromVersion")?,
        to_version: query.version("toVersion")?,
        from_time: query.time("from")?,
        to_time: query.time("to")?,
        after,
        descending: order == Order::Descending,
        // One more than is shown tells whether the list goes on.
        limit: limit + 1,
    };
    let is_reversed = |reversed: bool, from: &str, to: &str| match reversed {
        true => Err(Problem::selector(format!("`{from}` is after `{to}`"), "exchange them")),
        false => Ok(()),
    };
    let versions = filter.from_version.zip(filter.to_version);
    is_reversed(versions.is_some_and(|(from, to)| from > to), "fromVersion", "toVersion")?;
    let times = filter.from_time.zip(filter.to_time);
    is_reversed(times.is_some_and(|(from, to)| from > to), "from", "to")?;
    let target = path.target_in(&shared, &query).await?;
    let mut found = target.lookup.snapshots(&target.id, filter).await?;
    let goes_on = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| goes_on);
    let next = last.map(|meta| Cursor::Snapshots(order, meta.row.version).encode());
    let body = json::list(&found, next.as_deref(), |body, meta| encode::snapshot(body, meta, None));
    Ok(answer(body))
}

pub(super) async fn latest(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["lineage"])?;
    let target = path.target_in(&shared, &query).await?;
    whole(&target.lookup.snapshot(&target.id, Which::Latest).await?)
}

pub(super) async fn one(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["lineage"])?;
    let version = path.version()?;
    let target = path.target_in(&shared, &query).await?;
    whole(&target.lookup.snapshot(&target.id, Which::Version(version)).await?)
}

pub(super) async fn by_id(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let (key, lineage, version) = shared.app.streams.place_of_snapshot(path.get("snapshotId")).await?;
    let (_, mut lookup) = stream(&shared, &key.kind).map_err(|_| Refusal::NoSnapshot)?;
    if lookup.lineage() != lineage {
        lookup = shared.app.lineages.lookup(&key.kind, lineage).await?;
    }
    whole(&lookup.snapshot(&key.id, Which::Version(version)).await?)
}

fn whole((meta, found): &(SnapshotMeta, Answer)) -> Result<Response, Problem> {
    let state = encode::shown(&found.aggregate)?;
    Ok(answer(json::object(|body| encode::snapshot(body, meta, Some((&found.aggregate, &state))))))
}

/// The frame as it is stored. What is needed to read it without the index stands in headers.
pub(super) async fn blob(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["lineage"])?;
    let version = path.version()?;
    let target = path.target_in(&shared, &query).await?;
    Ok(stored(target.lookup.blob(&target.id, version).await?))
}

fn stored(blob: StoredBlob) -> Response {
    let range = |range: &std::ops::Range<u64>| format!("{}-{}", range.start, range.end);
    let facts = [
        ("snapfold-algorithm", blob.algorithm.name().to_owned()),
        ("snapfold-raw-length", blob.raw_len.to_string()),
        ("snapfold-pack", blob.pack.to_string()),
        ("snapfold-object", blob.object),
        ("snapfold-range", range(&blob.range)),
        ("snapfold-body", range(&blob.body)),
        ("snapfold-dictionary", blob.dictionary.map_or("none".to_owned(), |id| format!("sha256:{id}"))),
    ];
    let mut response = blob.frame.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    for (name, value) in facts {
        // The name of an object is the only one that could hold more than visible ASCII.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress::Algorithm;
    use crate::domain::ids::PackId;

    #[test]
    fn a_blob_says_how_to_read_it() {
        let blob = StoredBlob {
            frame: vec![1, 2, 3],
            algorithm: Algorithm::Zstd,
            dictionary: None,
            raw_len: 30,
            pack: PackId([7; 16]),
            object: "packs/full/07".into(),
            range: 64..67,
            body: 0..30,
        };
        let response = stored(blob);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/octet-stream");
        assert_eq!((header("snapfold-algorithm"), header("snapfold-range")), ("zstd".into(), "64-67".into()));
        assert_eq!((header("snapfold-body"), header("snapfold-dictionary")), ("0-30".into(), "none".into()));
    }
}

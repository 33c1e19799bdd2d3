//! `POST …/verify`: stored records against checksums, chain and fold, and against the topic on demand.

use super::edge::BODY_BYTES_MAX;
use super::path::Path;
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer};
use super::{body, encode};
use crate::lookup::{Verified, VerifyMode};
use crate::telemetry::metrics::{VERIFIED_RECORDS, VERIFY_FINDINGS};
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

pub(super) async fn post(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["version", "mode", "lineage"])?;
    let (version, mode) = (query.version("version")?, query.choice("mode", &["checksum", "pack", "replay"])?);
    let bytes = body::bytes(sent, BODY_BYTES_MAX).await?;
    if !bytes.trim_ascii().is_empty() && bytes.trim_ascii() != b"{}" {
        let problem = Problem::new("bad-body", "the route takes no body");
        return Err(problem.hint("write `version` and `mode` into the query"));
    }
    let target = path.target_in(&shared, &query).await?;
    let how = match mode {
        "pack" => VerifyMode::Pack,
        "replay" => VerifyMode::Replay,
        _ => VerifyMode::Checksum,
    };
    let verified = target.lookup.verify(&target.id, version, how).await?;
    measure(&target.kind, &verified);
    Ok(answer(encode::verified(mode, &verified)))
}

fn measure(stream: &str, verified: &Verified) {
    metrics::counter!(VERIFIED_RECORDS.name, "stream" => stream.to_owned()).increment(verified.checked);
    for finding in &verified.problems {
        metrics::counter!(VERIFY_FINDINGS.name, "stream" => stream.to_owned(), "code" => finding.code)
            .increment(1);
    }
}

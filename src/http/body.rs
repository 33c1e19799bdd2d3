//! Reads the bodies of requests: within a bound, strictly, with problems that name what is wrong.

use super::problem::Problem;
use axum::body::Body;
use serde::de::DeserializeOwned;

/// The request that a body holds, if it has at most `max` bytes.
///
/// # Errors
/// `bad-body`.
pub(super) async fn json<T: DeserializeOwned>(body: Body, max: usize) -> Result<T, Problem> {
    let bytes = bytes(body, max).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new("bad-body", format!("the body is not what the route takes: {error}")))
}

/// The bytes of a body, if they are at most `max`.
///
/// # Errors
/// `bad-body`.
pub(super) async fn bytes(body: Body, max: usize) -> Result<axum::body::Bytes, Problem> {
    axum::body::to_bytes(body, max).await.map_err(|_| too_long(max))
}

/// The problem with a body that is too long.
pub(super) fn too_long(max: usize) -> Problem {
    Problem::new("bad-body", format!("the body of the request is longer than {} KiB", max >> 10))
}

//! `GET|PUT|DELETE …/hold`: whether anything of an aggregate may be deleted.

use super::create::{members, unknown_member};
use super::deletion::retention;
use super::edge::BODY_BYTES_MAX;
use super::notes;
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, body, json};
use crate::domain::ledger::HoldRow;
use crate::lookup::Refusal;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

fn told(target: &Target, hold: Option<&HoldRow>) -> Response {
    answer(json::object(|body| {
        body.text("aggregateType", &target.kind).text("aggregateId", &target.id);
        body.flag("held", hold.is_some());
        if let Some(hold) = hold {
            body.time("since", hold.at.minted_at());
            body.text_or_null("reason", hold.reason.as_deref());
        }
    }))
}

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let target = path.target(&shared)?;
    let hold = retention(&target).hold(&target.lookup.key_of(&target.id)).await?;
    Ok(told(&target, hold.as_ref()))
}

pub(super) async fn put(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let target = path.target(&shared)?;
    let sent = body::bytes(sent, BODY_BYTES_MAX).await?;
    let mut reason = None;
    if !sent.trim_ascii().is_empty() {
        for (name, value) in members(&sent)? {
            match &*name {
                "reason" => reason = Some(notes::reason(&value)?).filter(|reason| !reason.is_empty()),
                other => return Err(unknown_member(other, &["reason"])),
            }
        }
    }
    // A hold on what nobody knows is a slip of the pen.
    if target.lookup.place(&target.id).await?.is_none() {
        return Err(Refusal::UnknownAggregate.into());
    }
    let hold = retention(&target).set_hold(&target.lookup.key_of(&target.id), true, reason).await?;
    Ok(told(&target, Some(&hold)))
}

pub(super) async fn delete(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let target = path.target(&shared)?;
    let (retention, key) = (retention(&target), target.lookup.key_of(&target.id));
    if retention.hold(&key).await?.is_some() {
        retention.set_hold(&key, false, None).await?;
    }
    Ok(told(&target, None))
}

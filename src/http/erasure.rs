//! `POST …/{id}:erase` and `GET …/{id}/erasure`: erasing an aggregate, and what became of it.

use super::create::{members, unknown_member};
use super::edge::BODY_BYTES_MAX;
use super::path::{self, Path, Target};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, body, json};
use crate::domain::erasure::Purged;
use crate::domain::value::Value;
use crate::lookup::Erased;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

/// What follows the id.
const CALL: &str = ":erase";
/// What no erasure reaches, whatever is complete.
const EXCEPTIONS: [&str; 2] = ["backups", "topic"];
/// Bytes of the longest reason, and of the longest name of a request.
const TEXT_BYTES_MAX: usize = 1_024;

/// Why, and for which request.
struct Request {
    reason: Box<str>,
    request: Option<Box<str>>,
}

impl Request {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let (mut reason, mut request) = (None, None);
        for (name, value) in members(bytes)? {
            match &*name {
                "reason" => reason = Some(text("reason", &value)?),
                "requestId" => request = Some(text("requestId", &value)?),
                other => return Err(unknown_member(other, &["reason", "requestId"])),
            }
        }
        let reason = reason.ok_or_else(|| {
            Problem::new("bad-body", "`reason` is missing")
                .hint("send `{\"reason\": \"…\"}`: it stays on record")
        })?;
        Ok(Self { reason, request })
    }
}

fn text(name: &str, value: &Value) -> Result<Box<str>, Problem> {
    let text = value.as_str().filter(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()));
    let wrong = || Problem::new("bad-body", format!("`{name}` is a text of 1 to {TEXT_BYTES_MAX} bytes"));
    text.map(Box::from).ok_or_else(wrong)
}

pub(super) async fn post(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    let Some(id) = path.get("id").strip_suffix(CALL).map(str::to_owned) else {
        return Err(path::wrong_method().await);
    };
    Query::parse(&uri, &[])?;
    let target = path.named(&shared, id)?;
    let Request { reason, request } = Request::parse(&body::bytes(sent, BODY_BYTES_MAX).await?)?;
    target.lookup.erase(&target.id, reason, request).await?;
    // Whoever folds here forgets what is in memory; other workers do so when they look at the list.
    if let Some(worker) = shared.app.workers.get(&target.kind) {
        worker.heed(&target.lookup.erased_ids());
    }
    certificate(&target).await
}

pub(super) async fn get(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let target = path.named(&shared, path.get("id").to_owned())?;
    certificate(&target).await
}

async fn certificate(target: &Target) -> Result<Response, Problem> {
    let Some(erased) = target.lookup.erased(&target.id).await? else {
        return Err(Problem::new("unknown-aggregate", "there is no erasure of an aggregate with this id")
            .hint("an aggregate is erased by `POST …/{id}:erase`"));
    };
    let (since, Erased { erasure, rows_left, letters_left, packs_left, purged }) =
        (erased.complete_since(), &erased);
    Ok(answer(json::object(|body| {
        body.text("aggregateType", &erasure.key.kind).text("aggregateId", &erasure.key.id);
        body.text("erasure", &erasure.at.to_string()).time("erasedAt", erasure.at.minted_at());
        body.text("reason", &erasure.reason).text_or_null("requestId", erasure.request.as_deref());
        body.number("lineage", erasure.lineage).number("version", erasure.version);
        match erasure.partition {
            Some(partition) => body.object("position", |at| {
                at.text("topic", &target.topic).number("partition", partition);
                at.number("offset", erasure.offset);
            }),
            None => body.null("position"),
        };
        body.flag("complete", since.is_some());
        match since {
            Some(since) => body.time("completedAt", since),
            None => body.null("completedAt"),
        };
        body.number("rowsLeft", rows_left).number("deadLettersLeft", letters_left);
        body.objects("packs", erasure.packs.iter(), |pack, name| {
            pack.text("name", name).flag("gone", !packs_left.contains(name));
        });
        let rewritten = purged.iter().filter_map(|(at, fact)| match fact {
            Purged::Rewritten { from, to, records } => Some((at, from, to, records)),
            Purged::Complete { .. } | Purged::Found { .. } => None,
        });
        body.objects("rewritten", rewritten, |pack, (at, from, to, records)| {
            pack.text("from", from).text("to", to).number("records", records);
            pack.time("at", at.minted_at());
        });
        let dictionaries = erased.dictionaries().iter().map(|id| json::string(&id.to_string()));
        body.raws("dictionaries", &dictionaries.collect::<Vec<_>>());
        body.raws("exceptions", &EXCEPTIONS.map(json::string));
    })))
}

//! `GET /v1/lineages`: which lineages there are and were.

use super::path::{stream, topic};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::lookup::{LineageView, Standing};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use std::sync::Arc;

/// A lineage and whose it is.
struct Item {
    kind: Arc<str>,
    topic: Arc<str>,
    view: LineageView,
}

pub(super) async fn list(State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["type"])?;
    let kinds = match query.get("type") {
        Some(kind) => vec![stream(&shared, kind)?.0],
        None => shared.app.streams.by_type.keys().map(Arc::clone).collect(),
    };
    let mut items = Vec::new();
    for kind in kinds {
        let views = shared.app.lineages.all(&kind).await?;
        let of = |view| Item { kind: Arc::clone(&kind), topic: topic(&shared, &kind), view };
        items.extend(views.into_iter().map(of));
    }
    Ok(answer(json::list(&items, None, write)))
}

fn write(body: &mut json::Object<'_>, item: &Item) {
    let Item { kind, topic, view } = item;
    let (state, dropped) = match view.standing {
        Standing::Prepared => ("prepared", None),
        Standing::Active => ("active", None),
        Standing::Old => ("old", None),
        Standing::Dropped(at) => ("dropped", Some(at.minted_at())),
    };
    body.text("aggregateType", kind).number("lineage", view.lineage).text("state", state);
    body.text("topic", topic).text("topicId", &format!("{:032x}", view.topic_id));
    body.digest("fingerprint", Some(view.fingerprint));
    for (name, time) in [("activatedAt", view.activated_at), ("droppedAt", dropped)] {
        match time {
            Some(time) => body.time(name, time),
            None => body.null(name),
        };
    }
    body.flag("readable", view.readable);
    body.objects("lowWatermarks", &view.low_watermarks, |mark, (partition, offset)| {
        mark.number("partition", partition).number("offset", offset);
    });
}

//! Parts of the path: percent-decoded ids, the stream of a type, versions; and what
//! is said where no route is.

use super::Shared;
use super::problem::Problem;
use super::query::{Query, named, shown, unreadable, version};
use crate::domain::ids::Version;
use crate::lookup::{Lookup, Refusal};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use std::sync::Arc;

/// Bytes of the longest id.
const ID_BYTES_MAX: usize = 1_024;

/// The parameters of a path, percent-decoded.
pub(super) struct Path(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| {
            let detail = "a part of the path is not UTF-8 once it is percent-decoded";
            Problem::selector(detail, "percent-encode the UTF-8 bytes of type and id")
        })?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

/// The aggregate that a path names.
pub(super) struct Target {
    /// Who answers about its stream.
    pub(super) lookup: Arc<Lookup>,
    /// Its type.
    pub(super) kind: Arc<str>,
    /// The stream's topic.
    pub(super) topic: Arc<str>,
    /// Its id.
    pub(super) id: String,
}

impl Path {
    /// The parameter of a route that has it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The aggregate; it need not exist, but its stream must, and it must not have been erased.
    pub(super) fn target(&self, shared: &Shared) -> Result<Target, Problem> {
        let target = self.named(shared, self.get("id").to_owned())?;
        target.lookup.check_erased(&target.id)?;
        Ok(target)
    }

    /// The aggregate in the lineage that a query asks for; the active one where it asks for none.
    pub(super) async fn target_in(&self, shared: &Shared, query: &Query) -> Result<Target, Problem> {
        let lineage = query.lineage()?;
        let target = self.target(shared)?;
        let Some(lineage) = lineage.filter(|lineage| *lineage != target.lookup.lineage()) else {
            return Ok(target);
        };
        match shared.app.lineages.lookup(&target.kind, lineage).await {
            Ok(lookup) => Ok(Target { lookup, ..target }),
            // Who reads by a basis of a lineage that never was hears it from the lookup.
            Err(Refusal::Failed(error)) if error.code == "bad-selector" && query.get("lineage").is_none() => {
                Ok(target)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The aggregate with an id, erased or not.
    pub(super) fn named(&self, shared: &Shared, id: String) -> Result<Target, Problem> {
        if !is_id(&id) {
            let detail = format!("an aggregate id has 1 to 1,024 bytes, this one has {}", id.len());
            return Err(Problem::selector(detail, "check the id"));
        }
        let (kind, lookup) = stream(shared, self.get("type"))?;
        Ok(Target { lookup, topic: topic(shared, &kind), kind, id })
    }

    /// The version.
    pub(super) fn version(&self) -> Result<Version, Problem> {
        let text = self.get("version");
        version(text).ok_or_else(|| unreadable("version", text, "versions are whole numbers from 1 on"))
    }
}

/// Whether an aggregate can have this id.
pub(super) fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
}

/// The stream of a type.
pub(super) fn stream(shared: &Shared, kind: &str) -> Result<(Arc<str>, Arc<Lookup>), Problem> {
    let streams = &shared.app.streams.by_type;
    if let Some((kind, lookup)) = streams.get_key_value(kind) {
        return Ok((Arc::clone(kind), Arc::clone(lookup)));
    }
    let types: Vec<&str> = streams.keys().map(|kind| &**kind).collect();
    let hint = match types[..] {
        [] => "no stream is configured".to_owned(),
        _ => format!("the types here are {}", named(&types)),
    };
    Err(Problem::new("unknown-aggregate", format!("no stream has the type `{}`", shown(kind))).hint(hint))
}

/// The topic of a type.
pub(super) fn topic(shared: &Shared, kind: &Arc<str>) -> Arc<str> {
    shared.app.topics.get(kind).cloned().unwrap_or_default()
}

/// What is said where no route is.
pub(super) async fn unknown(uri: Uri) -> Problem {
    let path = uri.path();
    let problem = Problem::new("unknown-route", format!("nothing is served at `{}`", shown(path)));
    let Some(inside) = path.strip_prefix("/v1/aggregates/") else { return problem };
    match inside.split('/').count() {
        ..=2 => problem.hint("an aggregate is at `/v1/aggregates/TYPE/ID`, a list at `/v1/aggregates?type=TYPE`"),
        _ => problem.hint(
            "an aggregate has `state`, `events`, `snapshots`, `diff`, `blame`, `history`, `watch`, `verify` and `proof`; if its id holds `/`, write that `%2F`",
        ),
    }
}

/// What is said where the route does not take the method; the router adds `Allow`.
pub(super) async fn wrong_method() -> Problem {
    Problem::new("wrong-method", "the route does not take this method")
}

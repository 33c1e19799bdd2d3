//! `POST /v1/snapshots:batch`: many snapshots on demand, answered at once, or by a job.
//!
//! *If it fails*: what became of each target stands in its item; others go on.
//! *If cancelled*: what was handed to workers is written all the same.
//!
//! COST: a job holds the targets it was given, or one page of ids at a time.

use super::create::Maker;
use super::jobs::{self, Job, Outcome};
use super::json::{self, Object};
use super::path::{self, is_id};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Shared, answer, body};
use crate::lookup::owners::Wanted;
use crate::lookup::{Asked, Lookup, Made};
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The route.
pub(super) const ROUTE: &str = "/v1/snapshots:batch";
/// Bytes of the longest body: a hundred thousand targets with ids of some 200 bytes.
pub(super) const BODY_BYTES_MAX: usize = 32 << 20;
/// Targets of the largest job.
const TARGETS_MAX: usize = 100_000;
/// Targets that are answered at once; more are a job.
const AT_ONCE_MAX: usize = 1_000;
/// Targets of one step of a job.
const PAGE: usize = 1_000;
/// Steps of a job that are in work at the same time: while the last of one are written, the next begin.
const PAGES_AT_ONCE: usize = 3;
/// Failures that a job tells one by one.
const FAILURES_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    targets: Option<Vec<Target>>,
    selector: Option<Selector>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    prefix: String,
}

pub(super) async fn post(State(shared): State<Shared>, uri: Uri, sent: Body) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let request: Request = body::json(sent, BODY_BYTES_MAX).await?;
    match (request.targets, request.selector) {
        (Some(targets), None) => {
            check(&targets)?;
            if targets.len() > AT_ONCE_MAX {
                return start_targets(&shared, targets);
            }
            let items = each(&shared, targets).await;
            Ok(answer(json::object(|body| {
                body.objects("items", &items, Item::write);
            })))
        }
        (None, Some(selector)) => start_selector(&shared, selector),
        _ => Err(Problem::new("bad-body", "the body has `targets` or `selector`, one of them").hint(
            "write `{\"targets\":[{\"type\":…,\"id\":…}]}` or `{\"selector\":{\"type\":…,\"prefix\":…}}`",
        )),
    }
}

fn check(targets: &[Target]) -> Result<(), Problem> {
    if targets.len() > TARGETS_MAX {
        let detail = format!("there are {} targets, {TARGETS_MAX} may be named at once", targets.len());
        return Err(Problem::new("bad-body", detail).hint("name them by a `selector`, or in several calls"));
    }
    for (at, target) in targets.iter().enumerate() {
        if !is_id(&target.id) {
            let detail =
                format!("an aggregate id has 1 to 1,024 bytes, that of target {at} has {}", target.id.len());
            return Err(Problem::new("bad-body", detail));
        }
        if target.version.is_some_and(|version| query::version(&version.to_string()).is_none()) {
            let detail = format!("the version of target {at} is no whole number from 1 on");
            return Err(Problem::new("bad-body", detail));
        }
    }
    Ok(())
}

/// What became of one target.
struct Item {
    kind: String,
    id: String,
    outcome: Result<(Made, String), Problem>,
}

impl Item {
    fn of(lookup: &Lookup, kind: &str, id: String, outcome: Asked<Made>) -> Self {
        let outcome = outcome.map(|made| (made, lookup.snapshot_name(&id, made.version)));
        Self { kind: kind.to_owned(), id, outcome: outcome.map_err(Problem::from) }
    }

    fn write(body: &mut Object<'_>, item: &Self) {
        body.text("aggregateType", &item.kind).text("aggregateId", &item.id);
        match &item.outcome {
            Ok((made, name)) => {
                body.text("status", if made.created { "created" } else { "exists" });
                body.number("version", made.version).text("snapshotId", name);
            }
            Err(problem) => {
                body.text("status", "failed").null("version").null("snapshotId");
                body.raw("error", &problem.body(""));
            }
        }
    }
}

/// Snapshots of all targets, beside each other, in the order asked.
async fn each(shared: &Shared, targets: Vec<Target>) -> Vec<Item> {
    let mut by_kind: BTreeMap<String, Vec<(usize, Wanted)>> = BTreeMap::new();
    for (at, Target { kind, id, version }) in targets.into_iter().enumerate() {
        by_kind.entry(kind).or_default().push((at, Wanted { id, version }));
    }
    let groups = by_kind.into_iter().map(|(kind, wanted)| async move {
        let (places, wanted): (Vec<usize>, Vec<Wanted>) = wanted.into_iter().unzip();
        let items: Vec<Item> = match path::stream(shared, &kind) {
            Ok((known, lookup)) => match Maker::of(shared, &known, &lookup) {
                Ok(maker) => made(&maker, &lookup, &kind, wanted).await,
                Err(problem) => refused(&kind, wanted, &problem),
            },
            Err(problem) => refused(&kind, wanted, &problem),
        };
        places.into_iter().zip(items).collect::<Vec<_>>()
    });
    let mut items: Vec<(usize, Item)> = join_all(groups).await.into_iter().flatten().collect();
    items.sort_by_key(|(at, _)| *at);
    items.into_iter().map(|(_, item)| item).collect()
}

async fn made(maker: &Maker, lookup: &Lookup, kind: &str, wanted: Vec<Wanted>) -> Vec<Item> {
    let ids: Vec<String> = wanted.iter().map(|wanted| wanted.id.clone()).collect();
    let outcomes = maker.all(wanted).await;
    ids.into_iter().zip(outcomes).map(|(id, outcome)| Item::of(lookup, kind, id, outcome)).collect()
}

fn refused(kind: &str, wanted: Vec<Wanted>, problem: &Problem) -> Vec<Item> {
    let item = |wanted: Wanted| Item { kind: kind.to_owned(), id: wanted.id, outcome: Err(problem.clone()) };
    wanted.into_iter().map(item).collect()
}

fn start_targets(shared: &Shared, targets: Vec<Target>) -> Result<Response, Problem> {
    let total = targets.len() as u64;
    let of = Arc::clone(shared);
    let job = shared.jobs.start(shared, "snapshots", Some(total), move |job| async move {
        let mut tally = Tally::default();
        let mut rest = targets.into_iter();
        let pages = std::iter::from_fn(|| {
            let page: Vec<Target> = rest.by_ref().take(PAGE).collect();
            (!page.is_empty()).then_some(page)
        });
        let mut done = stream::iter(pages).map(|page| each(&of, page)).buffer_unordered(PAGES_AT_ONCE);
        while let Some(items) = done.next().await {
            tally.take(items, &job);
        }
        Outcome::Done(tally.result())
    })?;
    Ok(jobs::started(&job))
}

fn start_selector(shared: &Shared, selector: Selector) -> Result<Response, Problem> {
    let (kind, lookup) = path::stream(shared, &selector.kind)?;
    let maker = Maker::of(shared, &kind, &lookup)?;
    let job = shared.jobs.start(shared, "snapshots", None, move |job| async move {
        let mut tally = Tally::default();
        let walk = Walk {
            lookup: Arc::clone(&lookup),
            prefix: selector.prefix,
            job: Arc::clone(&job),
            after: None,
            found: 0,
            is_over: false,
        };
        let pages = stream::unfold(walk, Walk::next);
        let made = |page: Result<Vec<Arc<str>>, Problem>| {
            let (maker, of, name) = (maker.clone(), Arc::clone(&lookup), Arc::clone(&kind));
            async move {
                let wanted = page?.into_iter().map(|id| Wanted { id: id.as_ref().to_owned(), version: None });
                Ok(made(&maker, &of, &name, wanted.collect()).await)
            }
        };
        let mut done = std::pin::pin!(pages.map(made).buffer_unordered(PAGES_AT_ONCE));
        let mut broken = None;
        while let Some(items) = done.next().await {
            match items {
                Ok(items) => tally.take(items, &job),
                Err(problem) => broken = Some(problem),
            }
        }
        match broken {
            None => Outcome::Done(tally.result()),
            Some(problem) => Outcome::Failed(tally.result(), problem),
        }
    })?;
    Ok(jobs::started(&job))
}

/// The aggregates of a selector, page by page.
struct Walk {
    lookup: Arc<Lookup>,
    prefix: String,
    job: Arc<Job>,
    after: Option<Arc<str>>,
    found: u64,
    is_over: bool,
}

impl Walk {
    async fn next(mut self) -> Option<(Result<Vec<Arc<str>>, Problem>, Self)> {
        if self.is_over {
            return None;
        }
        let page = self.lookup.ids(&self.prefix, self.after.as_deref(), PAGE).await;
        let page = page.map_err(Problem::from).map(|(ids, last)| {
            self.found += ids.len() as u64;
            self.after = last;
            ids
        });
        self.is_over = page.is_err() || self.after.is_none();
        if self.is_over && page.is_ok() {
            self.job.total(self.found);
        }
        Some((page, self))
    }
}

/// What became of a job's targets.
#[derive(Default)]
struct Tally {
    created: u64,
    exists: u64,
    failed: u64,
    failures: Vec<Item>,
}

impl Tally {
    fn take(&mut self, items: Vec<Item>, job: &Job) {
        job.advance(items.len() as u64);
        for item in items {
            match &item.outcome {
                Ok((Made { created: true, .. }, _)) => self.created += 1,
                Ok(_) => self.exists += 1,
                Err(_) => {
                    self.failed += 1;
                    if self.failures.len() < FAILURES_MAX {
                        self.failures.push(item);
                    }
                }
            }
        }
    }

    fn result(&self) -> Vec<u8> {
        json::object(|body| {
            body.number("created", self.created).number("exists", self.exists).number("failed", self.failed);
            body.objects("failures", &self.failures, Item::write);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Version;

    #[test]
    fn items_tell_what_became_of_each_target() {
        let items = [
            Item {
                kind: "order".into(),
                id: "a".into(),
                outcome: Ok((Made { version: Version(3), created: true }, "name".into())),
            },
            Item { kind: "order".into(), id: "b".into(), outcome: Err(Problem::new("corrupt", "why")) },
        ];
        let text = json::array(&items, Item::write);
        let items: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&items[0]["status"], &items[0]["version"]), (&"created".into(), &3.into()));
        assert_eq!((&items[1]["status"], &items[1]["error"]["code"]), (&"failed".into(), &"corrupt".into()));
    }

    #[test]
    fn ids_and_versions_that_cannot_be_are_named() {
        let target = |id: &str, version| Target { kind: "order".into(), id: id.into(), version };
        assert!(check(&[target("a", None), target("b", Some(1))]).is_ok());
        for wrong in [target("", None), target(&"x".repeat(1_025), None), target("a", Some(0))] {
            assert_eq!(check(&[wrong]).unwrap_err().code, "bad-body");
        }
    }
}

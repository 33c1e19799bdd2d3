//! `POST …/snapshots:compact`: history of one aggregate merged, thinned or rebased, by whoever owns its
//! partition, as a job.
//!
//! *If it fails*: the job tells why; what was written until then is true, and nothing is missing.
//! *If cancelled*: the same.

use super::create::Maker;
use super::edge::BODY_BYTES_MAX;
use super::jobs::{self, Outcome};
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Shared, answer, body, json};
use crate::domain::compaction::{Aim, Depth};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{PartitionNo, Version};
use crate::domain::record::SegmentBody;
use crate::lookup::owners::Owners;
use crate::lookup::{Asked, Refusal};
use crate::upkeep::compaction::{Compacted, Compactor, Rebased, Wish};
use crate::worker::Handle;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The route.
pub(super) const ROUTE: &str = "/v1/aggregates/{type}/{id}/snapshots:compact";
/// Full records that stay where the request does not say.
const KEEP_FULL: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    Merge,
    Thin,
    Rebase,
}

impl Strategy {
    fn name(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Thin => "thin",
            Self::Rebase => "rebase",
        }
    }
}

/// What stays whatever the strategy would let go of.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keep {
    /// With `merge` and `thin`: so many full snapshots, the newest first.
    snapshots: Option<usize>,
    /// With `rebase`: everything from this version on.
    from_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    strategy: Strategy,
    #[serde(default)]
    keep: Keep,
    #[serde(default)]
    dry_run: bool,
}

/// What one owner is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    id: String,
    strategy: Strategy,
    keep: Keep,
}

/// What came of it, between workers of one version or its neighbours, never stored.
#[derive(Serialize, Deserialize)]
enum Told {
    Compacted {
        segments: u64,
        events: u64,
        raw: u64,
        stored: u64,
        superseded: u64,
        deleted: u64,
        /// Bytes.
        freed: u64,
    },
    Rebased {
        version: u64,
        created: bool,
        reads: u64,
        freed: u64,
    },
    NoSnapshot,
    Refused {
        code: String,
        detail: String,
    },
}

impl Order {
    fn wish(&self) -> Wish {
        let aim = if self.strategy == Strategy::Thin { Aim::Thin } else { Aim::Merge };
        let keep_full = self.keep.snapshots.unwrap_or(KEEP_FULL);
        Wish { aim, depth: Depth::All, events_max: SegmentBody::EVENTS_MAX, keep_full }
    }

    fn version(&self) -> Option<Version> {
        self.keep.from_version.map(Version)
    }

    /// Does it, if the partition is folded here.
    async fn carry_out(&self, compactor: &Compactor, own: &Handle, partition: PartitionNo) -> Option<Told> {
        let outcome = if self.strategy == Strategy::Rebase {
            let rebased = compactor.rebase(own, partition, &self.id, self.version()).await;
            rebased.map(|rebased| rebased.map(Told::of_rebased))
        } else {
            let compacted = compactor.compact(own, partition, &self.id, self.wish()).await;
            compacted.map(|compacted| compacted.map(Told::of_compacted))
        };
        match outcome {
            Ok(told) => told,
            Err(error) => Some(Told::Refused { code: error.code.to_owned(), detail: error.detail }),
        }
    }
}

impl Told {
    fn of_compacted(done: Compacted) -> Self {
        Self::Compacted {
            segments: done.segments,
            events: done.events,
            raw: done.raw_bytes,
            stored: done.stored_bytes,
            superseded: done.superseded,
            deleted: done.deleted,
            freed: done.freed_bytes,
        }
    }

    fn of_rebased(done: Rebased) -> Self {
        let Rebased { version, created, reads, freed_bytes: freed } = done;
        Self::Rebased { version: version.0, created, reads, freed }
    }

    /// How the job ends.
    fn outcome(self, strategy: Strategy) -> Outcome {
        let result = json::object(|body| {
            body.text("strategy", strategy.name());
            match &self {
                Self::Compacted { segments, events, raw, stored, superseded, deleted, freed } => {
                    body.number("segments", segments).number("events", events);
                    body.number("rawBytes", raw).number("storedBytes", stored);
                    body.number("superseded", superseded).number("deleted", deleted);
                    body.number("freedBytes", freed);
                }
                Self::Rebased { version, created, freed, .. } => {
                    body.number("version", version).flag("created", *created);
                    body.number("freeableBytes", freed);
                }
                Self::NoSnapshot | Self::Refused { .. } => {}
            }
        });
        match self {
            Self::Compacted { .. } | Self::Rebased { .. } => Outcome::Done(result),
            Self::NoSnapshot => Outcome::Failed(result, Refusal::NoSnapshot.into()),
            Self::Refused { code, detail } => Outcome::Failed(result, refused(&code, detail)),
        }
    }
}

fn refused(code: &str, detail: String) -> Problem {
    let error = match code {
        "state-mismatch" => Error::new(ErrorKind::Corrupt, "state-mismatch", detail),
        "corrupt" => Error::corrupt(detail),
        "lineage-changed" => Error::new(ErrorKind::Conflict, "lineage-changed", detail),
        "history-gone" => Error::new(ErrorKind::Gone, "history-gone", detail),
        "not-caught-up" => Error::new(ErrorKind::Unavailable, "not-caught-up", detail),
        _ => Error::new(ErrorKind::Unavailable, "dependency-down", detail),
    };
    Refusal::Failed(error).into()
}

pub(super) async fn post(
    State(shared): State<Shared>,
    path: Path,
    uri: Uri,
    sent: Body,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let target = path.target(&shared)?;
    let request: Request = body::json(sent, BODY_BYTES_MAX).await?;
    let order = order(&target, &request)?;
    let compactor = compactor(&shared, &target.kind)?;
    let partition = target.lookup.place(&target.id).await?.ok_or(Refusal::UnknownAggregate)?;
    if request.dry_run {
        return dry_run(&compactor, partition, &order).await;
    }
    let maker = Maker::of(&shared, &target.kind, &target.lookup)?;
    let job = shared.jobs.start(&shared, "compaction", Some(1), move |job| async move {
        let told = carried_out(&compactor, &maker, partition, &order).await;
        job.advance(1);
        told.outcome(order.strategy)
    })?;
    Ok(jobs::started(&job))
}

/// What the request asks of the owner.
fn order(target: &Target, request: &Request) -> Result<Order, Problem> {
    let Keep { snapshots, from_version } = request.keep;
    let wrong = match request.strategy {
        Strategy::Rebase if snapshots.is_some() => {
            Some("`rebase` keeps from a version on: write `fromVersion`")
        }
        Strategy::Merge | Strategy::Thin if from_version.is_some() => {
            Some("`merge` and `thin` keep full snapshots: write `snapshots`")
        }
        _ if from_version.is_some_and(|version| query::version(&version.to_string()).is_none()) => {
            Some("`fromVersion` is a whole number from 1 on")
        }
        _ if snapshots == Some(0) => Some("at least one full snapshot stays: the newest"),
        _ => None,
    };
    match wrong {
        Some(hint) => Err(Problem::new("bad-body", "`keep` does not fit the strategy").hint(hint)),
        None => Ok(Order { id: target.id.clone(), strategy: request.strategy, keep: request.keep }),
    }
}

pub(super) fn compactor(shared: &Shared, kind: &Arc<str>) -> Result<Arc<Compactor>, Problem> {
    let found = shared.app.compactors.get(kind).cloned();
    found.ok_or_else(|| Problem::new("internal", "a stream has no compactor"))
}

async fn dry_run(compactor: &Compactor, partition: PartitionNo, order: &Order) -> Result<Response, Problem> {
    let (reads, writes, freed) = if order.strategy == Strategy::Rebase {
        let plan = compactor.rebase_plan(partition, &order.id, order.version()).await;
        let plan = plan.map_err(Refusal::Failed)?.ok_or(Refusal::NoSnapshot)?;
        (plan.reads, u64::from(plan.created), plan.freed_bytes)
    } else {
        let plan = compactor.plan(partition, &order.id, order.wish()).await.map_err(Refusal::Failed)?;
        (plan.reads, plan.segments.len() as u64, plan.freed_bytes())
    };
    Ok(answer(json::object(|body| {
        body.text("strategy", order.strategy.name());
        body.number("reads", reads).number("writes", writes).number("freedBytes", freed);
    })))
}

/// Here, or by whoever owns the partition.
async fn carried_out(compactor: &Compactor, maker: &Maker, partition: PartitionNo, order: &Order) -> Told {
    if order.strategy == Strategy::Rebase {
        match compactor.rebase_plan(partition, &order.id, order.version()).await {
            Ok(None) => return Told::NoSnapshot,
            Ok(Some(_)) => {}
            Err(error) => return Told::Refused { code: error.code.to_owned(), detail: error.detail },
        }
    }
    if let Some(told) = order.carry_out(compactor, maker.own(), partition).await {
        return told;
    }
    match elsewhere(maker.owners(), partition, order).await {
        Some(told) => told,
        None => {
            let detail = format!("no worker that could be reached folds partition {partition} now");
            Told::Refused { code: "dependency-down".to_owned(), detail }
        }
    }
}

async fn elsewhere(owners: &Owners, partition: PartitionNo, order: &Order) -> Option<Told> {
    let bytes = owners.compact_elsewhere(partition, serde_json::to_vec(order).ok()?).await?;
    serde_json::from_slice(&bytes).ok()
}

/// What this process tells another that asks it; none if it does not own the partition.
pub(super) async fn tell(
    compactor: &Compactor,
    own: &Handle,
    partition: PartitionNo,
    order: &Order,
) -> Asked<Option<Vec<u8>>> {
    let Some(told) = order.carry_out(compactor, own, partition).await else { return Ok(None) };
    let bytes = serde_json::to_vec(&told);
    Ok(Some(bytes.map_err(|error| Error::corrupt(format!("write an answer: {error}")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Request, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_request_names_a_strategy_and_what_stays() {
        let merge = request(r#"{"strategy":"merge","keep":{"snapshots":3},"dryRun":true}"#).unwrap();
        assert_eq!((merge.strategy, merge.keep.snapshots, merge.dry_run), (Strategy::Merge, Some(3), true));
        assert!(request(r#"{"strategy":"rebase","keep":{"fromVersion":7}}"#).is_ok());
        for wrong in ["{}", r#"{"strategy":"squash"}"#, r#"{"strategy":"merge","keep":{"all":1}}"#] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_an_owner_tells_is_what_is_heard() {
        let told =
            Told::of_compacted(Compacted { segments: 3, events: 700, deleted: 2, ..Compacted::default() });
        let text = serde_json::to_vec(&told).unwrap();
        let heard: Told = serde_json::from_slice(&text).unwrap();
        let Outcome::Done(result) = heard.outcome(Strategy::Merge) else { panic!("it is done") };
        let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
        assert_eq!((&result["segments"], &result["deleted"]), (&3.into(), &2.into()));
        let refused = Told::Refused { code: "state-mismatch".to_owned(), detail: "why".to_owned() };
        let Outcome::Failed(_, problem) = refused.outcome(Strategy::Merge) else { panic!("it failed") };
        assert_eq!(problem.code, "state-mismatch");
    }
}

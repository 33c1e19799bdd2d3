//! `DELETE …/snapshots/{version}` and `DELETE …/snapshots`: snapshots that somebody wants gone.
//!
//! *Order*: with `rebase`, the head is made durable as a snapshot and the events are merged into those of the
//! next one before anything is deleted; see `upkeep::retention` for the rest.

use super::create::Maker;
use super::path::{Path, Target};
use super::problem::Problem;
use super::query::Query;
use super::{Shared, answer, json};
use crate::domain::ids::Version;
use crate::domain::moment;
use crate::domain::retention::{Plan, Promise, Reason, Wanted};
use crate::domain::row::RecordKind;
use crate::lookup::{Freshness, Refusal, Selector, Which};
use crate::upkeep::retention::{Planned, Refused, Retention};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use std::sync::Arc;

/// Records that one request reads to prove what stays.
const RELIED_MAX: usize = 5_000;

/// Deletes snapshots of the stream of an aggregate.
pub(super) fn retention(target: &Target) -> Retention {
    let (ledger, packs, lineage) = target.lookup.upkeep();
    Retention { packs, ledger: Arc::new(ledger), lineage }
}

/// Snapshots of one aggregate that are to be deleted.
struct Deleting {
    target: Target,
    retention: Retention,
    promise: Promise,
}

impl Deleting {
    fn of(shared: &Shared, target: Target) -> Self {
        let keep = shared.app.keep.get(&target.kind).copied().unwrap_or_default();
        let retention = retention(&target);
        let promise = keep.promise(retention.now());
        Self { target, retention, promise }
    }

    async fn plan(&self, wanted: Wanted) -> Result<Planned, Problem> {
        let key = self.target.lookup.key_of(&self.target.id);
        Ok(self.retention.plan(&key, wanted, self.promise).await?)
    }

    async fn act(&self, planned: Planned) -> Result<(), Problem> {
        bounded(planned.plan.relied.len())?;
        // Everything that is relied on is read: that is work as any other question's.
        let _turn = self.target.lookup.admit().await?;
        self.retention.act(&planned, "asked for").await.map_err(refused)
    }

    /// 423 where the aggregate is held, also for a dry run.
    async fn may_delete(&self) -> Result<(), Problem> {
        let hold = self.retention.hold(&self.target.lookup.key_of(&self.target.id)).await?;
        hold.map_or(Ok(()), |hold| Err(refused(Refused::Held(hold))))
    }

    /// Gives the events of a version that newer ones need another place: the increment of the next snapshot,
    /// which then holds both.
    async fn rebase(&self, shared: &Shared, version: Version) -> Result<(), Problem> {
        let Target { kind, lookup, id, .. } = &self.target;
        // The newest snapshot can go once there is a newer one, and rows below it may be written then.
        Maker::of(shared, kind, lookup)?.one(id, None).await?;
        let planned = self.plan(Wanted::One(version)).await?;
        let here =
            planned.rows.iter().filter(|row| row.version == version && row.kind == RecordKind::Increment);
        let Some(from) = here.map(|row| row.from_version).min() else { return Ok(()) };
        let partition = planned.rows.iter().find(|row| row.version == version).map(|row| row.partition);
        let after = planned.rows.iter().filter(|row| {
            let leads_on = row.kind == RecordKind::Increment && row.from_version <= version;
            leads_on && row.version > version && Some(row.partition) == partition
        });
        let Some((upto, partition)) = after.map(|row| row.version).min().zip(partition) else {
            return Ok(());
        };
        let Some(worker) = shared.app.workers.get(kind) else {
            return Err(Problem::new("internal", "a stream has no worker"));
        };
        lookup.merge(worker, partition, id, (from, upto)).await?;
        Ok(())
    }
}

/// 413 where more records would have to be read than one request may.
fn bounded(relied: usize) -> Result<(), Problem> {
    if relied <= RELIED_MAX {
        return Ok(());
    }
    let detail = format!(
        "nothing was deleted: {relied} records that stay would have to be read and found sound, {RELIED_MAX} may be"
    );
    let hint = "merge the history first (`POST …/compact`), or let `retention` of the stream do it";
    Err(Problem::new("too-much-work", detail).hint(hint))
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Held(hold) => {
            let since = moment::format(hold.at.minted_at());
            let why = hold.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Problem::new("legal-hold", format!("the aggregate is held since {since}{why}"))
        }
        Refused::Unproved(row, error) => {
            let version = row.version;
            let detail = format!(
                "nothing was deleted: the record of version {version}, on which the others would rest, cannot be read: {error}"
            );
            Problem::new("corrupt", detail)
        }
        Refused::Changed(version) => {
            let detail = format!(
                "nothing was deleted: the snapshot of version {version}, on which the others would rest, went meanwhile"
            );
            Problem::new("conflict", detail).hint("somebody else deletes here as well: ask again")
        }
        Refused::Failed(error) => error.into(),
    }
}

/// Why one snapshot cannot go.
fn kept(version: Version, reason: Reason) -> Problem {
    let needed = |why: &str| Problem::new("needed-by-increments", format!("snapshot {version} stays: {why}"));
    match reason {
        Reason::Newest => needed("it is the newest, from which the next increment starts").hint(
            "delete it once there is a newer one; with `rebase=true` one is taken if there were events since",
        ),
        Reason::NeededByIncrements => needed("newer increments start from it"),
        Reason::History => needed("it holds the events of versions that `history` promises"),
        Reason::Pinned => Problem::new("conflict", format!("snapshot {version} is pinned"))
            .hint("take the pin away first: `PATCH …/snapshots/{version}` with `{\"pinned\":false}`"),
        Reason::Quarantined => {
            let detail = format!("snapshot {version} tells since when and why the aggregate is quarantined");
            Problem::new("conflict", detail).hint("it stays for as long as the aggregate is quarantined")
        }
    }
}

fn told(plan: &Plan, is_dry_run: bool) -> Response {
    answer(json::object(|body| {
        let deleted: Vec<String> = plan.deleted().iter().map(ToString::to_string).collect();
        body.raw("deleted", format!("[{}]", deleted.join(",")).as_bytes());
        body.objects("kept", &plan.kept, |body, (version, reason)| {
            body.number("version", version).text("reason", reason.name());
        });
        body.number("freedBytes", plan.freed_bytes()).flag("dryRun", is_dry_run);
    }))
}

pub(super) async fn one(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["rebase", "dryRun"])?;
    let (rebase, is_dry_run) = (query.flag("rebase")?, query.flag("dryRun")?);
    let version = path.version()?;
    let deleting = Deleting::of(&shared, path.target(&shared)?);
    let (lookup, id) = (&deleting.target.lookup, &deleting.target.id);
    lookup.snapshot_meta(id, Which::Version(version)).await?;
    deleting.may_delete().await?;
    let mut planned = deleting.plan(Wanted::One(version)).await?;
    let may_rebase = |reason| matches!(reason, Reason::Newest | Reason::NeededByIncrements | Reason::History);
    if let Some((_, reason)) = planned.plan.kept.first().copied() {
        if !(rebase && may_rebase(reason)) {
            return Err(kept(version, reason));
        }
        if is_dry_run {
            // What a rebase would make of it: all rows of the version go, unless nothing comes after it.
            return would_rebase(&deleting, version, planned).await;
        }
        deleting.rebase(&shared, version).await?;
        planned = deleting.plan(Wanted::One(version)).await?;
        if let Some((_, reason)) = planned.plan.kept.first() {
            return Err(kept(version, *reason));
        }
    }
    let plan = planned.plan.clone();
    if !is_dry_run {
        deleting.act(planned).await?;
    }
    Ok(told(&plan, is_dry_run))
}

async fn would_rebase(deleting: &Deleting, version: Version, planned: Planned) -> Result<Response, Problem> {
    let Target { lookup, id, .. } = &deleting.target;
    let head = lookup.state(id, Selector::Head, Freshness::default()).await?.aggregate.version;
    if head <= version {
        return Err(kept(version, Reason::Newest));
    }
    let rows = planned.rows.into_iter().filter(|row| row.version == version).collect();
    Ok(told(&Plan { go: rows, ..Plan::default() }, true))
}

pub(super) async fn before(State(shared): State<Shared>, path: Path, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["beforeVersion", "before", "dryRun"])?;
    let is_dry_run = query.flag("dryRun")?;
    let wanted = match (query.version("beforeVersion")?, query.time("before")?) {
        (Some(version), None) => Wanted::Below(version),
        (None, Some(time)) => Wanted::Before(time),
        (None, None) => {
            let detail = "nothing says which snapshots are to be deleted";
            return Err(Problem::selector(detail, "give `beforeVersion=N` or `before=TIME`"));
        }
        (Some(_), Some(_)) => {
            let detail = "`beforeVersion` and `before` both say where to end";
            return Err(Problem::selector(detail, "keep one of them"));
        }
    };
    let deleting = Deleting::of(&shared, path.target(&shared)?);
    let (lookup, id) = (&deleting.target.lookup, &deleting.target.id);
    if lookup.place(id).await?.is_none() {
        return Err(Refusal::UnknownAggregate.into());
    }
    deleting.may_delete().await?;
    let planned = deleting.plan(wanted).await?;
    let plan = planned.plan.clone();
    if !is_dry_run {
        deleting.act(planned).await?;
    }
    Ok(told(&plan, is_dry_run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_that_would_read_too_much_is_refused() {
        assert!(bounded(RELIED_MAX).is_ok());
        let problem = bounded(RELIED_MAX + 1).expect_err("one too many");
        assert_eq!((problem.status.as_u16(), problem.code), (413, "too-much-work"));
    }
}

//! Which versions could not be rebuilt if the topic were gone: aggregates whose rows do not lead from
//! version 1 to their newest one.
//!
//! COST: every row is read, of at most [`AGGREGATES_MAX`] aggregates of a type.

use crate::cli::checks::Check;
use crate::cli::screen::printable;
use crate::config::Stream;
use crate::domain::coverage::Coverage;
use crate::domain::ids::{AggregateKey, Lineage, Version};
use crate::domain::outcome::PortResult;
use crate::domain::partition::Strategy;
use crate::store::index::{From, Index, RowWalk};
use std::sync::Arc;

/// Aggregates that are looked at.
const AGGREGATES_MAX: usize = 100_000;
/// Aggregates listed in one go.
const PAGE: usize = 1_000;
/// Rows read in one go.
const ROWS: usize = 256;

/// What was found of one stream.
#[derive(Default)]
struct Covered {
    aggregates: usize,
    is_cut: bool,
    uncovered: usize,
    example: Option<(Arc<str>, (Version, Version))>,
}

pub(super) async fn of(index: &dyn Index, stream: &Stream, lineage: Lineage) -> Check {
    let name = format!("{}.coverage", stream.kind);
    let covered = match look(index, &stream.kind, lineage).await {
        Ok(covered) => covered,
        Err(error) => return Check::warn(&name, format!("read rows: {error}"), "is the index whole?"),
    };
    let Covered { aggregates, is_cut, uncovered, example } = covered;
    let more = if is_cut { ", the first ones" } else { "" };
    let Some((id, (from, to))) = example else {
        let found = format!("every version up to the newest snapshot of {aggregates} aggregates{more}");
        return Check::ok(&name, found);
    };
    let found = format!(
        "{uncovered} of {aggregates} aggregates{more} have versions that only the topic can give, as {from} to {to} of `{}`",
        printable(&id)
    );
    let hint = match stream.strategy {
        Strategy::Full | Strategy::Auto { .. } => {
            "set `snapshot.strategy: incremental` to keep every event; the topic must keep these"
        }
        Strategy::Incremental { .. } => {
            "the topic had lost their events before they were folded; keep snapshots of what is left"
        }
    };
    Check::warn(&name, found, hint)
}

async fn look(index: &dyn Index, kind: &Arc<str>, lineage: Lineage) -> PortResult<Covered> {
    let mut covered = Covered::default();
    let mut after: Option<Arc<str>> = None;
    loop {
        let page = index.aggregates(kind, after.as_deref(), PAGE).await?;
        after = page.last().map(|(key, _)| Arc::clone(&key.id)).filter(|_| page.len() == PAGE);
        for (key, _) in &page {
            let gaps = rows(index, key, lineage).await?.gaps();
            covered.aggregates += 1;
            if let Some(gap) = gaps.first() {
                covered.uncovered += 1;
                covered.example.get_or_insert_with(|| (Arc::clone(&key.id), *gap));
            }
        }
        covered.is_cut = after.is_some() && covered.aggregates >= AGGREGATES_MAX;
        if after.is_none() || covered.is_cut {
            return Ok(covered);
        }
    }
}

async fn rows(index: &dyn Index, key: &AggregateKey, lineage: Lineage) -> PortResult<Coverage> {
    let mut coverage = Coverage::default();
    let mut walk = RowWalk::new(index, key, lineage, From::Above(Version(0)), ROWS);
    while let Some(rows) = walk.next().await? {
        rows.iter().for_each(|row| coverage.take(row));
    }
    Ok(coverage)
}

//! Walking the aggregates of a type: the same id in several partitions stays in one page.

use super::index::Index;
use super::unavailable;
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, PartitionNo};
use std::sync::Arc;

/// Some of the aggregates after an id, with their partitions.
pub struct Page {
    /// In id order.
    pub aggregates: Vec<(AggregateKey, PartitionNo)>,
    /// None come after these.
    pub is_last: bool,
}

/// About `limit` aggregates of a type after this id, more where one id has more; none only after the last.
///
/// # Errors
/// `Unavailable`.
pub async fn page(index: &dyn Index, kind: &Arc<str>, after: Option<&str>, mut limit: usize) -> Result<Page> {
    loop {
        let listed = index.aggregates(kind, after, limit).await;
        let mut aggregates = listed.map_err(|error| unavailable("list aggregates", &error))?;
        let is_last = aggregates.len() < limit;
        if !is_last && let Some(last) = aggregates.last().map(|(key, _)| Arc::clone(&key.id)) {
            // It may end between two partitions of one id.
            aggregates.retain(|(key, _)| key.id != last);
        }
        if is_last || !aggregates.is_empty() {
            return Ok(Page { aggregates, is_last });
        }
        limit *= 2;
    }
}

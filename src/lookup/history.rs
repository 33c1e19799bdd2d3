//! How an aggregate came to be: its events over a range of versions, and the difference between two versions.

use super::{Answer, Asked, Diff, EventView, Freshness, Lookup, Refusal, Selector};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, PartitionNo, Version};
use crate::domain::patch;
use crate::domain::row::PartitionKey;
use crate::domain::value::Value;
use crate::reconstruct::{AsOf, Ask, FoldedEvent, Found};

impl Lookup {
    /// The events of the versions `from ..= to` (the head without `to`), at most `limit` of them: the
    /// first, or the last in descending order.
    ///
    /// # Errors
    /// `VersionBeyondHead` if `from` is; `HistoryGone`, with the earliest event that is left, if they are.
    pub async fn events(
        &self,
        id: &str,
        from: Version,
        to: Option<Version>,
        descending: bool,
        limit: usize,
    ) -> Asked<Vec<EventView>> {
        let key = self.key(id);
        let Some(partition) = self.locate(&key).await? else { return Err(Refusal::UnknownAggregate) };
        let log = self.log_of(partition);
        let owner = self.ask_owner(&log, &key.id).await?;
        let from = from.max(Version(1));
        // Without a version to end at, the head must be known; up to one, the events up to it must.
        let head = match (self.head_if_readable(&log, &key, &owner, None, Freshness::default()).await?, to) {
            (Some(head), _) => head.version,
            (None, Some(to)) => to.max(from),
            (None, None) => {
                let detail = "the newest version cannot be read; ask for the events up to a version";
                return Err(Refusal::Failed(Error::corrupt(detail)));
            }
        };
        if from > head {
            return Err(Refusal::VersionBeyondHead { head });
        }
        let to = to.unwrap_or(head).min(head);
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        if from > to || most == 0 {
            return Ok(Vec::new());
        }
        let (first, last) = if descending {
            (from.max(Version((to.0 + 1).saturating_sub(most))), to)
        } else {
            (from, to.min(Version(from.0.saturating_add(most - 1))))
        };
        let mut events = self.events_between(&log, &key, first, last).await?;
        if descending {
            events.reverse();
        }
        Ok(events.into_iter().map(|event| viewed(event, partition)).collect())
    }

    /// The events of versions that exist.
    pub(super) async fn events_between(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        first: Version,
        last: Version,
    ) -> Asked<Vec<FoldedEvent>> {
        let base = self.kept_below(key, Version(first.0 - 1)).await;
        let ask = Ask { base, events_from: Some(first), ..self.ask(AsOf::Version(last)) };
        let read = self.read_rest(log, key, &ask).await?;
        match &read.found {
            Found::State(..) => {}
            other => return Err(self.no_state(other)),
        }
        let versions = first.0..=last.0;
        if !read.events.iter().map(|event| event.version.0).eq(versions) {
            let detail = format!("the events of versions {first} to {last} were not all met by the fold");
            return Err(Refusal::Failed(Error::new(ErrorKind::Internal, "corrupt", detail)));
        }
        Ok(read.events)
    }

    /// Two moments of an aggregate, and the patch that leads from one state to the other.
    ///
    /// # Errors
    /// As for `state`.
    pub async fn diff(&self, id: &str, from: Selector, to: Selector) -> Asked<Diff> {
        let from = self.state(id, from, Freshness::default()).await?;
        let to = self.state(id, to, Freshness::default()).await?;
        let patch = patch::diff(&self.tree(&from)?, &self.tree(&to)?).to_value();
        Ok(Diff { from, to, patch })
    }

    /// The state as a tree; null for a deleted one.
    fn tree(&self, answer: &Answer) -> Asked<Value> {
        let Some(text) = answer.aggregate.state.to_json() else { return Ok(Value::Null) };
        let parsed = Value::parse(&text, &self.reader().rules.limits);
        parsed.map_err(|error| Refusal::Failed(Error::corrupt(format!("read a state: {error}"))))
    }
}

fn viewed(event: FoldedEvent, partition: PartitionNo) -> EventView {
    let FoldedEvent { version, skipped, event, effective_time } = event;
    EventView { version, skipped, event, effective_time, partition }
}

//! A walk through a stretch of history: each event of it with the states before and after. What blame, the
//! history of a field and watching are made of.
//!
//! *Order*: one read brings the state before the stretch and its events; they are folded again here, with the
//! fold that everything uses, so what is seen of a version is what asking for it would give.
//! COST: a copy of the state for each event; long histories are walked in stretches.

use super::history::{Changed, Writer};
use super::{Asked, Lookup, Refusal};
use crate::domain::aggregate::{Aggregate, Rules};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, Digest, Version};
use crate::domain::patch;
use crate::domain::row::PartitionKey;
use crate::domain::state::State;
use crate::domain::value::{Limits, Pointer, Value};
use crate::reconstruct::{AsOf, Ask, FoldedEvent, Found};
use std::future::poll_fn;
use std::task::Poll;

/// Versions of the longest stretch that is held at once.
pub(super) const STRETCH_MAX: u64 = 256;

/// Events that are folded before others get their turn.
const EVENTS_A_TURN: usize = 8;

/// A state before some events, and the events.
pub(super) struct Stretch {
    before: Aggregate,
    events: Vec<FoldedEvent>,
}

/// One event and the states around it; null before the first event and where it is deleted.
pub(super) struct Step<'a> {
    pub(super) event: &'a FoldedEvent,
    pub(super) before: &'a Value,
    pub(super) after: &'a Value,
}

impl Step<'_> {
    /// Who wrote this version.
    pub(super) fn writer(&self) -> Writer {
        let event = &self.event.event;
        Writer {
            version: self.event.version,
            event_type: event.event_type().map(Into::into),
            event_id: event.event_id().map(Into::into),
            timestamp: self.event.effective_time,
        }
    }

    /// What the event did, as a patch.
    pub(super) fn changed(&self) -> Changed {
        Changed { by: self.writer(), patch: patch::diff(self.before, self.after).to_value() }
    }

    /// What the event did to one place; none if nothing.
    pub(super) fn at(&self, path: &Pointer) -> Option<(Option<Value>, Option<Value>)> {
        let (before, after) = (self.before.pointer(path), self.after.pointer(path));
        // Before the first event there is no state, and its absence is not the value null.
        let before = before.filter(|_| self.event.version > Version(1));
        (before != after).then(|| (before.cloned(), after.cloned()))
    }
}

impl Stretch {
    /// The chain before the first event.
    pub(super) fn before_chain(&self) -> Digest {
        self.before.chain
    }

    /// The events.
    pub(super) fn into_events(self) -> Vec<FoldedEvent> {
        self.events
    }

    /// Folds the events one after the other and shows each. Others get their turn in between: large states
    /// take milliseconds each.
    pub(super) async fn walk(self, rules: &Rules, mut see: impl FnMut(&Step<'_>) + Send) -> Asked<()> {
        let Self { before: mut aggregate, events } = self;
        let mut before = tree(&aggregate.state, &rules.limits)?;
        for (nth, event) in events.iter().enumerate() {
            if nth % EVENTS_A_TURN == EVENTS_A_TURN - 1 {
                let_others().await;
            }
            let refolded = rules.refold(&mut aggregate, event.version, event.skipped, &event.event);
            refolded.map_err(Refusal::Failed)?;
            let after = tree(&aggregate.state, &rules.limits)?;
            see(&Step { event, before: &before, after: &after });
            before = after;
        }
        Ok(())
    }
}

/// Comes back when whoever else waits on this thread had a turn.
pub(super) async fn let_others() {
    let mut had_it = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_it, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A state as a tree; null where there is none.
pub(super) fn tree(state: &State, limits: &Limits) -> Asked<Value> {
    match state {
        State::Absent => Ok(Value::Null),
        State::Hot(tree) => Ok(tree.value().clone()),
        State::Idle(text) => Value::parse(text, limits)
            .map_err(|error| Refusal::Failed(Error::corrupt(format!("read a state: {error}")))),
    }
}

impl Lookup {
    /// The stretch of the versions `first ..= last`, all of which exist.
    pub(super) async fn stretch(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        first: Version,
        last: Version,
    ) -> Asked<Stretch> {
        let base = self.kept_below(key, Version(first.0 - 1)).await;
        let ask = Ask { base, events_from: Some(first), ..self.ask(AsOf::Version(last)) };
        let read = self.read_rest(log, key, &ask).await?;
        match &read.found {
            Found::State(..) => {}
            other => return Err(self.no_state(other)),
        }
        let is_whole = read.events.iter().map(|event| event.version.0).eq(first.0..=last.0);
        match read.before_events.filter(|before| is_whole && before.version.next() == first) {
            Some(before) => Ok(Stretch { before: *before, events: read.events }),
            None => {
                let detail = format!("the events of versions {first} to {last} were not all met by the fold");
                Err(Refusal::Failed(Error::new(ErrorKind::Internal, "corrupt", detail)))
            }
        }
    }

    /// The events of versions that exist.
    pub(super) async fn events_between(
        &self,
        log: &PartitionKey,
        key: &AggregateKey,
        first: Version,
        last: Version,
    ) -> Asked<Vec<FoldedEvent>> {
        Ok(self.stretch(log, key, first, last).await?.events)
    }
}

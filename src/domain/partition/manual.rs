//! Snapshots that somebody asks for: who waits for which version, and what they hear.
//!
//! INVARIANT: what is told as durable is acknowledged, and so is everything it follows on: a snapshot of an
//! older version may be written beside this machine then, because no row above it is missing.

use super::slot::{Body, SlotId};
use super::{Effect, Partition, Reply};
use crate::domain::ids::Version;
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::Trigger;
use std::sync::Arc;

/// What came of asking for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This version is durable as a snapshot.
    Durable {
        /// Its version: the head, or at or above the one that was asked for.
        version: Version,
        /// It was taken for whoever asked; else it was there.
        created: bool,
    },
    /// The head is below the version that was asked for.
    Beyond {
        /// The head.
        head: Version,
    },
}

/// Somebody who waits for a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) reply: Reply,
    /// A snapshot of this version or of a later one will do; none: that of the head.
    pub(super) upto: Option<Version>,
    /// Why it is asked for: by hand, or by a schedule.
    pub(super) trigger: Trigger,
}

/// Tells whoever waited the same.
pub(super) fn tell(waiters: Vec<Waiter>, answer: &Result<Taken, String>, effects: &mut Vec<Effect>) {
    let told = waiters.into_iter().map(|waiter| Effect::SnapshotTaken(waiter.reply, answer.clone()));
    effects.extend(told);
}

impl Partition {
    pub(super) fn snapshot_now(&mut self, id: &Arc<str>, waiter: Waiter, effects: &mut Vec<Effect>) {
        if self.erased.contains(id) {
            let why = "the aggregate was erased".to_owned();
            return effects.push(Effect::SnapshotTaken(waiter.reply, Err(why)));
        }
        let slot = self.slots.find(id).unwrap_or_else(|| self.slots.insert(id));
        if let Body::Loading(loading) = &mut self.slots.get_mut(slot).body {
            loading.waiters.push(waiter);
            self.touch(slot);
            self.ask_load(slot, effects);
        } else {
            self.want_manual(slot, waiter, effects);
        }
    }

    pub(super) fn want_manual(&mut self, slot: SlotId, waiter: Waiter, effects: &mut Vec<Effect>) {
        let live = self.slots.get_mut(slot).live_mut().expect("asked of a live aggregate");
        live.busy.manual.push(waiter);
        self.want_snapshot(slot, waiter.trigger, effects);
    }

    /// Tells those whose version is durable already, or does not exist. Where nobody else waits, no snapshot
    /// is taken for them. Only of an aggregate whose rows are all acknowledged.
    pub(super) fn tell_covered(&mut self, slot: SlotId, effects: &mut Vec<Effect>) {
        let Some(live) = self.slots.get_mut(slot).live_mut() else { return };
        if live.busy.manual.is_empty() || live.busy.unreadable {
            return;
        }
        let (head, row) = (live.aggregate.version, live.row);
        let durable = if mutant(Mutant::PastRowUncovered) { head } else { row };
        let waits = |waiter: &Waiter| waiter.upto.is_none_or(|upto| (durable.next()..=head).contains(&upto));
        let (waiting, told): (Vec<Waiter>, Vec<Waiter>) =
            std::mem::take(&mut live.busy.manual).into_iter().partition(waits);
        let is_asked = matches!(live.busy.trip, Some(Trigger::Manual | Trigger::Schedule));
        if waiting.is_empty() && is_asked {
            live.busy.trip = None;
        }
        live.busy.manual = waiting;
        for waiter in told {
            let is_beyond = waiter.upto.is_some_and(|upto| upto > head);
            let answer = match is_beyond {
                true => Taken::Beyond { head },
                false => Taken::Durable { version: durable, created: false },
            };
            effects.push(Effect::SnapshotTaken(waiter.reply, Ok(answer)));
        }
    }
}

//! The consumer group of one topic: members, sticky assignment, revocations that may come late, expulsions
//! that the expelled hears of last. So two processes may believe that they own one partition: that is what a
//! zombie is.
//!
//! *Order*: a revoked partition moves on when its owner has released it, or once the owner was expelled for
//!   not doing so. Notices come to one member in order, each at its own time; a frozen member gets them when
//!   it goes on. A member that runs is heard of at every heartbeat; one that is dead or frozen is expelled
//!   after the session time.

use super::Gate;
use super::log::SimLog;
use crate::executor::{ProcessId, lock};
use crate::stats::Count;
use futures_util::future::{BoxFuture, poll_fn};
use snapfold::domain::ids::{Offset, PartitionNo};
use snapfold::domain::outcome::PortResult;
use snapfold::kafka::{Group, GroupEvent, Records};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// What the group thinks of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A member.
    Member,
    /// Was one.
    Expelled,
    /// Never joined: tools, checkers.
    Stranger,
}

#[derive(Default)]
struct Member {
    owned: BTreeSet<PartitionNo>,
    // Asked back, and until when.
    revoking: BTreeMap<PartitionNo, u64>,
    last_seen: u64,
}

#[derive(Default)]
struct Mailbox {
    notices: VecDeque<(u64, GroupEvent)>,
    last: u64,
    waker: Option<Waker>,
    // Assigned by a notice, and not asked back by one.
    told: BTreeSet<PartitionNo>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<ProcessId, Member>,
    mail: BTreeMap<ProcessId, Mailbox>,
    believers: BTreeMap<PartitionNo, BTreeSet<ProcessId>>,
}

/// The coordinator of one topic's group; clones share it.
#[derive(Clone)]
pub(crate) struct Coordinator {
    gate: Gate,
    partitions: i32,
    state: Arc<Mutex<State>>,
}

impl Coordinator {
    /// A group without members, for a topic of this many partitions.
    pub(crate) fn new(gate: Gate, partitions: i32) -> Self {
        let coordinator = Self { gate, partitions, state: Arc::default() };
        coordinator.beat();
        coordinator
    }

    /// How many partitions the topic has.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The port, for one process; it joins with its first call.
    pub(crate) fn port(&self, log: SimLog) -> SimGroup {
        SimGroup { coordinator: self.clone(), log, has_joined: AtomicBool::new(false) }
    }

    /// What the group thinks of a process.
    pub(crate) fn standing(&self, process: ProcessId) -> Standing {
        let state = lock(&self.state);
        match (state.members.contains_key(&process), state.mail.contains_key(&process)) {
            (true, _) => Standing::Member,
            (false, true) => Standing::Expelled,
            (false, false) => Standing::Stranger,
        }
    }

    /// Who has been told that it owns a partition, has not let go of it and lives: two or more overlap.
    pub(crate) fn believers(&self, partition: PartitionNo) -> Vec<ProcessId> {
        let state = lock(&self.state);
        let believers = state.believers.get(&partition).into_iter().flatten().copied();
        believers.filter(|process| self.gate.sim.is_alive(*process)).collect()
    }

    /// The owner by the group's own book.
    pub(crate) fn owner(&self, partition: PartitionNo) -> Option<ProcessId> {
        let state = lock(&self.state);
        state
            .members
            .iter()
            .find(|(_, member)| member.owned.contains(&partition))
            .map(|(process, _)| *process)
    }

    fn soon(&self, f: impl FnOnce(&Self) + Send + 'static) {
        let this = self.clone();
        let time = self.gate.sim.now() + self.gate.sim.draw(|rng| rng.between(1, 30));
        self.gate.sim.at(time, move || f(&this));
    }

    fn join(&self, process: ProcessId) {
        self.soon(move |this| {
            let now = this.gate.sim.now();
            let mut state = lock(&this.state);
            if !this.gate.sim.is_alive(process) || state.members.contains_key(&process) {
                return;
            }
            this.gate.sim.count(Count::Join);
            state.members.insert(process, Member { last_seen: now, ..Member::default() });
            state.mail.entry(process).or_default();
            this.balance(&mut state, true);
        });
    }

    fn leave(&self, process: ProcessId) {
        self.soon(move |this| {
            let mut state = lock(&this.state);
            if state.members.remove(&process).is_some() {
                this.gate.sim.count(Count::Leave);
                this.balance(&mut state, true);
            }
        });
    }

    /// One heartbeat of everybody, and the next after it.
    fn beat(&self) {
        let session_ms = self.gate.plan(|plan| plan.session_ms).max(20);
        let this = self.clone();
        self.gate.sim.at(self.gate.sim.now() + session_ms / 5, move || {
            this.look_after(session_ms);
            this.beat();
        });
    }

    fn look_after(&self, session_ms: u64) {
        let (sim, expel) = (&self.gate.sim, self.gate.plan(|plan| plan.expel));
        let now = sim.now();
        let mut state = lock(&self.state);
        let mut out = Vec::new();
        for (process, member) in &mut state.members {
            if sim.is_running(*process) {
                member.last_seen = now;
            }
            let overdue = member.revoking.values().any(|deadline| *deadline < now);
            if now - member.last_seen > session_ms {
                out.push((*process, Count::SessionTimeout));
            } else if overdue {
                out.push((*process, Count::RevokeTimeout));
            } else if sim.draw(|rng| rng.hits(expel)) {
                out.push((*process, Count::Expelled));
            }
        }
        let changed = !out.is_empty();
        for (process, why) in out {
            sim.count(why);
            self.expel(&mut state, process);
        }
        if changed {
            self.balance(&mut state, true);
        }
    }

    fn expel(&self, state: &mut State, process: ProcessId) {
        state.members.remove(&process);
        self.gate.sim.note("expel", u64::from(process.0), 0);
        if !self.gate.sim.is_alive(process) {
            return;
        }
        let told = state.mail.get_mut(&process).map(|mailbox| std::mem::take(&mut mailbox.told));
        match told {
            Some(told) if !told.is_empty() => {
                self.tell(state, process, GroupEvent::Lost(told.into_iter().collect()));
            }
            _ => self.join(process),
        }
    }

    /// Puts a notice into a member's mailbox, after all earlier ones.
    fn tell(&self, state: &mut State, process: ProcessId, event: GroupEvent) {
        let sim = &self.gate.sim;
        let late = self.gate.plan(|plan| plan.late_notice);
        let late = sim.draw(|rng| rng.hits(late));
        let delay = sim.draw(|rng| if late { rng.between(31, 3_000) } else { rng.between(1, 30) });
        if late {
            sim.count(Count::LateNotice);
        }
        let Some(mailbox) = state.mail.get_mut(&process) else { return };
        let time = mailbox.last.max(sim.now() + delay);
        mailbox.last = time;
        mailbox.notices.push_back((time, event));
        let shared = self.state.clone();
        sim.at(time, move || {
            let waker = lock(&shared).mail.get_mut(&process).and_then(|mailbox| mailbox.waker.take());
            waker.into_iter().for_each(Waker::wake);
        });
    }

    /// Asks for partitions back that others should have, and gives away those that nobody has.
    fn balance(&self, state: &mut State, membership_changed: bool) {
        let members = state.members.len();
        if members == 0 {
            return;
        }
        let quotas = self.quotas(state);
        let restless = membership_changed && members > 1 && self.gate.plan(|plan| plan.restless);
        let deadline = self.gate.sim.now() + self.gate.plan(|plan| plan.revoke_ms);
        for (process, quota) in &quotas {
            let Some(member) = state.members.get_mut(process) else { continue };
            let mut kept: Vec<PartitionNo> = member.owned.iter().copied().collect();
            kept.retain(|partition| !member.revoking.contains_key(partition));
            let extra = usize::from(restless && self.gate.sim.draw(|rng| rng.percent(30)));
            let keep = quota.saturating_sub(extra).min(kept.len());
            self.gate.sim.draw(|rng| rng.shuffle(&mut kept));
            let given: Vec<PartitionNo> = kept.split_off(keep);
            if given.is_empty() {
                continue;
            }
            given.iter().for_each(|partition| {
                self.gate.sim.count(Count::Revoke);
                member.revoking.insert(*partition, deadline);
            });
            if let Some(mailbox) = state.mail.get_mut(process) {
                given.iter().for_each(|partition| {
                    mailbox.told.remove(partition);
                });
            }
            self.tell(state, *process, GroupEvent::Revoked(given));
        }
        self.give_away(state, &quotas);
    }

    /// How many partitions each member should have; who has most keeps most.
    fn quotas(&self, state: &State) -> Vec<(ProcessId, usize)> {
        let partitions = usize::try_from(self.partitions).unwrap_or(0);
        let members = state.members.len();
        let mut order: Vec<(usize, ProcessId)> =
            state.members.iter().map(|(process, member)| (member.owned.len(), *process)).collect();
        order.sort_by_key(|(owned, process)| (std::cmp::Reverse(*owned), *process));
        let quota = |rank: usize| partitions / members + usize::from(rank < partitions % members);
        order.into_iter().enumerate().map(|(rank, (_, process))| (process, quota(rank))).collect()
    }

    fn give_away(&self, state: &mut State, quotas: &[(ProcessId, usize)]) {
        let mut given: BTreeMap<ProcessId, Vec<PartitionNo>> = BTreeMap::new();
        for partition in (0..self.partitions).map(PartitionNo) {
            if state.members.values().any(|member| member.owned.contains(&partition)) {
                continue;
            }
            // The member that lacks most. Signed: one whose partitions are being asked back has too many.
            let lack = |process: &ProcessId, quota: usize| {
                let owned = state.members.get(process).map_or(0, |member| member.owned.len());
                i64::try_from(quota).unwrap_or(0) - i64::try_from(owned).unwrap_or(0)
            };
            let Some((process, _)) = quotas.iter().max_by_key(|(process, quota)| lack(process, *quota))
            else {
                continue;
            };
            if let Some(member) = state.members.get_mut(process) {
                member.owned.insert(partition);
                given.entry(*process).or_default().push(partition);
            }
        }
        for (process, partitions) in given {
            for partition in &partitions {
                self.gate.sim.count(Count::Assign);
                self.gate.sim.note("assign", u64::from(process.0), u64::from(partition.0.unsigned_abs()));
            }
            if let Some(mailbox) = state.mail.get_mut(&process) {
                mailbox.told.extend(&partitions);
            }
            self.tell(state, process, GroupEvent::Assigned(partitions));
        }
    }

    /// The next notice that is due, with what its hearing changes.
    fn take(&self, process: ProcessId, waker: &Waker) -> Poll<GroupEvent> {
        let now = self.gate.sim.now();
        let mut state = lock(&self.state);
        let state = &mut *state;
        let Some(mailbox) = state.mail.get_mut(&process) else { return Poll::Pending };
        if mailbox.notices.front().is_none_or(|(time, _)| *time > now) {
            mailbox.waker = Some(waker.clone());
            return Poll::Pending;
        }
        let Some((_, event)) = mailbox.notices.pop_front() else { return Poll::Pending };
        match &event {
            GroupEvent::Assigned(partitions) => {
                for partition in partitions {
                    let believers = state.believers.entry(*partition).or_default();
                    believers.retain(|other| self.gate.sim.is_alive(*other));
                    believers.insert(process);
                    if believers.len() > 1 {
                        self.gate.sim.count(Count::Overlap);
                    }
                }
            }
            GroupEvent::Lost(partitions) => {
                self.gate.sim.count(Count::Lose);
                let_go(state, process, partitions);
                self.join(process);
            }
            GroupEvent::Revoked(_) => {}
        }
        self.gate.sim.note("notice", u64::from(process.0), 0);
        self.gate.sim.tell(|| format!("{}: {event:?}", self.gate.sim.name(process)));
        Poll::Ready(event)
    }
}

fn let_go(state: &mut State, process: ProcessId, partitions: &[PartitionNo]) {
    for partition in partitions {
        if let Some(believers) = state.believers.get_mut(partition) {
            believers.remove(&process);
        }
    }
}

/// The `Group` port of one process.
pub(crate) struct SimGroup {
    coordinator: Coordinator,
    log: SimLog,
    /// It has joined by this port: a process may have others, to look at things.
    has_joined: AtomicBool,
}

impl SimGroup {
    fn joined(&self) {
        self.has_joined.store(true, Ordering::Relaxed);
        let process = self.log.process;
        let known = lock(&self.coordinator.state).mail.contains_key(&process);
        if !known {
            lock(&self.coordinator.state).mail.entry(process).or_default();
            self.coordinator.join(process);
        }
    }
}

impl Group for SimGroup {
    fn next(&self) -> BoxFuture<'_, GroupEvent> {
        self.joined();
        Box::pin(poll_fn(|context| self.coordinator.take(self.log.process, context.waker())))
    }

    fn released(&self, partitions: &[PartitionNo]) {
        let (process, partitions) = (self.log.process, partitions.to_vec());
        let_go(&mut lock(&self.coordinator.state), process, &partitions);
        self.coordinator.soon(move |this| {
            let mut state = lock(&this.state);
            let Some(member) = state.members.get_mut(&process) else { return };
            for partition in partitions {
                if member.revoking.remove(&partition).is_some() {
                    member.owned.remove(&partition);
                }
            }
            this.balance(&mut state, false);
        });
    }

    fn records(&self, partition: PartitionNo, from: Offset) -> BoxFuture<'_, PortResult<Box<dyn Records>>> {
        Box::pin(async move {
            self.log.look("records", partition, |_, _| Ok(())).await?;
            Ok(Box::new(self.log.records(partition, from)) as Box<dyn Records>)
        })
    }
}

impl Drop for SimGroup {
    fn drop(&mut self) {
        // A process that ends in order says good-bye; one that was killed does not.
        if *self.has_joined.get_mut() && self.coordinator.gate.sim.is_alive(self.log.process) {
            self.coordinator.leave(self.log.process);
        }
    }
}

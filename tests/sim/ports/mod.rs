//! The ports as the simulated world offers them, and the one gate through which every call goes: it draws
//! what becomes of the call (*happened?* x *answered?*) and when.
//!
//! A checker is trusted: its calls always succeed, and of its reads only every eighth takes time. It reads
//! all there is, thousands of times, and the world need not move between any two of its steps.
//!
//! *Order*: an effect happens at its own time, by a timer of the world: killing, pausing or cancelling the
//!   caller does not take it back. An answer comes after its effect, or speaks of "unknown".

pub(crate) mod blobs;
pub(crate) mod broker;
pub(crate) mod clock;
pub(crate) mod group;
pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod payload;
pub(crate) mod producer;
pub(crate) mod replica;
pub(crate) mod schedules;
mod watermarks;

use crate::executor::{ProcessId, Sim, lock};
use crate::plan::{CallFaults, FaultPlan};
use crate::rng::Rng;
use crate::stats::Count;
use snapfold::domain::ids::PartitionNo;
use snapfold::domain::outcome::{PortError, PortResult};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Which port a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The index.
    Index,
    /// The blob store.
    Blobs,
    /// The log.
    Log,
}

/// Whether a call changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It does.
    Write,
    /// It does not.
    Read,
}

/// One call, as a script sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<'a> {
    /// Who calls.
    pub(crate) process: ProcessId,
    /// What.
    pub(crate) port: Port,
    /// The trait's method.
    pub(crate) what: &'static str,
    /// Whether it writes.
    pub(crate) access: Access,
    /// Name of the blob, id of the aggregate or name of the topic.
    pub(crate) target: &'a str,
    /// The partition, where the call is about one.
    pub(crate) partition: Option<PartitionNo>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Done, and the caller hears its result.
    Answered,
    /// Done, and the caller hears "unknown".
    Unheard,
    /// Not done, and the caller hears so.
    Refused,
    /// Not done, and the caller hears "unknown".
    Lost,
    /// The caller hears "unknown"; it is done later. On the index: on each replica now, later or never.
    Late,
    /// Done or not; the caller hears "unknown" after a long time.
    Hung,
    /// Only scripted. The caller hears "unknown"; of an index write the last replica has it, now, and no
    /// other.
    Rumour,
    /// Only scripted. Done three seconds later, and the caller hears its result then.
    Tardy,
    /// Only scripted. Not done, and the caller hears so little after so long a time that it waits for ever.
    Stuck,
}

/// What becomes of one call, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// What.
    pub(crate) fate: Fate,
    /// When it was sent.
    pub(crate) sent: u64,
    /// When it happens, if it does.
    pub(crate) effect: Option<u64>,
    /// When the caller hears.
    pub(crate) answer: u64,
}

/// Decides the fate of chosen calls, for directed scenarios: `None` leaves it to the plan.
pub(crate) type Script = Box<dyn FnMut(&Op<'_>) -> Option<Fate> + Send>;

struct GateState {
    plan: FaultPlan,
    script: Option<Script>,
    trusted: BTreeSet<ProcessId>,
}

/// The gate; clones share it.
#[derive(Clone)]
pub(crate) struct Gate {
    /// The executor.
    pub(crate) sim: Sim,
    state: Arc<Mutex<GateState>>,
}

impl Gate {
    /// A gate that follows a plan.
    pub(crate) fn new(sim: Sim, plan: FaultPlan) -> Self {
        let state = GateState { plan, script: None, trusted: BTreeSet::new() };
        Self { sim, state: Arc::new(Mutex::new(state)) }
    }

    /// Looks something up in the plan.
    pub(crate) fn plan<T>(&self, f: impl FnOnce(&FaultPlan) -> T) -> T {
        f(&lock(&self.state).plan)
    }

    /// Replaces the plan.
    pub(crate) fn set_plan(&self, plan: FaultPlan) {
        lock(&self.state).plan = plan;
    }

    /// Sets or removes the script.
    pub(crate) fn set_script(&self, script: Option<Script>) {
        lock(&self.state).script = script;
    }

    /// Calls of this process always succeed, in 1 ms or, of most reads, at once: for checkers.
    pub(crate) fn trust(&self, process: ProcessId) {
        lock(&self.state).trusted.insert(process);
    }

    fn scripted(&self, op: &Op<'_>) -> Option<Fate> {
        // Out of its lock while it runs: a script may kill, and what dies may call back.
        let mut script = lock(&self.state).script.take()?;
        let fate = script(op);
        let mut state = lock(&self.state);
        if state.script.is_none() {
            state.script = Some(script);
        }
        fate
    }

    /// Draws what becomes of a call.
    pub(crate) fn course(&self, op: &Op<'_>) -> Course {
        let scripted = self.scripted(op);
        let (faults, hang_ms, trusted) = {
            let state = lock(&self.state);
            let faults = match op.port {
                Port::Index => state.plan.index,
                Port::Blobs => state.plan.blobs,
                Port::Log => state.plan.log,
            };
            (faults, state.plan.hang_ms, state.trusted.contains(&op.process))
        };
        let sent = self.sim.now();
        if trusted {
            let takes_time = op.access == Access::Write || self.sim.draw(|rng| rng.below(8)) == 0;
            let answer = sent + u64::from(takes_time);
            return Course { fate: Fate::Answered, sent, effect: Some(sent), answer };
        }
        let course = self.sim.draw(|rng| draw_course(rng, sent, scripted, faults, hang_ms));
        self.count(op, &course);
        self.sim.note(op.what, u64::from(op.process.0), course.fate as u64);
        self.sim.tell(|| format!("{} {} {}: {course:?}", self.sim.name(op.process), op.what, op.target));
        course
    }

    fn count(&self, op: &Op<'_>, course: &Course) {
        let count = match (course.fate, op.port) {
            (Fate::Answered | Fate::Rumour | Fate::Tardy | Fate::Stuck, _) => None,
            (Fate::Hung, _) => Some(Count::Hung),
            (Fate::Unheard, Port::Index) => Some(Count::IndexUnheard),
            (Fate::Unheard, Port::Blobs) => Some(Count::BlobUnheard),
            (Fate::Unheard, Port::Log) => Some(Count::LogUnheard),
            (Fate::Refused, Port::Index) => Some(Count::IndexRefused),
            (Fate::Refused, Port::Blobs) => Some(Count::BlobRefused),
            (Fate::Refused, Port::Log) => Some(Count::LogRefused),
            (Fate::Late, Port::Index) if op.access == Access::Write => Some(Count::IndexLate),
            (Fate::Late, Port::Blobs) if op.access == Access::Write => Some(Count::BlobLate),
            (Fate::Late, Port::Log) if op.access == Access::Write => Some(Count::LogLate),
            (Fate::Lost | Fate::Late, Port::Index) => Some(Count::IndexLost),
            (Fate::Lost | Fate::Late, Port::Blobs) => Some(Count::BlobLost),
            (Fate::Lost | Fate::Late, Port::Log) => Some(Count::LogLost),
        };
        count.into_iter().for_each(|count| self.sim.count(count));
        if !matches!(course.fate, Fate::Hung | Fate::Stuck) && course.answer > course.sent + 20 {
            self.sim.count(Count::Slow);
        }
    }

    /// Makes a call whose effect is one step of the world; `effect` runs at most once.
    pub(crate) async fn perform<T, F>(&self, op: &Op<'_>, effect: F) -> PortResult<T>
    where
        T: Send + 'static,
        F: FnOnce() -> PortResult<T> + Send + 'static,
    {
        let course = self.course(op);
        if course.is_at_once() {
            let outcome = effect();
            self.sim.note("answer", u64::from(op.process.0), outcome_code(&outcome));
            return outcome;
        }
        let result = Arc::new(Mutex::new(None));
        if let Some(time) = course.effect {
            let slot = result.clone();
            self.sim.at(time, move || *lock(&slot) = Some(effect()));
        }
        self.sim.sleep_until(course.answer).await;
        let done = lock(&result).take();
        let outcome = course.heard(op.what, done);
        self.sim.note("answer", u64::from(op.process.0), outcome_code(&outcome));
        outcome
    }
}

impl Course {
    /// The call is answered in the instant in which it is made.
    pub(crate) fn is_at_once(&self) -> bool {
        self.fate == Fate::Answered && self.answer == self.sent
    }

    /// What the caller hears, given what the effect gave.
    pub(crate) fn heard<T>(&self, what: &str, done: Option<PortResult<T>>) -> PortResult<T> {
        match (self.fate, done) {
            (Fate::Answered | Fate::Tardy, Some(result)) => result,
            (Fate::Answered, None) => {
                Err(PortError::Permanent(format!("{what}: the simulator lost an effect")))
            }
            (Fate::Refused, _) => Err(PortError::NotDone(format!("{what} was refused"))),
            _ => Err(PortError::Unknown(format!("{what} was not answered"))),
        }
    }
}

/// A number for what a caller heard, for the trace.
pub(crate) fn outcome_code<T>(outcome: &PortResult<T>) -> u64 {
    match outcome {
        Ok(_) => 0,
        Err(PortError::NotDone(_)) => 1,
        Err(PortError::Unknown(_)) => 2,
        Err(PortError::Permanent(_)) => 3,
        Err(PortError::Missing) => 4,
        Err(PortError::Exists) => 5,
    }
}

fn draw_course(rng: &mut Rng, sent: u64, scripted: Option<Fate>, faults: CallFaults, hang_ms: u64) -> Course {
    let fate = scripted.unwrap_or_else(|| draw_fate(rng, faults));
    let slow = rng.hits(faults.slow);
    let took = if slow { rng.between(21, 3_000) } else { rng.between(1, 20) };
    let answer = match fate {
        Fate::Hung => sent + hang_ms.max(1),
        Fate::Tardy => sent + 3_000,
        Fate::Stuck => sent + 1_000_000_000,
        _ => sent + took,
    };
    let effect = match fate {
        // Before the answer, never in the same instant: timers of one instant fire in any order.
        Fate::Answered | Fate::Unheard => Some(rng.between(sent, answer - 1)),
        Fate::Tardy => Some(answer - 1),
        Fate::Hung => rng.percent(50).then(|| rng.between(sent, answer - 1)),
        Fate::Late => {
            Some(answer + if rng.percent(50) { rng.between(0, 50) } else { rng.between(50, 6_000) })
        }
        Fate::Refused | Fate::Lost | Fate::Rumour | Fate::Stuck => None,
    };
    Course { fate, sent, effect, answer }
}

fn draw_fate(rng: &mut Rng, faults: CallFaults) -> Fate {
    let mut drawn = rng.below(10_000);
    for (odds, fate) in [
        (faults.refused, Fate::Refused),
        (faults.unheard, Fate::Unheard),
        (faults.lost, Fate::Lost),
        (faults.late, Fate::Late),
        (faults.hung, Fate::Hung),
    ] {
        let odds = u64::from(odds.0);
        if drawn < odds {
            return fate;
        }
        drawn -= odds;
    }
    Fate::Answered
}

//! The executor: tasks of processes, virtual time, timers, one seed.
//!
//! *Order*: among the tasks that can run, a random one is polled; time moves only when none can, to the next
//!   timer. A task belongs to a process (one incarnation of a worker, or the world itself). A killed process
//!   loses all of its tasks between two polls; a paused one is not polled, while what it sent before goes on
//!   happening.
//! INVARIANT: single-threaded; every decision comes from the seed and goes into the trace hash, so that a
//! seed run twice gives the same hash. *What may leak*: timers and tasks hold the ports, which hold this;
//! [`Sim::clear`] cuts it.

use crate::rng::{Odds, Rng};
use crate::stats::{Count, Stats};
use futures_util::future::BoxFuture;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// One incarnation of a worker; 0 is the world itself and is never killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u32);

/// The process of the world itself: producer, nemesis, supervisor.
pub(crate) const WORLD: ProcessId = ProcessId(0);

/// Locks; a panic elsewhere has already failed the seed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type TaskId = usize;

struct Task {
    process: ProcessId,
    // Out of its slot while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    woken: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.woken).push(self.id);
        }
    }
}

struct Process {
    name: String,
    alive: bool,
    // 0: runs.
    paused_until: u64,
    parked: Vec<TaskId>,
    tasks: Vec<TaskId>,
    // Polls it may still have.
    polls_left: Option<u32>,
}

struct Sleeping {
    waker: Mutex<Option<Waker>>,
    over: AtomicBool,
    dropped: AtomicBool,
}

enum Action {
    Wake(Arc<Sleeping>),
    Call(Box<dyn FnOnce() + Send>),
    Ready(TaskId),
    Resume(ProcessId),
}

struct Timer {
    // Time, then a random number, then the order of creation.
    order: (u64, u32, u64),
    action: Action,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

struct Core {
    now: u64,
    timers_made: u64,
    rng: Rng,
    timers: BinaryHeap<Reverse<Timer>>,
    tasks: Vec<Option<Task>>,
    runnable: Vec<TaskId>,
    processes: Vec<Process>,
    hash: u64,
    stats: Stats,
    stall: Odds,
    verbose: bool,
    violations: Vec<String>,
}

struct Shared {
    core: Mutex<Core>,
    woken: Arc<Mutex<Vec<TaskId>>>,
}

enum Next {
    Poll(TaskId, BoxFuture<'static, ()>, Arc<TaskWaker>),
    Fire(Action),
    Kill(ProcessId),
    Stalled,
    Reached,
}

/// The executor of one seed; clones share it.
#[derive(Clone)]
pub(crate) struct Sim(Arc<Shared>);

impl Sim {
    /// An executor whose every decision follows from `seed`; `verbose` prints each of them.
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        let core = Core {
            now: 0,
            timers_made: 0,
            rng: Rng::new(seed),
            timers: BinaryHeap::new(),
            tasks: Vec::new(),
            runnable: Vec::new(),
            processes: Vec::new(),
            hash: seed,
            stats: Stats::default(),
            stall: Odds(0),
            verbose,
            violations: Vec::new(),
        };
        let sim = Self(Arc::new(Shared { core: Mutex::new(core), woken: Arc::default() }));
        sim.process("world");
        sim
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        lock(&self.0.core)
    }

    /// Virtual milliseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        self.core().now
    }

    /// Draws from the seed.
    pub(crate) fn draw<T>(&self, f: impl FnOnce(&mut Rng) -> T) -> T {
        f(&mut self.core().rng)
    }

    /// How often a task that could run is put off by up to 50 ms instead.
    pub(crate) fn set_stall(&self, odds: Odds) {
        self.core().stall = odds;
    }

    /// A new process, which lives until it is killed.
    pub(crate) fn process(&self, name: &str) -> ProcessId {
        let mut core = self.core();
        let id = ProcessId(u32::try_from(core.processes.len()).expect("fewer than 2^32 processes in a seed"));
        core.processes.push(Process {
            name: name.to_owned(),
            alive: true,
            paused_until: 0,
            parked: Vec::new(),
            tasks: Vec::new(),
            polls_left: None,
        });
        id
    }

    /// Its name, for traces.
    pub(crate) fn name(&self, process: ProcessId) -> String {
        self.core().processes[process.0 as usize].name.clone()
    }

    /// Starts a task of a process; one that is dead starts nothing.
    pub(crate) fn spawn(&self, process: ProcessId, future: impl Future<Output = ()> + Send + 'static) {
        let mut core = self.core();
        if !core.processes[process.0 as usize].alive {
            drop(core);
            return drop(future);
        }
        let id = core.tasks.len();
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(true), woken: self.0.woken.clone() });
        core.tasks.push(Some(Task { process, future: Some(Box::pin(future)), waker }));
        core.processes[process.0 as usize].tasks.push(id);
        lock(&self.0.woken).push(id);
    }

    /// True until it is killed or has ended.
    pub(crate) fn is_alive(&self, process: ProcessId) -> bool {
        self.core().processes[process.0 as usize].alive
    }

    /// True if it lives and is not paused.
    pub(crate) fn is_running(&self, process: ProcessId) -> bool {
        let core = self.core();
        let process = &core.processes[process.0 as usize];
        process.alive && process.paused_until <= core.now
    }

    /// Ends a process now: none of its tasks is polled again. What it has sent goes on happening.
    pub(crate) fn kill(&self, process: ProcessId) {
        assert!(process != WORLD, "the world cannot be killed");
        let mut core = self.core();
        let dying = &mut core.processes[process.0 as usize];
        if !dying.alive {
            return;
        }
        dying.alive = false;
        dying.parked.clear();
        let ids = std::mem::take(&mut dying.tasks);
        // Dropped without the lock: what a future holds may call back when it goes.
        let tasks: Vec<Option<Task>> = ids.into_iter().map(|id| core.tasks[id].take()).collect();
        drop(core);
        self.note("kill", u64::from(process.0), 0);
        drop(tasks);
    }

    /// Ends a process once it has been polled `polls` more times: so that a crash may fall between any two
    /// polls, also between those of one instant.
    pub(crate) fn kill_after(&self, process: ProcessId, polls: u32) {
        assert!(process != WORLD, "the world cannot be killed");
        self.core().processes[process.0 as usize].polls_left = Some(polls);
    }

    /// Freezes a process until a time, as SIGSTOP does; pausing again may only prolong it.
    pub(crate) fn pause(&self, process: ProcessId, until: u64) {
        let mut core = self.core();
        let paused = &mut core.processes[process.0 as usize];
        paused.paused_until = paused.paused_until.max(until);
        core.at(until, Action::Resume(process));
        drop(core);
        self.note("pause", u64::from(process.0), until);
    }

    /// Lifts every pause, stall and doom.
    pub(crate) fn resume_all(&self) {
        let mut core = self.core();
        core.stall = Odds(0);
        for process in 0..core.processes.len() {
            core.processes[process].polls_left = None;
            core.processes[process].paused_until = 0;
            let parked = std::mem::take(&mut core.processes[process].parked);
            core.runnable.extend(parked);
        }
    }

    /// Calls `f` at a time (now, if that is past), whatever becomes of the process that asked for it.
    pub(crate) fn at(&self, time: u64, f: impl FnOnce() + Send + 'static) {
        self.core().at(time, Action::Call(Box::new(f)));
    }

    /// Completes at a time.
    pub(crate) fn sleep_until(&self, time: u64) -> Sleep {
        Sleep { sim: self.clone(), time, sleeping: None }
    }

    /// Completes after `ms`.
    pub(crate) fn sleep(&self, ms: u64) -> Sleep {
        self.sleep_until(self.now() + ms)
    }

    /// Puts a fact into the trace and its hash.
    pub(crate) fn note(&self, what: &'static str, a: u64, b: u64) {
        self.core().note(what, a, b);
    }

    /// Prints a line of the trace, if there is one.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        let core = self.core();
        if core.verbose {
            let now = core.now;
            drop(core);
            println!("{now:>8} {}", line());
        }
    }

    /// Hash over every decision and outcome so far.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.core().hash
    }

    /// Counts one of `what`.
    pub(crate) fn count(&self, what: Count) {
        self.core().stats.add(what, 1);
    }

    /// Counts `n` of `what`.
    pub(crate) fn count_more(&self, what: Count, n: u64) {
        self.core().stats.add(what, n);
    }

    /// The counters so far.
    pub(crate) fn stats(&self) -> Stats {
        let core = self.core();
        let mut stats = core.stats.clone();
        stats.add(Count::VirtualSecond, core.now / 1_000);
        stats
    }

    /// Records that something happened that must never happen.
    pub(crate) fn violation(&self, what: String) {
        self.tell(|| format!("VIOLATION {what}"));
        self.core().violations.push(what);
    }

    /// What must never happen and did.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.core().violations.clone()
    }

    /// One step: a poll, or a timer. False when nothing is left to do up to `deadline`, which is then the
    /// time.
    pub(crate) fn step_until(&self, deadline: u64) -> bool {
        let next = {
            let mut core = self.core();
            core.admit(&self.0.woken);
            let next = core.next(deadline);
            if !matches!(next, Next::Reached) {
                core.stats.add(Count::Step, 1);
            }
            next
        };
        match next {
            Next::Poll(id, future, waker) => self.poll(id, future, waker),
            Next::Fire(action) => self.fire(action),
            Next::Kill(process) => {
                self.count(Count::Kill);
                self.kill(process);
            }
            Next::Stalled => {}
            Next::Reached => return false,
        }
        true
    }

    fn poll(&self, id: TaskId, mut future: BoxFuture<'static, ()>, waker: Arc<TaskWaker>) {
        waker.queued.store(false, Ordering::Relaxed);
        let polled = future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker)));
        let mut core = self.core();
        let ended = match (&mut core.tasks[id], polled) {
            (Some(task), Poll::Pending) => {
                task.future = Some(future);
                return;
            }
            // Done, or killed by what it did itself.
            (slot, _) => slot.take(),
        };
        if let Some(task) = &ended {
            core.processes[task.process.0 as usize].tasks.retain(|other| *other != id);
        }
        drop(core);
        drop((future, ended));
    }

    fn fire(&self, action: Action) {
        match action {
            Action::Wake(sleeping) => {
                sleeping.over.store(true, Ordering::Relaxed);
                if let Some(waker) = lock(&sleeping.waker).take() {
                    waker.wake();
                }
            }
            Action::Call(f) => f(),
            Action::Ready(id) => self.core().runnable.push(id),
            Action::Resume(process) => {
                let mut core = self.core();
                if core.processes[process.0 as usize].paused_until <= core.now {
                    let parked = std::mem::take(&mut core.processes[process.0 as usize].parked);
                    core.runnable.extend(parked);
                }
            }
        }
    }

    /// Drops every task and timer. The executor is of no use afterwards.
    pub(crate) fn clear(&self) {
        let mut core = self.core();
        let tasks = std::mem::take(&mut core.tasks);
        let timers = std::mem::take(&mut core.timers);
        core.runnable.clear();
        core.processes.iter_mut().for_each(|process| {
            process.alive = false;
            process.tasks.clear();
        });
        drop(core);
        drop((tasks, timers));
        lock(&self.0.woken).clear();
    }
}

impl Core {
    fn at(&mut self, time: u64, action: Action) {
        self.timers_made += 1;
        let tie = u32::try_from(self.rng.bits() >> 32).expect("32 bits");
        let order = (time.max(self.now), tie, self.timers_made);
        self.timers.push(Reverse(Timer { order, action }));
    }

    fn note(&mut self, what: &'static str, a: u64, b: u64) {
        let mut hash = self.hash;
        for word in what.bytes().map(u64::from).chain([self.now, a, b]) {
            hash = (hash ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(23);
        }
        self.hash = hash;
        if self.verbose {
            println!("{:>8} {what} {a} {b}", self.now);
        }
    }

    fn admit(&mut self, woken: &Mutex<Vec<TaskId>>) {
        self.runnable.append(&mut lock(woken));
    }

    fn next(&mut self, deadline: u64) -> Next {
        while !self.runnable.is_empty() {
            let at = self.rng.index(self.runnable.len());
            let id = self.runnable.swap_remove(at);
            let Some(task) = &mut self.tasks[id] else { continue };
            let process = &mut self.processes[task.process.0 as usize];
            if process.paused_until > self.now {
                process.parked.push(id);
                continue;
            }
            match &mut process.polls_left {
                Some(0) => return Next::Kill(task.process),
                Some(polls) => *polls -= 1,
                None => {}
            }
            let (owner, waker) = (task.process, task.waker.clone());
            if owner != WORLD && self.rng.hits(self.stall) {
                let until = self.now + self.rng.between(1, 50);
                self.stats.add(Count::Stall, 1);
                self.at(until, Action::Ready(id));
                return Next::Stalled;
            }
            let future = task.future.take();
            self.note("poll", u64::from(owner.0), id as u64);
            // A task is in the queue at most once, and never while it is polled.
            return future.map_or(Next::Stalled, |future| Next::Poll(id, future, waker));
        }
        self.next_timer(deadline)
    }

    fn next_timer(&mut self, deadline: u64) -> Next {
        while let Some(Reverse(timer)) = self.timers.peek() {
            if timer.order.0 > deadline {
                break;
            }
            let Some(Reverse(timer)) = self.timers.pop() else { break };
            if matches!(&timer.action, Action::Wake(sleeping) if sleeping.dropped.load(Ordering::Relaxed)) {
                continue;
            }
            self.now = self.now.max(timer.order.0);
            return Next::Fire(timer.action);
        }
        self.now = self.now.max(deadline);
        Next::Reached
    }
}

/// Completes at its time; dropping it cancels it.
pub(crate) struct Sleep {
    sim: Sim,
    time: u64,
    sleeping: Option<Arc<Sleeping>>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(sleeping) = &self.sleeping {
            if sleeping.over.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            *lock(&sleeping.waker) = Some(context.waker().clone());
            return Poll::Pending;
        }
        let sleeping = Arc::new(Sleeping {
            waker: Mutex::new(Some(context.waker().clone())),
            over: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
        });
        self.sim.core().at(self.time, Action::Wake(sleeping.clone()));
        self.sleeping = Some(sleeping);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(sleeping) = &self.sleeping {
            sleeping.dropped.store(true, Ordering::Relaxed);
        }
    }
}

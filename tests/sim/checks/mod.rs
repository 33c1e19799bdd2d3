//! Tests of the world itself: a port that is kinder than its contract would prove nothing about the product,
//! and a judge that cannot say "wrong" would prove nothing at all.
//!
//! | file | tests |
//! |---|---|
//! | `index` | quorums, unheard, lost and late writes, refusals |
//! | `blobs` | late puts, what the wire spoils, damage at rest |
//! | `group` | one owner at a time but for declared overlaps; the log's epochs and bounds |
//! | `lookup` | exact refusals, waiting for freshness, budgets, what verifying finds |
//! | `judge` | every field of an answer, and every excuse |

mod blobs;
mod group;
mod index;
mod judge;
mod lookup;

use crate::executor::lock;
use crate::plan::FaultPlan;
use crate::ports::Fate;
use crate::ports::producer::VersionMode;
use crate::protocol::play;
use crate::runner::Case;
use crate::world::{Ports, Setup, World};
use std::future::Future;
use std::sync::{Arc, Mutex};

/// A world in which nothing fails but what the script says; no workers.
fn calm(seed: u64) -> World {
    World::planned(seed, Setup::orders(VersionMode::Given), FaultPlan::calm())
}

/// Every call of `what` has this fate.
fn fated(world: &World, what: &'static str, fate: Fate) {
    world.script(Some(Box::new(move |op| (op.what == what).then_some(fate))));
}

/// Makes calls as a process that faults apply to, and lets the world go on for `ms` at most.
fn call<T, F>(world: &World, ms: u64, calls: impl FnOnce(Ports) -> F) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let ports = world.process("caller");
    let (process, answer) = (ports.process, Arc::new(Mutex::new(None)));
    let (asked, slot) = (calls(ports), Arc::clone(&answer));
    world.sim.spawn(process, async move {
        let answered = asked.await;
        *lock(&slot) = Some(answered);
    });
    let deadline = world.sim.now() + ms;
    while lock(&answer).is_none() && world.sim.step_until(deadline) {}
    lock(&answer).take()
}

/// Goal: a seed names one run. Method: whole seeds again, and their neighbours.
#[test]
fn a_seed_names_one_run() {
    let hash = |seed, versions| play(Case { seed, versions, verbose: false }).trace_hash;
    assert_eq!(hash(5, VersionMode::Given), hash(5, VersionMode::Given));
    assert_ne!(hash(5, VersionMode::Given), hash(6, VersionMode::Given));
    assert_ne!(hash(5, VersionMode::Given), hash(5, VersionMode::Counted));
}

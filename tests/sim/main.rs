//! The deterministic world in which the protocol is simulated: an executor with virtual time, ports that fail
//! in every way their contracts allow, a producer, a nemesis, and the runner of many seeds.
//!
//! | file | owns |
//! |---|---|
//! | `executor` | tasks of processes, virtual time, timers, the trace hash |
//! | `rng` | the random numbers of a seed |
//! | `plan` | which faults a seed has |
//! | `ports` | index, blobs, log, group, clock, producer |
//! | `nemesis` | what goes wrong by itself |
//! | `world` | one world and its phases: chaos, heal, settle, ask, finish |
//! | `stats` | what happened, over all seeds |
//! | `judge`, `questions` | what is asked, and whether the answer is right |
//! | `store` | directed scenarios of the write side |
//! | `spacing` | scenarios of a hot aggregate whose flushes are slow |
//! | `creation` | snapshots that somebody asks for |
//! | `merging` | history that is merged |
//! | `refold` | refolds under a new reducer, while everything goes on |
//! | `retention` | snapshots that are deleted |
//! | `collection` | garbage collection |
//! | `purging` | erasures, and packs that are written anew without the erased |
//! | `archiving` | packs that are moved to the archive |
//! | `surface` | events, lists, snapshots, head versions, and whether they are right |
//! | `origins` | who wrote what, changes, answers by a basis, and whether they are right |
//! | `promises` | `history` of a seed, and which versions may be gone by it |
//! | `rebuild` | an index that is lost and rebuilt from objects |
//! | `runner` | many seeds on two threads |
//! | `mutants` | the test that every wrong protocol is caught, and its table |
//! | `directed` | which scenario is for which mutant that seeds meet too rarely |
//! | `owners` | scenarios of owners that come after one another |
//! | `erasing` | scenarios of aggregates that are erased |
//! | `schedules` | snapshots at due times, by owners that die |
//! | `halts` | of partitions that halt at poison |
//! | `losses` | of checkpoints that are lost, with and without the log |
//! | `marks` | of quarantine marks whose records are gone |
//! | `drains` | of workers that stop while much is on its way |
//! | `stage` | what those are played on |
//! | `cache` | states that readers keep |
//! | `checks` | tests of the world itself |

#![expect(dead_code, reason = "a test may need any part of the world")]

mod archiving;
mod cache;
mod checks;
mod collection;
mod creation;
#[cfg(not(feature = "runtime"))]
mod directed;
#[cfg(not(feature = "runtime"))]
mod drains;
mod dropping;
#[cfg(not(feature = "runtime"))]
mod erasing;
mod executor;
mod fleet;
#[cfg(not(feature = "runtime"))]
mod halts;
mod judge;
#[path = "../ledger/mod.rs"]
#[expect(dead_code, reason = "the simulator does not ask the ledger everything")]
mod ledger;
#[cfg(not(feature = "runtime"))]
mod losses;
#[cfg(not(feature = "runtime"))]
mod marks;
mod merging;
#[cfg(not(feature = "runtime"))]
mod mutants;
mod nemesis;
mod origins;
#[cfg(not(feature = "runtime"))]
mod owners;
mod plan;
mod ports;
mod promises;
mod protocol;
mod purging;
mod questions;
mod rebuild;
mod refold;
mod retention;
mod rng;
mod runner;
mod schedules;
#[cfg(not(feature = "runtime"))]
mod spacing;
#[cfg(not(feature = "runtime"))]
mod stage;
mod stats;
mod store;
mod subject;
mod surface;
mod world;

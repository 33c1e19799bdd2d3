//! What the process knows of its own health: brokers, stores, partitions, tasks. Readiness and liveness are
//! made of it, and what the scrape shows of it.
//!
//! INVARIANT: nobody is asked for an answer here; all that is told was heard before. A store that nobody
//! needs is asked now and then by [`Health::watch`], or one failure of the past would count for ever.

use super::schemas::SchemaSource;
use super::stores::Meters;
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::row::PartitionKey;
use crate::http::Readiness;
use crate::kafka::Consumer;
use crate::store::answers::Silence;
use crate::telemetry::metrics::{self as table, Sample};
use crate::worker::Handle;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long brokers may be silent: twice the longest wait for one answer, and time to try again.
const BROKERS_SILENT_MAX: Duration = Duration::from_secs(15);
/// How long a store may be silent.
const STORE_SILENT_MS_MAX: u64 = 30_000;
/// After which a store that nobody needed is asked whether it is there.
const STORE_UNHEARD_MS: u64 = 10_000;
/// Between two looks at the tasks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks at which a task has not turned: then it is stuck. Looks, not time, so that a process that was frozen
/// as a whole does not find its tasks stuck when it goes on.
const LOOKS_MAX: u32 = 60;

/// The facts.
pub(super) struct Health {
    pub(super) workers: BTreeMap<Arc<str>, Handle>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) meters: Meters,
    pub(super) schemas: SchemaSource,
    /// False while not all events are fed, or the process is stopping.
    pub(super) open: Arc<AtomicBool>,
    pub(super) watchdog: Arc<Mutex<Watchdog>>,
}

impl Health {
    /// Whether requests should come here.
    pub(super) fn ready(&self) -> Readiness {
        let mut reasons = self.schemas.reasons();
        if !self.open.load(Ordering::Relaxed) {
            reasons.push("not all events are fed, or the process is stopping".to_owned());
        }
        reasons.extend(self.consumer.failure());
        reasons.extend(of_brokers(self.consumer.silence()));
        reasons.extend(of_store("index", self.meters.index.silence()));
        reasons.extend(of_store("blob store", self.meters.blobs.silence()));
        reasons.extend(of_partitions(&self.workers));
        Readiness { ready: reasons.is_empty(), reasons }
    }

    /// Whether the process should go on: no task is stuck, and the group's client can go on. (Nothing here
    /// waits, so that the runtime answers at all is told by the answer.)
    pub(super) fn live(&self) -> Readiness {
        let mut reasons = self.watchdog.lock().expect("no panic while it is held").reasons();
        reasons.extend(self.consumer.failure());
        Readiness { ready: reasons.is_empty(), reasons }
    }

    /// Looks after tasks and stores, for ever.
    pub(super) async fn watch(&self, topic: Arc<str>) {
        let key = PartitionKey { topic, partition: PartitionNo(0), lineage: Lineage(1) };
        let tasks = async {
            loop {
                tokio::time::sleep(LOOK).await;
                self.watchdog.lock().expect("no panic while it is held").look(&self.workers);
            }
        };
        // Each for itself: a store that hangs keeps nobody else from being looked at.
        let index = async {
            loop {
                tokio::time::sleep(LOOK).await;
                self.meters.index.ask_if_unheard(&key, STORE_UNHEARD_MS).await;
            }
        };
        let blobs = async {
            loop {
                tokio::time::sleep(LOOK).await;
                self.meters.blobs.ask_if_unheard(STORE_UNHEARD_MS).await;
            }
        };
        futures_util::future::join3(tasks, index, blobs).await;
    }

    /// The facts as metrics.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let seconds = |silence: Option<Silence>| silence.map_or(0.0, |silence| silence.ms as f64 / 1_000.0);
        let tallies = self.consumer.tallies();
        let total = |metric, tally: &std::sync::atomic::AtomicU64| {
            Sample::total(metric, &[], 0, tally.load(Ordering::Relaxed))
        };
        let stuck = self.watchdog.lock().expect("no panic while it is held").reasons().len();
        vec![
            Sample::now(&table::READY, &[], f64::from(u8::from(self.ready().ready))),
            Sample::now(&table::STORE_SILENCE, &["index"], seconds(self.meters.index.silence())),
            Sample::now(&table::STORE_SILENCE, &["blobs"], seconds(self.meters.blobs.silence())),
            Sample::now(&table::BROKERS_SILENCE, &[], self.consumer.silence().as_secs_f64()),
            Sample::now(&table::TASK_STUCK, &[], stuck as f64),
            total(&table::GROUP_ASSIGNED, &tallies.assigned),
            total(&table::GROUP_LOST, &tallies.lost),
            total(&table::GROUP_LATE, &tallies.late),
            total(&table::STRAY_RECORDS, &tallies.strays),
        ]
    }
}

fn of_brokers(silence: Duration) -> Option<String> {
    (silence >= BROKERS_SILENT_MAX)
        .then(|| format!("no broker has answered for {} s: check `kafka.brokers`", silence.as_secs()))
}

fn of_store(store: &str, silence: Option<Silence>) -> Option<String> {
    let Silence { ms, failures, why } = silence.filter(|silence| silence.ms >= STORE_SILENT_MS_MAX)?;
    let why = if why.is_empty() { "no call has ended".to_owned() } else { why };
    Some(format!("the {store} has not answered for {} s ({failures} calls failed): {why}", ms / 1_000))
}

fn of_partitions(workers: &BTreeMap<Arc<str>, Handle>) -> Vec<String> {
    let mut reasons = Vec::new();
    for (kind, handle) in workers {
        let statuses = handle.statuses.lock().expect("no panic while the map is held");
        if statuses.is_empty() && handle.partitions().is_empty() && !handle.has_joined() {
            reasons.push(format!("`{kind}`: the group has not given us a partition yet"));
        }
        for (partition, status) in statuses.iter() {
            if let Some(refusal) = &status.refused {
                reasons.push(format!("`{kind}` partition {partition}: {}", refusal.poison()));
            } else if let Some((offset, poison)) = &status.halted {
                reasons.push(format!("`{kind}` partition {partition} stands before {offset}: {poison}"));
            } else if status.reached < status.replay_until {
                reasons.push(format!(
                    "`{kind}` partition {partition}: at {} of {}",
                    status.reached, status.replay_until
                ));
            }
        }
        if statuses.len() < handle.partitions().len() {
            reasons.push(format!("`{kind}`: partitions are being taken over"));
        }
    }
    reasons
}

/// Notices tasks that no longer turn. A task turns ten times a second, whether records come or not, and
/// between two turns waits at most for one answer of brokers or index.
#[derive(Debug, Default)]
pub(super) struct Watchdog(BTreeMap<(Arc<str>, PartitionNo), (u64, u32)>);

impl Watchdog {
    fn look(&mut self, workers: &BTreeMap<Arc<str>, Handle>) {
        let mut seen = BTreeMap::new();
        for (kind, handle) in workers {
            let statuses = handle.statuses.lock().expect("no panic while the map is held");
            // One that was refused has no loop: readiness tells of it.
            for (partition, status) in statuses.iter().filter(|(_, status)| status.refused.is_none()) {
                let key = (Arc::clone(kind), *partition);
                let looks = match self.0.get(&key) {
                    Some((turns, looks)) if *turns == status.turns => looks.saturating_add(1),
                    _ => 0,
                };
                seen.insert(key, (status.turns, looks));
            }
        }
        self.0 = seen;
    }

    fn reasons(&self) -> Vec<String> {
        let stuck = self.0.iter().filter(|(_, (_, looks))| *looks >= LOOKS_MAX);
        stuck
            .map(|((kind, partition), (_, looks))| {
                format!("`{kind}` partition {partition}: its task has not turned for {looks} s")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Offset;
    use crate::domain::poison::Poison;
    use crate::worker::Status;

    fn workers() -> (BTreeMap<Arc<str>, Handle>, Handle) {
        let handle = Handle::default();
        (BTreeMap::from([("order".into(), handle.clone())]), handle)
    }

    fn put(handle: &Handle, status: Status) {
        handle.statuses.lock().unwrap().insert(PartitionNo(3), status);
    }

    #[test]
    fn brokers_and_stores_may_be_silent_for_a_while_and_not_for_longer() {
        assert_eq!(of_brokers(Duration::from_secs(14)), None);
        assert!(of_brokers(Duration::from_secs(15)).unwrap().contains("15 s"));
        let silence = |ms| Some(Silence { ms, failures: 7, why: "outcome unknown: no route".into() });
        assert_eq!((of_store("index", None), of_store("index", silence(29_999))), (None, None));
        let reason = of_store("index", silence(30_000)).unwrap();
        assert!(reason.contains("index") && reason.contains("no route") && reason.contains('7'), "{reason}");
        let hung = Some(Silence { ms: 30_000, failures: 0, why: String::new() });
        assert!(of_store("blob store", hung).unwrap().contains("no call has ended"));
    }

    #[test]
    fn partitions_are_ready_once_they_have_caught_up_and_while_they_do_not_stand_still() {
        let (workers, handle) = workers();
        assert!(of_partitions(&workers)[0].contains("has not given us"));
        let behind = Status { reached: Offset(4), replay_until: Offset(9), ..Status::default() };
        put(&handle, behind.clone());
        assert_eq!(of_partitions(&workers), ["`order` partition 3: at 4 of 9"]);
        let caught_up = Status { reached: Offset(9), ..behind };
        put(&handle, caught_up.clone());
        assert_eq!(of_partitions(&workers), [""; 0]);
        let halted = Some((Offset(9), Poison::new("log-truncated", "it was cut")));
        put(&handle, Status { halted, ..caught_up });
        assert!(of_partitions(&workers)[0].contains("log-truncated"));
    }

    #[test]
    fn a_task_that_does_not_turn_is_stuck_until_it_turns_and_a_halted_one_is_not() {
        let (workers, handle) = workers();
        let mut watchdog = Watchdog::default();
        let status = Status { turns: 5, ..Status::default() };
        put(&handle, status.clone());
        (0..LOOKS_MAX).for_each(|_| watchdog.look(&workers));
        assert_eq!(watchdog.reasons(), [""; 0]);
        watchdog.look(&workers);
        assert_eq!(watchdog.reasons(), ["`order` partition 3: its task has not turned for 60 s"]);
        put(&handle, Status { turns: 6, ..status });
        watchdog.look(&workers);
        assert_eq!(watchdog.reasons(), [""; 0]);
        for turns in 7..200 {
            let halted = Some((Offset(9), Poison::new("version-gap", "a version is missing")));
            put(&handle, Status { turns, halted, ..Status::default() });
            watchdog.look(&workers);
        }
        assert_eq!(watchdog.reasons(), [""; 0], "it stands still and turns");
    }
}

//! What fires while a partition is held back and what waits, on the machine itself. Loads, snapshots and
//! checkpoints are acknowledged at once, so whatever is due shows.

use crate::domain::aggregate::{Aggregate, OnPoison, Rules, Versions};
use crate::domain::event::{Decoded, Event};
use crate::domain::ids::{Digest, Lineage, Offset, PartitionNo, Timestamp};
use crate::domain::partition::{
    BackOff, Effect, Input, Load, Loaded, Now, Partition, Reply, Settings, Strategy,
};
use crate::domain::record::RawRecord;
use crate::domain::reducer::Preset;
use crate::domain::row::{PartitionKey, Trigger};
use crate::domain::value::{Limits, Value};
use std::sync::Arc;

struct Machine {
    partition: Partition,
    now_ms: u64,
    offset: i64,
    end: i64,
    took_us: Option<u64>,
    fulls: u64,
}

fn rules() -> Rules {
    Rules {
        kind: "order".into(),
        reducer: Arc::new(Preset::named("replace").expect("a preset")),
        versions: Versions::CountedOnce,
        on_poison: OnPoison::Quarantine,
        state_bytes_max: 1 << 20,
        limits: Limits::default(),
    }
}

impl Machine {
    fn new(tune: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            events_max: 3,
            age_ms_max: 60_000,
            bytes_max: 1 << 30,
            write_amplification_permille: 0,
            strategy: Strategy::Incremental { full_every: 1_000 },
            memory_bytes_max: 64 << 20,
            uncovered_bytes_max: 64 << 20,
            loads_max: 4,
            snapshots_max: 64,
            live_bytes_max: u64::MAX,
            hot_max: 4,
            adaptive_us: None,
            back_off: BackOff { records_max: 100, ms_max: 1 << 40 },
        };
        tune(&mut settings);
        let key = PartitionKey { topic: "t".into(), partition: PartitionNo(0), lineage: Lineage(1) };
        let partition = Partition::new(key, rules(), settings, Offset(0), Vec::new());
        Self { partition, now_ms: 1_000, offset: 0, end: 0, took_us: None, fulls: 0 }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now = Now { wall: Timestamp(0), monotonic_ms: self.now_ms };
            let mut effects = Vec::new();
            self.partition.step(input, now, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Load { id, .. } => {
                        let aggregate = Aggregate::genesis("order", &id);
                        let loaded = Loaded { aggregate, rows: Vec::new(), trail: None };
                        let took_us = self.took_us;
                        inputs.push(Input::Loaded(Load { id, result: Ok(Box::new(loaded)), took_us }));
                    }
                    Effect::Snapshot(flight, item) => {
                        let fulls = item.cuts.iter().filter(|cut| cut.full).count();
                        self.fulls += fulls as u64;
                        let full_bytes = (fulls > 0).then_some(100);
                        inputs.push(Input::SnapshotStored { flight, full_bytes, increment_bytes: 0 });
                    }
                    Effect::Commit(offset) => inputs.push(Input::Committed(Ok(offset))),
                    _ => {}
                }
            }
        }
    }

    fn events(&mut self, id: &str, count: usize) {
        for _ in 0..count {
            let event = Event {
                id: id.into(),
                version: None,
                event_type: "E".into(),
                event_id: None,
                time: Timestamp(self.offset),
                data: Value::Bool(true),
                extra_bytes: 0,
                is_echo: false,
            };
            let record = RawRecord {
                offset: Offset(self.offset),
                value: Some(b"true".as_slice().into()),
                ..RawRecord::default()
            };
            self.offset += 1;
            self.end = self.end.max(self.offset);
            self.step(Input::Records(vec![Decoded {
                record,
                digest: Digest::default(),
                content: Ok(event),
            }]));
        }
    }

    /// Seconds in which the log's end moves away by so many records each.
    fn seconds(&mut self, seconds: u64, more: i64) {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            self.end = (self.end + more).max(self.offset);
            self.step(Input::LogEnd(Offset(self.end)));
            self.step(Input::Tick);
        }
    }

    fn taken(&self, trigger: Trigger) -> u64 {
        self.partition.counts().snapshots[trigger as usize]
    }
}

#[test]
fn while_it_falls_behind_counts_wait_and_age_and_people_do_not() {
    let mut machine = Machine::new(|_| ());
    machine.events("a", 3);
    assert_eq!(machine.taken(Trigger::Events), 1, "nothing presses");
    machine.seconds(10, 50);
    assert!(machine.partition.is_held_back());
    machine.events("a", 3);
    machine.events("b", 2);
    assert_eq!((machine.taken(Trigger::Events), machine.partition.counts().put_off), (1, 1));
    for (at, trigger) in [(1, Trigger::Manual), (2, Trigger::Schedule)] {
        machine.step(Input::SnapshotNow("b".into(), None, trigger, Reply(at)));
    }
    assert_eq!(machine.taken(Trigger::Manual), 1, "whoever asks by hand is answered");
    machine.events("c", 1);
    machine.seconds(61, 50);
    assert_eq!(machine.taken(Trigger::Age), 2, "a and c have waited for too long");

    machine.events("a", 3);
    machine.events("b", 3);
    assert_eq!(machine.taken(Trigger::Events), 1);
    machine.end = machine.offset;
    machine.seconds(1, 0);
    assert!(!machine.partition.is_held_back());
    assert_eq!(machine.taken(Trigger::Events), 3, "what was put off is taken");
}

#[test]
fn a_range_does_not_grow_for_ever() {
    let mut machine = Machine::new(|_| ());
    machine.seconds(10, 50);
    machine.events("a", 47);
    assert_eq!(machine.taken(Trigger::Events), 0);
    machine.events("a", 1);
    assert_eq!(machine.taken(Trigger::Events), 1, "sixteen thresholds");
}

#[test]
fn a_partition_that_comes_nearer_is_not_held_back() {
    let mut machine = Machine::new(|_| ());
    machine.end = 1_000_000;
    machine.seconds(20, -10);
    machine.events("a", 9);
    assert_eq!((machine.partition.is_held_back(), machine.taken(Trigger::Events)), (false, 3));
}

#[test]
fn a_full_record_is_cut_where_reading_would_take_longer_than_the_target() {
    let target = |settings: &mut Settings| {
        settings.events_max = 1_000;
        settings.adaptive_us = Some(2_000);
    };
    // What is assumed before anything was measured: a millisecond, and five microseconds for each event.
    let mut machine = Machine::new(target);
    machine.events("a", 199);
    assert_eq!((machine.taken(Trigger::Adaptive), machine.fulls), (0, 0));
    machine.events("a", 3);
    assert_eq!((machine.taken(Trigger::Adaptive), machine.fulls), (1, 1), "and the record is a full one");
    machine.events("a", 199);
    assert_eq!(machine.taken(Trigger::Adaptive), 1, "events count from the full record");
    machine.events("a", 3);
    assert_eq!(machine.taken(Trigger::Adaptive), 2);
    // Where loads take longer, records come earlier: here the base takes some 1,700 of the 2,000.
    let mut slow = Machine::new(target);
    slow.took_us = Some(1_700);
    (0..40).for_each(|n| slow.events(&format!("x-{n}"), 1));
    assert!(slow.partition.costs().base_us > 1_600, "{:?}", slow.partition.costs());
    slow.events("a", 102);
    assert_eq!((slow.taken(Trigger::Adaptive), slow.fulls), (1, 1));
}

/// Goal: who folds a log first asks rest about what it let go, and about nothing else; and what it remembers
/// of that has a bound. Method: ever more aggregates of one event, each covered at once, in little memory.
#[test]
fn a_first_owner_loads_what_it_let_go() {
    let mut machine = Machine::new(|settings| {
        settings.events_max = 1;
        settings.memory_bytes_max = 64 << 10;
    });
    machine.partition = machine.partition.as_first_owner();
    let counts = |machine: &Machine| (machine.partition.counts().loads, machine.partition.counts().evictions);
    (0..1_000).for_each(|n| machine.events(&format!("o-{n}"), 1));
    let (loads, evictions) = counts(&machine);
    assert!(loads < 20 && evictions > 500, "{loads} loads, {evictions} evictions: nothing was there before");
    machine.events("o-0", 1);
    assert_eq!(counts(&machine).0, loads + 1, "the first of them was let go");
    (1_000..6_000).for_each(|n| machine.events(&format!("o-{n}"), 1));
    let (loads, _) = counts(&machine);
    (6_000..6_100).for_each(|n| machine.events(&format!("o-{n}"), 1));
    assert_eq!(counts(&machine).0, loads + 100, "there were too many to remember");
    assert!(machine.partition.wants_records());
}

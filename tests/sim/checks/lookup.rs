//! Lookups where nothing fails by itself: exact refusals, waiting for freshness, budgets, what verifying
//! finds.

use crate::executor::lock;
use crate::plan::FaultPlan;
use crate::ports::blobs::Damage;
use crate::ports::broker::{Draft, Note};
use crate::ports::producer::{StreamSpec, VersionMode};
use crate::subject::{Active, Fleet, Subject};
use crate::world::{Setup, World};
use snapfold::domain::ids::{Offset, PartitionNo, Timestamp, Version};
use snapfold::domain::patch::{Budget, diff as diff_of};
use snapfold::domain::row::Trigger;
use snapfold::domain::value::{Limits, Value};
use snapfold::lookup::{
    Freshness, Lookup, LookupSettings, Refusal, Selector, SnapshotFilter, Source, Streams, VerifyMode, Which,
};
use snapfold::reconstruct::NoOwners;
use snapfold::worker::Command;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

const TOPIC: &str = "orders";
const HERE: PartitionNo = PartitionNo(0);
/// Of the first event; each later one is a second later.
const FIRST_TIME: Timestamp = Timestamp(1_700_000_000_000);

struct Hall {
    world: World,
    subject: Subject,
    fleet: Fleet,
    active: Active,
}

/// Two partitions; events of `a` in the first, a worker that folds them, a snapshot of version 3 on the way.
fn hall(events: u64) -> Hall {
    let subject = Subject::staged(VersionMode::Given);
    let mut setup = Setup::orders(VersionMode::Given);
    setup.streams = vec![StreamSpec { partitions: 2, shape: subject.shape, ..setup.streams[0].clone() }];
    let world = World::planned(1, setup, FaultPlan::calm());
    let fleet = Fleet::new(&world);
    let active = *lock(&fleet.active);
    let hall = Hall { world, subject, fleet, active };
    let ports = hall.world.process("worker");
    let process = ports.process;
    hall.world.sim.spawn(process, (hall.subject.boot(&hall.fleet))(ports));
    (1..=events.min(3)).for_each(|version| hall.append(version));
    hall.world.idle(1_500);
    hall.snapshot();
    (4..=events).for_each(|version| hall.append(version));
    hall.world.idle(1_500);
    hall
}

impl Hall {
    fn append(&self, version: u64) {
        append(&self.world, version);
    }

    fn snapshot(&self) {
        let (sender, _) = futures_channel::oneshot::channel();
        let workers = lock(&self.fleet.workers);
        let (_, _, handle, _) = workers.first().expect("one worker");
        assert!(
            handle.send(HERE, Command::Snapshot("a".into(), None, Trigger::Manual, sender)),
            "it owns the partition"
        );
        drop(workers);
        self.world.idle(500);
    }

    /// Asks a lookup without owners that may read `events_max` events.
    fn ask<T, F>(&self, events_max: u64, question: impl FnOnce(Lookup) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (subject, active) = (self.subject.clone(), self.active);
        let answer = self.world.ask(60_000, |ports| {
            let reader = subject.reader(&ports, active);
            let settings = LookupSettings { events_max, ..LookupSettings::default() };
            question(subject.lookup_with(&ports, active, reader, Arc::new(NoOwners), settings))
        });
        answer.expect("it is answered")
    }

    /// What the worker's own lookup answers.
    fn ask_worker<T, F>(&self, question: impl FnOnce(Lookup) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let lookup = lock(&self.fleet.workers)[0].3.clone();
        self.world.ask(60_000, |_| question(lookup)).expect("it is answered")
    }

    fn lose(&self, class: &str) {
        while self.world.bucket.damage(&format!("v1/{class}/"), Damage::Loss).is_some() {}
    }
}

fn append(world: &crate::world::Parts, version: u64) {
    let time = snapfold::domain::moment::format(Timestamp(FIRST_TIME.0 + (version as i64 - 1) * 1_000));
    let value = format!(
        r#"{{"id":"e-{version}","type":"ItemAdded","aggregateId":"a","version":{version},
            "timestamp":"{time}","data":{{"sku":"s{version}","qty":1,"price":1.10}}}}"#
    );
    let draft = world.broker.draft("a", &value);
    let draft = Draft { note: Note::Event, version: Some(version), ..draft };
    world.broker.append(TOPIC, HERE, draft).expect("the topic is there");
}

const ANY: u64 = 1_000_000;

#[test]
fn what_cannot_be_answered_is_refused_exactly() {
    let hall = hall(5);
    let state = |selector| {
        hall.ask(ANY, move |lookup| async move {
            lookup.state("a", selector, Freshness::default()).await.map(|answer| answer.aggregate.version.0)
        })
    };
    assert_eq!(state(Selector::Version(Version(5))), Ok(5));
    assert_eq!(state(Selector::Version(Version(6))), Err(Refusal::VersionBeyondHead { head: Version(5) }));
    let early = Selector::Time(Timestamp(FIRST_TIME.0 - 1));
    assert_eq!(state(early), Err(Refusal::BeforeFirstEvent { first_time: FIRST_TIME }));
    assert_eq!(state(Selector::Time(Timestamp(FIRST_TIME.0 + 1_999))), Ok(2));
    assert_eq!(state(Selector::Offset(HERE, Offset(3))), Ok(4));
    let elsewhere = Selector::Offset(PartitionNo(1), Offset(0));
    assert_eq!(state(elsewhere), Err(Refusal::WrongPartition { partition: HERE }));
    let position = Some((HERE, Offset(5)));
    let beyond = Refusal::NotCaughtUp { head: Some(Version(5)), position };
    assert_eq!(state(Selector::Offset(HERE, Offset(5))), Err(beyond));
    assert!(matches!(state(Selector::Version(Version(0))), Err(Refusal::Failed(_))));

    let (nobody, events, none, garbage) = hall.ask(ANY, |lookup| async move {
        let nobody = lookup.state("nobody", Selector::Head, Freshness::default()).await.err();
        let events = lookup.events("a", Version(6), None, false, 10).await.err();
        let none = lookup.snapshot("a", Which::Version(Version(2))).await.err();
        let streams = Streams { by_type: BTreeMap::from([("order".into(), Arc::new(lookup))]) };
        (nobody, events, none, streams.snapshot_by_id("garbage").await.err())
    });
    assert_eq!(nobody, Some(Refusal::UnknownAggregate));
    assert_eq!(events, Some(Refusal::VersionBeyondHead { head: Version(5) }));
    assert_eq!((none, garbage), (Some(Refusal::NoSnapshot), Some(Refusal::NoSnapshot)));
}

#[test]
fn a_question_that_costs_too_much_says_how_much() {
    let hall = hall(9);
    let ask = |max| {
        hall.ask(max, move |lookup| async move {
            lookup.state("a", Selector::Version(Version(9)), Freshness::default()).await.err()
        })
    };
    assert_eq!(ask(100), None);
    // From the snapshot on that was asked for at version 3.
    assert_eq!(ask(3), Some(Refusal::TooMuchWork { events: 6, max: 3 }));
}

#[test]
fn a_question_waits_for_what_it_demands() {
    let hall = hall(3);
    let wish =
        |version, wait_ms| Freshness { min_version: Some(Version(version)), wait_ms, ..Freshness::default() };
    let before = hall.world.sim.now();
    let late = hall
        .ask(ANY, move |lookup| async move { lookup.state("a", Selector::Head, wish(4, 300)).await.err() });
    assert_eq!(late, Some(Refusal::NotCaughtUp { head: Some(Version(3)), position: None }));
    assert!(hall.world.sim.now() >= before + 300);
    let parts = (*hall.world).clone();
    hall.world.sim.at(hall.world.sim.now() + 400, move || append(&parts, 4));
    let waited =
        hall.ask_worker(move |lookup| async move { lookup.state("a", Selector::Head, wish(4, 5_000)).await });
    assert_eq!(waited.expect("it came").aggregate.version, Version(4));
    // The owner answers from memory once it has folded what is demanded, and only then.
    let offset = Freshness { min_offset: Some((HERE, Offset(4))), wait_ms: 5_000, ..Freshness::default() };
    let parts = (*hall.world).clone();
    hall.world.sim.at(hall.world.sim.now() + 400, move || append(&parts, 5));
    let waited =
        hall.ask_worker(move |lookup| async move { lookup.state("a", Selector::Head, offset).await });
    assert_eq!(waited.expect("it came").head_version, Some(Version(5)));
    hall.world.idle(200);
    let head = hall.ask_worker(move |lookup| async move { lookup.state("a", Selector::Head, offset).await });
    assert_eq!(head.expect("it is there").source, Source::Memory);
}

#[test]
fn snapshots_have_ids_and_differences_lead_from_one_to_the_next() {
    let hall = hall(6);
    let (snapshots, by_id, diff, blob) = hall.ask(ANY, |lookup| async move {
        let all = SnapshotFilter { limit: 10, ..SnapshotFilter::default() };
        let snapshots = lookup.snapshots("a", all).await.expect("they are there");
        let (from, to) = (Selector::Version(Version(2)), Selector::Head);
        let diff = lookup.diff("a", from, to, None).await.expect("both are there");
        let blob = lookup.blob("a", Version(3)).await.expect("it is there");
        let streams = Streams { by_type: BTreeMap::from([("order".into(), Arc::new(lookup))]) };
        let by_id = streams.snapshot_by_id(&snapshots[0].id).await.expect("it is there");
        (snapshots, by_id, diff, blob)
    });
    assert_eq!(snapshots.iter().map(|meta| meta.row.version.0).collect::<Vec<_>>(), [3]);
    assert_eq!((by_id.0.row.version, by_id.1.aggregate.version), (Version(3), Version(3)));
    let text = |answer: &snapfold::lookup::Answer| answer.aggregate.state.to_json().expect("not deleted");
    let tree = |answer| Value::parse(&text(answer), &Limits::default()).expect("a state is JSON");
    let mut state = tree(&diff.from);
    diff_of(&diff.before, &diff.after).apply(&mut state, &Budget::default()).expect("it applies");
    assert_eq!(state, tree(&diff.to));
    assert_eq!((diff.from.aggregate.version, diff.to.aggregate.version), (Version(2), Version(6)));
    let body = usize::try_from(blob.body.end).expect("small");
    assert!(blob.range.end - blob.range.start == blob.frame.len() as u64 && body <= blob.frame.len());
}

#[test]
fn verifying_finds_what_is_lost_and_says_that_reads_heal_it() {
    let hall = hall(6);
    let verify = |mode| hall.ask(ANY, move |lookup| async move { lookup.verify("a", None, mode).await });
    for mode in [VerifyMode::Checksum, VerifyMode::Pack, VerifyMode::Replay] {
        let verified = verify(mode).expect("it can be answered");
        assert!(verified.ok && verified.checked >= 4, "{verified:?}");
    }
    hall.lose("history");
    let verified = verify(VerifyMode::Checksum).expect("the log has it all");
    let found: Vec<_> = verified.problems.iter().map(|problem| (problem.code, problem.version.0)).collect();
    assert_eq!(found, [("corrupt", 3)], "{verified:?}");
    assert!(!verified.ok && verified.problems[0].healed);
    // Another event with the version of one that was folded: only the topic tells.
    append(&hall.world, 2);
    hall.append(7);
    hall.world.idle(1_500);
    let conflicts = verify(VerifyMode::Replay).expect("it can be answered").problems;
    assert!(
        conflicts.iter().all(|problem| problem.code == "corrupt"),
        "an equal event is none: {conflicts:?}"
    );
    let other = r#"{"id":"e-x","type":"ItemAdded","aggregateId":"a","version":5,"data":{"sku":"x","qty":1}}"#;
    let draft = Draft { note: Note::Conflict, version: Some(5), ..hall.world.broker.draft("a", other) };
    hall.world.broker.append(TOPIC, HERE, draft).expect("the topic is there");
    hall.append(8);
    hall.world.idle(1_500);
    let conflicts = verify(VerifyMode::Replay).expect("it can be answered").problems;
    assert!(
        conflicts.iter().any(|problem| (problem.code, problem.version.0) == ("conflict", 5)),
        "{conflicts:?}"
    );
}

//! The judge can say "wrong": one field at a time, and each excuse where it does not hold.

use crate::judge::{Judge, Question};
use crate::plan::FaultPlan;
use crate::ports::producer::VersionMode;
use crate::subject::{Active, Fleet, Subject};
use crate::world::{Setup, World};
use snapfold::domain::aggregate::{Aggregate, State};
use snapfold::domain::error::{Error, ErrorKind};
use snapfold::domain::ids::{AggregateKey, Digest, Offset, PartitionNo, Timestamp, Version};
use snapfold::domain::record::QuarantineMark;
use snapfold::domain::row::PartitionKey;
use snapfold::reconstruct::{AsOf, Found, Provenance};

struct Court {
    world: World,
    judge: Judge,
    subject: Subject,
    active: Active,
    id: String,
    partition: PartitionNo,
}

/// Events in the log, nobody who folds them, and the aggregate that has most.
fn court(versions: VersionMode) -> Court {
    let subject = Subject::drawn(1, versions);
    let mut setup = Setup::orders(versions);
    setup.streams[0].shape = subject.shape;
    let world = World::planned(1, setup, FaultPlan::calm());
    (0..150).for_each(|_| world.producer.produce());
    let active = *crate::executor::lock(&Fleet::new(&world).active);
    let mut judge = Judge::new(&subject, &world, active);
    assert!(judge.follow(&world, active));
    let most = judge.places().keys().max_by_key(|id| judge.head(id)).expect("there are events").clone();
    let partition = judge.places()[&most];
    Court { world, judge, subject, active, id: most, partition }
}

impl Court {
    fn question(&self, as_of: AsOf) -> Question {
        let then = self.judge.now(&self.world, &self.id);
        let (id, partition) = (self.id.clone(), self.partition);
        Question { id, as_of, partition, then, of_owner: false, healed: true }
    }

    fn answer(&self, as_of: AsOf) -> Found {
        let (topic, lineage) = ("orders".into(), self.active.lineage);
        let partition = PartitionKey { topic, partition: self.partition, lineage };
        let key = AggregateKey { kind: "order".into(), id: self.id.as_str().into() };
        let (subject, active) = (self.subject.clone(), self.active);
        let answer = self.world.ask(60_000, move |ports| async move {
            subject.reader(&ports, active).state(&partition, &key, as_of).await
        });
        answer.expect("it is answered").expect("nothing fails")
    }

    fn verdict(&mut self, as_of: AsOf, found: &Found) -> Result<(), String> {
        let asked = self.question(as_of);
        self.judge.judge(&self.world, &asked, Ok(found))
    }
}

fn state_of(found: &Found) -> Box<Aggregate> {
    let state = if let Found::State(aggregate, _) = found { Some(aggregate.clone()) } else { None };
    state.expect("there is a state")
}

fn changed(found: &Found, change: impl FnOnce(&mut Aggregate)) -> Found {
    let mut aggregate = state_of(found);
    change(&mut aggregate);
    Found::State(aggregate, Provenance::default())
}

/// Goal: the judge compares all that an answer tells. Method: a right answer, then one lie at a time.
#[test]
fn every_field_of_an_answer_is_judged() {
    type Lie = fn(&mut Aggregate);
    let lies: [(&str, Lie); 9] = [
        ("state", |a| a.state = State::Idle(Box::from(&b"{}"[..]))),
        ("deleted", |a| a.state = State::Absent),
        ("chain", |a| a.chain = Digest([1; 32])),
        ("offset", |a| a.offset = a.offset.next()),
        ("effective time", |a| a.effective_time = Timestamp(a.effective_time.0 + 1)),
        ("last event type", |a| a.last_event_type = "Other".into()),
        ("last event id", |a| a.last_event_id = None),
        ("version", |a| a.version = Version(a.version.0 - 1)),
        ("mark", |a| {
            let (version, offset, leader_epoch) = (a.version, Offset(a.offset.0 + 1), 0);
            let (code, since) = ("reducer".into(), Timestamp(0));
            a.quarantine = Some(Box::new(QuarantineMark { code, version, offset, leader_epoch, since }));
        }),
    ];
    for versions in [VersionMode::Given, VersionMode::Counted] {
        let mut court = court(versions);
        let right = court.answer(AsOf::Head);
        assert_eq!(court.verdict(AsOf::Head, &right), Ok(()));
        for (what, lie) in lies {
            assert!(court.verdict(AsOf::Head, &changed(&right, lie)).is_err(), "a lie about the {what}");
        }
    }
}

/// Goal: a true state that was not asked for is a wrong answer. Method: the neighbour of every moment.
#[test]
fn a_true_state_of_another_moment_is_wrong() {
    let mut court = court(VersionMode::Given);
    let head = court.judge.head(&court.id);
    let (first, second) = (AsOf::Version(Version(head - 1)), AsOf::Version(Version(head)));
    let (before, after) = (court.answer(first), court.answer(second));
    let offset = AsOf::Offset(state_of(&after).offset);
    for (as_of, right, wrong) in [
        (first, &before, &after),
        (second, &after, &before),
        (offset, &after, &before),
        (AsOf::Head, &after, &before),
    ] {
        assert_eq!(court.verdict(as_of, right), Ok(()), "{as_of:?}");
        assert!(court.verdict(as_of, wrong).is_err(), "{as_of:?}");
    }
    assert!(court.verdict(AsOf::Head, &Found::Unknown).is_err());
    assert!(court.verdict(second, &Found::BeyondHead(Version(head - 1))).is_err());
    let beyond = AsOf::Version(Version(head + 1));
    assert_eq!(court.verdict(beyond, &Found::BeyondHead(Version(head))), Ok(()));
    assert!(court.verdict(AsOf::Offset(Offset(0)), &Found::BeforeFirst(Timestamp(1))).is_err());
}

/// Goal: no error is an excuse by itself. Method: nothing fails, nothing is forgotten, nothing is damaged.
#[test]
fn errors_are_no_excuse_where_nothing_is_lost() {
    let mut court = court(VersionMode::Counted);
    for kind in [ErrorKind::Gone, ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::Unavailable] {
        let error = Error::new(kind, "corrupt", "said without need");
        let mut asked = court.question(AsOf::Version(Version(1)));
        assert!(court.judge.judge(&court.world, &asked, Err(&error)).is_err(), "{kind:?} in the end");
        asked.healed = false;
        let passing = court.judge.judge(&court.world, &asked, Err(&error)).is_ok();
        assert_eq!(passing, kind == ErrorKind::Unavailable, "{kind:?} during chaos");
    }
}

//! The group's member: one librdkafka client and one thread for all topics of a process.
//!
//! *Order*: librdkafka asks for every change of the assignment, and goes on when it is answered. Assigned
//!   partitions are answered at once and not started: a partition is started when its worker says from where,
//!   at that offset and no other. Revoked ones are answered when the workers have let go of them, or when
//!   `revoke_ms` and a second are over. All changes are made by the one thread, so none overtakes another.
//!   The queue of a partition is split from the common one every time before it is started.
//! *If it fails*: a fatal error of the client ends every queue and is told by [`Consumer::failure`].
//! *If cancelled*: commands whose asker is gone are carried out or not; nobody hears of it.
//! *What may leak*: a client that cannot leave the group in time is left to its thread.

use super::bounds::{Board, watch};
use super::context::{Heard, Loss, MemberContext};
use super::failure::{Effect, now, outcome};
use super::ffi;
use super::log::TopicLog;
use super::mailbox::{Mailbox, Member};
use super::queue::{Key, Slot};
use super::reader::{self, Question, Readers};
use super::settings;
use super::tallies::{Tallies, count};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::kafka::{ConsumerSettings, Group, GroupEvent, Log, LogBounds};
use futures_channel::oneshot;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset as Position, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long the thread may wait for librdkafka before it looks at its commands.
const TURN: Duration = Duration::from_millis(20);
/// How often those who wait for records look again although nobody woke them.
const NUDGE: Duration = Duration::from_secs(1);
/// How long a commit may be without an answer.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open commits are waited for before the group is left.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long leaving the group may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The slot of this member's partitions.
pub(super) type OwnSlot = Slot<MemberContext>;

/// What the thread is asked to do.
pub(super) enum Command {
    /// Start a partition at an offset.
    Open(Key, Offset, oneshot::Sender<PortResult<Arc<OwnSlot>>>),
    /// The worker has let go of these.
    Released(Vec<Key>),
    /// Commit an offset.
    Commit(Key, Offset, oneshot::Sender<PortResult<()>>),
    /// Leave the group.
    Close(oneshot::Sender<()>),
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Commands(mpsc::Sender<Command>);

impl Commands {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    pub(super) fn send(&self, command: Command) -> PortResult<()> {
        self.0.send(command).map_err(|_| PortError::NotDone("the consumer is closed".to_owned()))
    }
}

fn list_of<'a>(keys: impl IntoIterator<Item = &'a Key>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in keys {
        list.add_partition(topic, *partition);
    }
    list
}

fn by_topic(keys: &[Key]) -> BTreeMap<&Arc<str>, Vec<PartitionNo>> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (topic, partition) in keys {
        topics.entry(topic).or_default().push(PartitionNo(*partition));
    }
    topics
}

/// What the handle and the thread share.
struct Shared {
    mailboxes: BTreeMap<Arc<str>, Arc<Mailbox>>,
    board: Arc<Board>,
    tallies: Tallies,
    failure: Mutex<Option<String>>,
}

/// Reads all topics of a process as a member of one group.
pub struct Consumer {
    shared: Arc<Shared>,
    commands: Commands,
    readers: Arc<Readers>,
}

impl Consumer {
    /// Joins the group. Brokers that do not answer are no error here: librdkafka goes on trying.
    pub fn start(settings: ConsumerSettings) -> Result<Self> {
        let config = settings::member(&settings)?;
        let member = BaseConsumer::from_config_and_context(&config, MemberContext::default());
        let unusable = |error: KafkaError| {
            Error::new(ErrorKind::Invalid, "bad-body", format!("create the Kafka consumer: {error}"))
        };
        let member = member.map_err(unusable)?;
        let topics: Vec<&str> = settings.topics.iter().map(|topic| &**topic).collect();
        member.subscribe(&topics).map_err(unusable)?;

        let board = Arc::new(Board::default());
        let common = Arc::new(reader::client(&settings)?);
        let readers = Arc::new(Readers::start(&settings, &common, &board)?);
        let (pokes, poked) = mpsc::channel();
        let watched = Arc::clone(&board);
        let interval = Duration::from_millis(settings.bounds_ms.max(10));
        let topic = settings.topics.first().cloned();
        thread("kafka-bounds", move || watch(&common, &watched, topic.as_deref(), &poked, interval))?;

        let mailboxes = settings.topics.iter().map(|topic| (Arc::clone(topic), Arc::default())).collect();
        let shared =
            Arc::new(Shared { mailboxes, board, tallies: Tallies::default(), failure: Mutex::default() });
        let (commands, receiver) = Commands::new();
        let membership = Membership {
            consumer: Arc::new(member),
            shared: Arc::clone(&shared),
            pokes,
            revoke: Duration::from_millis(settings.revoke_ms) + Duration::from_secs(1),
            assigned: BTreeMap::new(),
            revoking: None,
            commits: BTreeMap::new(),
            committing: None,
            nudge_at: now(),
        };
        thread("kafka-group", move || membership.run(&receiver))?;
        Ok(Self { shared, commands, readers })
    }

    /// The ports of one topic's worker.
    ///
    /// # Panics
    /// If the topic is not one of those that the consumer was started with.
    #[must_use]
    pub fn stream(&self, topic: &str) -> (Arc<dyn Group>, Arc<dyn Log>) {
        let found = self.shared.mailboxes.get_key_value(topic);
        let (topic, mailbox) = found.expect("a stream's topic is one of the consumer's topics");
        let commands = self.commands.clone();
        let member = Member { topic: Arc::clone(topic), mailbox: Arc::clone(mailbox), commands };
        let log = TopicLog {
            topic: Arc::clone(topic),
            board: Arc::clone(&self.shared.board),
            readers: Arc::clone(&self.readers),
            commands: self.commands.clone(),
        };
        (Arc::new(member), Arc::new(log))
    }

    /// Kafka's id of a topic.
    pub async fn topic_id(&self, topic: &str) -> PortResult<u128> {
        self.readers.ask(&Arc::from(topic), PartitionNo(0), Question::TopicId).await
    }

    /// Records that came on the common queue: always 0, or a partition's queue was not split.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.shared.tallies.strays.load(Ordering::Relaxed)
    }

    /// What has happened to this member.
    #[must_use]
    pub fn tallies(&self) -> &Tallies {
        &self.shared.tallies
    }

    /// How long no broker has answered.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.shared.board.silence()
    }

    /// Bounds of a topic's assigned partitions as they were known last; nobody is asked.
    #[must_use]
    pub fn last_bounds(&self, topic: &str) -> BTreeMap<PartitionNo, LogBounds> {
        self.shared.board.last(topic)
    }

    /// Why the client cannot go on, if so: only a new process, or a new consumer, helps.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().expect("no panic while the failure is held").clone()
    }

    /// Drops all queues and leaves the group, within 15 s.
    pub async fn close(&self) {
        let (sender, done) = oneshot::channel();
        if self.commands.send(Command::Close(sender)).is_ok() {
            // The thread is gone if somebody closed before: then there is nothing to wait for.
            let _ = done.await;
        }
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "dependency-down", format!("start a thread: {error}"))
    })
}

struct Revoking {
    keys: Vec<Key>,
    left: BTreeSet<Key>,
    deadline: Instant,
}

type CommitAnswers = Vec<oneshot::Sender<PortResult<()>>>;

/// The thread that owns the membership.
struct Membership {
    consumer: Arc<BaseConsumer<MemberContext>>,
    shared: Arc<Shared>,
    pokes: mpsc::Sender<()>,
    revoke: Duration,
    /// Our partitions, with their queues once they are started.
    assigned: BTreeMap<Key, Option<Arc<OwnSlot>>>,
    revoking: Option<Revoking>,
    /// Offsets to commit with the next request.
    commits: BTreeMap<Key, (Offset, CommitAnswers)>,
    /// Those of the request under way. One at a time, so that none overtakes another.
    committing: Option<(Instant, BTreeMap<Key, CommitAnswers>)>,
    nudge_at: Instant,
}

impl Membership {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let closed = loop {
            self.poll(TURN);
            match self.obey(commands) {
                Turn::On => {}
                Turn::Close(done) => break done,
            }
            self.look_after_revoking();
            self.send_commits();
            if now() >= self.nudge_at {
                self.nudge_at = now() + NUDGE;
                self.assigned.values().flatten().for_each(|slot| slot.nudge());
            }
        };
        self.close();
        if let Some(done) = closed {
            let _ = done.send(());
        }
    }

    /// Lets librdkafka speak, and acts on what it said.
    fn poll(&mut self, timeout: Duration) {
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => {
                count(&self.shared.tallies.strays, 1);
                error!(
                    partition = rdkafka::Message::partition(&message),
                    offset = rdkafka::Message::offset(&message),
                    "record on the common queue"
                );
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => self.fail(&code.to_string()),
            Some(Err(_)) | None => {}
        }
        for heard in self.consumer.context().heard() {
            match heard {
                Heard::Assign(keys) => self.assign(&keys),
                Heard::Revoke(keys, Loss::AskedBack) => self.ask_back(keys),
                Heard::Revoke(keys, Loss::Lost) => self.lose(&keys),
                Heard::Committed(result, each) => self.committed(&result, &each),
            }
        }
    }

    fn obey(&mut self, commands: &mpsc::Receiver<Command>) -> Turn {
        loop {
            match commands.try_recv() {
                Ok(Command::Open(key, from, answer)) => {
                    let _ = answer.send(self.open(&key, from));
                }
                Ok(Command::Released(keys)) => {
                    if let Some(revoking) = &mut self.revoking {
                        keys.iter().for_each(|key| {
                            revoking.left.remove(key);
                        });
                    }
                }
                Ok(Command::Commit(key, offset, answer)) if self.assigned.contains_key(&key) => {
                    let (newest, answers) = self.commits.entry(key).or_insert((offset, Vec::new()));
                    *newest = offset;
                    answers.push(answer);
                }
                Ok(Command::Commit((topic, partition), _, answer)) => {
                    let text = format!("commit `{topic}`/{partition}: it is not assigned to this member");
                    let _ = answer.send(Err(PortError::NotDone(text)));
                }
                Ok(Command::Close(done)) => return Turn::Close(Some(done)),
                Err(mpsc::TryRecvError::Disconnected) => return Turn::Close(None),
                Err(mpsc::TryRecvError::Empty) => return Turn::On,
            }
        }
    }

    fn assign(&mut self, keys: &[Key]) {
        for key in keys {
            self.shared.board.assigned(key);
            self.assigned.insert(key.clone(), None);
        }
        let _ = self.pokes.send(());
        // An empty answer: librdkafka has the partitions in its group's book, and fetches none of them.
        self.answer("take partitions", self.consumer.incremental_assign(&TopicPartitionList::new()));
        count(&self.shared.tallies.assigned, keys.len());
        info!(partitions = keys.len(), total = self.assigned.len(), "partitions assigned");
        self.tell(GroupEvent::Assigned, keys);
    }

    fn ask_back(&mut self, keys: Vec<Key>) {
        let unheard = |key: &Key| {
            let mailbox = self.shared.mailboxes.get(&key.0);
            mailbox.is_none_or(|mailbox| mailbox.take_back(PartitionNo(key.1)))
        };
        let asked: Vec<Key> = keys.iter().filter(|key| self.assigned.contains_key(*key)).cloned().collect();
        let asked: Vec<Key> = asked.into_iter().filter(|key| !unheard(key)).collect();
        info!(partitions = keys.len(), held = asked.len(), "partitions asked back");
        self.tell(GroupEvent::Revoked, &asked);
        let (left, deadline) = (asked.into_iter().collect(), now() + self.revoke);
        self.revoking = Some(Revoking { keys, left, deadline });
        self.look_after_revoking();
    }

    fn look_after_revoking(&mut self) {
        let Some(revoking) = &self.revoking else { return };
        let lost = self.consumer.assignment_lost();
        if !revoking.left.is_empty() && now() < revoking.deadline && !lost {
            return;
        }
        let Some(Revoking { keys, left, .. }) = self.revoking.take() else { return };
        let left: Vec<Key> = left.into_iter().collect();
        if lost {
            count(&self.shared.tallies.lost, left.len());
            self.tell(GroupEvent::Lost, &left);
        } else if !left.is_empty() {
            count(&self.shared.tallies.late, left.len());
            warn!(
                partitions = left.len(),
                "workers did not let go in time, the rebalance goes on without them"
            );
        }
        self.give_up(&keys);
    }

    fn lose(&mut self, keys: &[Key]) {
        count(&self.shared.tallies.lost, keys.len());
        warn!(partitions = keys.len(), "partitions lost");
        for (topic, partitions) in by_topic(keys) {
            if let Some(mailbox) = self.shared.mailboxes.get(topic) {
                let heard = partitions.into_iter().filter(|partition| !mailbox.take_back(*partition));
                mailbox.tell(GroupEvent::Lost, heard.collect());
            }
        }
        self.revoking = None;
        self.give_up(keys);
    }

    /// Drops the queues of partitions and tells librdkafka that the rebalance may go on.
    fn give_up(&mut self, keys: &[Key]) {
        let mut started = Vec::new();
        for key in keys {
            self.shared.board.gone(key);
            if let Some(Some(slot)) = self.assigned.remove(key) {
                slot.close();
                started.push(key);
            }
        }
        self.answer("give up partitions", self.consumer.incremental_unassign(&list_of(started)));
    }

    fn answer(&self, what: &str, result: KafkaResult<()>) {
        if let Err(error) = result {
            error!(%error, "could not {what}");
        }
    }

    fn tell(&self, event: fn(Vec<PartitionNo>) -> GroupEvent, keys: &[Key]) {
        for (topic, partitions) in by_topic(keys) {
            if let Some(mailbox) = self.shared.mailboxes.get(topic) {
                mailbox.tell(event, partitions);
            }
        }
    }

    /// Starts a partition, or starts it again elsewhere.
    fn open(&mut self, key: &Key, from: Offset) -> PortResult<Arc<OwnSlot>> {
        let doing = format!("open `{}`/{} at {from}", key.0, key.1);
        let failed = |what: &str| PortError::NotDone(format!("{doing}: {what}"));
        if let Some(failure) = &*self.shared.failure.lock().expect("no panic while the failure is held") {
            return Err(PortError::Permanent(format!("{doing}: {failure}")));
        }
        // SUBTLE: while librdkafka waits for us to give partitions up, any unassign counts as that answer.
        if self.revoking.is_some() {
            return Err(failed("a rebalance is under way"));
        }
        let Some(slot) = self.assigned.get_mut(key) else {
            return Err(failed("it is not assigned to this member"));
        };
        if from.0 < 0 {
            return Err(failed("a negative offset means something else to librdkafka"));
        }
        if let Some(before) = slot.take() {
            // Before the new queue is made: closing switches the wake-ups of both off.
            before.close();
            let unassigned = self.consumer.incremental_unassign(&list_of([key]));
            unassigned.map_err(|error| failed(&error.to_string()))?;
        }
        let queue = self.consumer.split_partition_queue(&key.0, key.1);
        let queue = queue.ok_or_else(|| failed("its queue cannot be split"))?;
        let bounds = self.shared.board.get(key).ok_or_else(|| failed("it is not assigned"))?;
        let opened = Arc::new(Slot::new(key.clone(), queue, from, bounds));
        let mut list = TopicPartitionList::with_capacity(1);
        let added = list.add_partition_offset(&key.0, key.1, Position::Offset(from.0));
        let assigned = added.and_then(|()| self.consumer.incremental_assign(&list));
        if let Err(error) = assigned {
            opened.close();
            return Err(failed(&error.to_string()));
        }
        *slot = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn send_commits(&mut self) {
        if let Some((deadline, _)) = &self.committing {
            if now() < *deadline {
                return;
            }
            let silent = PortError::Unknown("commit: no answer".to_owned());
            let (_, open) = self.committing.take().expect("looked at above");
            open.into_values().for_each(|answers| tell_all(answers, &Err(silent.clone())));
        }
        if self.commits.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(self.commits.len());
        let mut open = BTreeMap::new();
        let mut added = Ok(());
        for (key, (offset, answers)) in std::mem::take(&mut self.commits) {
            added = added.and(list.add_partition_offset(&key.0, key.1, Position::Offset(offset.0)));
            open.insert(key, answers);
        }
        match added.and_then(|()| ffi::commit(self.consumer.client(), &list)) {
            Ok(()) => self.committing = Some((now() + COMMIT_TIMEOUT, open)),
            Err(error) => {
                let failed = outcome("commit", &error, Effect::None);
                open.into_values().for_each(|answers| tell_all(answers, &Err(failed.clone())));
            }
        }
    }

    fn committed(&mut self, result: &KafkaResult<()>, each: &[(Key, KafkaResult<()>)]) {
        let Some((_, open)) = self.committing.take() else { return };
        for (key, answers) in open {
            let own = each.iter().find(|(other, _)| *other == key).map(|(_, result)| result);
            let result = match (result, own) {
                (Err(error), _) | (Ok(()), Some(Err(error))) => {
                    Err(outcome(&format!("commit `{}`/{}", key.0, key.1), error, Effect::Writes))
                }
                (Ok(()), Some(Ok(()))) => Ok(()),
                // An answer to another request, one that was given up.
                (Ok(()), None) => Err(PortError::Unknown("commit: the answer is about others".to_owned())),
            };
            tell_all(answers, &result);
        }
    }

    fn fail(&mut self, what: &str) {
        error!(error = what, "the Kafka consumer cannot go on");
        let text = format!("{what}: the Kafka consumer cannot go on, restart the process");
        *self.shared.failure.lock().expect("no panic while the failure is held") = Some(text);
        let keys: Vec<Key> = self.assigned.keys().cloned().collect();
        self.lose(&keys);
    }

    /// Waits for open commits, drops the queues, leaves the group.
    fn close(mut self) {
        let deadline = now() + LAST_COMMIT_TIMEOUT;
        self.send_commits();
        while self.committing.is_some() && now() < deadline {
            self.poll(TURN);
            self.send_commits();
        }
        self.consumer.context().close();
        let keys: Vec<Key> = self.assigned.keys().cloned().collect();
        self.give_up(&keys);
        // Dropping it leaves the group, and may hang: then it hangs alone.
        let consumer = self.consumer;
        let (sender, left) = mpsc::channel();
        let spawned = thread("kafka-leave", move || {
            drop(consumer);
            let _ = sender.send(());
        });
        match spawned.is_ok() && left.recv_timeout(CLOSE_TIMEOUT).is_ok() {
            true => info!("left the consumer group"),
            false => warn!("could not leave the consumer group in time"),
        }
    }
}

fn tell_all(answers: CommitAnswers, result: &PortResult<()>) {
    for answer in answers {
        let _ = answer.send(result.clone());
    }
}

enum Turn {
    On,
    Close(Option<oneshot::Sender<()>>),
}

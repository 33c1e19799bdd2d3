//! Clients that ask brokers without being a member of the group: reads of a stretch of a partition, and the
//! questions that block (bounds, ends of leader epochs, committed offsets, partition counts).
//!
//! *Order*: questions of one partition go to one thread, in order; so a scan that asks for the next page
//!   finds its reader where it left it.
//! *If it fails*: every question has a deadline; nothing is retried here beyond what librdkafka does itself.
//! *If cancelled*: a question whose asker is gone is dropped before it starts, or at the next poll.
//! *What may leak*: nothing; the threads end when the last asker is gone.

use super::bounds::{self, Board};
use super::failure::{Effect, log, log_error, now, outcome};
use super::queue::{Key, copied};
use super::{ffi, settings};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RawRecord;
use crate::kafka::{ConsumerSettings, LogBounds};
use futures_channel::oneshot;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Message as _, Offset as Position, TopicPartitionList};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// How long an answer may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request of several may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Records and bytes of one answer.
const PAGE_RECORDS: usize = 1_000;
const PAGE_BYTES: usize = 1 << 20;
/// Lines and errors of a client that are heard before it is said why it failed.
const EVENTS_MAX: usize = 1_000;
/// How long a reader stays where a page ended.
const LINGER: Duration = Duration::from_millis(100);

/// Keeps the last error's text, which tells more than its code.
#[derive(Default)]
pub(super) struct ReaderContext {
    reason: Mutex<String>,
}

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
        // That all brokers are down is told after each reason why, and tells less.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        reason.clone_into(&mut self.reason.lock().expect("no panic while the reason is held"));
    }
}

impl ConsumerContext for ReaderContext {}

impl ReaderContext {
    /// Why brokers will not have us, where that is the last thing that was heard of them: librdkafka tries
    /// again for ever, and calls it a failure of the transport.
    fn refusal(&self) -> Option<String> {
        let reason = self.reason.lock().expect("no panic while the reason is held");
        let advice = if reason.contains("uthentication") {
            "check `sasl.*` and `security.protocol` of the Kafka properties"
        } else if reason.contains("SSL routines") {
            "check `ssl.*` and `security.protocol` of the Kafka properties"
        } else {
            return None;
        };
        Some(format!("{reason}: {advice}"))
    }
}

/// A client that is not a member of the group.
pub(super) type Client = BaseConsumer<ReaderContext>;

/// A client with the settings of a reader.
pub(super) fn client(settings: &ConsumerSettings) -> Result<Client> {
    let config = settings::reader(settings)?;
    Client::from_config_and_context(&config, ReaderContext::default()).map_err(|error| {
        Error::new(ErrorKind::Invalid, "bad-body", format!("create a Kafka client: {error}"))
    })
}

type Answer<T> = oneshot::Sender<PortResult<T>>;

/// What may be asked.
pub(super) enum Question {
    /// Bounds, from the brokers.
    Bounds(Answer<LogBounds>),
    /// Records from the first offset on, below the second.
    Read(Offset, Offset, Answer<Vec<RawRecord>>),
    /// Where a leader epoch ended.
    EpochEnd(i32, Answer<Offset>),
    /// The group's committed offset.
    Committed(Answer<Option<Offset>>),
    /// Partitions of the topic.
    PartitionCount(Answer<u32>),
    /// Kafka's id of the topic.
    TopicId(Answer<u128>),
}

struct Job {
    topic: Arc<str>,
    partition: PartitionNo,
    question: Question,
}

/// A fixed number of readers.
pub(super) struct Readers {
    threads: Vec<mpsc::Sender<Job>>,
}

impl Readers {
    /// Starts the threads; their clients are made with the first question that needs one.
    pub(super) fn start(
        settings: &ConsumerSettings,
        common: &Arc<Client>,
        board: &Arc<Board>,
    ) -> Result<Self> {
        let mut threads = Vec::new();
        for number in 0..settings.readers.max(1) {
            let (sender, jobs) = mpsc::channel();
            let reader = Reader {
                settings: settings.clone(),
                common: Arc::clone(common),
                board: Arc::clone(board),
                own: None,
                at: None,
            };
            let spawned = std::thread::Builder::new()
                .name(format!("kafka-reader-{number}"))
                .spawn(move || reader.serve(&jobs));
            spawned.map_err(|error| {
                Error::new(ErrorKind::Unavailable, "dependency-down", format!("start a thread: {error}"))
            })?;
            threads.push(sender);
        }
        Ok(Self { threads })
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        topic: &Arc<str>,
        partition: PartitionNo,
        question: impl FnOnce(Answer<T>) -> Question,
    ) -> PortResult<T> {
        let (sender, answer) = oneshot::channel();
        let place = usize::try_from(partition.0).unwrap_or(0) % self.threads.len();
        let job = Job { topic: Arc::clone(topic), partition, question: question(sender) };
        let gone = || PortError::NotDone("the Kafka clients are closed".to_owned());
        self.threads[place].send(job).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// One thread's clients.
struct Reader {
    settings: ConsumerSettings,
    /// Shared with the others: for questions that assign nothing.
    common: Arc<Client>,
    board: Arc<Board>,
    own: Option<Client>,
    /// What `own` is assigned, and the next offset it gives.
    at: Option<(Key, Offset)>,
}

impl Reader {
    fn serve(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let job = match self.at {
                Some(_) => jobs.recv_timeout(LINGER),
                None => jobs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(job) => self.answer(job),
                Err(mpsc::RecvTimeoutError::Timeout) => self.leave(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, Job { topic, partition, question }: Job) {
        let deadline = now() + TIMEOUT;
        match question {
            Question::Bounds(sender) => {
                reply(sender, |_| bounds::one(&self.common, &self.board, &topic, partition, REQUEST_TIMEOUT))
            }
            Question::Read(from, to, sender) => {
                reply(sender, |wanted| self.read(&(topic, partition.0), from, to, deadline, wanted));
            }
            Question::EpochEnd(epoch, sender) => {
                reply(sender, |wanted| self.epoch_end(&topic, partition, epoch, deadline, wanted));
            }
            Question::Committed(sender) => reply(sender, |_| self.committed(&topic, partition)),
            Question::PartitionCount(sender) => reply(sender, |_| self.partition_count(&topic)),
            Question::TopicId(sender) => reply(sender, |_| {
                let doing = format!("ask for the id of topic `{topic}`");
                bounds::topic_id(&self.common, &topic, REQUEST_TIMEOUT)
                    .map_err(|error| outcome(&doing, &error, Effect::None))
            }),
        }
    }

    /// The client of this thread, assigned to one partition at one place.
    fn go_to(&mut self, key: &Key, place: Position) -> PortResult<&Client> {
        let client = match self.own.take() {
            Some(client) => client,
            None => client(&self.settings).map_err(|error| PortError::Permanent(error.detail))?,
        };
        let mut list = TopicPartitionList::with_capacity(1);
        let assigned = list.add_partition_offset(&key.0, key.1, place).and_then(|()| client.assign(&list));
        assigned.map_err(|error| PortError::NotDone(format!("assign `{}`/{}: {error}", key.0, key.1)))?;
        Ok(self.own.insert(client))
    }

    /// Leaves the partition: a reader at the end of a log would hold up the next read with its fetch.
    fn leave(&mut self) {
        self.at = None;
        if let Some(client) = &self.own {
            let _ = client.unassign();
            // Serves the client's log lines.
            let _ = client.poll(Duration::ZERO);
        }
    }

    fn read(
        &mut self,
        key: &Key,
        from: Offset,
        to: Offset,
        deadline: Instant,
        wanted: &dyn Fn() -> bool,
    ) -> PortResult<Vec<RawRecord>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let goes_on = self.at.take().is_some_and(|at| at == (key.clone(), from));
        let read = self.read_page(key, from, to, goes_on, deadline, wanted);
        match &read {
            Ok((records, End::Page)) => {
                self.at = records.last().map(|last| (key.clone(), last.offset.next()));
            }
            _ => self.leave(),
        }
        match read {
            Ok((records, _)) => Ok(records),
            // Before the log's start, or past its end: librdkafka does not tell which.
            Err(PortError::Missing) => {
                let bounds = bounds::one(
                    &self.common,
                    &self.board,
                    &key.0,
                    PartitionNo(key.1),
                    deadline.saturating_duration_since(now()),
                )?;
                if from >= bounds.end { Ok(Vec::new()) } else { Err(PortError::Missing) }
            }
            Err(error) => Err(error),
        }
    }

    fn read_page(
        &mut self,
        key: &Key,
        from: Offset,
        to: Offset,
        goes_on: bool,
        deadline: Instant,
        wanted: &dyn Fn() -> bool,
    ) -> PortResult<(Vec<RawRecord>, End)> {
        let client = match &self.own {
            Some(client) if goes_on => client,
            _ => self.go_to(key, Position::Offset(from.0))?,
        };
        let doing = || format!("read `{}`/{} from {from} to {to}", key.0, key.1);
        let (mut records, mut bytes): (Vec<RawRecord>, _) = (Vec::new(), 0);
        loop {
            if records.len() >= PAGE_RECORDS || bytes >= PAGE_BYTES {
                return Ok((records, End::Page));
            }
            if now() >= deadline || !wanted() {
                let text = format!("{}: no answer within {} s", doing(), TIMEOUT.as_secs());
                return if records.is_empty() {
                    Err(PortError::NotDone(text))
                } else {
                    Ok((records, End::Cut))
                };
            }
            match client.poll(Duration::from_millis(50)) {
                None => {}
                Some(Ok(message)) => {
                    let offset = Offset(message.offset());
                    if message.partition() != key.1 || offset < from || message.topic() != &*key.0 {
                        continue;
                    }
                    if offset >= to {
                        return Ok((records, End::Cut));
                    }
                    let record = copied(&message);
                    bytes += record.bytes();
                    records.push(record);
                    if offset.next() == to {
                        return Ok((records, End::Cut));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok((records, End::Cut)),
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return if records.is_empty() {
                        Err(PortError::Missing)
                    } else {
                        Ok((records, End::Cut))
                    };
                }
                Some(Err(error)) => {
                    let failed = outcome(&doing(), &error, Effect::None);
                    // librdkafka goes on by itself after most errors; the deadline bounds that.
                    if matches!(failed, PortError::Permanent(_)) {
                        return Err(failed);
                    }
                }
            }
        }
    }

    /// The end of a leader epoch. librdkafka has no call for it, but asks for it when it seeks to an offset
    /// with an epoch: one beyond any log makes it say where the epoch really ended.
    fn epoch_end(
        &mut self,
        topic: &Arc<str>,
        partition: PartitionNo,
        epoch: i32,
        deadline: Instant,
        wanted: &dyn Fn() -> bool,
    ) -> PortResult<Offset> {
        let (end, current) = bounds::end(&self.common, &self.board, topic, partition, REQUEST_TIMEOUT)?;
        // No epoch is known of the position, or nothing was written under a later one. Where the broker does
        // not tell its epoch (the mock cluster), it has to be asked.
        if epoch < 0 || (current >= 0 && epoch >= current) {
            return Ok(end);
        }
        let key = (Arc::clone(topic), partition.0);
        self.at = None;
        let said = self.provoke(&key, epoch, deadline, wanted);
        self.leave();
        match said? {
            Some(end) => Ok(end),
            // No epoch as old as that is known: all that was written under it has left the log at its start.
            None => {
                let bounds = bounds::one(&self.common, &self.board, topic, partition, REQUEST_TIMEOUT)?;
                Ok(bounds.start)
            }
        }
    }

    fn provoke(
        &mut self,
        key: &Key,
        epoch: i32,
        deadline: Instant,
        wanted: &dyn Fn() -> bool,
    ) -> PortResult<Option<Offset>> {
        const BEYOND: i64 = i64::MAX / 4;
        let doing = format!("ask for the end of leader epoch {epoch} of `{}`/{}", key.0, key.1);
        // The end is a place that always exists: only a started partition can be sought in.
        let client = self.go_to(key, Position::End)?;
        let mut seek_at = now() + Duration::from_millis(20);
        while now() < deadline && wanted() {
            if now() >= seek_at {
                let mut list = TopicPartitionList::with_capacity(1);
                let added = list.add_partition_offset(&key.0, key.1, Position::Offset(BEYOND));
                added.map_err(|error| outcome(&doing, &error, Effect::None))?;
                ffi::set_leader_epoch(&list, epoch);
                // Too early (the leader is not known yet) is an error, or silence: then it is sought again.
                let _ = client.seek_partitions(list, REQUEST_TIMEOUT);
                seek_at = now() + Duration::from_secs(1);
            }
            match client.poll(Duration::from_millis(10)) {
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    let reason = client.context().reason.lock().expect("no panic while the reason is held");
                    return epoch_end_said(&reason).ok_or_else(|| {
                        PortError::Permanent(format!(
                            "{doing}: the broker does not tell, Kafka 2.8 is needed ({reason})"
                        ))
                    });
                }
                Some(Err(KafkaError::PartitionEOF(_)) | Ok(_)) | None => {}
                Some(Err(error)) => {
                    let failed = outcome(&doing, &error, Effect::None);
                    if matches!(failed, PortError::Permanent(_)) {
                        return Err(failed);
                    }
                }
            }
        }
        Err(PortError::NotDone(format!("{doing}: no answer within {} s", TIMEOUT.as_secs())))
    }

    fn committed(&self, topic: &str, partition: PartitionNo) -> PortResult<Option<Offset>> {
        let doing = format!("ask for the committed offset of `{topic}`/{partition}");
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, partition.0);
        let list = self.common.committed_offsets(list, REQUEST_TIMEOUT);
        let list = list.map_err(|error| outcome(&doing, &error, Effect::None))?;
        let elements = list.elements();
        let element = elements.first().ok_or_else(|| PortError::NotDone(format!("{doing}: no answer")))?;
        element.error().map_err(|error| outcome(&doing, &error, Effect::None))?;
        Ok(match element.offset() {
            Position::Offset(offset) => Some(Offset(offset)),
            _ => None,
        })
    }

    fn partition_count(&self, topic: &str) -> PortResult<u32> {
        let doing = format!("ask for the partitions of topic `{topic}`");
        let metadata = self.common.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| {
            // The client says why when it is polled, one line at a time.
            (0..EVENTS_MAX).for_each(|_| drop(self.common.poll(Duration::ZERO)));
            match self.common.context().refusal() {
                Some(reason) => PortError::Permanent(format!("{doing}: {reason}")),
                None => outcome(&doing, &error, Effect::None),
            }
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| PortError::NotDone(format!("{doing}: no answer")))?;
        if let Some(code) = found.error() {
            let error = KafkaError::MetadataFetch(RDKafkaErrorCode::from(code));
            return Err(outcome(&doing, &error, Effect::None));
        }
        match u32::try_from(found.partitions().len()) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(PortError::NotDone(format!("{doing}: the broker names none"))),
        }
    }
}

/// Why a page ends where it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is full; more may follow.
    Page,
    /// At the end of the stretch or of the log, or at an error after some records.
    Cut,
}

fn reply<T>(sender: Answer<T>, answer: impl FnOnce(&dyn Fn() -> bool) -> PortResult<T>) {
    if sender.is_canceled() {
        return;
    }
    let result = answer(&|| !sender.is_canceled());
    let _ = sender.send(result);
}

/// The end of an epoch in librdkafka's text on a truncated log: `None` if the text is about something else,
/// no offset if the broker knows no such epoch.
fn epoch_end_said(reason: &str) -> Option<Option<Offset>> {
    let (_, rest) = reason.split_once("broker end offset is ")?;
    let (number, rest) = rest.split_once(" (offset leader epoch ")?;
    let (epoch, _) = rest.split_once(')')?;
    let (end, epoch): (i64, i32) = (number.parse().ok()?, epoch.parse().ok()?);
    Some((end >= 0 && epoch >= 0).then_some(Offset(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_epoch_is_read_from_what_librdkafka_says() {
        let cut = "Partition log truncation detected at offset 9 (leader epoch 1): broker end offset is 42 (offset leader epoch 1). Reset to INVALID.";
        assert_eq!(epoch_end_said(cut), Some(Some(Offset(42))));
        let unknown = "No epoch found less or equal to offset 9 (leader epoch 1): broker end offset is -1 (offset leader epoch -1). Reset using configured policy.";
        assert_eq!(epoch_end_said(unknown), Some(None));
        assert_eq!(epoch_end_said("fetch failed due to requested offset not available on the broker"), None);
    }
}

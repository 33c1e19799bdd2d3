//! Where partitions begin and end, which topic they belong to and under which leader epoch they are.
//!
//! A partition's task asks twice per batch whether the log is still the one it folded, so for assigned
//! partitions the answer is kept here: a thread asks the brokers for all of them together every `bounds_ms`,
//! and records that arrive move the end and the epoch at once. An answer older than [`STALE_MS_MAX`] is not
//! given: then the brokers are asked, and silence is an error.
//!
//! INVARIANT: the end is never below a record that was handed out, unless the brokers were asked after that
//! record was taken from its queue. A worker takes a position beyond the end for a truncated log.

use super::failure::{Effect, now, outcome};
use super::ffi;
use super::queue::Key;
use super::reader::Client;
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::kafka::LogBounds;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset as Position, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How old an answer may be.
const STALE_MS_MAX: u64 = 10_000;
/// How long brokers may take to tell the bounds of all assigned partitions.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing is heard of the brokers before they are asked without need.
const UNHEARD: Duration = Duration::from_secs(5);
/// Between two questions about one partition.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The number of a question to the brokers; several may be open at once.
type Question = u64;

#[derive(Debug)]
struct Known {
    answer: Option<(LogBounds, Instant)>,
    asked: Question,
    answered: Question,
    /// Only answers to later questions count.
    doubted: Question,
    /// One past the records that were handed out between a question and the next one; oldest first.
    handed_out: Vec<(Question, i64)>,
    /// Highest leader epoch of a record.
    epoch: i32,
}

/// What is known of one partition's bounds.
#[derive(Debug)]
pub(super) struct Bounds(Mutex<Known>);

impl Bounds {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Known {
            answer: None,
            asked: 0,
            answered: 0,
            doubted: 0,
            handed_out: Vec::new(),
            epoch: -1,
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no panic while bounds are held")
    }

    /// The bounds, if they are fresh enough.
    pub(super) fn fresh(&self) -> Option<LogBounds> {
        let known = self.known();
        let (_, read_at) = known.answer.filter(|_| known.answered > known.doubted)?;
        drop(known);
        let is_stale = now().duration_since(read_at) > Duration::from_millis(STALE_MS_MAX);
        if is_stale { None } else { self.last() }
    }

    /// The bounds as they were known last, however long ago: to be shown, not to be relied on.
    pub(super) fn last(&self) -> Option<LogBounds> {
        let known = self.known();
        let (mut bounds, _) = known.answer?;
        let handed_out = known.handed_out.iter().map(|(_, end)| *end).max().unwrap_or(0);
        bounds.end = bounds.end.max(Offset(handed_out));
        bounds.leader_epoch = bounds.leader_epoch.max(known.epoch);
        Some(bounds)
    }

    /// Records up to `end` were handed out.
    pub(super) fn handed_out(&self, end: Offset, epoch: i32) {
        let mut known = self.known();
        known.epoch = known.epoch.max(epoch);
        let asked = known.asked;
        match known.handed_out.last_mut() {
            Some((question, last)) if *question == asked => *last = end.0,
            _ => known.handed_out.push((asked, end.0)),
        }
        // Questions that nobody answers must not fill memory; as if handed out later is on the safe side.
        if known.handed_out.len() > 16 {
            known.handed_out.remove(0);
            known.handed_out[0].1 = known.handed_out[0].1.max(end.0);
        }
    }

    /// What is known may be out of date: the brokers must be asked again.
    pub(super) fn doubt(&self) {
        let mut known = self.known();
        known.doubted = known.asked;
    }

    /// The brokers are about to be asked.
    fn ask(&self) -> Question {
        let mut known = self.known();
        known.asked += 1;
        known.asked
    }

    /// The brokers answered: only records that were handed out since they were asked may lie beyond it.
    fn answered(&self, question: Question, bounds: LogBounds) {
        let mut known = self.known();
        if question < known.answered {
            return;
        }
        known.answered = question;
        known.handed_out.retain(|(asked, _)| *asked >= question);
        if known.answer.is_some_and(|(before, _)| before.topic_id != bounds.topic_id) {
            known.handed_out.clear();
            known.epoch = -1;
        }
        known.answer = Some((bounds, now()));
    }

    /// The same where only the end and the leader epoch there were asked for. Where they are not those of a
    /// log that went on (it was cut, has another leader, or is another topic's), all has to be asked for.
    fn heard_end(&self, question: Question, end: Offset, leader_epoch: i32) {
        let mut known = self.known();
        let Some((before, read_at)) = known.answer else { return };
        if question < known.answered || known.answered <= known.doubted {
            return;
        }
        if end < before.end || leader_epoch != before.leader_epoch {
            known.doubted = known.asked;
            return;
        }
        known.answered = question;
        known.handed_out.retain(|(asked, _)| *asked >= question);
        known.answer = Some((LogBounds { end, ..before }, read_at));
    }
}

/// Asks the brokers for the bounds of partitions. Partitions that none answered for are missing.
pub(super) fn ask(client: &Client, keys: &[Key], timeout: Duration) -> KafkaResult<BTreeMap<Key, LogBounds>> {
    let starts = positions(client, keys, Position::Beginning, timeout)?;
    let ends = positions(client, keys, Position::End, timeout)?;
    // The id last: ends of the old topic under the id of the new one are a topic that was created again, ends
    // of the new one under the id of the old would look like a log that was cut.
    let mut ids = BTreeMap::new();
    for topic in keys.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
        ids.insert(topic, topic_id(client, topic, timeout)?);
    }
    let mut found = BTreeMap::new();
    for key in keys {
        let (Some((start, _)), Some((end, leader_epoch))) = (starts.get(key), ends.get(key)) else {
            continue;
        };
        let Some(topic_id) = ids.get(&key.0) else { continue };
        let bounds = LogBounds {
            start: Offset(*start),
            end: Offset(*end),
            leader_epoch: *leader_epoch,
            topic_id: *topic_id,
        };
        found.insert(key.clone(), bounds);
    }
    Ok(found)
}

/// First or last offsets with the leader epochs there. The end is the last stable offset.
fn positions(
    client: &Client,
    keys: &[Key],
    which: Position,
    timeout: Duration,
) -> KafkaResult<BTreeMap<Key, (i64, i32)>> {
    let mut list = TopicPartitionList::with_capacity(keys.len());
    for (topic, partition) in keys {
        list.add_partition_offset(topic, *partition, which)?;
    }
    // "For times" is what it is called; the marks of beginning and end are times to the protocol.
    let list = client.offsets_for_times(list, timeout)?;
    let epochs = ffi::leader_epochs(&list);
    let mut found = BTreeMap::new();
    for (element, epoch) in list.elements().iter().zip(epochs) {
        match (element.error(), element.offset()) {
            (Ok(()), Position::Offset(offset)) => {
                found.insert((Arc::from(element.topic()), element.partition()), (offset, epoch));
            }
            (Err(error), _) => {
                debug!(topic = element.topic(), partition = element.partition(), %error, "bounds")
            }
            // Not an offset: the broker knows none now.
            (Ok(()), _) => {}
        }
    }
    Ok(found)
}

/// Kafka's id of a topic. Brokers before 2.8 have none: there, one derived from cluster and topic stands in
/// for it, and a topic that is deleted and created again is noticed by its offsets only.
pub(super) fn topic_id(client: &Client, topic: &str, timeout: Duration) -> KafkaResult<u128> {
    // Any broker knows it. Left to itself librdkafka asks the controller, which the mock cluster has none of.
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))?;
    if let Some(code) = found.error() {
        return Err(KafkaError::MetadataFetch(code.into()));
    }
    let leader = found.partitions().iter().map(|partition| partition.leader()).find(|leader| *leader >= 0);
    let leader = leader.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable))?;
    let id = ffi::topic_id(client.client(), topic, leader, timeout)?;
    if id != 0 {
        return Ok(id);
    }
    use sha2::Digest as _;
    let cluster = client.client().fetch_cluster_id(timeout).unwrap_or_default();
    let digest = sha2::Sha256::digest(format!("snapfold.topic.v1\n{cluster}\n{topic}"));
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Ok(u128::from_be_bytes(id))
}

/// The bounds of all assigned partitions.
#[derive(Debug)]
pub(super) struct Board {
    cells: Mutex<BTreeMap<Key, Arc<Bounds>>>,
    /// When a broker answered last.
    answered: Mutex<Instant>,
}

impl Default for Board {
    fn default() -> Self {
        Self { cells: Mutex::default(), answered: Mutex::new(now()) }
    }
}

impl Board {
    fn cells(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Bounds>>> {
        self.cells.lock().expect("no panic while the board is held")
    }

    /// How long no broker has answered. They are asked every `bounds_ms`, and without a partition every few
    /// seconds.
    pub(super) fn silence(&self) -> Duration {
        now().duration_since(*self.answered.lock().expect("no panic while it is held"))
    }

    fn hear(&self) {
        *self.answered.lock().expect("no panic while it is held") = now();
    }

    /// Bounds of the assigned partitions of a topic as they were known last.
    pub(super) fn last(&self, topic: &str) -> BTreeMap<PartitionNo, LogBounds> {
        let cells = self.cells();
        let own = cells.iter().filter(|((of, _), _)| **of == *topic);
        own.filter_map(|((_, partition), cell)| Some((PartitionNo(*partition), cell.last()?))).collect()
    }

    /// What is known of an assigned partition.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Bounds>> {
        self.cells().get(key).cloned()
    }

    /// A partition was assigned: nothing that was known of it counts.
    pub(super) fn assigned(&self, key: &Key) {
        self.cells().insert(key.clone(), Arc::new(Bounds::new()));
    }

    /// A partition was given up.
    pub(super) fn gone(&self, key: &Key) {
        self.cells().remove(key);
    }

    /// Asks the brokers for some partitions, and keeps what they say of assigned ones.
    pub(super) fn refresh(
        &self,
        client: &Client,
        keys: &[Key],
        timeout: Duration,
    ) -> KafkaResult<BTreeMap<Key, LogBounds>> {
        let cells: Vec<(&Key, Arc<Bounds>)> =
            keys.iter().filter_map(|key| Some((key, self.get(key)?))).collect();
        let asked: Vec<_> = cells.into_iter().map(|(key, bounds)| (key, bounds.ask(), bounds)).collect();
        let found = ask(client, keys, timeout)?;
        if !found.is_empty() {
            self.hear();
        }
        for (key, question, bounds) in asked {
            if let Some(answer) = found.get(key) {
                bounds.answered(question, *answer);
            }
        }
        Ok(found)
    }

    fn keys(&self) -> Vec<Key> {
        self.cells().keys().cloned().collect()
    }
}

/// Keeps the board fresh until its sender of pokes is gone.
pub(super) fn watch(
    client: &Client,
    board: &Board,
    topic: Option<&str>,
    pokes: &mpsc::Receiver<()>,
    interval: Duration,
) {
    let mut silent = false;
    loop {
        match pokes.recv_timeout(interval) {
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Ok(()) => while pokes.try_recv().is_ok() {},
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        // Serves the client's log lines and errors.
        let _ = client.poll(Duration::ZERO);
        let keys = board.keys();
        if keys.is_empty() {
            // Whether they answer is of interest all the same.
            if board.silence() >= UNHEARD && client.fetch_metadata(topic, REFRESH_TIMEOUT).is_ok() {
                board.hear();
            }
            continue;
        }
        let refreshed = board.refresh(client, &keys, REFRESH_TIMEOUT);
        if refreshed.is_err() {
            for topic in keys.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
                look_for_leaders(client, topic, REFRESH_TIMEOUT);
            }
        }
        match refreshed {
            Ok(_) => silent = false,
            Err(error) if silent => debug!(%error, "bounds are still unknown"),
            Err(error) => {
                silent = true;
                warn!(%error, partitions = keys.len(), "brokers do not tell the bounds of partitions");
            }
        }
    }
}

/// Asks the brokers for one partition.
pub(super) fn one(
    client: &Client,
    board: &Board,
    topic: &Arc<str>,
    partition: PartitionNo,
    timeout: Duration,
) -> PortResult<LogBounds> {
    patiently(client, (topic, partition), timeout, |key, left| {
        Ok(board.refresh(client, std::slice::from_ref(key), left)?.get(key).copied())
    })
}

/// Asks for the end of one partition and the leader epoch there, which is one question and not four.
///
/// SUBTLE: what it tells of an assigned partition is kept: a low watermark that was read before lies below
/// the end that is known from then on.
pub(super) fn end(
    client: &Client,
    board: &Board,
    topic: &Arc<str>,
    partition: PartitionNo,
    timeout: Duration,
) -> PortResult<(Offset, i32)> {
    patiently(client, (topic, partition), timeout, |key, left| {
        let cell = board.get(key).map(|bounds| (bounds.ask(), bounds));
        let ends = positions(client, std::slice::from_ref(key), Position::End, left)?;
        let Some((end, leader_epoch)) = ends.get(key).copied() else { return Ok(None) };
        if let Some((question, bounds)) = cell {
            bounds.heard_end(question, Offset(end), leader_epoch);
        }
        Ok(Some((Offset(end), leader_epoch)))
    })
}

/// Asks until brokers answer, they cannot, or time is up.
fn patiently<T>(
    client: &Client,
    (topic, partition): (&Arc<str>, PartitionNo),
    timeout: Duration,
    ask: impl Fn(&Key, Duration) -> KafkaResult<Option<T>>,
) -> PortResult<T> {
    let key = (Arc::clone(topic), partition.0);
    let doing = format!("ask where `{topic}`/{partition} begins and ends");
    let deadline = now() + timeout;
    loop {
        let failed = match ask(&key, deadline.saturating_duration_since(now())) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => PortError::NotDone(format!("{doing}: no broker answered")),
            Err(error) => outcome(&doing, &error, Effect::None),
        };
        if now() >= deadline || matches!(failed, PortError::Permanent(_)) {
            return Err(failed);
        }
        look_for_leaders(client, topic, deadline.saturating_duration_since(now()));
        // A pause, that serves the client's log lines.
        let _ = client.poll(RETRY_PAUSE);
    }
}

/// librdkafka asks the leader it knows, and does not look for another one when that is no more.
fn look_for_leaders(client: &Client, topic: &str, timeout: Duration) {
    // Its failure shows with the next question.
    let _ = client.fetch_metadata(Some(topic), timeout.max(Duration::from_millis(1)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(end: i64, topic_id: u128) -> LogBounds {
        LogBounds { start: Offset(0), end: Offset(end), leader_epoch: 3, topic_id }
    }

    fn end(bounds: &Bounds) -> i64 {
        bounds.fresh().unwrap().end.0
    }

    #[test]
    fn the_end_is_never_below_a_record_that_was_handed_out_after_the_brokers_were_asked() {
        let bounds = Bounds::new();
        assert_eq!(bounds.fresh(), None);
        let first = bounds.ask();
        bounds.handed_out(Offset(12), 3);
        bounds.answered(first, answer(10, 1));
        assert_eq!(end(&bounds), 12);
        let second = bounds.ask();
        assert_eq!(end(&bounds), 12, "while a question is open, what is known still counts");
        bounds.handed_out(Offset(14), 3);
        let third = bounds.ask();
        bounds.answered(second, answer(13, 1));
        assert_eq!(end(&bounds), 14, "another question was asked meanwhile");
        bounds.answered(third, answer(15, 1));
        assert_eq!(end(&bounds), 15);
        bounds.answered(second, answer(13, 1));
        assert_eq!(end(&bounds), 15, "a late answer to an early question is no news");
    }

    #[test]
    fn after_a_doubt_only_an_answer_to_a_later_question_counts() {
        let bounds = Bounds::new();
        bounds.answered(bounds.ask(), answer(10, 1));
        let open = bounds.ask();
        bounds.doubt();
        assert_eq!(bounds.fresh(), None);
        bounds.answered(open, answer(11, 1));
        assert_eq!(bounds.fresh(), None, "it was asked before");
        bounds.answered(bounds.ask(), answer(12, 2));
        assert_eq!(bounds.fresh(), Some(answer(12, 2)));
    }

    #[test]
    fn an_answer_to_a_later_question_shows_that_the_log_was_cut() {
        let bounds = Bounds::new();
        bounds.answered(bounds.ask(), answer(10, 1));
        bounds.handed_out(Offset(20), 3);
        bounds.answered(bounds.ask(), answer(15, 1));
        assert_eq!(end(&bounds), 15);
    }

    #[test]
    fn an_end_alone_moves_what_is_known_and_a_cut_is_asked_about() {
        let bounds = Bounds::new();
        bounds.heard_end(bounds.ask(), Offset(10), 3);
        assert_eq!(bounds.fresh(), None, "where the log begins is not known");
        bounds.answered(bounds.ask(), answer(10, 1));
        let (early, late) = (bounds.ask(), bounds.ask());
        bounds.handed_out(Offset(13), 3);
        bounds.heard_end(late, Offset(12), 3);
        assert_eq!(end(&bounds), 13);
        bounds.heard_end(early, Offset(11), 3);
        assert_eq!(end(&bounds), 13, "no news");
        bounds.heard_end(bounds.ask(), Offset(20), 3);
        assert_eq!(bounds.fresh(), Some(answer(20, 1)));
        for (cut, epoch) in [(19, 3), (21, 4)] {
            bounds.heard_end(bounds.ask(), Offset(cut), epoch);
            assert_eq!(bounds.fresh(), None, "{cut} under {epoch}");
            bounds.heard_end(bounds.ask(), Offset(22), 3);
            assert_eq!(bounds.fresh(), None, "all of it has to be asked for");
            bounds.answered(bounds.ask(), answer(20, 1));
            assert_eq!(bounds.fresh(), Some(answer(20, 1)));
        }
    }

    #[test]
    fn questions_that_nobody_answers_lose_no_record() {
        let bounds = Bounds::new();
        bounds.answered(bounds.ask(), answer(10, 1));
        for offset in 11..100 {
            bounds.ask();
            bounds.handed_out(Offset(offset), 3);
        }
        assert_eq!(end(&bounds), 99);
        assert!(bounds.known().handed_out.len() <= 16);
    }

    #[test]
    fn records_tell_of_a_new_leader_before_the_brokers_are_asked_and_a_new_topic_forgets_them() {
        let bounds = Bounds::new();
        bounds.answered(bounds.ask(), answer(10, 1));
        bounds.handed_out(Offset(11), 5);
        assert_eq!(bounds.fresh().unwrap().leader_epoch, 5);
        bounds.answered(bounds.ask(), answer(2, 9));
        assert_eq!(bounds.fresh().unwrap(), answer(2, 9));
    }
}

//! `Aggregate` and the fold: the only code that changes a state, for live events and for history alike.
//!
//! INVARIANT: `fold` is a function of the aggregate and the record alone, so two workers that fold the same
//! prefix hold equal aggregates (rule 8). Whatever depends on what a worker happens to hold in memory is not
//! decided here.

use super::chain;
use super::error::{Error, Result};
use super::event::{Decoded, Event};
use super::ids::{Digest, Offset, Timestamp, Version};
use super::mutant::{Mutant, mutant};
use super::poison::Poison;
use super::record::{Bytes, FullBody, QuarantineMark, RawRecord};
use super::reducer::{EventView, Outcome, Reducer};
pub use super::state::State;
use super::state::Tree;
use super::value::{Limits, Value};
use std::sync::Arc;

/// Events of an aggregate among which an equal event id is a duplicate, where versions are counted.
pub const RECENT_EVENT_IDS_MAX: usize = 1000;

/// One aggregate at one version: all that the fold needs to go on, and all that an answer tells.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Version of the last event; 0 before the first.
    pub version: Version,
    /// Offset of that event; -1 before the first.
    pub offset: Offset,
    /// Leader epoch of that event.
    pub leader_epoch: i32,
    /// Maximum of the times of all events so far.
    pub effective_time: Timestamp,
    /// Effective time of version 1.
    pub first_time: Timestamp,
    /// Link of the hash chain.
    pub chain: Digest,
    /// Type of the last event.
    pub last_event_type: Box<str>,
    /// Id of the last event.
    pub last_event_id: Option<Box<str>>,
    /// Hashes of recent event ids, oldest first; empty unless [`Versions::CountedOnce`].
    pub recent_event_ids: RecentIds,
    /// Set while the aggregate stands still.
    pub quarantine: Option<Box<QuarantineMark>>,
    /// The state.
    pub state: State,
}

/// Hashes of recent event ids, oldest first. Only one kind of stream keeps them, so they take no room where
/// there are none.
#[derive(Clone, Debug, Default)]
pub struct RecentIds(Option<Box<Ids>>);

type Ids = Vec<u64>;

impl RecentIds {
    fn of(ids: Ids) -> Self {
        Self((!ids.is_empty()).then(|| Box::new(ids)))
    }

    fn get(&self) -> &[u64] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    fn push(&mut self, id: u64) {
        let ids = self.0.get_or_insert_default();
        if ids.len() == RECENT_EVENT_IDS_MAX {
            ids.remove(0);
        }
        ids.push(id);
    }

    fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |ids| size_of::<Ids>() + ids.capacity() * size_of::<u64>())
    }
}

/// Where versions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Every event carries its version; they must be contiguous.
    Given,
    /// The n-th event in log order has version n.
    Counted,
    /// As `Counted`, and an equal event id among the last 1,000 events is a duplicate.
    CountedOnce,
}

/// What happens to an event that cannot be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPoison {
    /// It takes its version, the state stays.
    Skip,
    /// The aggregate stays at its last good version; this and its later events become dead letters.
    Quarantine,
    /// The partition stops before it.
    Halt,
}

/// How a stream folds.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Aggregate type.
    pub kind: Arc<str>,
    /// The reducer.
    pub reducer: Arc<dyn Reducer>,
    /// Where versions come from.
    pub versions: Versions,
    /// What happens to poison.
    pub on_poison: OnPoison,
    /// Longest state, in bytes of its JSON text.
    pub state_bytes_max: usize,
    /// Bounds for reading a stored state back.
    pub limits: Limits,
}

/// What the fold did with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It is the next version.
    Applied,
    /// It is the next version, the state stays.
    Skipped(Poison),
    /// Its version, or its event id, was folded before.
    Duplicate,
    /// The aggregate is quarantined by it.
    Quarantined(Poison),
    /// The aggregate was quarantined before; the event waits among the dead letters.
    Refused(Poison),
    /// The partition must stop before it.
    Halt(Poison),
}

impl Aggregate {
    /// An aggregate before its first event.
    #[must_use]
    pub fn genesis(kind: &str, id: &str) -> Self {
        Self {
            version: Version(0),
            offset: Offset(-1),
            leader_epoch: -1,
            effective_time: Timestamp(i64::MIN),
            first_time: Timestamp(i64::MIN),
            chain: chain::genesis(kind, id),
            last_event_type: Box::default(),
            last_event_id: None,
            recent_event_ids: RecentIds::default(),
            quarantine: None,
            state: State::Absent,
        }
    }

    /// The aggregate that a stored full snapshot describes.
    #[must_use]
    pub fn from_body(body: FullBody) -> Self {
        Self {
            version: body.version,
            offset: body.offset,
            leader_epoch: body.leader_epoch,
            effective_time: body.effective_time,
            first_time: body.first_time,
            chain: body.chain,
            last_event_type: body.last_event_type,
            last_event_id: body.last_event_id,
            recent_event_ids: RecentIds::of(body.recent_event_ids),
            quarantine: body.quarantine.map(Box::new),
            state: body.state.map_or(State::Absent, State::Idle),
        }
    }

    /// The body of a full snapshot of this aggregate.
    #[must_use]
    pub fn to_body(&self) -> FullBody {
        FullBody {
            version: self.version,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            effective_time: self.effective_time,
            first_time: self.first_time,
            deleted: self.is_deleted(),
            chain: self.chain,
            last_event_type: self.last_event_type.clone(),
            last_event_id: self.last_event_id.clone(),
            recent_event_ids: self.recent_event_ids.get().to_vec(),
            quarantine: self.quarantine.as_deref().cloned(),
            state: self.state.to_json(),
        }
    }

    /// A copy with its state as bytes: for a snapshot, which must not share or copy a tree.
    #[must_use]
    pub fn cooled_copy(&self) -> Self {
        let state = self.state.to_json().map_or(State::Absent, State::Idle);
        Self {
            state,
            last_event_type: self.last_event_type.clone(),
            last_event_id: self.last_event_id.clone(),
            recent_event_ids: self.recent_event_ids.clone(),
            quarantine: self.quarantine.clone(),
            ..*self
        }
    }

    /// True at a version whose event deleted the aggregate.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.version > Version(0) && matches!(self.state, State::Absent)
    }

    /// Bytes this aggregate holds, estimated for the memory budget.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        // The smallest class of sizes has 16 bytes.
        let text = |text: &str| text.len().next_multiple_of(16);
        let texts = text(&self.last_event_type) + self.last_event_id.as_deref().map_or(0, text);
        self.state.heap_bytes() + self.recent_event_ids.heap_bytes() + texts
    }
}

impl Rules {
    /// Folds one record into `aggregate`. Whatever the answer but `Applied` and `Skipped` (and the mark that
    /// `Quarantined` sets), the aggregate is as it was.
    pub fn fold(&self, aggregate: &mut Aggregate, decoded: &Decoded) -> Folded {
        match &decoded.content {
            Ok(event) => self.fold_event(aggregate, decoded, event),
            Err(undecoded) => {
                if let Some(not_folded) = self.set_aside(aggregate, decoded, undecoded.version) {
                    return not_folded;
                }
                let poison = undecoded.poison.clone();
                match self.version_of(aggregate, undecoded.version) {
                    Ok(version) => self.poisoned(aggregate, decoded, version, poison),
                    Err(gap) => quarantine(aggregate, decoded, gap),
                }
            }
        }
    }

    /// Folds an event that was folded before, as it was decided then: it takes the version it took.
    ///
    /// # Errors
    /// Where it does not follow on the aggregate, or the reducer refuses what it once took: the record or the
    /// reducer is not the one of then.
    pub fn refold(
        &self,
        aggregate: &mut Aggregate,
        version: Version,
        skipped: bool,
        decoded: &Decoded,
    ) -> Result<()> {
        if version != aggregate.version.next() && !mutant(Mutant::GapFolded) {
            let detail = format!("version {version} does not follow on {}", aggregate.version);
            return Err(Error::corrupt(detail));
        }
        match &decoded.content {
            _ if skipped => self.be_born(aggregate),
            Ok(event) => {
                let reduced = self.reduce(aggregate, decoded, event, version);
                reduced
                    .map_err(|poison| Error::corrupt(format!("fold version {version} again: {poison}")))?;
            }
            Err(undecoded) => {
                let detail = format!("decode version {version} again: {}", undecoded.poison);
                return Err(Error::corrupt(detail));
            }
        }
        self.advance(aggregate, decoded, version);
        Ok(())
    }

    /// A skipped first event leaves the initial state.
    fn be_born(&self, aggregate: &mut Aggregate) {
        if aggregate.version == Version(0) && matches!(aggregate.state, State::Absent) {
            aggregate.state = State::Hot(Box::new(Tree::new(self.reducer.initial())));
        }
    }

    fn fold_event(&self, aggregate: &mut Aggregate, decoded: &Decoded, event: &Event) -> Folded {
        if let Some(not_folded) = self.set_aside(aggregate, decoded, event.version) {
            return not_folded;
        }
        let version = match self.version_of(aggregate, event.version) {
            Ok(version) => version,
            Err(gap) => return quarantine(aggregate, decoded, gap),
        };
        match self.reduce(aggregate, decoded, event, version) {
            Ok(()) => {
                self.advance(aggregate, decoded, version);
                Folded::Applied
            }
            Err(poison) => self.poisoned(aggregate, decoded, version, poison),
        }
    }

    /// What keeps a record from being folded: it repeats one that was, or the aggregate stands still.
    ///
    /// SUBTLE: from its mark on, *every* event of a quarantined aggregate is refused (rule 9), also one whose
    /// version or id was folded before. It need not be a repetition: a tombstone or skipped poison takes a
    /// version that its producer never gave, so the producer's next event has that version as well. What
    /// lies before the mark and after the state was a repetition when it was first read, and is one again.
    fn set_aside(
        &self,
        aggregate: &Aggregate,
        decoded: &Decoded,
        version: Option<Version>,
    ) -> Option<Folded> {
        let mark = aggregate.quarantine.as_ref();
        let stands_still = mark.is_some_and(|mark| mark.offset <= decoded.record.offset)
            && !mutant(Mutant::RepeatsNotRefused);
        let is_echo = aggregate.is_deleted() && decoded.content.as_ref().is_ok_and(|event| event.is_echo);
        let repeats = is_echo || self.is_old(aggregate, version) || self.is_repeated(aggregate, decoded);
        if repeats && !stands_still { Some(Folded::Duplicate) } else { self.refused(aggregate, decoded) }
    }

    fn refused(&self, aggregate: &Aggregate, decoded: &Decoded) -> Option<Folded> {
        let mark = aggregate.quarantine.as_ref()?;
        if mark.offset == decoded.record.offset {
            // The event of the mark itself, read again: its letter must give the same reason as before.
            let mut before = Aggregate { quarantine: None, ..aggregate.clone() };
            if let Folded::Quarantined(poison) = self.fold(&mut before, decoded) {
                return Some(Folded::Refused(poison));
            }
        }
        let detail = format!("the aggregate is quarantined since offset {} (`{}`)", mark.offset, mark.code);
        Some(Folded::Refused(Poison::new("quarantined", detail)))
    }

    fn is_old(&self, aggregate: &Aggregate, version: Option<Version>) -> bool {
        let given = self.versions == Versions::Given && !mutant(Mutant::DuplicatesFolded);
        given && version.is_some_and(|version| version <= aggregate.version)
    }

    fn is_repeated(&self, aggregate: &Aggregate, decoded: &Decoded) -> bool {
        let Some(id) = decoded.event_id() else { return false };
        let once = self.versions == Versions::CountedOnce && !mutant(Mutant::DuplicatesFolded);
        once && aggregate.recent_event_ids.get().contains(&id_hash(id))
    }

    /// The version the record takes, or why it cannot be the next one.
    fn version_of(&self, aggregate: &Aggregate, given: Option<Version>) -> Result<Version, Poison> {
        let next = aggregate.version.next();
        match given.filter(|_| self.versions == Versions::Given) {
            _ if mutant(Mutant::GapFolded) => Ok(next),
            Some(version) if version > next && aggregate.version == Version(0) => Err(Poison::new(
                "history-incomplete",
                format!("the first event seen has version {version}, not 1"),
            )),
            Some(version) if version > next => {
                Err(Poison::new("version-gap", format!("version {version} follows {}", aggregate.version)))
            }
            _ => Ok(next),
        }
    }

    /// Applies the reducer. On an error the state is as it was.
    fn reduce(
        &self,
        aggregate: &mut Aggregate,
        decoded: &Decoded,
        event: &Event,
        version: Version,
    ) -> Result<(), Poison> {
        let was_deleted = aggregate.is_deleted();
        let was_absent = matches!(aggregate.state, State::Absent);
        let mut tree = self.heat(aggregate)?;
        let headers = text_headers(&decoded.record);
        let view = EventView {
            event_type: &event.event_type,
            event_id: event.event_id.as_deref(),
            version,
            time: event.time,
            key: decoded.record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()),
            headers: &headers,
            data: &event.data,
        };
        // The limit is on the exact length. It is measured, and the state kept to go back to, only where the
        // bound, made exact first, leaves the possibility that this event passes it.
        let event_bytes = decoded.record.bytes() + event.extra_bytes;
        let most = |tree: &Tree| {
            let growth = self.reducer.growth_bound(tree.json_bytes(), event_bytes, &view);
            tree.json_bytes().saturating_add(growth)
        };
        if most(&tree) > self.state_bytes_max {
            tree.measure();
        }
        let before = (most(&tree) > self.state_bytes_max).then(|| tree.clone());
        let mut result = Ok(());
        let mut dead = was_deleted;
        match (self.reducer.apply(&mut tree.value, &view), before) {
            (Ok(Outcome::Deleted), _) => dead = true,
            (Ok(Outcome::NoRule), _) => {}
            (Ok(Outcome::Unchanged), _) => dead = false,
            (Ok(Outcome::Changed { growth }), before) => {
                dead = false;
                tree.grow(growth);
                if let Some(before) = before {
                    tree.measure();
                    let bytes = tree.json_bytes();
                    if bytes > self.state_bytes_max {
                        let limit = self.state_bytes_max;
                        let detail = format!("the state would have {bytes} bytes, the limit is {limit}");
                        result = Err(Poison::new("state-too-large", detail));
                        tree = before;
                        dead = was_deleted;
                    }
                }
            }
            (Err(poison), _) => result = Err(poison),
        }
        let is_absent = if result.is_ok() { dead } else { was_absent };
        aggregate.state = if is_absent { State::Absent } else { State::Hot(tree) };
        result
    }

    fn heat(&self, aggregate: &mut Aggregate) -> Result<Box<Tree>, Poison> {
        match std::mem::replace(&mut aggregate.state, State::Absent) {
            State::Absent => Ok(Box::new(Tree::new(self.reducer.initial()))),
            State::Hot(tree) => Ok(tree),
            State::Idle(bytes) => match Value::parse(&bytes, &self.limits) {
                Ok(value) => Ok(Box::new(Tree::of_text(value, bytes.len()))),
                Err(error) => {
                    aggregate.state = State::Idle(bytes);
                    Err(Poison::new("bad-state", error.to_string()))
                }
            },
        }
    }

    fn poisoned(
        &self,
        aggregate: &mut Aggregate,
        decoded: &Decoded,
        version: Version,
        poison: Poison,
    ) -> Folded {
        match self.on_poison {
            OnPoison::Skip => {
                self.be_born(aggregate);
                self.advance(aggregate, decoded, version);
                Folded::Skipped(poison)
            }
            OnPoison::Quarantine => quarantine(aggregate, decoded, poison),
            OnPoison::Halt => Folded::Halt(poison),
        }
    }

    fn advance(&self, aggregate: &mut Aggregate, decoded: &Decoded, version: Version) {
        let time = decoded.time();
        aggregate.version = version;
        aggregate.offset = decoded.record.offset;
        aggregate.leader_epoch = decoded.record.leader_epoch;
        aggregate.effective_time = aggregate.effective_time.max(time);
        if version == Version(1) {
            aggregate.first_time = time;
        }
        aggregate.chain = chain::link(aggregate.chain, version, decoded.digest);
        let event_type = decoded.event_type().unwrap_or_default();
        if *aggregate.last_event_type != *event_type {
            aggregate.last_event_type = event_type.into();
        }
        let forgotten = decoded.content.is_err() && mutant(Mutant::PoisonForgetsEventId);
        let event_id = decoded.event_id().filter(|_| !forgotten);
        aggregate.last_event_id = event_id.map(|id| replaced(aggregate.last_event_id.take(), id));
        if let (Versions::CountedOnce, Some(id)) = (self.versions, &aggregate.last_event_id) {
            aggregate.recent_event_ids.push(id_hash(id));
        }
    }
}

/// `new` in the place of `old`: ids are mostly of one length, and then nothing is allocated.
fn replaced(old: Option<Box<str>>, new: &str) -> Box<str> {
    let mut text = String::from(old.unwrap_or_default());
    text.clear();
    text.push_str(new);
    text.into_boxed_str()
}

/// Headers as a reducer sees them: values that are not text count as absent.
fn text_headers(record: &RawRecord) -> Vec<(Box<str>, Option<Box<str>>)> {
    let text = |value: &Bytes| std::str::from_utf8(value).ok().map(Box::from);
    record.headers.iter().map(|(name, value)| (name.clone(), value.as_ref().and_then(text))).collect()
}

fn quarantine(aggregate: &mut Aggregate, decoded: &Decoded, poison: Poison) -> Folded {
    aggregate.quarantine = Some(Box::new(QuarantineMark {
        code: poison.code.into(),
        version: aggregate.version,
        offset: decoded.record.offset,
        leader_epoch: decoded.record.leader_epoch,
        since: decoded.record.record_time,
    }));
    Folded::Quarantined(poison)
}

/// The first 64 bits of an event id's SHA-256, as the duplicate window keeps it.
#[must_use]
pub fn id_hash(id: &str) -> u64 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

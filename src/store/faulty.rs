//! Seeded faults in front of any index or object store: what a network does to calls, for tests that need
//! the real adapters. (The simulator has its own, richer ones.)
//!
//! Every call draws one fate from the seed and the number of the call: it happens and is answered; it is
//! refused and did not happen; it happens or not, and nobody hears of it; it is a write that lands later,
//! before one of the next calls. Reads of objects may come back damaged or cut. Calls in one order meet the
//! same fates on every run.
//!
//! *If cancelled*: the fate is drawn; a call that was to happen may not.

use super::blobs::{Blob, Blobs};
use super::index::{From, Index};
use crate::domain::ids::{
    AggregateKey, Digest, LedgerId, Lineage, Offset, PackId, PartitionNo, Timestamp, Version,
};
use crate::domain::ledger::{DeletedRow, HoldRow};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::Bytes;
use crate::domain::row::{
    CheckpointRow, DeadLetter, NoteRow, OwnerRow, PartitionKey, SnapshotRow, WatermarkRow,
};
use crate::domain::schedule::{RunRow, ScheduleRow};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex};

/// How often what goes wrong, in thousandths of all calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// It did not happen, and the caller knows.
    pub refused: u16,
    /// It happened, and the caller does not know.
    pub unheard: u16,
    /// It did not happen, and the caller does not know.
    pub lost: u16,
    /// A write that lands before one of the next calls; the caller does not know.
    pub late: u16,
    /// Bytes of an object with one bit flipped.
    pub flipped: u16,
    /// Bytes of an object without their end.
    pub cut: u16,
}

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything goes wrong now and then.
    #[must_use]
    pub fn some() -> Self {
        Self { refused: 60, unheard: 60, lost: 60, late: 60, flipped: 30, cut: 30 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    Unheard,
    Lost,
    Late,
}

/// One write, kept until it lands.
enum Write {
    Object(String, Vec<u8>),
    DeletedObject(String),
    Snapshot(Box<SnapshotRow>),
    Checkpoint(CheckpointRow),
    DeletedCheckpoint(PartitionKey, PackId),
    Watermark(WatermarkRow),
    Aggregate(AggregateKey, PartitionNo),
    DeadLetter(DeadLetter),
    Dictionary(Digest, Bytes),
    Note(NoteRow),
    DeletedSnapshot(DeletedRow, LedgerId),
    Hold(HoldRow),
    Schedule(ScheduleRow),
    Run(RunRow),
}

/// The dice and the writes that are on their way.
struct Weather {
    faults: Faults,
    state: Mutex<State>,
}

struct State {
    dice: u64,
    late: Vec<Write>,
}

impl Weather {
    fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, state: Mutex::new(State { dice: seed, late: Vec::new() }) }
    }

    /// A number below `end` (SplitMix64).
    fn draw(&self, end: u64) -> u64 {
        let mut state = self.state.lock().expect("no panic while it is held");
        state.dice = state.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn fate(&self) -> Fate {
        let Faults { refused, unheard, lost, late, .. } = self.faults;
        let mut drawn = self.draw(1_000);
        for (share, fate) in
            [(refused, Fate::Refused), (unheard, Fate::Unheard), (lost, Fate::Lost), (late, Fate::Late)]
        {
            match drawn.checked_sub(u64::from(share)) {
                None => return fate,
                Some(rest) => drawn = rest,
            }
        }
        Fate::Answered
    }

    /// A write whose time has come.
    fn landing(&self) -> Option<Write> {
        let waiting = self.state.lock().expect("no panic while it is held").late.len() as u64;
        if waiting == 0 || self.draw(2) == 0 {
            return None;
        }
        let at = self.draw(waiting) as usize;
        let late = &mut self.state.lock().expect("no panic while it is held").late;
        (at < late.len()).then(|| late.swap_remove(at))
    }

    /// Whether the call is made, and what is said instead of its answer.
    fn judge(&self, late: Option<Write>) -> (bool, Option<PortError>) {
        let unknown = || Some(PortError::Unknown("injected: nobody knows".into()));
        match (self.fate(), late) {
            (Fate::Answered, _) => (true, None),
            (Fate::Refused, _) => (false, Some(PortError::NotDone("injected: refused".into()))),
            (Fate::Unheard, _) => (true, unknown()),
            (Fate::Lost, _) | (Fate::Late, None) => (false, unknown()),
            (Fate::Late, Some(write)) => {
                self.state.lock().expect("no panic while it is held").late.push(write);
                (false, unknown())
            }
        }
    }

    fn wire(&self, bytes: &mut Blob) {
        if !bytes.is_empty() && self.draw(1_000) < u64::from(self.faults.flipped) {
            let bit = self.draw(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if !bytes.is_empty() && self.draw(1_000) < u64::from(self.faults.cut) {
            bytes.truncate(self.draw(bytes.len() as u64) as usize);
        }
    }
}

/// An object store behind faults.
pub struct FaultyBlobs {
    inner: Arc<dyn Blobs>,
    weather: Weather,
}

impl FaultyBlobs {
    /// Faults in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Blobs>, faults: Faults, seed: u64) -> Self {
        Self { inner, weather: Weather::new(faults, seed) }
    }

    async fn land(&self) {
        while let Some(write) = self.weather.landing() {
            // Nobody waits for the answer any more.
            let _ = match &write {
                Write::Object(name, bytes) => self.inner.put_new(name, bytes).await,
                Write::DeletedObject(name) => self.inner.delete(name).await,
                _ => Ok(()),
            };
        }
    }

    async fn call<T>(&self, late: Option<Write>, call: BoxFuture<'_, PortResult<T>>) -> PortResult<T> {
        self.land().await;
        let (happens, told) = self.weather.judge(late);
        match (happens, told) {
            (true, None) => call.await,
            (true, Some(told)) => {
                let _ = call.await;
                Err(told)
            }
            (false, told) => Err(told.expect("what does not happen is not answered")),
        }
    }
}

impl Blobs for FaultyBlobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        let late = Write::Object(name.to_owned(), bytes.to_vec());
        Box::pin(self.call(Some(late), self.inner.put_new(name, bytes)))
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        Box::pin(async move {
            let mut bytes = self.call(None, self.inner.get_range(name, start, len)).await?;
            self.weather.wire(&mut bytes);
            Ok(bytes)
        })
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        Box::pin(async move {
            let (mut bytes, whole) = self.call(None, self.inner.get_tail(name, len)).await?;
            self.weather.wire(&mut bytes);
            Ok((bytes, whole))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        Box::pin(self.call(None, self.inner.list(prefix, after, limit)))
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        Box::pin(self.call(None, self.inner.modified(name)))
    }

    fn is_archived<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<bool>> {
        Box::pin(self.call(None, self.inner.is_archived(name)))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        let late = Write::DeletedObject(name.to_owned());
        Box::pin(self.call(Some(late), self.inner.delete(name)))
    }
}

/// An index behind faults.
pub struct FaultyIndex {
    inner: Arc<dyn Index>,
    weather: Weather,
}

impl FaultyIndex {
    /// Faults in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Index>, faults: Faults, seed: u64) -> Self {
        Self { inner, weather: Weather::new(faults, seed) }
    }

    async fn land(&self) {
        while let Some(write) = self.weather.landing() {
            // Nobody waits for the answer any more.
            let _ = match write {
                Write::Snapshot(row) => self.inner.put_snapshot(*row).await,
                Write::Checkpoint(row) => self.inner.put_checkpoint(row).await,
                Write::DeletedCheckpoint(key, pack) => self.inner.delete_checkpoint(&key, pack).await,
                Write::Watermark(row) => self.inner.put_watermark(row).await,
                Write::Aggregate(key, partition) => self.inner.put_aggregate(&key, partition).await,
                Write::DeadLetter(letter) => self.inner.put_dead_letter(letter).await,
                Write::Dictionary(id, bytes) => self.inner.put_dictionary(id, bytes).await,
                Write::Note(row) => self.inner.put_note(row).await,
                Write::DeletedSnapshot(row, deletion) => self.inner.delete_snapshot(&row, deletion).await,
                Write::Hold(row) => self.inner.put_hold(row).await,
                Write::Schedule(row) => self.inner.put_schedule(row).await,
                Write::Run(row) => self.inner.put_run(row).await,
                Write::Object(..) | Write::DeletedObject(_) => Ok(()),
            };
        }
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        late: Option<Write>,
        call: BoxFuture<'a, PortResult<T>>,
    ) -> BoxFuture<'a, PortResult<T>> {
        Box::pin(async move {
            self.land().await;
            let (happens, told) = self.weather.judge(late);
            match (happens, told) {
                (true, None) => call.await,
                (true, Some(told)) => {
                    let _ = call.await;
                    Err(told)
                }
                (false, told) => Err(told.expect("what does not happen is not answered")),
            }
        })
    }
}

impl Index for FaultyIndex {
    fn put_snapshot(&self, row: SnapshotRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Snapshot(Box::new(row.clone()))), self.inner.put_snapshot(row))
    }

    fn snapshots<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        from: From,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<SnapshotRow>>> {
        self.call(None, self.inner.snapshots(key, lineage, from, limit))
    }

    fn snapshot_by_id(
        &self,
        id: [u8; 16],
    ) -> BoxFuture<'_, PortResult<Option<(AggregateKey, Lineage, Version)>>> {
        self.call(None, self.inner.snapshot_by_id(id))
    }

    fn delete_snapshot<'a>(
        &'a self,
        row: &'a DeletedRow,
        deletion: LedgerId,
    ) -> BoxFuture<'a, PortResult<()>> {
        let late = Write::DeletedSnapshot(row.clone(), deletion);
        self.call(Some(late), self.inner.delete_snapshot(row, deletion))
    }

    fn put_hold(&self, row: HoldRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Hold(row.clone())), self.inner.put_hold(row))
    }

    fn holds<'a>(&'a self, key: &'a AggregateKey) -> BoxFuture<'a, PortResult<Vec<HoldRow>>> {
        self.call(None, self.inner.holds(key))
    }

    fn put_checkpoint(&self, row: CheckpointRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Checkpoint(row.clone())), self.inner.put_checkpoint(row))
    }

    fn delete_checkpoint<'a>(&'a self, key: &'a PartitionKey, pack: PackId) -> BoxFuture<'a, PortResult<()>> {
        let late = Write::DeletedCheckpoint(key.clone(), pack);
        self.call(Some(late), self.inner.delete_checkpoint(key, pack))
    }

    fn checkpoints<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<CheckpointRow>>> {
        self.call(None, self.inner.checkpoints(key))
    }

    fn put_watermark(&self, row: WatermarkRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Watermark(row.clone())), self.inner.put_watermark(row))
    }

    fn watermarks<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Vec<WatermarkRow>>> {
        self.call(None, self.inner.watermarks(key))
    }

    fn put_owner(&self, row: OwnerRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(None, self.inner.put_owner(row))
    }

    fn owner<'a>(&'a self, key: &'a PartitionKey) -> BoxFuture<'a, PortResult<Option<OwnerRow>>> {
        self.call(None, self.inner.owner(key))
    }

    fn put_aggregate<'a>(
        &'a self,
        key: &'a AggregateKey,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<()>> {
        self.call(Some(Write::Aggregate(key.clone(), partition)), self.inner.put_aggregate(key, partition))
    }

    fn aggregates<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<(AggregateKey, PartitionNo)>>> {
        self.call(None, self.inner.aggregates(kind, after, limit))
    }

    fn put_note(&self, row: NoteRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Note(row.clone())), self.inner.put_note(row))
    }

    fn notes<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
        versions: (Version, Version),
    ) -> BoxFuture<'a, PortResult<Vec<NoteRow>>> {
        self.call(None, self.inner.notes(key, lineage, versions))
    }

    fn deletions<'a>(
        &'a self,
        key: &'a AggregateKey,
        lineage: Lineage,
    ) -> BoxFuture<'a, PortResult<Vec<LedgerId>>> {
        self.call(None, self.inner.deletions(key, lineage))
    }

    fn deletion<'a>(&'a self, row: &'a DeletedRow) -> BoxFuture<'a, PortResult<Option<LedgerId>>> {
        self.call(None, self.inner.deletion(row))
    }

    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Schedule(row.clone())), self.inner.put_schedule(row))
    }

    fn schedule<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Option<ScheduleRow>>> {
        self.call(None, self.inner.schedule(name))
    }

    fn schedules(&self) -> BoxFuture<'_, PortResult<Vec<ScheduleRow>>> {
        self.call(None, self.inner.schedules())
    }

    fn schedules_changed(&self) -> BoxFuture<'_, PortResult<Option<LedgerId>>> {
        self.call(None, self.inner.schedules_changed())
    }

    fn put_run(&self, row: RunRow) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Run(row.clone())), self.inner.put_run(row))
    }

    fn runs<'a>(
        &'a self,
        name: &'a str,
        topic: &'a str,
        partition: PartitionNo,
    ) -> BoxFuture<'a, PortResult<Vec<RunRow>>> {
        self.call(None, self.inner.runs(name, topic, partition))
    }

    fn put_dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::DeadLetter(letter.clone())), self.inner.put_dead_letter(letter))
    }

    fn dead_letters<'a>(
        &'a self,
        key: &'a PartitionKey,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<DeadLetter>>> {
        self.call(None, self.inner.dead_letters(key, from, limit))
    }

    fn put_dictionary(&self, id: Digest, bytes: Bytes) -> BoxFuture<'_, PortResult<()>> {
        self.call(Some(Write::Dictionary(id, bytes.clone())), self.inner.put_dictionary(id, bytes))
    }

    fn dictionary(&self, id: Digest) -> BoxFuture<'_, PortResult<Option<Bytes>>> {
        self.call(None, self.inner.dictionary(id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::blobs::MemoryBlobs;
    use super::super::index::{MemoryIndex, suite};
    use super::*;
    use futures_util::FutureExt;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    #[test]
    fn without_faults_the_index_keeps_the_promises_of_the_port() {
        now(suite::all(&FaultyIndex::new(Arc::new(MemoryIndex::new()), Faults::none(), 1)));
    }

    /// What each of many writes came to, as the caller and as the store know it.
    fn run(seed: u64) -> Vec<(String, bool)> {
        let inner = Arc::new(MemoryBlobs::new());
        let blobs = FaultyBlobs::new(inner.clone(), Faults::some(), seed);
        let mut told = Vec::new();
        for n in 0..400 {
            let name = format!("a/{n:03}");
            let said = now(blobs.put_new(&name, b"x"));
            let is_there = now(inner.get_range(&name, 0, 1)).is_ok();
            told.push((said.map_or_else(|error| error.to_string(), |()| "done".into()), is_there));
        }
        told
    }

    #[test]
    fn a_seed_repeats_its_faults_and_all_kinds_occur() {
        let told = run(3);
        assert_eq!(told, run(3));
        assert_ne!(told, run(4));
        let count = |word: &str, there: bool| {
            told.iter().filter(|(said, is)| said.starts_with(word) && *is == there).count()
        };
        let [done, refused, unheard, lost] =
            [("done", true), ("not", false), ("outcome", true), ("outcome", false)]
                .map(|(word, there)| count(word, there));
        assert!(done > 200 && refused > 5 && unheard > 5 && lost > 5, "{done} {refused} {unheard} {lost}");
        assert_eq!((count("done", false), count("not", true)), (0, 0), "an answer that lies");
    }

    #[test]
    fn late_writes_land() {
        let inner = Arc::new(MemoryBlobs::new());
        let late = Faults { late: 500, ..Faults::none() };
        let blobs = FaultyBlobs::new(inner.clone(), late, 9);
        for n in 0..100 {
            let _ = now(blobs.put_new(&format!("a/{n}"), b"x"));
        }
        let landed = now(inner.list("a/", None, 999)).unwrap().len();
        assert!(landed > 80, "{landed} of 100 landed");
    }

    #[test]
    fn an_index_behind_faults_ends_up_with_what_was_repeated_until_it_was_acknowledged() {
        let inner = Arc::new(MemoryIndex::new());
        let index = FaultyIndex::new(inner.clone(), Faults::some(), 5);
        let key = AggregateKey { kind: "order".into(), id: "a".into() };
        for version in 1..=100 {
            let row = suite::snapshot(&key, 1, version, PackId([1; 16]));
            while now(index.put_snapshot(row.clone())).is_err() {}
        }
        let rows = now(inner.snapshots(&key, Lineage(1), From::Newest, 999)).unwrap();
        assert_eq!(rows.len(), 100);
    }
}

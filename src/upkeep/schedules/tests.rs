//! The duty over a memory index, with a clock that the test moves.

use super::*;
use crate::domain::ids::AggregateKey;
use crate::domain::schedule::Schedule;
use crate::store::blobs::MemoryBlobs;
use crate::store::index::MemoryIndex;
use futures_util::task::noop_waker_ref;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

/// Ten seconds before a full minute.
const START: i64 = 1_767_225_600_000 - 10_000;

#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Until(Hand, u64);

impl Future for Until {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        context.waker().wake_by_ref();
        if self.0.ms() >= self.1 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(START + i64::try_from(self.ms()).unwrap())
    }
    fn monotonic_ms(&self) -> u64 {
        self.ms()
    }
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(Until(self.clone(), self.ms() + ms))
    }
    fn random(&self) -> [u8; 10] {
        // Two names of one millisecond differ, as they do with real chance.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut bytes = [7; 10];
        bytes[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes
    }
}

/// Ten aggregates, every second one in partition 1.
#[derive(Default)]
struct Ten {
    owned: Mutex<BTreeSet<i32>>,
    held_back: Mutex<bool>,
    /// What is said of snapshots of this id instead of taking them, so many times.
    failing: Mutex<(String, u32)>,
    taken: Mutex<Vec<(i32, String)>>,
    /// How often pages after the first one are refused, as by a store that is overloaded.
    refusing: Mutex<u32>,
    /// An id that was erased.
    erased: Mutex<String>,
    /// How often somebody asked where an aggregate lives, and for a page of ids.
    asked: (AtomicU64, AtomicU64),
}

fn gone() -> Error {
    Error::new(ErrorKind::Gone, "erased", "gone for good")
}

fn partition(id: &str) -> Option<PartitionNo> {
    let number: i32 = id.strip_prefix("o-")?.parse().ok()?;
    (number < 10).then_some(PartitionNo(number % 2))
}

impl Takes for Ten {
    fn owned(&self) -> Vec<PartitionNo> {
        self.owned.lock().unwrap().iter().copied().map(PartitionNo).collect()
    }
    fn is_held_back(&self, _: PartitionNo) -> bool {
        *self.held_back.lock().unwrap()
    }
    fn place<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<PartitionNo>>> {
        self.asked.0.fetch_add(1, Ordering::Relaxed);
        let place = match *self.erased.lock().unwrap() == *id {
            true => Err(gone()),
            false => Ok(partition(id)),
        };
        Box::pin(std::future::ready(place))
    }
    fn ids<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, _: usize) -> BoxFuture<'a, Result<Page>> {
        self.asked.1.fetch_add(1, Ordering::Relaxed);
        let mut refusing = self.refusing.lock().unwrap();
        if after.is_some() && *refusing > 0 {
            *refusing -= 1;
            let error = Error::new(ErrorKind::Unavailable, "overloaded", "too many wait already");
            return Box::pin(std::future::ready(Err(error)));
        }
        let all = (0..10).map(|number| format!("o-{number}"));
        let wanted = all.filter(|id| id.starts_with(prefix) && after.is_none_or(|after| **id > *after));
        // Pages of four.
        let ids: Vec<Arc<str>> = wanted.take(4).map(Arc::from).collect();
        let last = ids.last().filter(|_| ids.len() == 4).cloned();
        Box::pin(std::future::ready(Ok((ids, last))))
    }
    fn take<'a>(&'a self, at: PartitionNo, id: &'a str) -> BoxFuture<'a, Took> {
        let took = if !self.owned.lock().unwrap().contains(&at.0) {
            Took::Elsewhere
        } else if *self.erased.lock().unwrap() == *id {
            Took::Failed(gone())
        } else if let (which, left @ 1..) = &mut *self.failing.lock().unwrap()
            && which == id
        {
            *left -= 1;
            Took::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", "not now"))
        } else if partition(id) == Some(at) {
            self.taken.lock().unwrap().push((at.0, id.to_owned()));
            Took::Created
        } else {
            Took::Failed(Error::new(ErrorKind::NotFound, "unknown-aggregate", "nobody"))
        };
        Box::pin(std::future::ready(took))
    }
}

struct Site {
    hand: Hand,
    index: Arc<MemoryIndex>,
    book: Book,
    ten: Arc<Ten>,
    run: BoxFuture<'static, ()>,
}

fn done<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

impl Site {
    fn new(owned: &[i32]) -> Self {
        let (hand, index, blobs) =
            (Hand::default(), Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
        Self::over(hand, index, blobs, owned)
    }

    fn over(hand: Hand, index: Arc<MemoryIndex>, blobs: Arc<MemoryBlobs>, owned: &[i32]) -> Self {
        let ten = Arc::new(Ten { owned: Mutex::new(owned.iter().copied().collect()), ..Ten::default() });
        let book = Book::new(BookParts {
            index: index.clone(),
            blobs,
            clock: Arc::new(hand.clone()),
            topics: BTreeMap::from([("order".into(), ("orders".into(), 2))]),
        });
        let duty = Duty {
            takes: ten.clone(),
            index: index.clone(),
            clock: Arc::new(hand.clone()),
            kind: "order".into(),
            topic: "orders".into(),
            changes: book.changes(),
            tallies: Arc::default(),
        };
        Self { hand, index, book, ten, run: Box::pin(duty.run()) }
    }

    /// Lets time pass.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.hand.0.fetch_add(10, Ordering::Relaxed);
            for _ in 0..8 {
                assert!(self.run.as_mut().poll(&mut Context::from_waker(noop_waker_ref())).is_pending());
            }
        }
    }

    fn taken(&self) -> Vec<(i32, String)> {
        let mut taken = std::mem::take(&mut *self.ten.taken.lock().unwrap());
        taken.sort();
        taken
    }

    fn view(&self, name: &str) -> View {
        done(self.book.get(name)).unwrap()
    }
}

fn every_minute(target: Target) -> Schedule {
    Schedule { target, cron: "* * * * *".into(), timezone: "UTC".into(), enabled: true, jitter_ms: 0 }
}

fn all(prefix: &str) -> Schedule {
    every_minute(Target::Selector { kind: "order".into(), prefix: prefix.into() })
}

fn one(id: &str) -> Schedule {
    every_minute(Target::Aggregate(AggregateKey { kind: "order".into(), id: id.into() }))
}

#[test]
fn each_worker_takes_the_snapshots_of_its_partitions_at_the_due_time() {
    let mut site = Site::new(&[1]);
    done(site.book.put("all", all("o-"))).unwrap();
    done(site.book.put("one", one("o-4"))).unwrap();
    site.pass(9_000);
    assert_eq!(site.taken(), []);
    site.pass(1_500);
    let odd: Vec<(i32, String)> = [1, 3, 5, 7, 9].map(|number| (1, format!("o-{number}"))).into();
    assert_eq!(site.taken(), odd);
    let view = site.view("all");
    assert_eq!((view.last[0].created, view.last[0].failed, view.on_time), (5, 0, Some(1.0)));
    assert_eq!(view.last[0].due, Timestamp(START + 10_000));
    assert_eq!((view.next[0], view.next.len()), (Timestamp(START + 70_000), 5));
    assert_eq!(site.view("one").last, [], "another worker's");
    site.ten.owned.lock().unwrap().insert(0);
    site.pass(500);
    let mut even: Vec<(i32, String)> = [0, 2, 4, 6, 8].map(|number| (0, format!("o-{number}"))).into();
    even.push((0, "o-4".into()));
    even.sort();
    assert_eq!(site.taken(), even, "the new owner makes up for what was missed, once");
    site.pass(2_000);
    assert_eq!((site.taken(), site.view("all").last[0].created), (vec![], 10));
}

#[test]
fn what_may_come_yet_is_tried_again_and_what_cannot_fails() {
    let mut site = Site::new(&[0, 1]);
    done(site.book.put("one", one("o-4"))).unwrap();
    done(site.book.put("nobody", one("x"))).unwrap();
    *site.ten.failing.lock().unwrap() = ("o-4".into(), 3);
    site.pass(10_500);
    assert_eq!(site.taken(), []);
    site.pass(2_000);
    assert_eq!(site.taken(), [(0, "o-4".into())]);
    let view = site.view("one");
    assert_eq!((view.last[0].created, view.last[0].failed), (1, 0));
    let view = site.view("nobody");
    assert_eq!((view.last[0].created, view.last[0].failed), (0, 1));
}

#[test]
fn one_that_was_erased_fails_once_for_each_due_time_and_is_left_alone_between_them() {
    let mut site = Site::new(&[0, 1]);
    *site.ten.erased.lock().unwrap() = "o-4".into();
    done(site.book.put("one", one("o-4"))).unwrap();
    site.pass(10_500);
    let view = site.view("one");
    assert_eq!((view.last.len(), view.last[0].failed), (1, 1), "its runs are seen to fail");
    let before = site.ten.asked.0.load(Ordering::Relaxed);
    site.pass(30_000);
    assert_eq!(site.ten.asked.0.load(Ordering::Relaxed), before, "nobody goes on asking");
    done(site.book.put("all", all("o-"))).unwrap();
    site.pass(31_000);
    assert_eq!(site.view("one").last.len(), 2);
    let view = site.view("all");
    assert_eq!((view.last[0].created, view.last[0].failed), (9, 0), "of a selector the others are taken");
}

#[test]
fn a_walk_goes_on_where_it_stood_however_often_a_page_is_refused() {
    let mut site = Site::new(&[0, 1]);
    *site.ten.refusing.lock().unwrap() = 8;
    done(site.book.put("all", all("o-"))).unwrap();
    site.pass(50_000);
    assert_eq!(site.taken().len(), 10, "each once");
    assert_eq!(site.ten.asked.1.load(Ordering::Relaxed), 3 + 8, "the first page is not read again");
    assert_eq!(site.view("all").last[0].created, 10);
    *site.ten.refusing.lock().unwrap() = u32::MAX;
    site.pass(25_000);
    assert_eq!(site.taken().len(), 4, "the next run is at its second page");
    site.ten.owned.lock().unwrap().clear();
    site.pass(10_000);
    *site.ten.refusing.lock().unwrap() = 0;
    site.pass(10_000);
    assert_eq!((site.taken().len(), site.view("all").last.len()), (0, 1), "another owner's");
}

#[test]
fn a_run_that_is_put_off_walks_the_ids_once_for_all_partitions() {
    let mut site = Site::new(&[0, 1]);
    done(site.book.put("all", Schedule { jitter_ms: 20_000, ..all("o-") })).unwrap();
    site.pass(31_000);
    assert_eq!(site.view("all").last[0].created, 10);
    assert_eq!(site.ten.asked.1.load(Ordering::Relaxed), 3, "pages of four");
}

#[test]
fn a_partition_that_is_held_back_runs_late_and_that_is_told() {
    let mut site = Site::new(&[0, 1]);
    done(site.book.put("one", one("o-4"))).unwrap();
    *site.ten.held_back.lock().unwrap() = true;
    site.pass(15_000);
    assert_eq!(site.taken(), []);
    *site.ten.held_back.lock().unwrap() = false;
    site.pass(500);
    assert_eq!(site.taken().len(), 1);
    assert_eq!(site.view("one").on_time, Some(0.0));
}

#[test]
fn schedules_are_paused_resumed_run_and_deleted_and_an_equal_one_is_not_written() {
    let mut site = Site::new(&[0, 1]);
    let (_, is_new) = done(site.book.put("one", one("o-4"))).unwrap();
    assert!(is_new);
    let row = done(site.index.schedule("one")).unwrap();
    let (_, is_new) = done(site.book.put("one", one("o-4"))).unwrap();
    assert!(!is_new);
    assert_eq!(done(site.index.schedule("one")).unwrap(), row, "written once");
    let paused = done(site.book.change("one", Change::Pause)).unwrap();
    assert_eq!((paused.says.enabled, paused.next), (false, vec![]));
    site.pass(12_000);
    assert_eq!(site.taken(), []);
    done(site.book.change("one", Change::RunNow)).unwrap();
    site.pass(300);
    assert_eq!(site.taken().len(), 1, "paused or not, it runs where somebody asks");
    site.pass(60_000);
    assert_eq!(site.taken(), []);
    done(site.book.change("one", Change::Resume)).unwrap();
    site.pass(1_000);
    assert_eq!(site.taken(), [], "what came due meanwhile does not count");
    site.pass(60_000);
    assert_eq!(site.taken().len(), 1);
    done(site.book.change("one", Change::Delete)).unwrap();
    site.pass(120_000);
    assert_eq!(site.taken(), []);
    for change in [Change::Delete, Change::Pause, Change::RunNow] {
        let told = done(site.book.change("one", change)).unwrap_err();
        assert_eq!((told.kind, told.code), (ErrorKind::NotFound, "unknown-schedule"));
    }
    assert_eq!(done(site.book.list(None, 9)).unwrap(), []);
}

#[test]
fn a_change_of_jitter_keeps_what_is_due_and_a_change_of_times_starts_anew() {
    let site = Site::new(&[0]);
    let since = |site: &Site| done(site.index.schedule("one")).unwrap().unwrap().since;
    done(site.book.put("one", one("o-4"))).unwrap();
    let first = since(&site);
    site.hand.0.store(5_000, Ordering::Relaxed);
    done(site.book.put("one", Schedule { jitter_ms: 9, ..one("o-4") })).unwrap();
    assert_eq!(since(&site), first);
    done(site.book.put("one", Schedule { cron: "5 * * * *".into(), ..one("o-4") })).unwrap();
    assert_eq!(since(&site), site.hand.now());
    let names: Vec<String> = ["b", "a", "c"].map(str::to_owned).into();
    for name in &names {
        done(site.book.put(name, all(""))).unwrap();
    }
    let listed = |after, limit| -> Vec<String> {
        done(site.book.list(after, limit)).unwrap().iter().map(|view| view.name.to_string()).collect()
    };
    assert_eq!(listed(None, 2), ["a", "b"]);
    assert_eq!(listed(Some("b"), 9), ["c", "one"]);
}

#[test]
fn a_worker_that_comes_back_makes_up_for_what_it_missed_once() {
    let (hand, index, blobs) = (Hand::default(), Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
    let mut site = Site::over(hand.clone(), index.clone(), blobs.clone(), &[0, 1]);
    done(site.book.put("one", one("o-4"))).unwrap();
    site.pass(11_000);
    assert_eq!(site.taken().len(), 1);
    drop(site);
    hand.0.fetch_add(300_000, Ordering::Relaxed);
    let mut site = Site::over(hand, index, blobs, &[0, 1]);
    site.pass(1_000);
    assert_eq!(site.taken().len(), 1, "once for five");
    site.pass(5_000);
    assert_eq!(site.taken(), []);
    let last = site.view("one").last;
    assert_eq!(last.iter().map(|run| run.due.0 - START).collect::<Vec<_>>(), [310_000, 10_000]);
}

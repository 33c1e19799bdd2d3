//! Goal: whatever happens to the bytes at rest, no answer is wrong and the damage is found. Method: a small
//! world is folded by a real worker; then every field of packs, dictionaries and index rows is damaged in
//! turn (bits, bytes, cuts, valid records in each other's place), each time on a copy with fresh caches that
//! is asked over the HTTP router, once with the log still there and once without it. A right answer is the
//! ledger's; anything else must be a refusal with its code. The damage is found if a refusal, the metric, an
//! answer or `verify` tells of it, which reads whole packs: also the bytes that no answer needs.
//!
//! `SNAPFOLD_FLIPS` is how many damages each field gets, 20 without it; the closing run takes 100.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the damages, the figures |
//! | `judge.rs` | questions, and what answers are worth |
//! | `layout.rs` | where the fields are |
//! | `log.rs` | the log |
//! | `tiers.rs` | the same damages, found by verifying all at once |
//! | `world.rs` | the world and its copies |

mod judge;
mod layout;
mod log;
mod swaps;
mod tiers;
mod world;

use crate::kill::Dice;
use judge::{Judge, LETTERS, LIST, about, pack_id};
use layout::Field;
use snapfold::codec::pack::{OpenTail, open_tail};
use snapfold::codec::row::Row;
use snapfold::domain::partition::Strategy;
use snapfold::domain::row::{RecordKind, SnapshotRow, WatermarkRow};
use snapfold::lookup::snapshot_id_text;
use std::collections::BTreeSet;
use std::time::Instant;
use world::{Change, World};

/// The closing run's number of damages for each field.
const CLOSING: usize = 100;
/// What it has to amount to.
const CLOSING_TOTAL: u64 = 10_000;

/// Tables of the embedded index, the first byte of each key.
const FORMAT: u8 = 0;
const SNAPSHOTS: u8 = 1;
const SNAPSHOT_IDS: u8 = 2;
const CHECKPOINTS: u8 = 3;
const WATERMARKS: u8 = 5;
const AGGREGATES: u8 = 6;
const DEAD_LETTERS: u8 = 7;
const DICTIONARIES: u8 = 8;

/// Figures of one field, with the log and without it.
#[derive(Default)]
struct Tally {
    damages: u64,
    answered: [u64; 2],
    refused: [u64; 2],
    /// The frame decodes to the same record: only its digest differs.
    unused: u64,
}

/// Damages one world and keeps count.
struct Run<'a> {
    world: &'a World,
    judge: Judge<'a>,
    dice: Dice,
    per_field: usize,
    tallies: Vec<(String, Tally)>,
    /// Field and what is wrong.
    wrong: Vec<(String, String)>,
}

/// An entry of a pack.
#[derive(Clone)]
struct Held {
    id: String,
    from: u64,
    upto: u64,
    frame: std::ops::Range<u64>,
}

fn entries(name: &str, bytes: &[u8]) -> Vec<Held> {
    let opened = open_tail(pack_id(name).unwrap(), bytes, bytes.len() as u64).unwrap();
    let OpenTail::Ready(opened) = opened else { panic!("all of the pack is there") };
    let held = |at| {
        let id = opened.1.id(at).unwrap();
        let frame = opened.1.locator(at).unwrap().range();
        Held { id: id.key.id.to_string(), from: id.from_version.0, upto: id.upto_version.0, frame }
    };
    (0..opened.1.len()).map(held).collect()
}

impl<'a> Run<'a> {
    fn new(world: &'a World, per_field: usize, are_events_kept: bool) -> Self {
        let judge = Judge::new(world, are_events_kept);
        Self { world, judge, dice: Dice(11), per_field, tallies: Vec::new(), wrong: Vec::new() }
    }

    /// One damage, asked about with the log and without it.
    fn damage(&mut self, field: &str, change: &Change, paths: &[String]) {
        let known = self.tallies.iter().rposition(|(known, _)| known == field);
        let at = known.unwrap_or_else(|| {
            self.tallies.push((field.to_owned(), Tally::default()));
            self.tallies.len() - 1
        });
        let tally = &mut self.tallies[at].1;
        tally.damages += 1;
        for is_forgotten in [false, true] {
            let verdict = self.judge.judge(change, is_forgotten, paths);
            let at = usize::from(is_forgotten);
            tally.unused += u64::from(is_forgotten && verdict.are_bits_unused);
            match (verdict.refused > 0, verdict.is_told) {
                (true, _) => tally.refused[at] += 1,
                (false, true) => tally.answered[at] += 1,
                (false, false) => self
                    .wrong
                    .push((field.to_owned(), format!("nobody tells of {}, asked {paths:?}", brief(change)))),
            }
            self.wrong.extend(verdict.wrong.into_iter().map(|wrong| (field.to_owned(), wrong)));
        }
    }

    /// Other bytes in place of a field: every bit of it, or some, then bytes, then cuts. With the place.
    fn others(&mut self, bytes: &[u8], field: &Field) -> Vec<(usize, Vec<u8>)> {
        let (start, len) = (field.range.start, field.range.len());
        let mut all = BTreeSet::new();
        let flip = |bit: usize| {
            let mut other = bytes.to_vec();
            other[start + bit / 8] ^= 1 << (bit % 8);
            (start + bit / 8, other)
        };
        if len * 8 <= self.per_field {
            all.extend((0..len * 8).map(flip));
        }
        let bits = if len * 8 <= self.per_field { 0 } else { self.per_field / 2 };
        while all.len() < bits {
            all.insert(flip(self.dice.below(len as u64 * 8) as usize));
        }
        while all.len() < self.per_field {
            let mut other = bytes.to_vec();
            let at = start + self.dice.below(len as u64) as usize;
            let end = (at + 1 + self.dice.below(4) as usize).min(field.range.end);
            other[at..end].iter_mut().for_each(|byte| *byte = self.dice.below(256) as u8);
            if other != bytes {
                all.insert((at, other));
            }
        }
        let cuts = [start, start + len.div_ceil(2)].into_iter().filter(|cut| *cut < bytes.len());
        all.into_iter().chain(cuts.map(|cut| (cut, bytes[..cut].to_vec()))).collect()
    }

    /// Every field of a pack.
    fn pack(&mut self, what: &str, name: &str) {
        let bytes = &self.world.objects[name];
        let entries = entries(name, bytes);
        for field in layout::pack(bytes) {
            for (nth, (at, other)) in self.others(bytes, &field).into_iter().enumerate() {
                let here: Vec<&Held> =
                    entries.iter().filter(|held| held.frame.contains(&(at as u64))).collect();
                let held =
                    if here.is_empty() { &entries[nth % entries.len()] } else { here[nth % here.len()] };
                let mut paths = about(self.world, &held.id, held.from, held.upto);
                // It costs as much as all the others, and what it reads of packs is checkpoints.
                if what.starts_with("checkpoint") || nth % 8 == 0 {
                    paths.push(LIST.to_owned());
                }
                let change = Change { objects: vec![(name.to_owned(), Some(other))], ..Change::default() };
                self.damage(&format!("{what}: {}", field.name), &change, &paths);
            }
        }
        for held in &entries {
            let paths = about(self.world, &held.id, held.from, held.upto);
            let change = Change { objects: vec![(name.to_owned(), None)], ..Change::default() };
            self.damage(&format!("{what}: missing"), &change, &paths);
        }
    }

    /// Every field of a row's value.
    fn row(&mut self, what: &str, key: &[u8], fields: &[Field], paths: &[String]) {
        let bytes = &self.world.rows[key];
        for field in fields {
            for (_, other) in self.others(bytes, field) {
                let change = Change { rows: vec![(key.to_vec(), Some(other))], ..Change::default() };
                self.damage(&format!("{what}: {}", field.name), &change, paths);
            }
        }
    }

    /// A snapshot's row; and its locator in a row that is whole, as an index with columns would give it.
    fn snapshot_row(&mut self, what: &str, key: &[u8]) {
        let bytes = &self.world.rows[key];
        let row = SnapshotRow::decode(bytes).unwrap();
        let paths = about(self.world, &row.key.id, row.from_version.0, row.version.0);
        self.row(&format!("{what} row"), key, &layout::row(bytes), &paths);
        for field in layout::locator(&row.locator) {
            for (_, locator) in self.others(&row.locator, &field) {
                let other = SnapshotRow { locator, ..row.clone() }.encode();
                let change = Change { rows: vec![(key.to_vec(), Some(other))], ..Change::default() };
                self.damage(&format!("{what} locator: {}", field.name), &change, &paths);
            }
        }
    }

    /// A row that tells only by its key.
    fn listed(&mut self, key: &[u8]) {
        let paths = [LIST.to_owned()];
        for field in layout::listed(key) {
            for (_, other) in self.others(key, &field) {
                if other.len() < key.len() || self.world.rows.contains_key(&other) {
                    continue;
                }
                let value = self.world.rows[key].clone();
                let change =
                    Change { rows: vec![(key.to_vec(), None), (other, Some(value))], ..Change::default() };
                self.damage(&format!("aggregate row: {}", field.name), &change, &paths);
            }
        }
        let checksum = Field { name: "checksum".to_owned(), range: 0..4 };
        self.row("aggregate row", key, &[checksum], &paths);
    }

    /// A dictionary: its object, its row, and both alike.
    fn dictionary(&mut self, what: &str, user: &SnapshotRow, name: &str, key: &[u8]) {
        let bytes = &self.world.objects[name];
        let paths = about(self.world, &user.key.id, user.from_version.0, user.version.0);
        for field in layout::dictionary(bytes) {
            for (_, other) in self.others(bytes, &field) {
                let objects = vec![(name.to_owned(), Some(other.clone()))];
                let rows = vec![(key.to_vec(), Some(other))];
                let object = Change { objects: objects.clone(), ..Change::default() };
                let row = Change { rows: rows.clone(), ..Change::default() };
                self.damage_each(
                    &format!("{what}: {}", field.name),
                    &[object, row, Change { objects, rows }],
                    &paths,
                );
            }
        }
        let gone = Change { objects: vec![(name.to_owned(), None)], rows: vec![(key.to_vec(), None)] };
        self.damage(&format!("{what}: missing"), &gone, &paths);
    }

    fn damage_each(&mut self, field: &str, changes: &[Change], paths: &[String]) {
        changes.iter().for_each(|change| self.damage(field, change, paths));
    }

    fn keys(&self, table: u8) -> Vec<&'a Vec<u8>> {
        self.world.rows.keys().filter(|key| key[0] == table).collect()
    }

    /// Snapshot rows of a kind whose records need a dictionary, by version.
    fn snapshots(&self, kind: RecordKind, needs_dictionary: bool) -> Vec<(&'a Vec<u8>, SnapshotRow)> {
        let rows = self.keys(SNAPSHOTS).into_iter();
        let rows = rows.map(|key| (key, SnapshotRow::decode(&self.world.rows[key]).unwrap()));
        let mut rows: Vec<_> = rows
            .filter(|(_, row)| row.kind == kind && (row.locator[1] & 2 != 0) == needs_dictionary)
            .collect();
        rows.sort_by_key(|(_, row)| row.version);
        rows
    }

    /// What there is to damage.
    fn introduce(&self) {
        let count = |part: &str| self.world.objects.keys().filter(|name| name.contains(part)).count();
        let packs = ["/full/", "/history/", "/checkpoint/", "/dict/"].map(count);
        let rows = [RecordKind::Full, RecordKind::Increment];
        let rows = rows.map(|kind| [false, true].map(|with| self.snapshots(kind, with).len()));
        let others = (CHECKPOINTS..=DICTIONARIES).map(|table| self.keys(table).len()).collect::<Vec<_>>();
        println!("packs full, history, checkpoint, dictionaries: {packs:?}");
        println!("full and increment rows, without and with a dictionary: {rows:?}");
        println!("rows of other tables from checkpoints on: {others:?}");
    }

    fn incremental(&mut self) {
        self.introduce();
        for (what, kind) in [("history", RecordKind::Increment), ("full", RecordKind::Full)] {
            let rows = self.snapshots(kind, true);
            let (key, row) = &rows[rows.len() / 2];
            let of = format!("/{what}/");
            let object = |row: &SnapshotRow| {
                let named = |name: &&String| name.contains(&of) && pack_id(name) == Some(row.pack);
                self.world.objects.keys().find(named).unwrap()
            };
            self.pack(&format!("{what} pack"), object(row));
            self.snapshot_row(what, key);
            let digest = &layout::locator(&row.locator);
            let digest = digest.iter().find(|field| field.name == "dictionary").unwrap();
            let digest = &row.locator[digest.range.clone()];
            let name = format!("v1/dict/{}", data_encoding::HEXLOWER.encode(digest));
            let dictionary_key = [&[DICTIONARIES], digest].concat();
            self.dictionary(&format!("{what} dictionary"), row, &name, &dictionary_key);
        }
        self.checkpoint();
        let key = self.keys(FORMAT)[0];
        let whole = Field { name: "name".to_owned(), range: 0..self.world.rows[key].len() };
        self.row("format row", key, &[whole], &[LIST.to_owned()]);
        let (key, row) = &self.snapshots(RecordKind::Full, true)[0];
        let snapshot = SnapshotRow::decode(&self.world.rows[*key]).unwrap();
        let id = snapfold::domain::chain::snapshot_id(&row.key, row.lineage, row.version);
        let named = [&[SNAPSHOT_IDS][..], &id].concat();
        let mut paths = about(self.world, &snapshot.key.id, snapshot.from_version.0, snapshot.version.0);
        paths.push(format!("/v1/snapshots/{}", snapshot_id_text(id)));
        self.row("snapshot id row", &named, &layout::named(&self.world.rows[&named]), &paths);
        let key = self.keys(DEAD_LETTERS)[0];
        self.row("dead letter row", key, &layout::row(&self.world.rows[key]), &[LETTERS.to_owned()]);
        let key = self.keys(AGGREGATES)[1];
        self.listed(key);
        swaps::all(self);
    }

    /// The newest live checkpoint, its row, and the low watermark.
    fn checkpoint(&mut self) {
        let key = *self.keys(CHECKPOINTS).last().unwrap();
        let pack = key[key.len() - 16..].to_vec();
        let named = |name: &&String| pack_id(name).is_some_and(|id| id.0[..] == pack);
        let name = self.world.objects.keys().find(named).unwrap();
        self.pack("checkpoint pack", name);
        let held = &entries(name, &self.world.objects[name])[0];
        let mut paths = about(self.world, &held.id, held.from, held.upto);
        paths.push(LIST.to_owned());
        self.row("checkpoint row", key, &layout::row(&self.world.rows[key]), &paths);
        let key = self.keys(WATERMARKS)[0];
        let bytes = &self.world.rows[key];
        let partition = WatermarkRow::decode(bytes).unwrap().key.partition.0;
        let is_here = |id: &&str| self.world.ledger.versions(id)[0].record.partition == partition;
        let id = self.world.ledger.aggregates().find(is_here).unwrap();
        let mut paths = about(self.world, id, 0, self.world.ledger.head(id));
        paths.push(LIST.to_owned());
        self.row("watermark row", key, &layout::row(bytes), &paths);
    }

    /// Prints the figures, and fails if anything was wrong. Answers how many damages there were.
    fn end(self, what: &str, begun: Instant) -> u64 {
        println!("\n{what}: {} damages of each field, in {:.0?}", self.per_field, begun.elapsed());
        println!("{:44} {:>8} {:^17} {:^17}", "", "", "with the log", "log forgotten");
        let heads = ["answered", "refused"];
        println!(
            "{:44} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "field", "damages", heads[0], heads[1], heads[0], heads[1]
        );
        let mut sum = Tally::default();
        for (field, tally) in &self.tallies {
            show(field, tally);
            if tally.unused > 0 {
                println!("{:44} {:>8} of them changed no record: unused bits of zstd", "", tally.unused);
            }
            sum.damages += tally.damages;
            for at in [0, 1] {
                sum.answered[at] += tally.answered[at];
                sum.refused[at] += tally.refused[at];
            }
        }
        show("all", &sum);
        let mut shown: Vec<&(String, String)> = self.wrong.iter().collect();
        shown.dedup_by_key(|(field, _)| field);
        shown.truncate(20);
        assert!(self.wrong.is_empty(), "{} wrong, one of each field: {shown:#?}", self.wrong.len());
        sum.damages
    }
}

fn show(field: &str, tally: &Tally) {
    let Tally { damages, answered: [a, x], refused: [b, y], .. } = tally;
    println!("{field:44} {damages:>8} {a:>8} {b:>8} {x:>8} {y:>8}");
}

/// Which bytes a change is about.
fn brief(change: &Change) -> String {
    let objects = change.objects.iter().map(|(name, bytes)| (name.clone(), bytes.as_ref().map(Vec::len)));
    let rows = change
        .rows
        .iter()
        .map(|(key, value)| (data_encoding::HEXLOWER.encode(key), value.as_ref().map(Vec::len)));
    format!("{:?}", objects.chain(rows).collect::<Vec<_>>())
}

#[test]
fn flipped_bits_cuts_and_swapped_records_are_found_and_never_believed() {
    let begun = Instant::now();
    let per_field = std::env::var("SNAPFOLD_FLIPS").ok().map_or(20, |number| number.parse().unwrap());
    let world = World::new(Strategy::Incremental { full_every: 2 });
    let mut run = Run::new(&world, per_field, true);
    run.incremental();
    let mut total = run.end("incremental", begun);
    // Trails are in footers and rows where full snapshots alone are kept.
    let begun = Instant::now();
    let world = World::new(Strategy::Full);
    let mut run = Run::new(&world, per_field, false);
    let rows = run.snapshots(RecordKind::Full, true);
    let (key, row) = &rows[rows.len() / 2];
    let name = world.objects.keys().find(|name| pack_id(name) == Some(row.pack)).unwrap();
    run.pack("full pack with trails", name);
    run.snapshot_row("full with a trail", key);
    total += run.end("full", begun);
    println!("\n{total} damages in all");
    assert!(per_field < CLOSING || total >= CLOSING_TOTAL, "{total} damages");
}

//! Goal: the tiers of `verify` find what they are for: `full` every damaged byte of packs, dictionaries
//! and rows, `structure` all that rows and footers tell. Method: the damages of this folder, some of each
//! field, each on a copy that is surveyed as a whole.

use super::judge::pack_id;
use super::world::{Change, World};
use super::{
    AGGREGATES, CHECKPOINTS, DEAD_LETTERS, DICTIONARIES, Run, SNAPSHOT_IDS, SNAPSHOTS, WATERMARKS, layout,
};
use snapfold::domain::partition::Strategy;
use snapfold::domain::row::RecordKind;
use snapfold::lookup::Tier;
use std::collections::BTreeMap;

/// Damages of each field.
const EACH: usize = 2;

/// How many damages of what were found, of how many.
#[derive(Default)]
struct Count(BTreeMap<String, (u64, u64)>);

impl Count {
    fn add(&mut self, what: &str, is_found: bool) {
        let (found, of) = self.0.entry(what.to_owned()).or_default();
        *found += u64::from(is_found);
        *of += 1;
    }

    /// Fails if any was missed.
    fn end(self, tier: &str) {
        let missed: Vec<_> = self.0.iter().filter(|(_, (found, of))| found < of).collect();
        let (found, of) = self.0.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        println!("{tier}: {found} of {of} damages found, of {} fields", self.0.len());
        assert!(missed.is_empty(), "{tier} missed some: {missed:?}");
    }
}

fn is_found(world: &World, change: &Change, tier: Tier) -> bool {
    // A process that refuses to start has found it.
    world.changed(change, false, |copy| copy.survey(tier)).is_none_or(|problems| problems > 0)
}

fn object(name: &str, bytes: Option<Vec<u8>>) -> Change {
    Change { objects: vec![(name.to_owned(), bytes)], ..Change::default() }
}

fn row(key: &[u8], bytes: Option<Vec<u8>>) -> Change {
    Change { rows: vec![(key.to_vec(), bytes)], ..Change::default() }
}

/// Packs that are pointed to: one of each class.
fn packs<'a>(run: &Run<'a>) -> Vec<(&'static str, &'a String)> {
    let of_rows = [("history", RecordKind::Increment), ("full", RecordKind::Full)].map(|(what, kind)| {
        let (_, row) = run.snapshots(kind, true).swap_remove(0);
        (what, row.pack)
    });
    let key = *run.keys(CHECKPOINTS).last().unwrap();
    let checkpoint = ("checkpoint", snapfold::domain::ids::PackId(key[key.len() - 16..].try_into().unwrap()));
    let named = |pack| run.world.objects.keys().find(|name| pack_id(name) == Some(pack)).unwrap();
    of_rows.into_iter().chain([checkpoint]).map(|(what, pack)| (what, named(pack))).collect()
}

#[test]
fn the_tiers_of_verify_find_all_that_they_are_for() {
    let world = World::new(Strategy::Incremental { full_every: 2 });
    for tier in [Tier::Structure, Tier::Sample, Tier::Full, Tier::Replay] {
        let problems = world.changed(&Change::default(), false, |copy| copy.survey(tier));
        assert_eq!(problems, Some(0), "{tier:?} of a sound world");
    }
    let mut run = Run::new(&world, EACH, true);
    let (mut full, mut structure) = (Count::default(), Count::default());
    for (what, name) in packs(&run) {
        let bytes = &world.objects[name];
        let fields = layout::pack(bytes);
        let first = fields.iter().find(|field| field.name.starts_with("footer section"));
        let footer = first.map_or(0, |field| field.range.start);
        for field in fields {
            for (_, other) in run.others(bytes, &field) {
                let change = object(name, Some(other));
                full.add(&format!("{what}: {}", field.name), is_found(&world, &change, Tier::Full));
                if field.range.start >= footer && what != "checkpoint" {
                    structure
                        .add(&format!("{what}: {}", field.name), is_found(&world, &change, Tier::Structure));
                }
            }
        }
        let gone = object(name, None);
        full.add(&format!("{what}: missing"), is_found(&world, &gone, Tier::Full));
        structure.add(&format!("{what}: missing"), is_found(&world, &gone, Tier::Structure));
    }
    for (name, bytes) in world.objects.iter().filter(|(name, _)| name.contains("/dict/")) {
        for field in layout::dictionary(bytes) {
            for (_, other) in run.others(bytes, &field) {
                full.add("dictionary", is_found(&world, &object(name, Some(other)), Tier::Full));
            }
        }
    }
    let tables = [
        (SNAPSHOTS, "snapshot row"),
        (SNAPSHOT_IDS, "id row"),
        (CHECKPOINTS, "checkpoint row"),
        (WATERMARKS, "watermark row"),
        (DEAD_LETTERS, "dead letter row"),
        (DICTIONARIES, "dictionary row"),
    ];
    for (table, what) in tables {
        let keys = run.keys(table);
        let some = [keys[0], keys[keys.len() / 2], keys[keys.len() - 1]];
        for key in some {
            let bytes = &world.rows[key];
            let all = layout::Field { name: String::new(), range: 0..bytes.len() };
            for (_, other) in run.others(bytes, &all) {
                let change = row(key, Some(other));
                full.add(what, is_found(&world, &change, Tier::Full));
                if matches!(table, SNAPSHOTS | CHECKPOINTS | WATERMARKS) {
                    structure.add(what, is_found(&world, &change, Tier::Structure));
                }
            }
        }
    }
    // An aggregate that is not listed any more, and a snapshot that is not found by its id.
    let (listed, named) = (run.keys(AGGREGATES)[1], run.keys(SNAPSHOT_IDS)[0]);
    full.add("listing: missing", is_found(&world, &row(listed, None), Tier::Full));
    full.add("id row: missing", is_found(&world, &row(named, None), Tier::Full));
    full.end("full");
    structure.end("structure");
}

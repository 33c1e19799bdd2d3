//! Valid records in each other's place: whole by every checksum of their own, but not what was asked for.

use super::judge::{LETTERS, LIST, about, pack_id};
use super::world::Change;
use super::{
    AGGREGATES, CHECKPOINTS, DEAD_LETTERS, DICTIONARIES, Held, Run, SNAPSHOT_IDS, SNAPSHOTS, WATERMARKS,
    entries,
};
use snapfold::codec::row::Row;
use snapfold::domain::row::SnapshotRow;
use snapfold::lookup::snapshot_id_text;

/// Pairs of each kind, at most.
const PAIRS: usize = 2;

pub(super) fn all(run: &mut Run<'_>) {
    frames(run);
    objects(run);
    snapshot_rows(run);
    rows(run);
}

/// Two different numbers below `len`.
fn pair(run: &mut Run<'_>, len: usize) -> (usize, usize) {
    let one = run.dice.below(len as u64) as usize;
    let other = run.dice.below(len as u64 - 1) as usize;
    (one, if other >= one { other + 1 } else { other })
}

fn paths(run: &Run<'_>, held: &[&Held]) -> Vec<String> {
    held.iter().flat_map(|held| about(run.world, &held.id, held.from, held.upto)).collect()
}

/// Names of all objects but checkpoints that were retired, which nobody reads.
fn read_objects(run: &Run<'_>) -> Vec<String> {
    let live: Vec<&[u8]> = run.keys(CHECKPOINTS).into_iter().map(|key| &key[key.len() - 16..]).collect();
    let is_read = |name: &&String| match pack_id(name) {
        Some(pack) => !name.contains("/checkpoint/") || live.contains(&&pack.0[..]),
        None => true,
    };
    run.world.objects.keys().filter(is_read).cloned().collect()
}

/// Two frames of one pack, all that lies between them moved along.
fn frames(run: &mut Run<'_>) {
    let mut names = read_objects(run);
    names.retain(|name| pack_id(name).is_some());
    let mut done = 0;
    while done < PAIRS * run.per_field {
        let name = &names[run.dice.below(names.len() as u64) as usize];
        let bytes = &run.world.objects[name];
        let held = entries(name, bytes);
        let mut firsts = held.clone();
        firsts.sort_by_key(|held| held.frame.start);
        firsts.dedup_by(|a, b| a.frame == b.frame);
        done += 1;
        if firsts.len() < 2 {
            continue;
        }
        let (a, b) = pair(run, firsts.len());
        let (mut a, mut b) = (&firsts[a], &firsts[b]);
        if a.frame.start > b.frame.start {
            (a, b) = (b, a);
        }
        let of = |range: std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
        let all = [
            of(0..a.frame.start),
            of(b.frame.clone()),
            of(a.frame.end..b.frame.start),
            of(a.frame.clone()),
            of(b.frame.end..bytes.len() as u64),
        ];
        let change = Change { objects: vec![(name.clone(), Some(all.concat()))], ..Change::default() };
        if change.objects[0].1.as_ref() != Some(bytes) {
            let paths = paths(run, &[a, b]);
            run.damage("swapped: two frames", &change, &paths);
        }
    }
}

/// Two objects under each other's name.
fn objects(run: &mut Run<'_>) {
    let names = read_objects(run);
    for _ in 0..PAIRS * run.per_field {
        let (a, b) = pair(run, names.len());
        let (a, b) = (&names[a], &names[b]);
        let bytes = |name: &String| Some(run.world.objects[name].clone());
        let change =
            Change { objects: vec![(a.clone(), bytes(b)), (b.clone(), bytes(a))], ..Change::default() };
        let mut asked = Vec::new();
        for name in [a, b].into_iter().filter(|name| pack_id(name).is_some()) {
            let held = entries(name, &run.world.objects[name]);
            let at = run.dice.below(held.len() as u64) as usize;
            asked.extend(paths(run, &[&held[at]]));
        }
        if !asked.is_empty() {
            run.damage("swapped: two objects", &change, &asked);
        }
    }
}

/// Snapshot rows under each other's key; whole rows whose locators are exchanged, anywhere, within one
/// aggregate, or whose dictionary is the other one.
fn snapshot_rows(run: &mut Run<'_>) {
    let keys = run.keys(SNAPSHOTS);
    let row = |key: &Vec<u8>| SnapshotRow::decode(&run.world.rows[key]).unwrap();
    let all: Vec<(Vec<u8>, SnapshotRow)> = keys.into_iter().map(|key| (key.clone(), row(key))).collect();
    let asked = |run: &Run<'_>, rows: [&SnapshotRow; 2]| -> Vec<String> {
        rows.iter().flat_map(|row| about(run.world, &row.key.id, row.from_version.0, row.version.0)).collect()
    };
    for nth in 0..PAIRS * run.per_field {
        let (a, b) = pair(run, all.len());
        // Every second time of the same aggregate.
        let same = (0..all.len()).filter(|at| *at != a && all[*at].1.key == all[a].1.key).collect::<Vec<_>>();
        let b = if nth % 2 == 0 || same.is_empty() { b } else { same[nth % same.len()] };
        let ((key_a, a), (key_b, b)) = (&all[a], &all[b]);
        let paths = asked(run, [a, b]);
        let change = |one: Vec<u8>, other: Vec<u8>| Change {
            rows: vec![(key_a.clone(), Some(one)), (key_b.clone(), Some(other))],
            ..Change::default()
        };
        run.damage("swapped: two snapshot rows", &change(b.encode(), a.encode()), &paths);
        let one = SnapshotRow { locator: b.locator.clone(), ..a.clone() };
        let other = SnapshotRow { locator: a.locator.clone(), ..b.clone() };
        run.damage("swapped: two locators", &change(one.encode(), other.encode()), &paths);
        // The pack too, so that the locator fits it.
        let one = SnapshotRow { locator: b.locator.clone(), pack: b.pack, ..a.clone() };
        let other = SnapshotRow { locator: a.locator.clone(), pack: a.pack, ..b.clone() };
        run.damage("swapped: two locators with packs", &change(one.encode(), other.encode()), &paths);
    }
}

/// Values of the other tables under each other's key.
fn rows(run: &mut Run<'_>) {
    for (table, what) in [
        (SNAPSHOT_IDS, "swapped: two snapshot id rows"),
        (CHECKPOINTS, "swapped: two checkpoint rows"),
        (WATERMARKS, "swapped: two watermark rows"),
        (AGGREGATES, "swapped: two aggregate rows"),
        (DEAD_LETTERS, "swapped: two dead letter rows"),
        (DICTIONARIES, "swapped: two dictionary rows"),
    ] {
        let keys: Vec<Vec<u8>> = run.keys(table).into_iter().cloned().collect();
        if keys.len() < 2 {
            continue;
        }
        for _ in 0..run.per_field.min(keys.len() * keys.len()) {
            let (a, b) = pair(run, keys.len());
            let value = |at: usize| Some(run.world.rows[&keys[at]].clone());
            let change = Change {
                rows: vec![(keys[a].clone(), value(b)), (keys[b].clone(), value(a))],
                ..Change::default()
            };
            let mut paths = vec![LIST.to_owned(), LETTERS.to_owned()];
            if table == SNAPSHOT_IDS {
                let id = keys[a][1..].try_into().unwrap();
                paths.push(format!("/v1/snapshots/{}", snapshot_id_text(id)));
            }
            let users = run.snapshots(snapfold::domain::row::RecordKind::Full, true);
            let user = &users[run.dice.below(users.len() as u64) as usize].1;
            paths.extend(about(run.world, &user.key.id, user.from_version.0, user.version.0));
            run.damage(what, &change, &paths);
        }
    }
}

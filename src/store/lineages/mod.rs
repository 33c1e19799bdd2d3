//! Which lineage of a topic is active: a log of activations in the object store, one small object each,
//! created only if nobody else did (rules 2 and 5 of DESIGN section 4). Nothing is ever changed or deleted.
//!
//! `v1/lineages/<topic>/<number>` says: from here on, records of this topic id are folded with this
//! fingerprint into this lineage. The active lineage of a topic id is that of its last activation. One
//! (topic id, fingerprint) has one lineage for ever: a mapping that is rolled back continues where it stood.
//!
//! An activation also says how many partitions the topic had: an aggregate must never move to another one,
//! and where partitions are added, producers that hash keys move most aggregates (rule 12).
//!
//! A lineage that a refold writes is *prepared* first: that gives it its number and activates nothing. The
//! cut-over is one more activation, refused if another lineage became active while the refold ran.
//!
//! A lineage that is not the active one may be *dropped*, which is one more entry. From then on it is as if
//! it had never been: its (topic id, fingerprint) gets another number if it comes back, and whoever finds
//! rows and packs of the dropped one takes them for garbage, however late they were written.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the log, who is active |
//! | [`entry`] | one entry, as it is written down |
//! | [`dropped`] | which lineages there are and were, and dropping one |
//! | [`definitions`] | what a fingerprint is of, so that an old lineage can be read again |
//!
//! *Order*: an activation is acknowledged before anybody folds by it. Two workers that activate at once try
//! the same number; one of them loses, looks again, and finds what it wanted or is refused.
//! *If it fails*: a write that may have happened is repeated; that it is there already then means it was
//! ours, or one that says the same. After a few tries the error goes to the caller, who may ask again.
//! *If cancelled*: activated or not; asking again tells. *What may leak*: nothing.

pub mod definitions;
pub mod dropped;
mod entry;

pub use dropped::{Dropped, Known, Standing, drop_lineage, known};
pub use entry::{Activation, Role};

use super::blobs::Blobs;
use super::unavailable;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, Lineage};
use crate::domain::outcome::PortError;
use entry::damaged;

/// What came of asking for a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activated {
    /// This lineage is active and has the fingerprint that was asked for.
    Ready(Lineage),
    /// Another fingerprint is active, or became so meanwhile: refuse to work, and say what.
    Changed {
        /// What is active, what was asked for, and what to do.
        what: String,
    },
}

/// What a worker wants to fold.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Kafka's id of the topic.
    pub topic_id: u128,
    /// What its records are to be folded with.
    pub fingerprint: Digest,
    /// What its records are mapped to events with: a part of what the fingerprint is of.
    pub mapping: Digest,
    /// Partitions that the topic has.
    pub partitions: u32,
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Permission {
    /// Another fingerprint starts a lineage of its own.
    pub new_lineage: bool,
    /// Partitions that were added count: no aggregate has moved.
    pub more_partitions: bool,
}

/// How often a call that failed is repeated at once.
const TRIES: usize = 4;
const PAGE: usize = 1_000;
/// No activation is longer than that, so nothing longer is read.
const OBJECT_BYTES_MAX: u64 = 4_096;

/// Makes sure that the lineage of (topic id, fingerprint) is the active one of the topic id. A topic (id)
/// without any gets its first; where another fingerprint is active, `new_lineage` decides.
///
/// # Errors
/// `Unavailable` if the store does not answer, `Corrupt` if an activation is damaged.
pub async fn activate(
    blobs: &dyn Blobs,
    topic: &str,
    wish: Wish,
    permission: Permission,
) -> Result<Activated> {
    let Wish { topic_id, fingerprint, partitions, .. } = wish;
    let Permission { new_lineage, more_partitions } = permission;
    let (mut history, mut first_seen) = (Vec::new(), None);
    loop {
        // Activations never change, so only what is new is read.
        read_on(blobs, topic, &mut history).await?;
        let ours: Vec<&Activation> = activated(&history, topic_id).collect();
        // The permission is for what was active when it was given, not for what comes in between.
        let may_change = new_lineage && ours.len() == *first_seen.get_or_insert(ours.len());
        match ours.last() {
            Some(active) if active.fingerprint == fingerprint => {
                match active.partitions.filter(|known| *known != partitions) {
                    None => return Ok(Activated::Ready(active.lineage)),
                    Some(known) if known > partitions || !more_partitions => {
                        return Ok(Activated::Changed { what: repartitioned(active, known, partitions) });
                    }
                    Some(_) => {}
                }
            }
            Some(active) if !may_change => {
                return Ok(Activated::Changed { what: changed(active, &wish, new_lineage) });
            }
            _ => {}
        }
        let next = entry(&history, topic, &wish, Role::Active);
        if create(blobs, &name(topic, history.len() + 1), &next).await? == Created::Ours {
            return Ok(Activated::Ready(next.lineage));
        }
    }
}

/// Gives the lineage of (topic id, fingerprint) its number, so that a refold can write into it; the active
/// one stays active.
///
/// # Errors
/// As [`activate`].
pub async fn prepare(blobs: &dyn Blobs, topic: &str, wish: Wish) -> Result<Lineage> {
    let mut history = Vec::new();
    loop {
        read_on(blobs, topic, &mut history).await?;
        if let Some(known) = number_of(&history, &wish) {
            return Ok(known);
        }
        let next = entry(&history, topic, &wish, Role::Prepared);
        if create(blobs, &name(topic, history.len() + 1), &next).await? == Created::Ours {
            return Ok(next.lineage);
        }
    }
}

/// Activates a lineage that was prepared, if the one that it was made from is still the active one.
///
/// # Errors
/// As [`activate`].
pub async fn cut_over(
    blobs: &dyn Blobs,
    topic: &str,
    wish: Wish,
    (from, into): (Lineage, Lineage),
) -> Result<Activated> {
    let mut history = Vec::new();
    loop {
        read_on(blobs, topic, &mut history).await?;
        match activated(&history, wish.topic_id).last() {
            Some(active) if active.fingerprint == wish.fingerprint => {
                return Ok(Activated::Ready(active.lineage));
            }
            Some(active) if active.lineage == from => {}
            active => {
                let now = active.map_or("none".to_owned(), |active| active.lineage.to_string());
                let what = format!(
                    "lineage {from} of topic `{topic}` was refolded, but lineage {now} is active by now: somebody \
                     activated it meanwhile. Run `snapfold refold` again from there"
                );
                return Ok(Activated::Changed { what });
            }
        }
        if number_of(&history, &wish) != Some(into) {
            let what = format!(
                "lineage {into} of topic `{topic}` was dropped while it was written. Run `snapfold refold` again"
            );
            return Ok(Activated::Changed { what });
        }
        let next = entry(&history, topic, &wish, Role::Active);
        if create(blobs, &name(topic, history.len() + 1), &next).await? == Created::Ours {
            return Ok(Activated::Ready(next.lineage));
        }
    }
}

/// The activation that counts for a topic id; none where there is none.
#[must_use]
pub fn active(history: &[Activation], topic_id: u128) -> Option<&Activation> {
    activated(history, topic_id).last()
}

fn activated(history: &[Activation], topic_id: u128) -> impl Iterator<Item = &Activation> {
    history.iter().filter(move |known| known.topic_id == topic_id && known.role == Role::Active)
}

/// The next entry for a wish: with the number that its lineage has, or the next free one.
fn entry(history: &[Activation], topic: &str, wish: &Wish, role: Role) -> Activation {
    let Wish { topic_id, fingerprint, mapping, partitions } = *wish;
    let known = number_of(history, wish);
    let last = history.iter().map(|known| known.lineage).max().unwrap_or_default();
    Activation {
        topic: topic.to_owned(),
        topic_id,
        fingerprint,
        lineage: known.unwrap_or(Lineage(last.0 + 1)),
        partitions: Some(partitions),
        mapping: Some(mapping),
        role,
    }
}

/// The number that a (topic id, fingerprint) has: not one that was dropped.
#[must_use]
pub fn number_of(history: &[Activation], wish: &Wish) -> Option<Lineage> {
    let dropped = Dropped::of(history);
    let is_it =
        |known: &&Activation| known.topic_id == wish.topic_id && known.fingerprint == wish.fingerprint;
    let mut ours = history.iter().filter(is_it).map(|known| known.lineage);
    ours.find(|lineage| !dropped.has(*lineage))
}

/// All entries of a topic's log, oldest first. Where one does not say how many partitions there were (none
/// did at first), there were no more than any other says.
///
/// # Errors
/// As [`activate`].
pub async fn history(blobs: &dyn Blobs, topic: &str) -> Result<Vec<Activation>> {
    let mut history = Vec::new();
    read_on(blobs, topic, &mut history).await?;
    let most = history.iter().filter_map(|entry| entry.partitions).max();
    for entry in &mut history {
        entry.partitions = entry.partitions.or(most);
    }
    Ok(history)
}

fn repartitioned(active: &Activation, known: u32, now: u32) -> String {
    let Activation { topic, lineage, .. } = active;
    format!(
        "partitions-changed: topic `{topic}` has {now} partitions, lineage {lineage} folds {known}: producers \
         that hash keys have moved aggregates, and histories are torn. Copy the topic, key by key, to a new \
         one with the partitions you want, and fold that. Where no aggregate has moved (the producers choose \
         the partition), start once with `--accept-partitions`"
    )
}

fn changed(active: &Activation, wish: &Wish, new_lineage: bool) -> String {
    let Activation { topic, topic_id, fingerprint, lineage, mapping, .. } = active;
    let wanted = wish.fingerprint;
    let (differs, refold) = match mapping {
        Some(mapping) if *mapping == wish.mapping => (
            " (the mapping is the same: reducer, limits or `onPoison` differ)",
            ", fold what is stored again with these (`snapfold refold`)",
        ),
        Some(_) => (" (`map` or `format` differ)", ""),
        None => ("", ""),
    };
    let advice = if new_lineage {
        "another worker activated it meanwhile: give all workers the same reducer and mapping".to_owned()
    } else {
        format!(
            "use the reducer and mapping of the active lineage{refold}, or start with `--new-lineage` to fold the topic \
             again with these"
        )
    };
    format!(
        "topic `{topic}` (id `{topic_id:032x}`) is folded with fingerprint `{fingerprint}` (lineage {lineage}), this \
         worker has `{wanted}`{differs}: {advice}"
    )
}

#[derive(PartialEq, Eq)]
enum Created {
    Ours,
    Others,
}

/// Creates an object, or finds out that there is one, and whether it says the same.
async fn create(blobs: &dyn Blobs, name: &str, activation: &Activation) -> Result<Created> {
    let bytes = activation.encode();
    let mut last = PortError::Missing;
    for _ in 0..TRIES {
        match blobs.put_new(name, bytes.as_bytes()).await {
            Ok(()) => return Ok(Created::Ours),
            Err(PortError::Exists) => {
                let same = read(blobs, name).await? == *activation;
                return Ok(if same { Created::Ours } else { Created::Others });
            }
            Err(error @ PortError::Permanent(_)) => {
                return Err(unavailable(&format!("write `{name}`"), &error));
            }
            Err(error) => last = error,
        }
    }
    Err(unavailable(&format!("write `{name}`"), &last))
}

/// Reads the entries after those that are known.
///
/// # Errors
/// As [`activate`].
pub async fn read_on(blobs: &dyn Blobs, topic: &str, history: &mut Vec<Activation>) -> Result<()> {
    let folder = folder(topic);
    loop {
        let after = name(topic, history.len());
        let names = list(blobs, &folder, &after).await?;
        for found in &names {
            // A hole would mean that somebody deleted one: which lineage is active is then a guess.
            let expected = name(topic, history.len() + 1);
            if *found != expected {
                let what = format!("`{found}` is there and `{expected}` is not: restore it from a backup");
                return Err(Error::corrupt(what).context("read lineages"));
            }
            let activation = read(blobs, found).await?;
            if activation.topic != topic {
                let what =
                    format!("`{found}` is about topic `{}`: restore it from a backup", activation.topic);
                return Err(Error::corrupt(what).context("read lineages"));
            }
            history.push(activation);
        }
        if names.len() < PAGE {
            return Ok(());
        }
    }
}

async fn list(blobs: &dyn Blobs, folder: &str, after: &str) -> Result<Vec<String>> {
    let mut last = PortError::Missing;
    for _ in 0..TRIES {
        match blobs.list(folder, Some(after), PAGE).await {
            Ok(names) => return Ok(names),
            Err(error) => last = error,
        }
    }
    Err(unavailable(&format!("list `{folder}`"), &last))
}

/// One activation; damage on the way is read again before it counts.
async fn read(blobs: &dyn Blobs, name: &str) -> Result<Activation> {
    let doing = || format!("read `{name}`");
    let mut last = Error::corrupt("no read");
    for _ in 0..TRIES {
        match blobs.get_range(name, 0, OBJECT_BYTES_MAX).await {
            Ok(bytes) => match Activation::decode(&bytes) {
                Some(activation) => return Ok(activation),
                None => last = damaged(&bytes).context(&doing()),
            },
            Err(error) => last = unavailable(&doing(), &error),
        }
    }
    Err(last)
}

/// Topic names are `[a-zA-Z0-9._-]`, but no part of an object's name may start with a dot.
fn folder(topic: &str) -> String {
    let mut folder = String::from("v1/lineages/topic-");
    for byte in topic.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => folder.push(char::from(byte)),
            other => folder.push_str(&format!("%{other:02x}")),
        }
    }
    folder + "/"
}

/// The object that holds an entry, from 1 on.
#[must_use]
pub fn name(topic: &str, number: usize) -> String {
    format!("{}{number:010}", folder(topic))
}

#[cfg(test)]
mod tests;

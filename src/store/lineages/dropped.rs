//! Which lineages there are and were, and dropping one.
//!
//! *Order*: the entry that says so is acknowledged before anything of the lineage goes; whoever deletes does
//!   it by that entry. *If it fails*: dropped or not; asking again tells. *If cancelled*: the same.
//! *What may leak*: rows and packs, until the next passes of garbage collection.
//!
//! INVARIANT: the active lineage is never dropped. An activation and a drop want the same place in the log,
//! so one of them loses and looks again.

use super::{Activation, Created, Role, active, create, name, read_on};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Digest, LedgerId, Lineage};
use crate::domain::mutant::{Mutant, mutant};
use crate::store::blobs::Blobs;
use std::collections::{BTreeMap, BTreeSet};

/// What a lineage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A refold has begun to write it.
    Prepared,
    /// Records of the topic as it is are folded into it.
    Active,
    /// Another one took over, or the topic is another one by now.
    Old,
    /// Nothing of it is there any more.
    Dropped(LedgerId),
}

/// One lineage of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub lineage: Lineage,
    /// Kafka's id of the topic.
    pub topic_id: u128,
    /// What its records were folded with.
    pub fingerprint: Digest,
    /// Partitions of the topic; none where that was not noted.
    pub partitions: Option<u32>,
    /// What it is now.
    pub standing: Standing,
    /// Place in the log of its last activation, from 1 on; none if it never was active.
    pub activated: Option<usize>,
}

/// The lineages of a topic that were dropped, and by which entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped(BTreeMap<Lineage, LedgerId>);

impl Dropped {
    /// What a log says.
    #[must_use]
    pub fn of(history: &[Activation]) -> Self {
        let dropped = history.iter().filter_map(|entry| match entry.role {
            Role::Dropped(at) => Some((entry.lineage, at)),
            Role::Active | Role::Prepared => None,
        });
        Self(dropped.collect())
    }

    /// Whether a lineage was.
    #[must_use]
    pub fn has(&self, lineage: Lineage) -> bool {
        self.0.contains_key(&lineage)
    }

    /// The name and time of its drop.
    #[must_use]
    pub fn at(&self, lineage: Lineage) -> Option<LedgerId> {
        self.0.get(&lineage).copied()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All lineages that a log tells of, by number.
#[must_use]
pub fn known(history: &[Activation]) -> Vec<Known> {
    let (dropped, mut all) = (Dropped::of(history), BTreeMap::new());
    // Records of another topic id are not coming any more, so the last activation of all is the active one.
    let last = history.iter().rfind(|entry| entry.role == Role::Active).map(|entry| entry.topic_id);
    let actives: BTreeSet<Lineage> =
        last.and_then(|topic_id| active(history, topic_id)).map(|entry| entry.lineage).into_iter().collect();
    for (at, entry) in history.iter().enumerate() {
        let before: Option<Known> = all.remove(&entry.lineage);
        let before_activated = before.as_ref().and_then(|known| known.activated);
        let activated = if entry.role == Role::Active { Some(at + 1) } else { before_activated };
        let standing = match dropped.at(entry.lineage) {
            Some(at) => Standing::Dropped(at),
            None if actives.contains(&entry.lineage) => Standing::Active,
            None if activated.is_some() => Standing::Old,
            None => Standing::Prepared,
        };
        let known = Known {
            lineage: entry.lineage,
            topic_id: entry.topic_id,
            fingerprint: entry.fingerprint,
            partitions: entry.partitions.or(before.and_then(|known| known.partitions)),
            standing,
            activated,
        };
        all.insert(entry.lineage, known);
    }
    all.into_values().collect()
}

/// Notes that a lineage is not there any more; the entry that says so, also if it was there already. `at`
/// names it. A lineage that was prepared goes only where the caller `abandons` what a refold wrote.
///
/// # Errors
/// `Conflict` for the active lineage and for one that is prepared, `NotFound` for none; as for `activate`.
pub async fn drop_lineage(
    blobs: &dyn Blobs,
    topic: &str,
    lineage: Lineage,
    at: LedgerId,
    abandons: bool,
) -> Result<LedgerId> {
    let mut history = Vec::new();
    loop {
        read_on(blobs, topic, &mut history).await?;
        let all = known(&history);
        let Some(known) = all.into_iter().find(|known| known.lineage == lineage) else {
            let detail = format!("topic `{topic}` has no lineage {lineage}");
            return Err(Error::new(ErrorKind::NotFound, "bad-selector", detail));
        };
        match known.standing {
            Standing::Dropped(at) => return Ok(at),
            Standing::Active if !mutant(Mutant::DropsTheActive) => {
                let detail = format!("lineage {lineage} of topic `{topic}` is the active one");
                return Err(Error::new(ErrorKind::Conflict, "conflict", detail));
            }
            Standing::Prepared if !abandons => {
                let detail = format!(
                    "lineage {lineage} of topic `{topic}` is prepared: a refold may be writing it. Finish it with \
                     `snapfold refold`, or say that nobody will with `--abandon`"
                );
                return Err(Error::new(ErrorKind::Conflict, "conflict", detail));
            }
            Standing::Active | Standing::Prepared | Standing::Old => {}
        }
        let next = Activation {
            topic: topic.to_owned(),
            topic_id: known.topic_id,
            fingerprint: known.fingerprint,
            lineage,
            partitions: known.partitions,
            mapping: None,
            role: Role::Dropped(at),
        };
        if create(blobs, &name(topic, history.len() + 1), &next).await? == Created::Ours {
            return Ok(at);
        }
    }
}

//! Dictionaries in use: which one each (aggregate type, record kind) is compressed with, learning better
//! ones, and fetching those that stored packs list.
//!
//! *Order*: a dictionary is acknowledged by the blob store and by the index before a pack lists it.
//! *If it fails*: one that was not acknowledged stays a candidate; the next flush writes it again. Reading
//! falls back from the index to the blob; missing or damaged in both is `Corrupt`, so that a reader takes
//! another source; a port that did not answer is `Unavailable`.
//! *If cancelled*: as if it failed.
//! *What may leak*: dictionaries that no pack lists.

use super::blobs::Blobs;
use super::encode::NewEntry;
use super::index::Index;
use super::unavailable;
use crate::codec::compress::{Algorithm, Compression};
use crate::codec::dictionary::{DICTIONARY_LEN_MAX, Dictionary, MILESTONES, Privacy, Trainer, Training};
use crate::codec::pack::dictionary_name;
use crate::domain::error::{Error, Result};
use crate::domain::ids::Digest;
use crate::domain::outcome::PortError;
use crate::domain::record::RecordKind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Fetched dictionaries that are kept; each takes up to 64 KiB and its digested form.
const CACHED_MAX: usize = 64;
/// How often a blob whose bytes are damaged is read: the damage may be on the way.
const READS: usize = 3;

/// How a stream's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionPlan {
    /// Codec, level, threshold.
    pub compression: Compression,
    /// What dictionaries may be learnt from records (`compression.dictionary`): `strict`, `off`, or none at
    /// all. Only zstd uses any.
    pub dictionary: Option<Privacy>,
    /// Numbers of records of one type and kind after which one is trained.
    pub train_at: [u64; 3],
}

impl Default for CompressionPlan {
    fn default() -> Self {
        Self { compression: Compression::default(), dictionary: Some(Privacy::Strict), train_at: MILESTONES }
    }
}

/// What one dictionary is for.
pub(super) type Use = (Arc<str>, RecordKind);

struct Learner {
    trainer: Trainer,
    /// Trained, not known to be durable.
    candidate: Option<Dictionary>,
    /// Durable: what new records are compressed with.
    active: Option<Dictionary>,
    /// A training runs: the next one is measured against what comes of it.
    is_training: bool,
}

/// The dictionaries of one process.
pub(super) struct Dictionaries {
    index: Arc<dyn Index>,
    blobs: Arc<dyn Blobs>,
    plan: CompressionPlan,
    learners: Mutex<BTreeMap<Use, Learner>>,
    fetched: Mutex<BTreeMap<Digest, Dictionary>>,
}

impl Dictionaries {
    pub(super) fn new(index: Arc<dyn Index>, blobs: Arc<dyn Blobs>, plan: CompressionPlan) -> Self {
        Self { index, blobs, plan, learners: Mutex::default(), fetched: Mutex::default() }
    }

    pub(super) fn plan(&self) -> &CompressionPlan {
        &self.plan
    }

    fn learners(&self) -> MutexGuard<'_, BTreeMap<Use, Learner>> {
        self.learners.lock().expect("no panic while it is held")
    }

    /// What new records of this type and kind are compressed with.
    pub(super) fn active(&self, of: &Use) -> Option<Dictionary> {
        self.learners().get(of).and_then(|learner| learner.active.clone())
    }

    /// Shows records to the trainers; answers the trainings that have become due. Those are pure functions,
    /// to be run wherever there is time, and their results go to [`Self::trained`].
    pub(super) fn show<'a>(&self, entries: impl Iterator<Item = &'a NewEntry>) -> Vec<(Use, Training)> {
        let Some(privacy) = self.plan.dictionary else { return Vec::new() };
        if self.plan.compression.algorithm != Algorithm::Zstd {
            return Vec::new();
        }
        let mut learners = self.learners();
        for entry in entries {
            let id = &entry.meta.id;
            let learner = learners.entry((Arc::clone(&id.key.kind), id.kind)).or_insert_with(|| {
                let trainer = Trainer::new(id.kind, privacy, self.plan.compression);
                let trainer = trainer.with_milestones(self.plan.train_at);
                Learner { trainer, candidate: None, active: None, is_training: false }
            });
            learner.trainer.add(&id.key.id, entry.raw());
        }
        let due = learners.iter_mut().filter(|(_, learner)| learner.trainer.is_due() && !learner.is_training);
        due.map(|(of, learner)| {
            learner.is_training = true;
            (of.clone(), learner.trainer.begin(learner.active.as_ref()))
        })
        .collect()
    }

    /// A training has ended, maybe with a dictionary that pays.
    pub(super) fn trained(&self, of: &Use, better: Option<Dictionary>) {
        if let Some(learner) = self.learners().get_mut(of) {
            learner.is_training = false;
            learner.candidate = better.or(learner.candidate.take());
        }
    }

    /// Dictionaries that are to be written before they may be used.
    pub(super) fn candidates(&self) -> Vec<(Use, Dictionary)> {
        let learners = self.learners();
        let candidate = |(of, learner): (&Use, &Learner)| Some((of.clone(), learner.candidate.clone()?));
        learners.iter().filter_map(candidate).collect()
    }

    /// This candidate is acknowledged in both places: records may be compressed with it from now on.
    pub(super) fn activate(&self, of: &Use, dictionary: Dictionary) {
        if let Some(learner) = self.learners().get_mut(of)
            && learner.candidate.take_if(|candidate| candidate.id() == dictionary.id()).is_some()
        {
            self.keep(&dictionary);
            learner.active = Some(dictionary);
        }
    }

    /// This candidate can never be written.
    pub(super) fn give_up(&self, of: &Use, dictionary: &Dictionary) {
        if let Some(learner) = self.learners().get_mut(of) {
            learner.candidate.take_if(|candidate| candidate.id() == dictionary.id());
        }
    }

    fn keep(&self, dictionary: &Dictionary) {
        let mut fetched = self.fetched.lock().expect("no panic while it is held");
        if fetched.len() >= CACHED_MAX && !fetched.contains_key(&dictionary.id()) {
            // Names are digests, so the first is a random one: what is used often comes back at once.
            fetched.pop_first();
        }
        fetched.insert(dictionary.id(), dictionary.clone());
    }

    /// The dictionary of this digest: from memory, the index, the blob store.
    pub(super) async fn get(&self, id: Digest) -> Result<Dictionary> {
        let known = self.fetched.lock().expect("no panic while it is held").get(&id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut unanswered = None;
        match self.index.dictionary(id).await {
            Ok(Some(bytes)) => {
                if let Ok(dictionary) = Dictionary::verified(id, bytes) {
                    self.keep(&dictionary);
                    return Ok(dictionary);
                }
            }
            Ok(None) | Err(PortError::Missing) => {}
            Err(error) => unanswered = Some(unavailable("read a dictionary's row", &error)),
        }
        let name = dictionary_name(id);
        for _ in 0..READS {
            match self.blobs.get_range(&name, 0, DICTIONARY_LEN_MAX as u64 + 1).await {
                Ok(bytes) => {
                    if let Ok(dictionary) = Dictionary::verified(id, bytes) {
                        self.keep(&dictionary);
                        return Ok(dictionary);
                    }
                }
                Err(PortError::Missing) => break,
                Err(error) => {
                    unanswered = Some(unavailable(&format!("read `{name}`"), &error));
                    break;
                }
            }
        }
        let detail = format!("dictionary `{id}` is missing or damaged in the index and in the blob store");
        Err(unanswered.unwrap_or_else(|| Error::corrupt(detail)))
    }
}

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
use super::index::Index;
use super::unavailable;
use crate::codec::compress::{Algorithm, Compression};
use crate::codec::dictionary::{DICTIONARY_LEN_MAX, Dictionary, MILESTONES, Privacy, Trainer, Training};
use crate::codec::pack::dictionary_name;
use crate::domain::erasure::ErasedIds;
use crate::domain::error::{Error, Result};
use crate::domain::ids::Digest;
use crate::domain::outcome::PortError;
use crate::domain::record::{Bytes, RecordId, RecordKind};
use sha2::{Digest as _, Sha256};
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
    /// What comes of that one is not wanted any more.
    is_stale: bool,
    /// How many aggregates were erased when it last forgot some.
    heeded: usize,
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

    /// Shows a record's body to its trainer.
    pub(super) fn show(&self, id: &RecordId, body: &[u8]) {
        let plan = &self.plan;
        let Some(privacy) = plan.dictionary.filter(|_| plan.compression.algorithm == Algorithm::Zstd) else {
            return;
        };
        let mut learners = self.learners();
        let learner = learners.entry((Arc::clone(&id.key.kind), id.kind)).or_insert_with(|| {
            let trainer = Trainer::new(id.kind, privacy, plan.compression);
            let trainer = trainer.with_milestones(plan.train_at);
            Learner { trainer, candidate: None, active: None, is_training: false, is_stale: false, heeded: 0 }
        });
        learner.trainer.add(&id.key.id, body);
    }

    /// Forgets what these aggregates of a type said. Without privacy whatever was learnt may hold some of it:
    /// no new record is compressed with that.
    pub(super) fn heed(&self, kind: &str, erased: &ErasedIds) {
        let mut learners = self.learners();
        let of_kind = learners.iter_mut().filter(|((of, _), _)| &**of == kind).map(|(_, learner)| learner);
        // Nothing is ever taken off that list, so its length tells whether there is more on it.
        for learner in of_kind.filter(|learner| learner.heeded < erased.len()) {
            learner.heeded = erased.len();
            learner.trainer.forget(erased.iter().map(|id| &**id));
            if self.plan.dictionary == Some(Privacy::Off) {
                (learner.active, learner.candidate) = (None, None);
                learner.is_stale = learner.is_training;
            }
        }
    }

    /// Tells a record's trainer what became of its body, in bytes.
    pub(super) fn stored(&self, id: &RecordId, raw: usize, stored: usize) {
        let mut learners = self.learners();
        if let Some(learner) = learners.get_mut(&(Arc::clone(&id.key.kind), id.kind)) {
            learner.trainer.stored(raw, stored);
        }
    }

    /// The trainings that have become due. Those are pure functions, to be run wherever there is time, and
    /// their results go to [`Self::trained`].
    pub(super) fn due(&self) -> Vec<(Use, Training)> {
        let mut learners = self.learners();
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
            let is_stale = std::mem::take(&mut learner.is_stale);
            let better = better.filter(|_| !is_stale);
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

    /// The bytes of the object of this digest, whatever the index has.
    ///
    /// # Errors
    /// `Unavailable` if the store did not answer, `Corrupt` if it has other bytes.
    pub(super) async fn object(&self, id: Digest) -> Result<Bytes> {
        let name = dictionary_name(id);
        for _ in 0..READS {
            match self.blobs.get_range(&name, 0, DICTIONARY_LEN_MAX as u64 + 1).await {
                Ok(bytes) if Sha256::digest(&bytes)[..] == id.0 => return Ok(bytes.into()),
                Ok(_) => {}
                Err(PortError::Missing) => return Err(Error::corrupt("it is missing")),
                Err(error) => return Err(unavailable(&format!("read `{name}`"), &error)),
            }
        }
        Err(Error::corrupt("it disagrees with its digest"))
    }

    /// What is wrong with one of the two copies while the other is sound: `get` never tells of that, and the
    /// dictionary is one fault away from being lost. None where both are sound, or neither is.
    pub(super) async fn hidden_fault(&self, id: Digest) -> Result<Option<String>> {
        let name = dictionary_name(id);
        // What has its digest is what was written; nothing is to be decoded with it here.
        let is_sound = |bytes: &[u8]| Sha256::digest(bytes)[..] == id.0;
        let row = match self.index.dictionary(id).await {
            Ok(bytes) => bytes.is_some_and(|bytes| is_sound(&bytes)),
            Err(PortError::Missing) => false,
            Err(error) => return Err(unavailable("read a dictionary's row", &error)),
        };
        let mut object = false;
        for _ in 0..READS {
            object = match self.blobs.get_range(&name, 0, DICTIONARY_LEN_MAX as u64 + 1).await {
                Ok(bytes) => is_sound(&bytes),
                Err(PortError::Missing) => break,
                Err(error) => return Err(unavailable(&format!("read `{name}`"), &error)),
            };
            if object {
                break;
            }
        }
        let place = match (row, object) {
            (true, true) | (false, false) => return Ok(None),
            (false, true) => "the index",
            (true, false) => "the blob store",
        };
        Ok(Some(format!("dictionary `{id}` is missing or damaged in {place}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{AggregateKey, Lineage, Version};
    use crate::store::blobs::MemoryBlobs;
    use crate::store::index::MemoryIndex;
    use futures_util::FutureExt;

    fn dictionaries(privacy: Privacy) -> Dictionaries {
        let compression = Compression { algorithm: Algorithm::Zstd, ..Compression::default() };
        let plan = CompressionPlan { compression, dictionary: Some(privacy), train_at: [20, 40, 60] };
        Dictionaries::new(Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()), plan)
    }

    /// Goal: what was learnt with the erased is not used any more where it may tell of them. Method: one
    /// dictionary that is in use, and one that is being trained when it is heard.
    #[test]
    fn whoever_is_erased_takes_what_was_learnt_without_privacy_along() {
        for (privacy, is_kept) in [(Privacy::Strict, true), (Privacy::Off, false)] {
            let dictionaries = dictionaries(privacy);
            let of: Use = ("order".into(), RecordKind::Increment);
            let show = |range: std::ops::Range<u64>| {
                for n in range {
                    let id = RecordId {
                        key: AggregateKey { kind: "order".into(), id: format!("o-{n}").as_str().into() },
                        lineage: Lineage(1),
                        upto_version: Version(1),
                        kind: RecordKind::Increment,
                        from_version: Version(0),
                    };
                    let text =
                        format!(r#"{{"status":"delivered","customer":{{"country":"Italy"}},"n":{n}}}"#);
                    dictionaries.show(&id, text.repeat(4).as_bytes());
                }
            };
            show(0..20);
            assert_eq!(dictionaries.due().len(), 1, "one training runs");
            let other = Dictionary::new(b"a dictionary of plain content".to_vec()).unwrap();
            dictionaries.trained(&of, Some(other.clone()));
            dictionaries.activate(&of, other.clone());
            assert!(dictionaries.active(&of).is_some());
            show(20..40);
            assert_eq!(dictionaries.due().len(), 1, "another one runs");
            let erased: ErasedIds = Arc::new([Arc::from("o-3")].into());
            dictionaries.heed("invoice", &erased);
            assert!(dictionaries.active(&of).is_some(), "of another type");
            dictionaries.heed("order", &erased);
            assert_eq!(dictionaries.active(&of).is_some(), is_kept);
            dictionaries.trained(&of, Some(other.clone()));
            assert_eq!(!dictionaries.candidates().is_empty(), is_kept);
            show(40..60);
            assert_eq!(dictionaries.due().len(), 1);
            dictionaries.trained(&of, Some(other));
            assert_eq!(dictionaries.candidates().len(), 1, "what is learnt after that is used");
            dictionaries.heed("order", &erased);
            assert_eq!(dictionaries.candidates().len(), 1, "it was heard already");
        }
    }

    /// Method: a copy in each place is sound, damaged or missing, in all combinations.
    #[test]
    fn a_fault_of_one_copy_is_told_although_readers_take_the_other() {
        let sound = Dictionary::new(b"a dictionary of plain content".to_vec()).unwrap();
        let copies = [Some(sound.bytes().to_vec()), Some(b"other bytes".to_vec()), None];
        for (row, object) in copies.iter().flat_map(|row| copies.iter().map(move |object| (row, object))) {
            let (index, blobs) = (Arc::new(MemoryIndex::new()), Arc::new(MemoryBlobs::new()));
            if let Some(row) = row {
                index.put_dictionary(sound.id(), row.clone().into()).now_or_never().unwrap().unwrap();
            }
            if let Some(object) = object {
                let name = dictionary_name(sound.id());
                blobs.put_new(&name, object).now_or_never().unwrap().unwrap();
            }
            let dictionaries = Dictionaries::new(index, blobs, CompressionPlan::default());
            let fault = dictionaries.hidden_fault(sound.id()).now_or_never().unwrap().unwrap();
            let is_read = dictionaries.get(sound.id()).now_or_never().unwrap().is_ok();
            let sound = [row, object].map(|copy| *copy == copies[0]);
            let place = match sound {
                [true, false] => Some("the blob store"),
                [false, true] => Some("the index"),
                _ => None,
            };
            assert_eq!(fault.is_some(), place.is_some(), "{fault:?}");
            assert!(place.is_none_or(|place| fault.is_some_and(|fault| fault.ends_with(place))));
            assert_eq!(is_read, sound != [false, false]);
        }
    }
}

//! Training: collect samples in bounded memory, make a candidate when enough have come, keep it only if it
//! pays. After the last milestone, collect anew once bodies compress worse than they did.

use super::decay::{Decay, WINDOW};
use super::scrub::{AGGREGATES_MIN, Census, Sample};
use super::{DICTIONARY_LEN_MAX, Dictionary};
use crate::codec::compress::{Compression, Encoder};
use crate::domain::error::Result;
use crate::domain::record::RecordKind;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Numbers of samples after which a dictionary is trained.
pub const MILESTONES: [u64; 3] = [100, 1_000, 10_000];

/// Bytes of samples that are kept. zdict wants about 100 times the dictionary and is nearly as good with far
/// less: twice as many take twice as long and made large documents 0.4 % smaller, others not at all.
const SAMPLES_LEN_MAX: usize = 1 << 20;

/// Samples that are kept, however short.
const SAMPLES_MAX: usize = 20_000;

/// Bytes of one body that are kept: a dictionary matters most at its start.
const SAMPLE_LEN_MAX: usize = 16 << 10;

/// One aggregate in this many is kept out of training, to measure on.
const HELD_OUT: u64 = 8;

/// Attempts with other random bytes if a rare token came up by chance.
const SALTS: u64 = 4;

/// What a dictionary may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    /// Only strings and numbers that at least five aggregates share.
    #[default]
    Strict,
    /// Anything in the samples.
    Off,
}

/// Collects bodies of one (type, record kind) and makes dictionaries of them.
pub struct Trainer {
    privacy: Privacy,
    compression: Compression,
    dictionary_len: usize,
    samples: Vec<Sample>,
    samples_len: usize,
    /// One body in this many is kept.
    stride: u64,
    seen: u64,
    milestones: [u64; 3],
    milestones_done: usize,
    decay: Decay,
    /// Samples are collected again until so many bodies have been seen.
    again_at: Option<u64>,
}

/// One training that is due: all that it needs, so that it can run anywhere.
pub struct Training {
    privacy: Privacy,
    compression: Compression,
    dictionary_len: usize,
    samples: Vec<Sample>,
    active: Option<Dictionary>,
}

impl Trainer {
    /// A trainer without samples; `compression` is what candidates are measured with.
    #[must_use]
    pub fn new(kind: RecordKind, privacy: Privacy, compression: Compression) -> Self {
        let dictionary_len = match kind {
            RecordKind::Full => 32 << 10,
            RecordKind::Increment | RecordKind::Segment => 16 << 10,
        };
        Self {
            privacy,
            compression,
            dictionary_len,
            samples: Vec::new(),
            samples_len: 0,
            stride: 1,
            seen: 0,
            milestones: MILESTONES,
            milestones_done: 0,
            decay: Decay::default(),
            again_at: None,
        }
    }

    /// The same, for dictionaries of at most `len` bytes (never above 64 KiB).
    #[must_use]
    pub fn with_dictionary_len(self, len: usize) -> Self {
        Self { dictionary_len: len.min(DICTIONARY_LEN_MAX), ..self }
    }

    /// The same, due at other numbers of samples.
    #[must_use]
    pub fn with_milestones(self, milestones: [u64; 3]) -> Self {
        Self { milestones, ..self }
    }

    /// Shows the trainer an uncompressed body. It keeps the start of every n-th, so that memory stays bounded
    /// and all that was seen is represented alike. After the last milestone it keeps nothing until
    /// [`Self::stored`] tells of a decay.
    pub fn add(&mut self, aggregate_id: &str, body: &[u8]) {
        let is_kept = self.seen.is_multiple_of(self.stride);
        self.seen += 1;
        let is_resting = self.is_past_milestones() && self.again_at.is_none();
        if !is_kept || body.is_empty() || is_resting {
            return;
        }
        let aggregate = hash(aggregate_id);
        let bytes = &body[..body.len().min(SAMPLE_LEN_MAX)];
        self.samples.push(Sample { aggregate, bytes: bytes.into() });
        self.samples_len += bytes.len();
        while self.samples_len > SAMPLES_LEN_MAX || self.samples.len() > SAMPLES_MAX {
            self.stride *= 2;
            let mut at = 0_usize;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.samples_len = self.samples.iter().map(|sample| sample.bytes.len()).sum();
        }
    }

    /// Forgets what these aggregates said. Without privacy all that was learnt until now may hold some of it:
    /// then samples are collected anew, where they are not being collected.
    pub fn forget<'a>(&mut self, aggregate_ids: impl Iterator<Item = &'a str>) {
        let gone: BTreeSet<u64> = aggregate_ids.map(hash).collect();
        self.samples.retain(|sample| !gone.contains(&sample.aggregate));
        self.samples_len = self.samples.iter().map(|sample| sample.bytes.len()).sum();
        if self.privacy == Privacy::Off && self.is_past_milestones() && self.again_at.is_none() {
            (self.stride, self.decay) = (1, Decay::default());
            self.again_at = Some(self.seen.saturating_add(WINDOW));
        }
    }

    /// Bodies seen so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Tells the trainer what became of a body, in bytes. Past the milestones, where bodies take 10 % more
    /// than they did at best, samples are collected anew.
    pub fn stored(&mut self, raw: usize, stored: usize) {
        if self.is_past_milestones() && self.again_at.is_none() && self.decay.stored(raw, stored) {
            self.stride = 1;
            self.again_at = Some(self.seen.saturating_add(WINDOW));
        }
    }

    /// A milestone was passed since the last training, or enough was collected after a decay.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let next = self.milestones.get(self.milestones_done).copied().or(self.again_at);
        next.is_some_and(|next| self.seen >= next)
    }

    fn is_past_milestones(&self) -> bool {
        self.milestones_done == self.milestones.len()
    }

    /// Trains now: [`Self::begin`] and [`Training::run`] in one.
    pub fn train(&mut self, active: Option<&Dictionary>) -> Result<Option<Dictionary>> {
        self.begin(active).run()
    }

    /// Hands over the training that is due, to be run where there is time.
    pub fn begin(&mut self, active: Option<&Dictionary>) -> Training {
        let is_passed = |milestone: &&u64| self.seen >= **milestone;
        self.milestones_done = self.milestones.iter().filter(is_passed).count();
        let samples = match self.is_past_milestones() {
            true => {
                (self.samples_len, self.again_at, self.decay) = (0, None, Decay::default());
                std::mem::take(&mut self.samples)
            }
            false => self.samples.clone(),
        };
        Training {
            privacy: self.privacy,
            compression: self.compression,
            dictionary_len: self.dictionary_len,
            samples,
            active: active.cloned(),
        }
    }
}

fn hash(aggregate_id: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(aggregate_id).into();
    digest[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

impl Training {
    /// Trains a candidate and returns it if it stores held-out bodies in at least 3 % fewer bytes than the
    /// active dictionary (or than none). `None` also if there is too little to learn from, or nothing may be
    /// learnt. A pure function: equal samples give an equal dictionary.
    ///
    /// COST: half a second to a second for full sample memory; off the write path.
    pub fn run(mut self) -> Result<Option<Dictionary>> {
        let is_held_out = |sample: &Sample| sample.aggregate.is_multiple_of(HELD_OUT);
        self.samples.sort_by_key(|sample| (is_held_out(sample), sample.aggregate));
        let samples = std::mem::take(&mut self.samples);
        let training = samples.partition_point(|sample| !is_held_out(sample));
        let Some(candidate) = self.candidate(&samples, training)? else { return Ok(None) };
        let held_out = &samples[training..];
        let with_candidate = self.stored_len(held_out, Some(&candidate))?;
        let with_active = self.stored_len(held_out, self.active.as_ref())?;
        Ok((with_candidate * 100 <= with_active * 97 && with_active > 0).then_some(candidate))
    }

    /// Learns from the first samples, so many; all of them say what is common, and what must not be in it.
    fn candidate(&self, samples: &[Sample], training: usize) -> Result<Option<Dictionary>> {
        let (training, all) = (&samples[..training], samples);
        let train = |bytes: &[u8], lens: &[usize]| {
            // Fails only where there is too little to learn from.
            zstd::dict::from_continuous(bytes, lens, self.dictionary_len)
                .ok()
                .filter(|trained| !trained.is_empty())
        };
        if self.privacy == Privacy::Off {
            let bytes: Vec<u8> = training.iter().flat_map(|sample| sample.bytes.iter().copied()).collect();
            let lens: Vec<usize> = training.iter().map(|sample| sample.bytes.len()).collect();
            return train(&bytes, &lens).map(Dictionary::new).transpose();
        }
        let aggregates = training.chunk_by(|a, b| a.aggregate == b.aggregate).count();
        if aggregates < AGGREGATES_MIN {
            return Ok(None);
        }
        let census = Census::new(all);
        for salt in 0..SALTS {
            let (bytes, lens) = census.scrubbed(training, salt);
            let Some(trained) = train(&bytes, &lens) else { return Ok(None) };
            if census.leak(&trained).is_none() {
                return Dictionary::new(trained).map(Some);
            }
        }
        Ok(None)
    }

    fn stored_len(&self, bodies: &[Sample], dictionary: Option<&Dictionary>) -> Result<usize> {
        let mut encoder = Encoder::new(self.compression, dictionary)?;
        bodies.iter().map(|body| Ok(encoder.encode(&body.bytes)?.bytes.len())).sum()
    }
}

//! Verifying many aggregates at once, in tiers: rows against the footers of packs; a sample of the aggregates
//! against checksums, chain and fold; every stored byte; everything against the topic.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | what is asked and found, the tiers |
//! | `rows.rs` | rows against footers, which versions they cover |
//! | `packs.rs` | every byte of packs, dictionaries and dead letters |
//! | `replay.rs` | the topic, folded again |
//!
//! *Order*: rows first, then what they point to, so that a pack which is written meanwhile is not missed by
//! a row. *If it fails*: what was found until then stands; a store that does not answer is no finding.
//! *If cancelled*: nothing is lost, nothing was written.
//! COST: a batch of rows, the footers of some packs, and one pack at a time.

mod packs;
mod replay;
mod rows;

use super::{Asked, Lookup, VerifyMode};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{AggregateKey, PackId, Version};
use crate::domain::outcome::PortError;
use crate::domain::row::SnapshotRow;
use crate::reconstruct::{AsOf, Found};
use crate::store::inspect::Footers;
use crate::store::unavailable;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Refusal;
use crate::codec::pack::Class;

/// Aggregates listed in one go.
const PAGE: usize = 1_000;
/// Problems that are told one by one.
const FINDINGS_MAX: usize = 100;
/// Aggregates with versions that only the topic has, told one by one.
const UNCOVERED_MAX: usize = 20;

/// How thoroughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Rows against the footers of the packs that they point into: no record is read.
    Structure,
    /// The same, and some aggregates with all their records.
    Sample,
    /// The same as `Structure`, and every stored byte.
    Full,
    /// The same as `Structure`, and the topic folded again.
    Replay,
}

/// Which aggregates of the stream, and how.
#[derive(Clone, Debug)]
pub struct SurveyAsk {
    /// How thoroughly.
    pub tier: Tier,
    /// Only those whose ids start with this.
    pub prefix: String,
    /// Of so many aggregates, `Tier::Sample` reads one.
    pub one_in: u64,
}

/// Who is told how far it is.
pub trait Progress: Send + Sync {
    /// So many more aggregates or packs are done.
    fn advance(&self, done: u64);
    /// It is known now that there are so many more.
    fn more(&self, known: u64);
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyFinding {
    /// The stream's type.
    pub kind: Arc<str>,
    /// Whose; none if it concerns no single aggregate.
    pub id: Option<Arc<str>>,
    /// At which version.
    pub version: Option<Version>,
    /// What kind of thing, from the closed list of codes.
    pub code: &'static str,
    /// A sentence for people, without the payload.
    pub detail: String,
    /// Reads answer all the same.
    pub healed: bool,
}

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Surveyed {
    /// Aggregates.
    pub aggregates: u64,
    /// Rows and entries of live checkpoints.
    pub rows: u64,
    /// Packs of which every byte was read.
    pub packs: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// What they decode to.
    pub raw_bytes: u64,
    /// Events that were folded again.
    pub events: u64,
    /// How many things are wrong.
    pub problems: u64,
    /// Of these, how many keep nobody from an answer.
    pub healed: u64,
    /// The first of them.
    pub findings: Vec<SurveyFinding>,
    /// Aggregates with versions that could not be rebuilt if the topic were gone.
    pub uncovered: u64,
    /// The first of them, with the first such range.
    pub uncovered_ids: Vec<(Arc<str>, (Version, Version))>,
    /// Packs that were looked at, whose ever.
    seen: BTreeSet<PackId>,
}

/// A survey that is going on.
struct Survey<'a> {
    lookup: &'a Lookup,
    ask: &'a SurveyAsk,
    progress: &'a dyn Progress,
    out: &'a mut Surveyed,
    footers: Footers,
    batch: Vec<SnapshotRow>,
    /// Packs that rows and checkpoints point into; kept where they will be read.
    packs: BTreeMap<PackId, Class>,
    /// Short digests of the ids that are listed; kept where packs will be read.
    listed: Vec<u64>,
    seed: [u8; 10],
}

impl Lookup {
    /// Verifies the aggregates of the stream. What was found by then is in `out` also where it fails.
    ///
    /// # Errors
    /// A store, or the topic, that does not answer.
    pub async fn survey(&self, ask: &SurveyAsk, progress: &dyn Progress, out: &mut Surveyed) -> Asked<()> {
        let mut survey = Survey {
            lookup: self,
            ask,
            progress,
            out,
            footers: Footers::default(),
            batch: Vec::new(),
            packs: BTreeMap::new(),
            listed: Vec::new(),
            seed: self.0.parts.clock.random(),
        };
        survey.rows().await?;
        match ask.tier {
            Tier::Structure => Ok(()),
            Tier::Sample => survey.sample().await,
            Tier::Full => survey.bytes().await,
            Tier::Replay => survey.replay().await,
        }
    }
}

impl Surveyed {
    fn found(&mut self, finding: SurveyFinding) {
        self.problems += 1;
        self.healed += u64::from(finding.healed);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl Survey<'_> {
    fn found(&mut self, id: Option<&Arc<str>>, version: Option<Version>, code: &'static str, detail: String) {
        self.found_healed(id, version, code, detail, false);
    }

    fn found_healed(
        &mut self,
        id: Option<&Arc<str>>,
        version: Option<Version>,
        code: &'static str,
        detail: String,
        healed: bool,
    ) {
        let kind = Arc::clone(&self.lookup.reader().rules.kind);
        self.out.found(SurveyFinding { kind, id: id.cloned(), version, code, detail, healed });
    }

    /// Something that cannot be read: a finding where it is damaged, an error where nobody answered.
    fn broken(&mut self, id: Option<&Arc<str>>, doing: &str, error: &PortError) -> Asked<()> {
        match error {
            PortError::Permanent(why) => {
                self.found(id, None, "corrupt", format!("{doing}: {why}"));
                Ok(())
            }
            other => Err(unavailable(doing, other).into()),
        }
    }

    /// Whether reads answer for a version all the same.
    async fn heals(&self, key: &AggregateKey, row: &SnapshotRow) -> bool {
        // COST: where much is wrong the first ones say it.
        if self.out.findings.len() >= FINDINGS_MAX {
            return false;
        }
        let log = self.lookup.log_of(row.partition);
        let ask = self.lookup.ask(AsOf::Version(row.version.max(Version(1))));
        let read = self.lookup.read_rest(&log, key, &ask).await;
        matches!(&read, Ok(read) if matches!(read.found, Found::State(..)))
    }

    /// Some of the aggregates, with all their records.
    async fn sample(&mut self) -> Asked<()> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.lookup.ids(&self.ask.prefix, after.as_deref(), PAGE).await;
            let (ids, last) = match page {
                Err(Refusal::Failed(error)) if error.kind == ErrorKind::Corrupt => {
                    self.found(None, None, "corrupt", error.detail);
                    return Ok(());
                }
                page => page?,
            };
            for id in ids.iter().filter(|id| self.is_sampled(id)).cloned().collect::<Vec<_>>() {
                self.progress.more(1);
                self.one(&id).await?;
                self.progress.advance(1);
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    fn is_sampled(&self, id: &str) -> bool {
        let digest = Sha256::new().chain_update(self.seed).chain_update(id).finalize();
        let number = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        number.is_multiple_of(self.ask.one_in.max(1))
    }

    async fn one(&mut self, id: &Arc<str>) -> Asked<()> {
        match self.lookup.verify(id, None, VerifyMode::Checksum).await {
            Ok(verified) => {
                self.out.events += verified.checked;
                for problem in verified.problems {
                    let (version, healed) = (Some(problem.version), problem.healed);
                    self.found_healed(Some(id), version, problem.code, problem.detail, healed);
                }
                Ok(())
            }
            Err(refusal) => self.refused(id, None, refusal),
        }
    }

    /// A question that was refused: a finding where that is because of what is stored.
    fn refused(&mut self, id: &Arc<str>, version: Option<Version>, refusal: Refusal) -> Asked<()> {
        let (code, detail) = match refusal {
            Refusal::Failed(Error { kind: ErrorKind::Corrupt, detail, .. }) => ("corrupt", detail),
            Refusal::HistoryGone { .. } => ("history-gone", "it can no longer be rebuilt".to_owned()),
            Refusal::UnknownAggregate => ("state-mismatch", "the topic has it, and nothing here".to_owned()),
            Refusal::VersionBeyondHead { head } => {
                ("state-mismatch", format!("the topic leads further than what is here, to version {head}"))
            }
            Refusal::TooMuchWork { events, max } => {
                ("too-much-work", format!("verifying it would read {events} events, {max} may be read"))
            }
            // Somebody erased it meanwhile: there is nothing to verify any more.
            Refusal::Failed(Error { code: "erased", .. }) => return Ok(()),
            other => return Err(other),
        };
        self.found(Some(id), version, code, detail);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The topic, folded again: what its events lead to must be what is answered.
//!
//! COST: the topic is read once for each [`SLICE`] aggregates, whose states are in memory meanwhile. Where
//! it no longer starts with its first record, an aggregate starts from what is stored of it up to there.

use super::Survey;
use crate::domain::aggregate::{Aggregate, Folded};
use crate::domain::error::ErrorKind;
use crate::domain::ids::{Offset, PartitionNo, Version};
use crate::domain::outcome::PortError;
use crate::domain::row::PartitionKey;
use crate::lookup::verify::state_digest;
use crate::lookup::walk::let_others;
use crate::lookup::{Answer, Asked, Freshness, Refusal, Selector};
use crate::reconstruct::{AsOf, Found};
use crate::store::unavailable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Aggregates that are folded at the same time.
const SLICE: usize = 4_096;

/// Ids after the first and up to the second.
type Range<'a> = (Option<&'a str>, Option<&'a str>);

impl Survey<'_> {
    pub(super) async fn replay(&mut self) -> Asked<()> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let (ids, last) = self.lookup.ids(&self.ask.prefix, after.as_deref(), SLICE).await?;
            self.progress.more(ids.len() as u64);
            let range = (after.as_deref(), last.as_deref());
            let (mut met, mut is_whole) = (Vec::new(), true);
            for partition in 0..i32::try_from(self.lookup.partition_count().await?).unwrap_or(i32::MAX) {
                is_whole &= self.partition(PartitionNo(partition), range, &mut met).await?;
            }
            met.sort_unstable();
            for id in ids.iter().filter(|id| is_whole && met.binary_search(id).is_err()) {
                self.found(Some(id), None, "state-mismatch", "the topic has no event of it".to_owned());
            }
            self.progress.advance(ids.len() as u64);
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Folds one partition for the ids of a range; notes whom it met. False if its first records are gone.
    async fn partition(
        &mut self,
        partition: PartitionNo,
        range: Range<'_>,
        met: &mut Vec<Arc<str>>,
    ) -> Asked<bool> {
        let log = self.lookup.log_of(partition);
        let bounds = self.lookup.reader().log.bounds(partition).await;
        let bounds = bounds.map_err(|error| unavailable("read the log's bounds", &error))?;
        let mut folded: BTreeMap<Arc<str>, Option<Aggregate>> = BTreeMap::new();
        let mut next = bounds.start;
        // The topic has their events for ever, and nothing here may tell of them.
        let erased = self.lookup.erased_ids();
        while next < bounds.end {
            let reader = self.lookup.reader();
            let records = match reader.log.read(partition, next, bounds.end).await {
                Ok(records) => records,
                Err(PortError::Missing) => {
                    let detail = format!("partition {partition} no longer holds offset {next}");
                    self.found(None, None, "history-gone", detail);
                    return Ok(false);
                }
                Err(error) => return Err(unavailable("read the log", &error).into()),
            };
            let Some(last) = records.last() else { break };
            next = last.offset.next();
            for record in records {
                let (Some(id), _) = self.lookup.reader().decoder.route(&record) else { continue };
                if !self.is_in(range, &id) || erased.contains(&id) {
                    continue;
                }
                if !folded.contains_key(&id) {
                    let before = self.before(&log, &id, bounds.start).await?;
                    folded.insert(Arc::clone(&id), before);
                }
                if let Some(Some(aggregate)) = folded.get_mut(&id) {
                    let decoded = self.lookup.reader().decoder.decode(record);
                    let came = self.lookup.reader().rules.fold(aggregate, &decoded);
                    self.out.events += u64::from(matches!(came, Folded::Applied | Folded::Skipped(_)));
                }
            }
            let_others().await;
        }
        // Some may have been erased meanwhile.
        let erased = self.lookup.erased_ids();
        for (id, aggregate) in folded.into_iter().filter(|(id, _)| !erased.contains(id)) {
            if let Some(aggregate) = aggregate.filter(|aggregate| aggregate.version > Version(0)) {
                self.compare(&id, &aggregate).await?;
            }
            met.push(id);
        }
        Ok(bounds.start <= Offset(0))
    }

    fn is_in(&self, (after, upto): Range<'_>, id: &str) -> bool {
        id.starts_with(&*self.ask.prefix)
            && after.is_none_or(|after| id > after)
            && upto.is_none_or(|upto| id <= upto)
    }

    /// An aggregate before the log's start; none if that is gone, which is a finding.
    async fn before(&mut self, log: &PartitionKey, id: &Arc<str>, start: Offset) -> Asked<Option<Aggregate>> {
        let key = self.key_of(id);
        let genesis = Aggregate::genesis(&key.kind, &key.id);
        if start <= Offset(0) {
            return Ok(Some(genesis));
        }
        let ask = self.lookup.ask(AsOf::Offset(Offset(start.0 - 1)));
        match self.lookup.read_rest(log, &key, &ask).await {
            Ok(read) => match read.found {
                Found::State(aggregate, _) => Ok(Some(*aggregate)),
                Found::Unknown | Found::BeforeFirst(_) | Found::BeyondHead(_) => Ok(Some(genesis)),
                other @ Found::TooMuch(_) => {
                    self.refused(id, None, self.lookup.no_state(&other))?;
                    Ok(None)
                }
            },
            Err(Refusal::Failed(error)) if error.kind != ErrorKind::Corrupt => Err(error.into()),
            Err(refusal) => {
                self.refused(id, None, refusal)?;
                Ok(None)
            }
        }
    }

    async fn compare(&mut self, id: &Arc<str>, replayed: &Aggregate) -> Asked<()> {
        let version = replayed.version;
        match self.lookup.state(id, Selector::Version(version), Freshness::default()).await {
            Ok(answer) => {
                if let Some(detail) = differs(replayed, &answer)? {
                    self.found(Some(id), Some(version), "state-mismatch", detail);
                }
                Ok(())
            }
            Err(refusal) => self.refused(id, Some(version), refusal),
        }
    }
}

/// What of an answer is not what the topic's events lead to.
fn differs(replayed: &Aggregate, answer: &Answer) -> Asked<Option<String>> {
    let told = &answer.aggregate;
    let same = [
        ("hash chain", replayed.chain == told.chain),
        ("state", state_digest(&replayed.state)? == state_digest(&told.state)?),
        ("offset", replayed.offset == told.offset),
        ("effective time", replayed.effective_time == told.effective_time),
    ];
    let differ: Vec<&str> = same.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
    Ok((!differ.is_empty())
        .then(|| format!("the topic's events lead to another {}", differ.join(", another "))))
}

//! What an answer is based on: how far the log had been read, in one word that can be asked with again.
//!
//! A time is no basis that can be repeated: an event that comes late may have an earlier one. The prefix of a
//! log never changes within a lineage, so the answer to the same question within it is the same for ever.

use super::{Answer, Asked, Freshness, Lookup, Refusal, Selector};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{Lineage, Offset, PartitionNo, Version};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Partitions whose ends are asked for at the same time.
const ENDS_AT_ONCE: usize = 16;
/// Partitions that the text of a basis may name.
const PARTITIONS_MAX: usize = 100_000;

/// A prefix of the log of each partition that it names, under one lineage.
///
/// As a text `LINEAGE@PARTITION:OFFSET,…`, where the offset is the last one that counts: `1@4:18231`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The lineage.
    pub lineage: Lineage,
    /// The last offset that counts, by partition; -1 where none does.
    pub upto: BTreeMap<PartitionNo, Offset>,
}

impl Basis {
    /// All of one partition up to and with an offset.
    #[must_use]
    pub fn of(lineage: Lineage, partition: PartitionNo, upto: Offset) -> Self {
        Self { lineage, upto: BTreeMap::from([(partition, upto)]) }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.lineage)?;
        for (nth, (partition, upto)) in self.upto.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            write!(f, "{comma}{partition}:{upto}")?;
        }
        Ok(())
    }
}

/// The text is no basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a basis is `LINEAGE@PARTITION:OFFSET,…`, as an answer gave it")]
pub struct BadBasis;

impl FromStr for Basis {
    type Err = BadBasis;

    fn from_str(text: &str) -> Result<Self, BadBasis> {
        let (lineage, places) = text.split_once('@').ok_or(BadBasis)?;
        let lineage = Lineage(lineage.parse().map_err(|_| BadBasis)?);
        let mut upto = BTreeMap::new();
        for place in places.split(',') {
            let (partition, offset) = place.split_once(':').ok_or(BadBasis)?;
            let partition = PartitionNo(partition.parse().map_err(|_| BadBasis)?);
            let offset = Offset(offset.parse().map_err(|_| BadBasis)?);
            if upto.insert(partition, offset).is_some() || upto.len() > PARTITIONS_MAX {
                return Err(BadBasis);
            }
        }
        let basis = Self { lineage, upto };
        // One text for each basis: `+1`, `01` and the order of partitions make no second one.
        if basis.to_string() == text { Ok(basis) } else { Err(BadBasis) }
    }
}

impl Answer {
    /// What the answer is based on: its partition's log up to its last event. None before the first.
    #[must_use]
    pub fn basis(&self) -> Option<Basis> {
        let is_born = self.aggregate.version > Version(0);
        is_born.then(|| Basis::of(self.lineage, self.partition, self.aggregate.offset))
    }
}

impl Lookup {
    /// An aggregate at a moment, as it was for whoever had read so much of the log; all of it without a
    /// basis.
    ///
    /// # Errors
    /// As for `state`; a conflict where the basis is of another lineage.
    pub async fn state_in(&self, id: &str, selector: Selector, basis: Option<&Basis>) -> Asked<Answer> {
        let Some(basis) = basis else { return self.state(id, selector, Freshness::default()).await };
        if basis.lineage != self.0.parts.lineage {
            let detail = format!(
                "the basis is of lineage {}, what is served is lineage {}",
                basis.lineage, self.0.parts.lineage
            );
            return Err(Refusal::Failed(Error::new(ErrorKind::Conflict, "lineage-changed", detail)));
        }
        let Some(partition) = self.locate(&self.key(id)).await? else {
            return Err(Refusal::UnknownAggregate);
        };
        let Some(upto) = basis.upto.get(&partition).copied() else {
            let detail =
                format!("the basis says nothing of partition {partition}, in which the aggregate is");
            return Err(Refusal::Failed(Error::new(ErrorKind::Invalid, "bad-selector", detail)));
        };
        let end = Selector::Offset(partition, upto);
        let wanted = match selector {
            Selector::Head => end,
            Selector::Offset(named, offset) => Selector::Offset(named, offset.min(upto)),
            Selector::Version(_) | Selector::Time(_) => selector,
        };
        let answer = self.state(id, wanted, Freshness::default()).await?;
        if answer.aggregate.offset <= upto {
            return Ok(answer);
        }
        // Versions, times and offsets rise together, so the last version of the prefix is the latest that
        // can be meant.
        let head = self.state(id, end, Freshness::default()).await?;
        match selector {
            Selector::Version(_) => Err(Refusal::VersionBeyondHead { head: head.aggregate.version }),
            _ => Ok(head),
        }
    }

    /// What everything that is in the log now is based on.
    ///
    /// # Errors
    /// A fault.
    pub async fn basis_now(&self) -> Asked<Basis> {
        let all = (0..i32::try_from(self.partition_count().await?).unwrap_or(i32::MAX)).map(PartitionNo);
        let end = |partition| {
            let lookup = self.clone();
            async move { Ok::<_, Refusal>((partition, Offset(lookup.log_end(partition).await?.0 - 1))) }
        };
        let upto = iter(all).map(end).buffered(ENDS_AT_ONCE).try_collect().await?;
        Ok(Basis { lineage: self.0.parts.lineage, upto })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basis_has_one_text() {
        let upto = BTreeMap::from([(PartitionNo(0), Offset(-1)), (PartitionNo(12), Offset(18_231))]);
        let basis = Basis { lineage: Lineage(3), upto };
        assert_eq!(basis.to_string(), "3@0:-1,12:18231");
        assert_eq!("3@0:-1,12:18231".parse(), Ok(basis));
        for text in
            ["", "3", "3@", "@0:1", "3@0", "3@0:1,", "3@0:+1", "03@0:1", "3@1:1,0:1", "3@0:1,0:2", "3@0:1 "]
        {
            assert_eq!(text.parse::<Basis>(), Err(BadBasis), "{text}");
        }
    }
}

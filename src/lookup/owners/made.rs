//! Snapshots that one worker asks of the owner of a partition, as JSON between workers of one version or its
//! neighbours, never stored.
//!
//! *If it fails*: an owner that does not answer may have written what it was asked for; asking again is
//! harmless.

use super::{COMPACT_ROUTE, Owners, TAKE_ROUTE};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{PartitionNo, Version};
use crate::lookup::{Asked, Lookup, Made, Refusal};
use crate::reconstruct::LiveSnapshots;
use futures_util::stream::{StreamExt, iter};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long an owner may take for the snapshots of one request.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an owner may take to merge the history of one aggregate.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(600);
/// Snapshots of one request that are taken at the same time.
const AT_ONCE: usize = 256;

/// A snapshot that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// Of which aggregate.
    pub id: String,
    /// At which version; none for the head.
    pub version: Option<u64>,
}

/// What came of one.
#[derive(Serialize, Deserialize)]
enum Told {
    Made { version: u64, created: bool },
    Refused { code: String, detail: String, head: Option<u64>, earliest: Option<u64>, events: (u64, u64) },
}

impl Told {
    fn of(outcome: Asked<Made>) -> Self {
        let refusal = match outcome {
            Ok(Made { version, created }) => return Self::Made { version: version.0, created },
            Err(refusal) => refusal,
        };
        let (mut head, mut earliest, mut events, mut detail) = (None, None, (0, 0), String::new());
        let code = match refusal {
            Refusal::UnknownAggregate => "unknown-aggregate",
            Refusal::VersionBeyondHead { head: at } => {
                head = Some(at.0);
                "version-beyond-head"
            }
            Refusal::HistoryGone { earliest: at } => {
                earliest = at.map(|at| at.0);
                "history-gone"
            }
            Refusal::NotCaughtUp { head: at, .. } => {
                head = at.map(|at| at.0);
                "not-caught-up"
            }
            Refusal::TooMuchWork { events: wanted, max } => {
                events = (wanted, max);
                "too-much-work"
            }
            Refusal::Failed(error) => {
                detail = error.detail;
                error.code
            }
            Refusal::NoSnapshot | Refusal::BeforeFirstEvent { .. } | Refusal::WrongPartition { .. } => {
                "internal"
            }
        };
        Self::Refused { code: code.to_owned(), detail, head, earliest, events }
    }

    fn heard(self) -> Asked<Made> {
        let (code, detail, head, earliest, (events, max)) = match self {
            Self::Made { version, created } => return Ok(Made { version: Version(version), created }),
            Self::Refused { code, detail, head, earliest, events } => (code, detail, head, earliest, events),
        };
        let head = head.map(Version);
        Err(match &*code {
            "unknown-aggregate" => Refusal::UnknownAggregate,
            "version-beyond-head" => Refusal::VersionBeyondHead { head: head.unwrap_or_default() },
            "history-gone" => Refusal::HistoryGone { earliest: earliest.map(Version) },
            "not-caught-up" => Refusal::NotCaughtUp { head, position: None },
            "too-much-work" => Refusal::TooMuchWork { events, max },
            "overloaded" => Refusal::Failed(Error::new(ErrorKind::Unavailable, "overloaded", detail)),
            "corrupt" => Refusal::Failed(Error::corrupt(detail)),
            _ => Refusal::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail)),
        })
    }
}

impl Owners {
    /// Snapshots of aggregates of a partition that another process folds, in the order asked; none if nobody
    /// who could be reached does.
    pub async fn take_elsewhere(
        &self,
        partition: PartitionNo,
        wanted: &[Wanted],
    ) -> Option<Vec<Asked<Made>>> {
        let body = serde_json::to_vec(wanted).ok()?;
        let ask = |url| self.client.post(url).timeout(TAKE_TIMEOUT).body(body);
        let bytes = self.send(partition, TAKE_ROUTE, ask).await?;
        let told: Vec<Told> = serde_json::from_slice(&bytes).ok()?;
        (told.len() == wanted.len()).then(|| told.into_iter().map(Told::heard).collect())
    }
}

impl Owners {
    /// What the owner of a partition tells of a compaction that it is asked for; none if nobody who could be
    /// reached owns it. Whether it was done is unknown then, and asking again is harmless.
    pub async fn compact_elsewhere(&self, partition: PartitionNo, order: Vec<u8>) -> Option<Vec<u8>> {
        let ask = |url| self.client.post(url).timeout(COMPACT_TIMEOUT).body(order);
        self.send(partition, COMPACT_ROUTE, ask).await
    }
}

/// What this process tells another that asks it for snapshots; none if it does not own the partition.
pub async fn tell_made(
    own: &dyn LiveSnapshots,
    lookup: &Lookup,
    partition: PartitionNo,
    wanted: Vec<Wanted>,
) -> Option<Vec<u8>> {
    if !own.owns(partition) {
        return None;
    }
    let make = |wanted: Wanted| async move {
        let version = wanted.version.map(|version| Version(version.min(i64::MAX as u64)));
        let made = lookup.create(own, partition, &wanted.id, version).await;
        made.transpose().unwrap_or_else(|| {
            let detail = "the partition has got another owner meanwhile";
            Err(Refusal::Failed(Error::new(ErrorKind::Unavailable, "dependency-down", detail)))
        })
    };
    let told: Vec<Told> = iter(wanted).map(make).buffered(AT_ONCE).map(Told::of).collect().await;
    serde_json::to_vec(&told).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_owner_tells_is_what_is_heard() {
        let failed = |code| Refusal::Failed(Error::new(ErrorKind::Unavailable, code, "why"));
        let outcomes = [
            Ok(Made { version: Version(7), created: true }),
            Ok(Made { version: Version(u64::MAX), created: false }),
            Err(Refusal::UnknownAggregate),
            Err(Refusal::VersionBeyondHead { head: Version(3) }),
            Err(Refusal::HistoryGone { earliest: None }),
            Err(Refusal::HistoryGone { earliest: Some(Version(9)) }),
            Err(Refusal::NotCaughtUp { head: Some(Version(2)), position: None }),
            Err(Refusal::TooMuchWork { events: 9, max: 5 }),
            Err(failed("overloaded")),
            Err(failed("dependency-down")),
            Err(Refusal::Failed(Error::corrupt("why"))),
        ];
        for outcome in outcomes {
            let text = serde_json::to_vec(&Told::of(outcome.clone())).unwrap();
            let heard = serde_json::from_slice::<Told>(&text).unwrap().heard();
            assert_eq!(heard, outcome);
        }
    }
}

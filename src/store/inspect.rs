//! Rows against the footers of the packs that they point into: whether both tell the same of a record,
//! without reading the record.
//!
//! COST: a footer is parsed once for all rows that come together; those used last are kept, up to
//! [`KEPT_BYTES`]. Whoever looks at many rows sorts them by pack.

use super::packs::Packs;
use crate::codec::pack::{Footer, Locator};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::PackId;
use crate::domain::record::RecordId;
use crate::domain::row::SnapshotRow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of footers that are kept.
const KEPT_BYTES: usize = 32 << 20;

/// A footer, or why it cannot be read.
type Read = std::result::Result<Arc<Footer>, Error>;

/// Footers read lately.
#[derive(Default)]
pub struct Footers {
    kept: BTreeMap<PackId, (Read, u64)>,
    bytes: usize,
    uses: u64,
}

impl Footers {
    /// What is wrong with a row, by the footer of its pack.
    ///
    /// # Errors
    /// `Unavailable` if the store did not answer.
    pub async fn fault(&mut self, packs: &Packs, row: &SnapshotRow) -> Result<Option<String>> {
        let locator = match Locator::decode(&row.locator) {
            Ok(locator) if locator.pack == row.pack => locator,
            Ok(_) => return Ok(Some("a row's locator names another pack".to_owned())),
            Err(error) => return Ok(Some(error.detail)),
        };
        match self.footer(packs, &locator).await? {
            Ok(footer) => Ok(fault_in(row, &locator, &footer)),
            Err(error) => Ok(Some(error.detail)),
        }
    }

    async fn footer(&mut self, packs: &Packs, locator: &Locator) -> Result<Read> {
        self.uses += 1;
        if let Some((read, used)) = self.kept.get_mut(&locator.pack) {
            *used = self.uses;
            return Ok(read.clone());
        }
        let read = match packs.footer_of(locator.class, locator.pack).await {
            Ok((footer, _)) => Ok(Arc::new(footer)),
            Err(error) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => Err(error),
            Err(error) => return Err(error),
        };
        self.bytes += heap_len(&read);
        self.kept.insert(locator.pack, (read.clone(), self.uses));
        while self.bytes > KEPT_BYTES && self.kept.len() > 1 {
            let oldest = self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(pack, _)| *pack);
            let Some((gone, _)) = oldest.and_then(|pack| self.kept.remove(&pack)) else { break };
            self.bytes -= heap_len(&gone);
        }
        Ok(read)
    }
}

fn heap_len(read: &Read) -> usize {
    read.as_ref().map_or(0, |footer| footer.heap_len())
}

/// The record that a row tells of.
#[must_use]
pub fn record_of(row: &SnapshotRow) -> RecordId {
    RecordId {
        key: row.key.clone(),
        lineage: row.lineage,
        upto_version: row.version,
        kind: row.kind,
        from_version: row.from_version,
    }
}

/// What is wrong with a row whose pack has this footer.
fn fault_in(row: &SnapshotRow, locator: &Locator, footer: &Footer) -> Option<String> {
    let wanted = record_of(row);
    for at in footer.find(&row.key.kind, &row.key.id) {
        let meta = match footer.meta(at) {
            Ok(meta) => meta,
            Err(error) => return Some(error.detail),
        };
        if meta.id != wanted || meta.partition != row.partition {
            continue;
        }
        let told = footer.locator(at).ok()?;
        let is_there = Locator { inline: None, ..told } == Locator { inline: None, ..locator.clone() };
        let same = [
            ("place", is_there),
            ("first offset", meta.first_offset == row.first_offset),
            ("last offset", meta.last_offset == row.last_offset),
            ("leader epoch", meta.leader_epoch == row.leader_epoch),
            ("effective time", meta.effective_time == row.effective_time),
            ("state digest", meta.state_digest == row.state_digest),
            ("chain", meta.chain.is_none_or(|chain| chain == row.chain)),
            ("deletion", meta.is_deleted == row.deleted),
            ("quarantine", meta.is_quarantined == row.quarantined),
            ("size", u64::from(locator.body_len) == row.raw_bytes),
        ];
        let differ: Vec<&str> = same.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
        return (!differ.is_empty()).then(|| {
            format!("row and footer of pack `{}` tell another {}", row.pack, differ.join(", another "))
        });
    }
    Some(format!("pack `{}` does not hold the record that the row tells of", row.pack))
}

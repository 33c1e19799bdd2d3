//! Every stored byte: the packs that rows and checkpoints point into, the dictionaries that they need, dead
//! letters; and packs that nothing points to.

use super::rows::short;
use super::{Progress, Survey, SurveyFinding, Surveyed};
use crate::codec::pack::{Class, Footer, named_pack};
use crate::domain::ids::{Digest, Offset, PackId, PartitionNo};
use crate::lookup::walk::let_others;
use crate::lookup::{Asked, Lookup};
use crate::reconstruct::{AsOf, Found};
use crate::store::index::From;
use crate::store::packs::Examined;
use crate::store::unavailable;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names of objects fetched in one go.
const NAMES: usize = 1_000;
/// Dead letters fetched in one go.
const LETTERS: usize = 256;
/// Faults of one pack that are told one by one.
const FAULTS_MAX: usize = 8;
/// Records of a damaged pack that are asked for, to tell whether reads answer all the same.
const ASKED_MAX: usize = 64;

impl Survey<'_> {
    /// Packs, what they need, and dead letters.
    pub(super) async fn bytes(&mut self) -> Asked<()> {
        let packs = std::mem::take(&mut self.packs);
        self.progress.more(packs.len() as u64);
        let mut dictionaries = BTreeSet::new();
        for (pack, class) in packs {
            if self.out.seen.insert(pack) {
                self.pack(class, pack, &mut dictionaries).await?;
            }
            self.progress.advance(1);
        }
        for dictionary in dictionaries {
            if let Some(detail) = self.lookup.reader().packs.hidden_fault(dictionary).await? {
                self.found_healed(None, None, "corrupt", detail, true);
            }
        }
        self.letters().await
    }

    async fn pack(&mut self, class: Class, pack: PackId, needs: &mut BTreeSet<Digest>) -> Asked<()> {
        let turn = self.lookup.admit().await?;
        let examined = self.lookup.reader().packs.examine(class, pack).await;
        drop(turn);
        let Examined { bytes, raw_bytes, dictionaries, footer, faults, .. } = examined?;
        needs.extend(dictionaries);
        self.out.packs += 1;
        self.out.bytes += bytes;
        self.out.raw_bytes += raw_bytes;
        if !faults.is_empty() {
            let healed = match &footer {
                Some(footer) => self.all_answer(footer).await,
                None => false,
            };
            for detail in faults.into_iter().take(FAULTS_MAX) {
                self.found_healed(None, None, "corrupt", detail, healed);
            }
        } else if let Some(footer) = footer.filter(|_| class != Class::Checkpoint) {
            self.listings(&footer).await?;
        }
        let_others().await;
        Ok(())
    }

    /// Whether reads answer for all that a damaged pack holds of this stream.
    async fn all_answer(&self, footer: &Footer) -> bool {
        for at in 0..footer.len().min(ASKED_MAX) {
            let (Ok(id), Ok(stretch)) = (footer.id(at), footer.stretch(at)) else { return false };
            let log = self.lookup.log_of(stretch.partition);
            let ask = self.lookup.ask(AsOf::Version(id.upto_version));
            let read = self.lookup.read_rest(&log, &id.key, &ask).await;
            if !matches!(&read, Ok(read) if matches!(read.found, Found::State(..))) {
                return false;
            }
        }
        footer.len() <= ASKED_MAX
    }

    /// Whether the aggregates of a pack that have rows are in the list of aggregates.
    async fn listings(&mut self, footer: &Footer) -> Asked<()> {
        if !self.ask.prefix.is_empty() {
            return Ok(());
        }
        let kind = Arc::clone(&self.lookup.reader().rules.kind);
        let mut unlisted: Vec<Arc<str>> = Vec::new();
        footer.each_from(&kind, "", |_, id| {
            let is_new = unlisted.last().is_none_or(|last| **last != *id);
            if is_new && self.listed.binary_search(&short(id)).is_err() {
                unlisted.push(id.into());
            }
            true
        });
        for id in unlisted {
            let key = self.key_of(&id);
            let lineage = self.lookup.0.parts.lineage;
            // Without rows it was never acknowledged, or is gone on purpose.
            let rows = self.lookup.reader().index.snapshots(&key, lineage, From::Newest, 1).await;
            match rows {
                // It may have been listed since.
                Ok(rows) if !rows.is_empty() && !self.is_listed_now(&id).await? => {
                    let detail = "it has rows, but is not in the list of aggregates".to_owned();
                    self.found(Some(&id), None, "corrupt", detail);
                    self.listed.push(short(&id));
                    self.listed.sort_unstable();
                }
                Ok(_) => {}
                Err(error) => self.broken(Some(&id), "read snapshot rows", &error)?,
            }
        }
        Ok(())
    }

    async fn is_listed_now(&self, id: &str) -> Asked<bool> {
        let reader = self.lookup.reader();
        // All but the last letter comes before it.
        let before: String = id.chars().take(id.chars().count().saturating_sub(1)).collect();
        let mut after = Some(before).filter(|before| !before.is_empty());
        loop {
            let page = reader.index.aggregates(&reader.rules.kind, after.as_deref(), NAMES).await;
            let page = page.map_err(|error| unavailable("list aggregates", &error))?;
            if page.iter().any(|(key, _)| &*key.id == id) {
                return Ok(true);
            }
            match page.last() {
                Some((key, _)) if page.len() == NAMES && &*key.id < id => after = Some(key.id.to_string()),
                _ => return Ok(false),
            }
        }
    }

    async fn letters(&mut self) -> Asked<()> {
        for partition in 0..i32::try_from(self.lookup.partition_count().await?).unwrap_or(i32::MAX) {
            let log = self.lookup.log_of(PartitionNo(partition));
            let mut from = Offset(0);
            loop {
                let page = self.lookup.reader().index.dead_letters(&log, from, LETTERS).await;
                match page {
                    Ok(page) => {
                        self.out.rows += page.len() as u64;
                        match page.last() {
                            Some(last) if page.len() == LETTERS => from = last.offset.next(),
                            _ => break,
                        }
                    }
                    Err(error) => {
                        self.broken(
                            None,
                            &format!("read the dead letters of partition {partition}"),
                            &error,
                        )?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Lookup {
    /// Reads every byte of the packs that no survey into `out` has come to: those that nothing points to.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn survey_rest(&self, progress: &dyn Progress, out: &mut Surveyed) -> Asked<()> {
        let packs = &self.reader().packs;
        let mut after: Option<String> = None;
        loop {
            let names = packs.blobs.list("v1/", after.as_deref(), NAMES).await;
            let names = names.map_err(|error| unavailable("list objects", &error))?;
            for (class, pack) in names.iter().filter_map(|name| named_pack(name)) {
                if !out.seen.insert(pack) {
                    continue;
                }
                progress.more(1);
                let examined = packs.examine(class, pack).await?;
                progress.advance(1);
                // It may have been collected since it was listed.
                if examined.is_missing {
                    continue;
                }
                out.packs += 1;
                out.bytes += examined.bytes;
                out.raw_bytes += examined.raw_bytes;
                for detail in examined.faults.into_iter().take(FAULTS_MAX) {
                    let (kind, code) = (Arc::clone(&self.reader().rules.kind), "corrupt");
                    let detail = format!("{detail} (no row points to it)");
                    out.found(SurveyFinding { kind, id: None, version: None, code, detail, healed: true });
                }
                let_others().await;
            }
            match names.last() {
                Some(last) if names.len() == NAMES => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }
}

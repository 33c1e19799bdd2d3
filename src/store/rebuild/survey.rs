//! Which packs there are, and what their footers say of checkpoints and low watermarks.
//!
//! COST: one read of the end of each pack. Footers stay in memory while all of their entries fit into one
//! slice; else each slice reads them again.

use super::plan::Part;
use super::{Rebuild, Rebuilt};
use crate::codec::pack::{Class, Footer, named_pack, pack_name};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::ids::{Offset, PackId};
use crate::domain::mutant::{Mutant, mutant};
use crate::domain::row::WatermarkRow;
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The classes with packs of records, in the order of [`Rebuilt::packs`].
pub(super) const CLASSES: [Class; 3] = [Class::Full, Class::History, Class::Checkpoint];

/// One pack that can be read.
pub(super) struct Known {
    pub(super) class: Class,
    pub(super) pack: PackId,
    /// Kept where all footers fit.
    pub(super) footer: Option<Arc<Footer>>,
}

impl Known {
    pub(super) fn is_checkpoint(&self) -> bool {
        self.class == Class::Checkpoint
    }
}

/// What a checkpoint holds of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) entries: u32,
    pub(super) object_bytes: u64,
}

/// What is known before any row is made.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) packs: Vec<Known>,
    pub(super) entries: u64,
    pub(super) kinds: BTreeSet<Arc<str>>,
    pub(super) checkpoints: BTreeMap<(PackId, Part), Held>,
    /// By topic id and leader epoch.
    marks: BTreeMap<Part, BTreeMap<(u128, i32), WatermarkRow>>,
}

impl Survey {
    /// The greatest low watermark that is known of a partition.
    pub(super) fn low(&self, part: &Part) -> Option<Offset> {
        self.marks.get(part)?.values().map(|row| row.low_watermark).max()
    }

    /// The topic that a partition's checkpoints name.
    pub(super) fn topic(&self, part: &Part) -> Option<&Arc<str>> {
        self.marks.get(part)?.values().next().map(|row| &row.key.topic)
    }

    /// The topic that checkpoints of a type name.
    pub(super) fn topic_of(&self, kind: &Arc<str>) -> Option<&Arc<str>> {
        self.marks.iter().find(|((of, ..), _)| of == kind).and_then(|(part, _)| self.topic(part))
    }

    /// All low watermarks: of each leader epoch the greatest.
    pub(super) fn watermarks(&self) -> impl Iterator<Item = WatermarkRow> + '_ {
        self.marks.iter().flat_map(move |(part, rows)| {
            rows.values().map(move |row| {
                let mut row = row.clone();
                if mutant(Mutant::RebuildWatermarkIsReach) {
                    let ends = self.checkpoints.iter().filter(|((_, of), _)| of == part);
                    let end = ends.map(|(_, held)| held.last_offset.next()).max();
                    row.low_watermark = row.low_watermark.max(end.unwrap_or_default());
                }
                row
            })
        })
    }

    fn take(&mut self, known: &Known, footer: &Footer, object_bytes: u64) -> Result<()> {
        self.entries += footer.len() as u64;
        self.kinds.extend(footer.kinds().map(Arc::clone));
        if !known.is_checkpoint() {
            return Ok(());
        }
        for mark in footer.marks()? {
            let part = (mark.kind, mark.row.key.partition, mark.row.key.lineage);
            let rows = self.marks.entry(part).or_default();
            let kept =
                rows.entry((mark.row.topic_id, mark.row.leader_epoch)).or_insert_with(|| mark.row.clone());
            if mark.row.low_watermark > kept.low_watermark {
                *kept = mark.row;
            }
        }
        for kind in footer.kinds() {
            let mut read = Ok(());
            footer.each_from(kind, "", |at, _| {
                let stretch = match footer.stretch(at) {
                    Ok(stretch) => stretch,
                    Err(error) => {
                        read = Err(error);
                        return false;
                    }
                };
                let part = (Arc::clone(kind), stretch.partition, stretch.lineage);
                let held = self.checkpoints.entry((known.pack, part)).or_insert(Held {
                    first_offset: stretch.first_offset,
                    last_offset: stretch.last_offset,
                    entries: 0,
                    object_bytes,
                });
                held.first_offset = held.first_offset.min(stretch.first_offset);
                held.last_offset = held.last_offset.max(stretch.last_offset);
                held.entries += 1;
                true
            });
            read?;
        }
        Ok(())
    }
}

impl Rebuild {
    /// All packs there are, by their names.
    ///
    /// # Errors
    /// `Unavailable` if the store does not answer.
    pub async fn listed(&self) -> Result<Vec<(Class, PackId)>> {
        let mut found = Vec::new();
        for class in CLASSES {
            let names = self.names(&format!("v1/{}/", class.name())).await?;
            found.extend(names.iter().filter_map(|name| named_pack(name)));
        }
        Ok(found)
    }

    /// Lists all packs and reads their footers.
    pub(super) async fn survey(&self, report: &mut Rebuilt) -> Result<Survey> {
        let mut found = Vec::new();
        for class in CLASSES {
            for name in self.names(&format!("v1/{}/", class.name())).await? {
                match named_pack(&name) {
                    Some(pack) => found.push(pack),
                    None => report.problems.push(format!("`{name}` is not named like a pack: move it away")),
                }
            }
        }
        self.progress.packs.store(found.len() as u64, Ordering::Relaxed);
        let mut survey = Survey::default();
        let mut reads = stream::iter(found)
            .map(|(class, pack)| async move { (class, pack, self.footer(class, pack).await) })
            .buffer_unordered(self.settings.reads);
        while let Some((class, pack, read)) = reads.next().await {
            self.progress.footers.fetch_add(1, Ordering::Relaxed);
            let taken = read.and_then(|(footer, object_bytes)| {
                let footer = Arc::new(footer);
                let known = Known { class, pack, footer: Some(Arc::clone(&footer)) };
                survey.take(&known, &footer, object_bytes)?;
                Ok(known)
            });
            match taken {
                Ok(known) => {
                    report.packs[CLASSES.iter().position(|of| *of == class).unwrap_or_default()] += 1;
                    survey.packs.push(known);
                }
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                Err(error) => report.problems.push(format!("`{}`: {}", pack_name(class, pack), error.detail)),
            }
            if survey.entries > self.settings.entries_max as u64 {
                survey.packs.iter_mut().for_each(|known| known.footer = None);
            }
        }
        drop(reads);
        // The order of reading must not reach the index.
        survey.packs.sort_by_key(|known| (known.pack, known.class));
        self.progress.records.store(survey.entries, Ordering::Relaxed);
        Ok(survey)
    }
}

//! Records on their way into a pack: what they say, encoding, and the proof that what was encoded reads back.
//!
//! Invariants: nothing is written whose frame was not decoded again and compared (rule 8); a pack is a
//! function of its entries, settings and dictionaries, so encoding it again gives the same bytes.

use super::flush::Flush;
use super::packs::{Class, Packs};
use super::segments::NewSegment;
use crate::codec::body::{
    check_increment, check_segment, decode_full, decode_segment, is_increment, put_full, put_increment,
    put_segment,
};
use crate::codec::compress::{Compression, Encoder, decode_into};
use crate::codec::dictionary::Dictionary;
use crate::codec::pack::{EntryFacts, Header, Locator, PackWriter, pack_name};
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{AggregateKey, Digest, Offset, PackId, Timestamp, Version};
use crate::domain::partition::Cut;
use crate::domain::record::{FullBody, IncrementBody, RecordId, RecordKind, RecordMeta, SegmentBody};
use crate::domain::row::{SnapshotRow, Trigger};
use crate::domain::value::{Limits, Value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One record on its way into a pack.
#[derive(Debug)]
pub struct NewEntry {
    /// What the footer and the row say of it.
    pub meta: RecordMeta,
    body: Body,
    /// What the row says beyond that, for the footer.
    facts: EntryFacts,
}

#[derive(Debug)]
enum Body {
    Increment(IncrementBody),
    Full(Box<FullBody>),
    Segment(Box<SegmentBody>),
}

/// Of the levels of compression the one that makes the smallest records: merged history is written once.
const SEGMENT_LEVEL: u8 = 9;

/// A pack that is ready to be written.
pub struct Encoded {
    /// Its id.
    pub pack: PackId,
    /// Its object's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where each entry is, in the order in which they were given.
    pub places: Vec<Place>,
}

/// One entry of a pack that is ready to be written.
#[derive(Debug)]
pub struct Place {
    meta: RecordMeta,
    locator: Locator,
    raw_bytes: u64,
    state_bytes: Option<u64>,
    /// Bytes in the pack.
    pub stored_bytes: u64,
}

impl NewEntry {
    /// An increment with these events, which follow on version `from` and end at a cut.
    ///
    /// # Errors
    /// `Invalid` if they cannot be stored as one.
    pub fn increment(
        flush: &Flush,
        from: Version,
        cut: &Cut,
        first_offset: Offset,
        body: IncrementBody,
    ) -> Result<Self> {
        let mut meta = meta_of(flush, from, cut, RecordKind::Increment, first_offset);
        meta.chain = Some(cut.aggregate.chain);
        check_increment(&body.events, body.quarantine.as_ref())?;
        Ok(Self { meta, body: Body::Increment(body), facts: facts_of(cut, None, false) })
    }

    /// A full record at a cut; `from` is the version of the record before it.
    ///
    /// # Errors
    /// If the state is not the JSON it was folded to: a bug, found before it is stored.
    pub fn full(flush: &Flush, from: Version, cut: &Cut, first_offset: Offset) -> Result<Self> {
        let mut meta = meta_of(flush, from, cut, RecordKind::Full, first_offset);
        let body = cut.aggregate.to_body();
        let canonical = body.state.as_deref().map(canonical).transpose()?;
        meta.state_digest = canonical.as_deref().map(|bytes| Digest(Sha256::digest(bytes).into()));
        let state_bytes = canonical.map(|bytes| bytes.len() as u64);
        meta.trail.clone_from(&cut.trail);
        // The increment beside it says the same.
        meta.chain = (!flush.item.increment).then_some(cut.aggregate.chain);
        let facts = facts_of(cut, state_bytes, flush.item.increment);
        Ok(Self { meta, body: Body::Full(Box::new(body)), facts })
    }

    /// A segment.
    ///
    /// # Errors
    /// `Invalid` if it cannot be stored as one; as for `full`.
    pub fn segment(new: NewSegment) -> Result<Self> {
        check_segment(&new.body)?;
        let canonical = new.end.state.to_json().as_deref().map(canonical).transpose()?;
        let meta = new.meta(canonical.as_deref().map(|bytes| Digest(Sha256::digest(bytes).into())));
        let facts = EntryFacts {
            trigger: new.trigger,
            event_type: new.end.last_event_type.clone(),
            state_bytes: canonical.map(|bytes| bytes.len() as u64),
            with_events: false,
        };
        Ok(Self { meta, body: Body::Segment(Box::new(new.body)), facts })
    }
}

impl Body {
    /// Its bytes before compression, in place of what is in `raw`.
    fn write(&self, raw: &mut Vec<u8>, aggregate_id: &str) -> Result<()> {
        raw.clear();
        match self {
            Self::Increment(body) => put_increment(raw, &body.events, body.quarantine.as_ref(), aggregate_id),
            Self::Full(body) => {
                put_full(raw, body);
                Ok(())
            }
            Self::Segment(body) => put_segment(raw, body, aggregate_id),
        }
    }

    /// True if it is what these bytes say.
    fn is(&self, raw: &[u8], aggregate_id: &str) -> Result<bool> {
        Ok(match self {
            Self::Increment(body) => is_increment(raw, &body.events, body.quarantine.as_ref(), aggregate_id)?,
            Self::Full(body) => decode_full(raw)? == **body,
            Self::Segment(body) => decode_segment(raw, aggregate_id)? == **body,
        })
    }
}

fn meta_of(flush: &Flush, from: Version, cut: &Cut, kind: RecordKind, first_offset: Offset) -> RecordMeta {
    let (partition, item) = (&flush.partition, &flush.item);
    let aggregate = &cut.aggregate;
    // The event behind a mark comes after the last that was folded.
    let last = (aggregate.offset, aggregate.leader_epoch);
    let (last_offset, leader_epoch) =
        aggregate.quarantine.as_ref().map_or(last, |mark| (mark.offset, mark.leader_epoch));
    RecordMeta {
        id: RecordId {
            key: AggregateKey { kind: Arc::clone(&flush.kind), id: Arc::clone(&item.id) },
            lineage: partition.lineage,
            upto_version: aggregate.version,
            kind,
            from_version: from,
        },
        partition: partition.partition,
        first_offset,
        last_offset,
        leader_epoch,
        effective_time: aggregate.effective_time,
        chain: None,
        state_digest: None,
        is_deleted: cut.deleted,
        is_quarantined: aggregate.quarantine.is_some(),
        trail: None,
    }
}

fn facts_of(cut: &Cut, state_bytes: Option<u64>, with_events: bool) -> EntryFacts {
    let event_type = cut.aggregate.last_event_type.clone();
    EntryFacts { trigger: cut.trigger, event_type, state_bytes, with_events }
}

/// The canonical form of a state: what `checksum` and `rawSize` of a snapshot are about.
pub(super) fn canonical(state: &[u8]) -> Result<Vec<u8>> {
    let limits = Limits { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX, max_members: usize::MAX };
    let value = Value::parse(state, &limits);
    let value =
        value.map_err(|error| Error::new(ErrorKind::Internal, "corrupt", format!("own state: {error}")))?;
    let mut bytes = Vec::with_capacity(state.len());
    value.canonical(&mut bytes);
    Ok(bytes)
}

impl Encoded {
    /// The index row of one entry, which ends at this cut.
    #[must_use]
    pub fn row(&self, place: &Place, cut: &Cut, created_at: Timestamp, creation_ms: u32) -> SnapshotRow {
        self.row_of(place, (&cut.aggregate, cut.trigger), created_at, creation_ms)
    }

    /// The index row of one entry, which ends with this aggregate and was taken for this reason.
    #[must_use]
    pub fn row_of(
        &self,
        place: &Place,
        (end, trigger): (&Aggregate, Trigger),
        created_at: Timestamp,
        creation_ms: u32,
    ) -> SnapshotRow {
        let meta = &place.meta;
        SnapshotRow {
            key: meta.id.key.clone(),
            lineage: meta.id.lineage,
            version: meta.id.upto_version,
            pack: self.pack,
            kind: meta.id.kind,
            from_version: meta.id.from_version,
            partition: meta.partition,
            first_offset: meta.first_offset,
            last_offset: meta.last_offset,
            leader_epoch: meta.leader_epoch,
            effective_time: meta.effective_time,
            created_at,
            // 0 is for rows that were rebuilt (`domain::ledger::row_written_at`).
            creation_ms: creation_ms.max(1),
            trigger,
            event_type: end.last_event_type.clone(),
            chain: end.chain,
            raw_bytes: place.raw_bytes,
            stored_bytes: place.stored_bytes,
            state_digest: meta.state_digest,
            state_bytes: place.state_bytes,
            deleted: meta.is_deleted,
            quarantined: meta.is_quarantined,
            locator: place.locator.encode(),
        }
    }
}

/// Encoders of one pack by type and kind, each with its dictionary.
type Encoders = BTreeMap<(Arc<str>, RecordKind), (Encoder, Option<Dictionary>)>;

impl Packs {
    /// What a new pack says of itself.
    pub(super) fn header(&self, class: Class, pack: PackId, created: Timestamp) -> Header {
        let version = concat!("snapfold ", env!("CARGO_PKG_VERSION"));
        Header::new(class, pack, self.session, created, version)
    }

    /// Encodes a pack. What was written is read back and compared before anything may rely on it (rule 8).
    ///
    /// # Errors
    /// `Invalid` if an entry cannot be stored, `Internal` if what was encoded does not read back.
    pub fn encode(
        &self,
        class: Class,
        pack: PackId,
        created: Timestamp,
        entries: Vec<NewEntry>,
    ) -> Result<Encoded> {
        let mut writer = PackWriter::new(self.header(class, pack, created));
        let mut encoders = Encoders::new();
        let mut sizes = Vec::with_capacity(entries.len());
        // COST: one body at a time; it is decoded, and its events are let go of, while all of it is at hand.
        let (mut raw, mut back) = (Vec::new(), Vec::new());
        for NewEntry { meta, body, facts } in entries {
            let aggregate_id = &meta.id.key.id;
            body.write(&mut raw, aggregate_id)?;
            self.dictionaries.show(&meta.id, &raw);
            let (encoder, dictionary) = self.encoder(&mut encoders, &meta.id)?;
            let frame = encoder.encode(&raw)?;
            self.dictionaries.stored(&meta.id, raw.len(), frame.bytes.len());
            let dictionary = dictionary.as_ref().filter(|_| frame.dictionary.is_some());
            decode_into(&mut back, frame.algorithm, &frame.bytes, frame.raw_len, dictionary)?;
            if back != raw || !body.is(&back, aggregate_id)? {
                self.checks.damaged.fetch_add(1, Ordering::Relaxed);
                return Err(Error::new(
                    ErrorKind::Internal,
                    "corrupt",
                    "what was encoded does not read back",
                ));
            }
            sizes.push((raw.len() as u64, facts.state_bytes));
            let place = writer.add_frame(meta, &raw, frame)?;
            writer.note(place, facts);
        }
        let finished = writer.finish()?;
        let places = finished.entries.into_iter().zip(sizes).map(|(done, (raw_bytes, state_bytes))| Place {
            meta: done.meta,
            locator: done.locator,
            raw_bytes,
            state_bytes,
            stored_bytes: done.stored_len,
        });
        let places = places.collect();
        Ok(Encoded { pack, name: pack_name(class, pack), bytes: finished.bytes, places })
    }

    fn encoder<'e>(
        &self,
        encoders: &'e mut Encoders,
        id: &RecordId,
    ) -> Result<&'e mut (Encoder, Option<Dictionary>)> {
        use std::collections::btree_map::Entry;
        match encoders.entry((Arc::clone(&id.key.kind), id.kind)) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(free) => {
                let mut dictionary = self.dictionaries.active(free.key());
                let mut compression = self.compression();
                if id.kind == RecordKind::Segment {
                    // Until there are enough of them to learn from: they hold what increments hold.
                    let increments = (Arc::clone(&id.key.kind), RecordKind::Increment);
                    dictionary = dictionary.or_else(|| self.dictionaries.active(&increments));
                    compression = Compression { level: SEGMENT_LEVEL, ..compression };
                }
                let encoder = Encoder::new(compression, dictionary.as_ref())?;
                Ok(free.insert((encoder, dictionary)))
            }
        }
    }
}

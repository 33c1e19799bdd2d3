//! Snapshot rows as columns, and the checksums of rows.
//!
//! What a row says stands in columns of its own, so that people and tools can ask for it; `crc` is the
//! CRC32C of the row's canonical form (`codec::row`). A row is what was written only if the form of what its
//! columns say has that checksum.

use super::outcome::damaged;
use crate::codec::pack::Locator;
use crate::codec::row::Row;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Offset, PackId, PartitionNo, Timestamp, Version};
use crate::domain::ledger::row_written_at;
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::row::{RecordKind, SnapshotRow, Trigger};
use scylla::cluster::metadata::ColumnType;
use scylla::deserialize::value::DeserializeValue;
use scylla::deserialize::{DeserializationError, FrameSlice, TypeCheckError};
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::{CqlTimestamp, CqlVarint};
use scylla::{DeserializeRow, SerializeRow};

/// A value that may be left out. A null that is written would be a deletion of its own, so it is not written.
pub(super) struct Perhaps<T>(pub(super) Option<T>);

impl<T: SerializeValue> SerializeValue for Perhaps<T> {
    fn serialize<'b>(
        &self,
        column: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match &self.0 {
            Some(value) => value.serialize(column, writer),
            None => Ok(writer.set_unset()),
        }
    }
}

impl<'frame, 'metadata, T: DeserializeValue<'frame, 'metadata>> DeserializeValue<'frame, 'metadata>
    for Perhaps<T>
{
    fn type_check(column: &ColumnType<'_>) -> Result<(), TypeCheckError> {
        T::type_check(column)
    }

    fn deserialize(
        column: &'metadata ColumnType<'metadata>,
        value: Option<FrameSlice<'frame>>,
    ) -> Result<Self, DeserializationError> {
        value.map(|value| T::deserialize(column, Some(value))).transpose().map(Self)
    }
}

/// A snapshot row, column by column.
#[derive(SerializeRow, DeserializeRow)]
pub(super) struct SnapshotColumns<'a> {
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    lineage: i64,
    version: CqlVarint,
    pack: &'a [u8],
    kind: &'a str,
    from_version: CqlVarint,
    partition_no: i32,
    first_offset: i64,
    last_offset: i64,
    leader_epoch: i32,
    effective_time: CqlTimestamp,
    created_at: CqlTimestamp,
    creation_ms: i64,
    trigger: &'a str,
    event_type: &'a str,
    chain: &'a [u8],
    raw_bytes: CqlVarint,
    stored_bytes: CqlVarint,
    state_digest: Perhaps<&'a [u8]>,
    state_bytes: Perhaps<CqlVarint>,
    deleted: bool,
    quarantined: bool,
    locator: &'a [u8],
    crc: i32,
}

/// What is written besides: what the locator says, for people.
#[derive(SerializeRow)]
pub(super) struct NewSnapshot<'a> {
    #[scylla(flatten)]
    row: SnapshotColumns<'a>,
    codec: Perhaps<&'static str>,
    /// The name that servers give to what stands for `USING TIMESTAMP ?`.
    #[scylla(rename = "[timestamp]")]
    written_at: i64,
}

/// The words of the HTTP API. They are stored: they never change.
const TRIGGERS: [(Trigger, &str); 8] = [
    (Trigger::Events, "events"),
    (Trigger::Age, "age"),
    (Trigger::Bytes, "bytes"),
    (Trigger::Manual, "manual"),
    (Trigger::Schedule, "schedule"),
    (Trigger::Memory, "memory"),
    (Trigger::Debt, "debt"),
    (Trigger::Adaptive, "adaptive"),
];
const KINDS: [(RecordKind, &str); 3] =
    [(RecordKind::Full, "full"), (RecordKind::Increment, "increment"), (RecordKind::Segment, "segment")];

fn word<T: PartialEq>(words: &[(T, &'static str)], of: &T) -> &'static str {
    words.iter().find(|(known, _)| known == of).expect("every value has a word").1
}

fn meaning<T: Copy>(words: &[(T, &'static str)], word: &str) -> Option<T> {
    words.iter().find(|(_, known)| *known == word).map(|(value, _)| *value)
}

/// A number without a sign: the shortest big-endian form, with a leading zero where it would look negative.
pub(super) fn varint(number: u64) -> CqlVarint {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut short = Vec::with_capacity(9);
    if bytes.get(zeros).is_none_or(|first| *first >= 0x80) {
        short.push(0);
    }
    short.extend_from_slice(&bytes[zeros..]);
    CqlVarint::from_signed_bytes_be(short)
}

pub(super) fn number(varint: &CqlVarint) -> Option<u64> {
    let bytes = varint.as_signed_bytes_be_slice();
    let (first, rest) = bytes.split_first()?;
    let bytes = if *first == 0 { rest } else { bytes };
    let is_ours = *first < 0x80 && bytes.len() <= 8;
    is_ours.then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The checksum in a row's canonical form, as it stands in its `crc` column.
pub(super) fn crc(row: &impl Row) -> i32 {
    let form = row.encode();
    let crc = form.last_chunk().expect("the form of a row ends with its checksum");
    i32::from_le_bytes(*crc)
}

/// The checksum of an aggregate's row in a listing.
pub(super) fn aggregate_crc(kind: &str, id: &str, partition: PartitionNo) -> i32 {
    let mut crc = crc32c::crc32c(&(kind.len() as u64).to_le_bytes());
    for part in [kind.as_bytes(), id.as_bytes(), &partition.0.to_le_bytes()] {
        crc = crc32c::crc32c_append(crc, part);
    }
    i32::from_le_bytes(crc.to_le_bytes())
}

/// The row, if it has the checksum that was written with it.
pub(super) fn proven<R: Row>(row: R, written: i32) -> PortResult<R> {
    if crc(&row) == written { Ok(row) } else { Err(differs(R::NAME)) }
}

/// What a row that is not what was written is told as. Ids stay out of it.
pub(super) fn differs(name: &str) -> PortError {
    damaged(&format_args!("a {name} disagrees with its checksum"))
}

impl<'a> NewSnapshot<'a> {
    pub(super) fn of(row: &'a SnapshotRow) -> Self {
        let codec = Locator::decode(&row.locator).ok().map(|locator| locator.algorithm.name());
        Self { row: SnapshotColumns::of(row), codec: Perhaps(codec), written_at: row_written_at(row) }
    }
}

impl<'a> SnapshotColumns<'a> {
    fn of(row: &'a SnapshotRow) -> Self {
        let state = row.state_digest.as_ref().zip(row.state_bytes);
        Self {
            aggregate_type: &row.key.kind,
            aggregate_id: &row.key.id,
            lineage: row.lineage.0.into(),
            version: varint(row.version.0),
            pack: &row.pack.0,
            kind: word(&KINDS, &row.kind),
            from_version: varint(row.from_version.0),
            partition_no: row.partition.0,
            first_offset: row.first_offset.0,
            last_offset: row.last_offset.0,
            leader_epoch: row.leader_epoch,
            effective_time: CqlTimestamp(row.effective_time.0),
            created_at: CqlTimestamp(row.created_at.0),
            creation_ms: row.creation_ms.into(),
            trigger: word(&TRIGGERS, &row.trigger),
            event_type: &row.event_type,
            chain: &row.chain.0,
            raw_bytes: varint(row.raw_bytes),
            stored_bytes: varint(row.stored_bytes),
            state_digest: Perhaps(state.map(|(digest, _)| digest.0.as_slice())),
            state_bytes: Perhaps(state.map(|(_, bytes)| varint(bytes))),
            deleted: row.deleted,
            quarantined: row.quarantined,
            locator: &row.locator,
            crc: crc(row),
        }
    }

    /// The row that these columns say, if it is the one that was written.
    pub(super) fn row(&self) -> PortResult<SnapshotRow> {
        let row = self.said().ok_or_else(|| differs(SnapshotRow::NAME))?;
        proven(row, self.crc)
    }

    fn said(&self) -> Option<SnapshotRow> {
        let digest = |bytes: &[u8]| bytes.try_into().ok().map(Digest);
        let state_digest = match self.state_digest.0 {
            Some(bytes) => Some(digest(bytes)?),
            None => None,
        };
        let state_bytes = match &self.state_bytes.0 {
            Some(bytes) => Some(number(bytes)?),
            None => None,
        };
        Some(SnapshotRow {
            key: AggregateKey { kind: self.aggregate_type.into(), id: self.aggregate_id.into() },
            lineage: Lineage(self.lineage.try_into().ok()?),
            version: Version(number(&self.version)?),
            pack: PackId(self.pack.try_into().ok()?),
            kind: meaning(&KINDS, self.kind)?,
            from_version: Version(number(&self.from_version)?),
            partition: PartitionNo(self.partition_no),
            first_offset: Offset(self.first_offset),
            last_offset: Offset(self.last_offset),
            leader_epoch: self.leader_epoch,
            effective_time: Timestamp(self.effective_time.0),
            created_at: Timestamp(self.created_at.0),
            creation_ms: self.creation_ms.try_into().ok()?,
            trigger: meaning(&TRIGGERS, self.trigger)?,
            event_type: self.event_type.into(),
            chain: digest(self.chain)?,
            raw_bytes: number(&self.raw_bytes)?,
            stored_bytes: number(&self.stored_bytes)?,
            state_digest,
            state_bytes,
            deleted: self.deleted,
            quarantined: self.quarantined,
            locator: self.locator.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::suite;
    use super::*;

    #[test]
    fn numbers_come_back_and_take_the_fewest_bytes() {
        let numbers =
            [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX];
        let bytes = numbers.map(|n| varint(n).as_signed_bytes_be_slice().len());
        assert_eq!(bytes, [1, 1, 1, 2, 2, 2, 2, 3, 8, 9, 9]);
        assert_eq!(numbers.map(|n| number(&varint(n))), numbers.map(Some));
        for foreign in [vec![], vec![0x80], vec![0xff, 1], vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9], vec![1; 9]] {
            assert_eq!(number(&CqlVarint::from_signed_bytes_be(foreign)), None);
        }
    }

    #[test]
    fn a_row_comes_back_and_a_column_that_changed_is_noticed() {
        let key = AggregateKey { kind: "order".into(), id: "a".into() };
        let row = suite::snapshot(&key, 1, 70, PackId([7; 16]));
        assert_eq!(SnapshotColumns::of(&row).row().as_ref(), Ok(&row));
        let changes: [fn(&mut SnapshotColumns<'_>); 9] = [
            |columns| columns.stored_bytes = varint(7),
            |columns| columns.kind = "increment",
            |columns| columns.kind = "diff",
            |columns| columns.trigger = "age",
            |columns| columns.chain = &[1; 31],
            |columns| columns.state_bytes = Perhaps(None),
            |columns| columns.deleted = false,
            |columns| columns.locator = &[],
            |columns| columns.crc ^= 1,
        ];
        for (nth, change) in changes.into_iter().enumerate() {
            let mut columns = SnapshotColumns::of(&row);
            change(&mut columns);
            let told = columns.row().expect_err("it is not what was written");
            assert!(matches!(&told, PortError::Permanent(what) if what.contains("damaged")), "{nth}: {told}");
        }
    }
}

//! Records in packs.
use super::blobs::Blobs;
use super::flush::Flush;
use crate::domain::error::Result;
use crate::domain::ids::*;
use crate::domain::partition::*;
use crate::domain::record::*;
pub use crate::domain::row::RecordKind;
use crate::domain::row::*;
use std::sync::Arc;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Full,
    History,
    Checkpoint,
}
#[derive(Clone, Debug)]
pub struct Meta;
impl Meta {
    pub fn into_row(
        self,
        _p: &PartitionKey,
        _e: &Encoded,
        _place: &Place,
        _now: Timestamp,
        _t: Trigger,
    ) -> SnapshotRow {
        todo!()
    }
}
#[derive(Debug)]
pub struct Place {
    pub stored_bytes: u64,
}
pub struct NewEntry {
    pub meta: Meta,
}
impl NewEntry {
    pub fn of_checkpoint(_p: &PartitionKey, _k: &Arc<str>, _i: CheckpointItem) -> Self {
        todo!()
    }
    pub fn increment(_f: &Flush, _o: Offset, _b: IncrementBody) -> Self {
        todo!()
    }
    pub fn full(_f: &Flush, _o: Offset) -> Result<Self> {
        todo!()
    }
}
pub struct Encoded {
    pub name: String,
    pub bytes: Vec<u8>,
    pub places: Vec<Place>,
}
pub struct Packs {
    pub blobs: Arc<dyn Blobs>,
}
impl Packs {
    pub fn encode(&self, _c: Class, _p: PackId, _n: Timestamp, _e: Vec<NewEntry>) -> Result<Encoded> {
        todo!()
    }
    pub async fn full(&self, _row: &SnapshotRow) -> Result<FullBody> {
        todo!()
    }
    pub async fn increment(&self, _row: &SnapshotRow) -> Result<IncrementBody> {
        todo!()
    }
    pub async fn entry(&self, _p: &PartitionKey, _k: &AggregateKey, _e: &EntryRef) -> Result<IncrementBody> {
        todo!()
    }
    pub async fn checkpoint(&self, _r: &CheckpointRow) -> Result<LiveCheckpoint> {
        todo!()
    }
}

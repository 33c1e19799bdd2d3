//! One topic as `Log`: bounds of assigned partitions from memory, everything else from brokers.

use super::bounds::Board;
use super::consumer::{Command, Commands};
use super::reader::{Question, Readers};
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::RawRecord;
use crate::kafka::{Log, LogBounds};
use futures_channel::oneshot;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The `Log` of one topic.
pub(super) struct TopicLog {
    pub(super) topic: Arc<str>,
    pub(super) board: Arc<Board>,
    pub(super) readers: Arc<Readers>,
    pub(super) commands: Commands,
}

impl Log for TopicLog {
    fn partition_count(&self) -> BoxFuture<'_, PortResult<u32>> {
        Box::pin(self.readers.ask(&self.topic, PartitionNo(0), Question::PartitionCount))
    }

    fn bounds(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<LogBounds>> {
        let key = (Arc::clone(&self.topic), partition.0);
        let known = move || self.board.get(&key).and_then(|known| known.fresh());
        if let Some(bounds) = known() {
            return Box::pin(std::future::ready(Ok(bounds)));
        }
        Box::pin(async move {
            let asked = self.readers.ask(&self.topic, partition, Question::Bounds).await?;
            // With what records of an assigned partition have told besides.
            Ok(known().unwrap_or(asked))
        })
    }

    fn last_end(&self, partition: PartitionNo) -> Option<Offset> {
        let known = self.board.get(&(Arc::clone(&self.topic), partition.0))?;
        known.last().map(|bounds| bounds.end)
    }

    fn read(
        &self,
        partition: PartitionNo,
        from: Offset,
        to: Offset,
    ) -> BoxFuture<'_, PortResult<Vec<RawRecord>>> {
        let question = move |sender| Question::Read(from, to, sender);
        Box::pin(self.readers.ask(&self.topic, partition, question))
    }

    fn epoch_end(&self, partition: PartitionNo, leader_epoch: i32) -> BoxFuture<'_, PortResult<Offset>> {
        let question = move |sender| Question::EpochEnd(leader_epoch, sender);
        Box::pin(self.readers.ask(&self.topic, partition, question))
    }

    fn committed(&self, partition: PartitionNo) -> BoxFuture<'_, PortResult<Option<Offset>>> {
        Box::pin(self.readers.ask(&self.topic, partition, Question::Committed))
    }

    fn commit(&self, partition: PartitionNo, low_watermark: Offset) -> BoxFuture<'_, PortResult<()>> {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let key = (Arc::clone(&self.topic), partition.0);
            self.commands.send(Command::Commit(key, low_watermark, sender))?;
            answer.await.map_err(|_| PortError::Unknown("the consumer was closed meanwhile".to_owned()))?
        })
    }
}

//! Topics as somebody sees them who is no member of the group: what brokers tell of them, and reads of
//! stretches. No partition moves for it, and nothing is committed.

use super::bounds::Board;
use super::consumer::Commands;
use super::log::TopicLog;
use super::reader::{self, Question, Readers};
use crate::domain::error::Result;
use crate::domain::ids::PartitionNo;
use crate::domain::outcome::PortResult;
use crate::kafka::{ConsumerSettings, Log};
use std::sync::Arc;

/// See the module.
pub struct Onlooker {
    board: Arc<Board>,
    readers: Arc<Readers>,
}

impl Onlooker {
    /// Connects with the first question.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn start(settings: &ConsumerSettings) -> Result<Self> {
        let board = Arc::new(Board::default());
        let common = Arc::new(reader::client(settings)?);
        let readers = Arc::new(Readers::start(settings, &common, &board)?);
        Ok(Self { board, readers })
    }

    /// A topic. Commits are refused.
    #[must_use]
    pub fn log(&self, topic: &Arc<str>) -> Arc<dyn Log> {
        // Nobody hears the commands: there is no member that could commit.
        let (commands, _) = Commands::new();
        let (board, readers) = (Arc::clone(&self.board), Arc::clone(&self.readers));
        Arc::new(TopicLog { topic: Arc::clone(topic), board, readers, commands })
    }

    /// Kafka's id of a topic.
    pub async fn topic_id(&self, topic: &Arc<str>) -> PortResult<u128> {
        self.readers.ask(topic, PartitionNo(0), Question::TopicId).await
    }
}

//! librdkafka's mock cluster: brokers inside this process, for `dev` and tests. Nothing survives it.
//!
//! It keeps 5 MiB or 100,000 batches per partition and drops the oldest, knows no look-up by time, and does
//! not filter aborted transactions. Topic ids are its own: a new one for every topic of every instance.
//!
//! The Rust type may not change threads, so it has one of its own; calls wait for that.

use super::failure::{log, log_error};
use super::ffi;
use crate::domain::error::{Error, ErrorKind, Result};
use rdkafka::client::Client;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext, producer::DeliveryResult};
use std::sync::mpsc;
use std::time::Duration;

/// How long the cluster waits for more members when a group is formed, instead of librdkafka's 3 s.
const GROUP_DELAY: Duration = Duration::from_millis(100);

struct Logs;

impl ClientContext for Logs {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext for Logs {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

type Cluster<'a> = MockCluster<'a, Logs>;
type Called = std::result::Result<(), KafkaError>;
type Call = Box<dyn FnOnce(&Cluster<'_>, &Client<Logs>) -> Called + Send>;
type Job = (Call, mpsc::Sender<Called>);

/// Kinds of requests that can be made to fail. The mock cluster has no errors for requests for metadata: see
/// [`MockBroker::fail_topic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MockRequest {
    /// Writing records.
    Produce,
    /// Reading records.
    Fetch,
    /// First and last offsets.
    ListOffsets,
    /// Committing.
    OffsetCommit,
    /// Asking for what is committed.
    OffsetFetch,
    /// Asking who coordinates a group.
    FindCoordinator,
    /// Joining a group.
    JoinGroup,
    /// Staying in it.
    Heartbeat,
    /// Leaving it.
    LeaveGroup,
    /// Getting the assignment.
    SyncGroup,
    /// The end of a leader epoch.
    OffsetForLeaderEpoch,
    /// What a broker can do: the first request of each connection.
    ApiVersions,
    /// Becoming a producer that repeats nothing.
    InitProducerId,
}

impl MockRequest {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::FindCoordinator,
        Self::JoinGroup,
        Self::Heartbeat,
        Self::LeaveGroup,
        Self::SyncGroup,
        Self::OffsetForLeaderEpoch,
        Self::ApiVersions,
        Self::InitProducerId,
    ];

    fn key(self) -> RDKafkaApiKey {
        match self {
            Self::Produce => RDKafkaApiKey::Produce,
            Self::Fetch => RDKafkaApiKey::Fetch,
            Self::ListOffsets => RDKafkaApiKey::ListOffsets,
            Self::OffsetCommit => RDKafkaApiKey::OffsetCommit,
            Self::OffsetFetch => RDKafkaApiKey::OffsetFetch,
            Self::FindCoordinator => RDKafkaApiKey::FindCoordinator,
            Self::JoinGroup => RDKafkaApiKey::JoinGroup,
            Self::Heartbeat => RDKafkaApiKey::Heartbeat,
            Self::LeaveGroup => RDKafkaApiKey::LeaveGroup,
            Self::SyncGroup => RDKafkaApiKey::SyncGroup,
            Self::OffsetForLeaderEpoch => RDKafkaApiKey::OffsetForLeaderEpoch,
            Self::ApiVersions => RDKafkaApiKey::ApiVersion,
            Self::InitProducerId => RDKafkaApiKey::InitProducerId,
        }
    }
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MockFailure {
    /// The connection is cut.
    Disconnect,
    /// The broker says that it took too long.
    TimedOut,
    /// The broker is not the leader any more.
    NotLeader,
    /// The broker does not coordinate the group any more.
    NotCoordinator,
    /// The group does not know the member.
    UnknownMember,
    /// The user may not.
    TopicDenied,
    /// Nobody leads the partition at the moment.
    LeaderMissing,
    /// The broker does not know the topic.
    TopicUnknown,
    /// The offset is not in the log.
    OutOfRange,
    /// The broker found a checksum to be wrong.
    Corrupt,
    /// The broker cannot read its disk.
    Storage,
    /// The client's leader epoch is an old one.
    FencedEpoch,
    /// The broker has not heard of the client's leader epoch yet.
    UnknownEpoch,
    /// Nobody coordinates the group at the moment.
    CoordinatorMissing,
    /// The coordinator has just begun.
    CoordinatorLoading,
    /// The group is being formed again.
    Rebalancing,
    /// The group was formed again meanwhile.
    IllegalGeneration,
    /// The group has as many members as it may have.
    GroupFull,
    /// The other members share partitions in another way.
    OtherProtocol,
    /// Another process has the member's name.
    FencedInstance,
    /// What is committed beside the offset is too large.
    MetadataTooLarge,
    /// The user may not use the group.
    GroupDenied,
    /// The broker does not know this version of the request.
    Unsupported,
    /// An error without a reason.
    Unknown,
}

impl MockFailure {
    fn code(self) -> RDKafkaRespErr {
        match self {
            Self::Disconnect => RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            Self::TimedOut => RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Self::NotLeader => RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Self::NotCoordinator => RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Self::UnknownMember => RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            Self::TopicDenied => RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Self::LeaderMissing => RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            Self::TopicUnknown => RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            Self::OutOfRange => RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
            Self::Corrupt => RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG,
            Self::Storage => RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            Self::FencedEpoch => RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
            Self::UnknownEpoch => RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
            Self::CoordinatorMissing => RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            Self::CoordinatorLoading => RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Self::Rebalancing => RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            Self::IllegalGeneration => RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            Self::GroupFull => RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED,
            Self::OtherProtocol => RDKafkaRespErr::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
            Self::FencedInstance => RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
            Self::MetadataTooLarge => RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
            Self::GroupDenied => RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            Self::Unsupported => RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
            Self::Unknown => RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN,
        }
    }
}

/// Brokers inside this process, on loopback. Dropping it ends them.
pub struct MockBroker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    bootstrap: String,
}

impl MockBroker {
    /// One broker with these topics and their partition counts.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self> {
        Self::cluster(1, topics)
    }

    /// Several brokers; leaders are spread over them.
    pub fn cluster(brokers: u16, topics: &[(&str, i32)]) -> Result<Self> {
        let (jobs, received) = mpsc::channel();
        let (started, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("kafka-mock".to_owned());
        let thread = thread.spawn(move || serve(brokers, &started, &received)).map_err(failed)?;
        let bootstrap = told.recv().map_err(failed)?.map_err(failed)?;
        let broker = Self { jobs: Some(jobs), thread: Some(thread), bootstrap };
        for (topic, partitions) in topics {
            broker.create_topic(topic, *partitions)?;
        }
        Ok(broker)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn call(&self, call: impl FnOnce(&Cluster<'_>) -> Called + Send + 'static) -> Result<()> {
        self.call_client(move |cluster, _| call(cluster))
    }

    fn call_client(
        &self,
        call: impl FnOnce(&Cluster<'_>, &Client<Logs>) -> Called + Send + 'static,
    ) -> Result<()> {
        let (sender, answer) = mpsc::channel();
        let jobs = self.jobs.as_ref().expect("taken only when it is dropped");
        jobs.send((Box::new(call), sender)).map_err(failed)?;
        answer.recv().map_err(failed)?.map_err(failed)
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let topic = topic.to_owned();
        self.call(move |cluster| cluster.create_topic(&topic, partitions, 1))
    }

    /// The next requests of a kind fail, one after the other, as told.
    pub fn fail(&self, request: MockRequest, failures: &[MockFailure]) -> Result<()> {
        let codes: Vec<_> = failures.iter().map(|failure| failure.code()).collect();
        self.call(move |cluster| {
            cluster.request_errors(request.key(), &codes);
            Ok(())
        })
    }

    /// Forgets failures that did not happen yet.
    pub fn heal(&self, request: MockRequest) -> Result<()> {
        self.call(move |cluster| {
            cluster.clear_request_errors(request.key());
            Ok(())
        })
    }

    /// Requests for metadata of the topic fail until `None` heals it.
    pub fn fail_topic(&self, topic: &str, failure: Option<MockFailure>) -> Result<()> {
        let topic = topic.to_owned();
        let code = failure.map_or(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, MockFailure::code);
        self.call(move |cluster| cluster.topic_error(&topic, code))
    }

    /// Counts requests from now on. It keeps each until [`Self::requests`] has counted it.
    pub fn count_requests(&self) -> Result<()> {
        self.call_client(|_, client| {
            ffi::track_requests(client);
            Ok(())
        })
    }

    /// How many requests of each kind came since they were counted last.
    pub fn requests(&self) -> Result<Vec<(MockRequest, usize)>> {
        let (sender, counts) = mpsc::channel();
        self.call_client(move |_, client| {
            let keys = ffi::take_requests(client);
            let count = |kind: MockRequest| keys.iter().filter(|key| **key == i16::from(kind.key())).count();
            // Whoever asked waits for it.
            let _ = sender.send(MockRequest::ALL.map(|kind| (kind, count(kind))).to_vec());
            Ok(())
        })?;
        counts.recv().map_err(failed)
    }

    /// Makes a broker (numbered from 1) the leader of a partition, under a new epoch; none leaves it without.
    pub fn lead(&self, topic: &str, partition: i32, broker: Option<i32>) -> Result<()> {
        let topic = topic.to_owned();
        self.call(move |cluster| cluster.partition_leader(&topic, partition, broker))
    }

    /// All brokers hang up and take no connections.
    pub fn down(&self) -> Result<()> {
        self.call(|cluster| cluster.broker_down(-1))
    }

    /// All brokers take connections again.
    pub fn up(&self) -> Result<()> {
        self.call(|cluster| cluster.broker_up(-1))
    }

    /// All brokers answer later.
    pub fn delay(&self, delay: Duration) -> Result<()> {
        self.call(move |cluster| cluster.broker_round_trip_time(-1, delay))
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so already.
            let _ = thread.join();
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "dependency-down", format!("run the mock broker: {error}"))
}

fn serve(
    brokers: u16,
    started: &mpsc::Sender<std::result::Result<String, String>>,
    jobs: &mpsc::Receiver<Job>,
) {
    // Through a client's setting, because only so its native handle can be had.
    let mut config = ClientConfig::new();
    config.set("test.mock.num.brokers", brokers.max(1).to_string()).set_log_level(RDKafkaLogLevel::Error);
    let client = match BaseProducer::from_config_and_context(&config, Logs) {
        Ok(client) => client,
        Err(error) => return drop(started.send(Err(error.to_string()))),
    };
    let client: &BaseProducer<Logs> = &client;
    ffi::set_group_delay(client.client(), GROUP_DELAY);
    let Some(cluster) = client.client().mock_cluster() else {
        return drop(started.send(Err("librdkafka was built without it".to_owned())));
    };
    if started.send(Ok(cluster.bootstrap_servers())).is_err() {
        return;
    }
    while let Ok((call, answer)) = jobs.recv() {
        let _ = answer.send(call(&cluster, client.client()));
        // Serves the client's log lines.
        client.poll(Duration::ZERO);
    }
}

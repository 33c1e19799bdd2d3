//! Writes records: for `dev`, for tests, for a topic of dead letters.
//!
//! *Order*: records of one partition keep the order of their `send`s, also over retries (idempotence).
//! *If it fails*: the delivery says whether the record surely was not written, or may have been.
//! *If cancelled*: a dropped `send` wrote nothing, unless it had been queued already; a dropped delivery
//!   changes nothing.
//! *What may leak*: what is still queued when the producer is dropped; `flush` first.

use super::failure::{Effect, log, log_error, outcome};
use super::settings;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::{Offset, PartitionNo, Timestamp};
use crate::domain::outcome::{PortError, PortResult};
use crate::domain::record::{Bytes, Headers};
use futures_channel::oneshot;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{Message as _, error::RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How a producer writes.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// `host:port,host:port`.
    pub brokers: String,
    /// How brokers name it.
    pub client_id: String,
    /// Passed to librdkafka as they are, secrets among them: never logged.
    pub properties: BTreeMap<String, String>,
    /// Records that may be under way.
    pub records_max: u32,
    /// Bytes that may be under way; one record alone may be larger.
    pub bytes_max: u32,
}

impl ProducerSettings {
    /// Settings with all defaults.
    #[must_use]
    pub fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            client_id: "snapfold-producer".to_owned(),
            properties: BTreeMap::new(),
            records_max: 100_000,
            bytes_max: 64 << 20,
        }
    }
}

/// A record to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition; none leaves it to the key, as Java clients choose.
    pub partition: Option<PartitionNo>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [(Box<str>, Option<Bytes>)],
    /// The record's timestamp; none, and 0 or less, mean now.
    pub timestamp: Option<Timestamp>,
}

/// Where a record was written; resolves once that is known.
#[must_use]
pub struct Delivery(oneshot::Receiver<PortResult<(PartitionNo, Offset)>>);

impl Future for Delivery {
    type Output = PortResult<(PartitionNo, Offset)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = || PortError::Unknown("write a record: the producer was dropped meanwhile".to_owned());
        Pin::new(&mut self.0).poll(context).map(|report| report.unwrap_or_else(|_| Err(gone())))
    }
}

/// A record under way: who waits for its report, and the room that it takes.
struct UnderWay {
    report: oneshot::Sender<PortResult<(PartitionNo, Offset)>>,
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

struct Reports;

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<UnderWay>;

    fn delivery(&self, report: &DeliveryResult<'_>, under_way: Box<UnderWay>) {
        let result = match report {
            Ok(message) => Ok((PartitionNo(message.partition()), Offset(message.offset()))),
            Err((error, message)) => {
                let doing = format!("write a record of `{}`", message.topic());
                Err(outcome(&doing, error, Effect::Writes))
            }
        };
        let UnderWay { report, _room } = *under_way;
        let _ = report.send(result);
    }
}

/// Writes records with a bound on what is under way.
#[derive(Clone)]
pub struct Producer {
    client: Arc<ThreadedProducer<Reports>>,
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

impl Producer {
    /// A producer; brokers that do not answer are no error here.
    pub fn start(settings: &ProducerSettings) -> Result<Self> {
        let config = settings::producer(&settings.brokers, &settings.client_id, &settings.properties)?;
        let client = ThreadedProducer::from_config_and_context(&config, Reports).map_err(|error| {
            Error::new(ErrorKind::Invalid, "bad-body", format!("create the Kafka producer: {error}"))
        })?;
        let bytes_max = settings.bytes_max.max(1);
        Ok(Self {
            client: Arc::new(client),
            records: Arc::new(Semaphore::new(settings.records_max.max(1) as usize)),
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
        })
    }

    /// Waits for room, then queues a record. The answer says when it is written.
    pub async fn send(&self, record: Outgoing<'_>) -> PortResult<Delivery> {
        let header_bytes = |(name, value): &(Box<str>, Option<Bytes>)| {
            name.len() + value.as_ref().map_or(0, |value| value.len())
        };
        let bytes = record.key.map_or(0, <[u8]>::len)
            + record.value.map_or(0, <[u8]>::len)
            + record.headers.iter().map(header_bytes).sum::<usize>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        let closed = |_| PortError::NotDone("write a record: the producer is closed".to_owned());
        let one = Arc::clone(&self.records).acquire_owned().await.map_err(closed)?;
        let room = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(closed)?;
        let (report, delivery) = oneshot::channel();
        self.queue(&record, Box::new(UnderWay { report, _room: (one, room) }))?;
        Ok(Delivery(delivery))
    }

    fn queue(&self, record: &Outgoing<'_>, under_way: Box<UnderWay>) -> PortResult<()> {
        let mut out: BaseRecord<'_, [u8], [u8], Box<UnderWay>> =
            BaseRecord::with_opaque_to(record.topic, under_way);
        out.key = record.key;
        out.payload = record.value;
        out.partition = record.partition.map(|partition| partition.0);
        out.timestamp = record.timestamp.map(|time| time.0);
        out.headers = (!record.headers.is_empty()).then(|| owned(record.headers));
        self.client.send(out).map_err(|(error, _)| {
            // What was refused here never left.
            let doing = format!("write a record of `{}`", record.topic);
            match &error {
                KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition) => {
                    PortError::Permanent(format!("{doing}: the topic has no such partition"))
                }
                error => outcome(&doing, error, Effect::None),
            }
        })
    }

    /// Waits until all that was queued is reported. Blocks the thread.
    pub fn flush(&self, timeout: Duration) -> PortResult<()> {
        let flushed: KafkaResult<()> = self.client.flush(timeout);
        flushed.map_err(|error| outcome("flush the producer", &error, Effect::Writes))
    }
}

fn owned(headers: &[(Box<str>, Option<Bytes>)]) -> OwnedHeaders {
    let mut list = OwnedHeaders::new_with_capacity(headers.len());
    for (name, value) in headers {
        list = list.insert(Header { key: name, value: value.as_deref() });
    }
    list
}

/// Headers from names and values.
#[must_use]
pub(super) fn headers<const N: usize>(pairs: [(&str, String); N]) -> Headers {
    pairs.map(|(name, value)| (Box::from(name), Some(Arc::from(value.as_bytes())))).into()
}

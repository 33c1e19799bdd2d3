//! librdkafka's errors as outcomes of a port call, and its log lines and clock as ours.

use crate::domain::outcome::PortError;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Instant;
use tracing::{debug, error, info, warn};

/// What a call that failed without an answer may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only reads.
    None,
    /// It writes, so a lost answer leaves the outcome open.
    Writes,
}

/// The outcome of a call that failed: who reads it knows what was done, whether to try again, and, if that is
/// of no use, what to change.
pub(super) fn outcome(doing: &str, error: &KafkaError, effect: Effect) -> PortError {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else {
        return PortError::NotDone(format!("{doing}: {error}"));
    };
    let advice = match code {
        Code::TopicAuthorizationFailed => "grant this user READ and DESCRIBE on the topic",
        Code::GroupAuthorizationFailed => "grant this user READ on the consumer group",
        Code::ClusterAuthorizationFailed => "grant this user the right on the cluster",
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "check `sasl.*` and `security.protocol` of the Kafka properties"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the broker is too old: Kafka 2.8 is needed",
        Code::FencedInstanceId => "another process has the same `group.instance.id`",
        Code::Fatal => "the client cannot go on: restart the process",
        Code::MessageSizeTooLarge => "raise `message.max.bytes` of topic and producer",
        _ => {
            let missing = matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic);
            let hint = if missing { " (is the topic there, and its name right?)" } else { "" };
            let text = format!("{doing}: {code}{hint}");
            return match effect {
                Effect::Writes if leaves_open(code) => PortError::Unknown(text),
                _ => PortError::NotDone(text),
            };
        }
    };
    PortError::Permanent(format!("{doing}: {code}: {advice}"))
}

/// Whether a write that failed so may yet have happened: the request may have reached a broker.
fn leaves_open(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::BrokerDestroy
            | Code::AllBrokersDown
            | Code::WaitingForCoordinator
            | Code::Fail
            | Code::Unknown
            | Code::NotEnoughReplicasAfterAppend
    )
}

/// One log line of librdkafka. Its lines name hosts, topics and offsets, never keys or values.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            warn!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// What librdkafka says of a client or of one partition of it.
pub(super) fn log_error(error: &KafkaError, reason: &str) {
    use RDKafkaErrorCode as Code;
    let expected = matches!(error.rdkafka_error_code(), Some(Code::AutoOffsetReset | Code::PartitionEOF));
    if expected {
        debug!(target: "librdkafka", %error, "{reason}");
    } else {
        warn!(target: "librdkafka", %error, "{reason}");
    }
}

/// For deadlines of threads that librdkafka blocks: no simulation ever runs them.
#[expect(clippy::disallowed_methods, reason = "threads around librdkafka wait in real time only")]
pub(super) fn now() -> Instant {
    Instant::now()
}

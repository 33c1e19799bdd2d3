//! Calls of librdkafka that the crate `rdkafka` does not wrap, and one that it wraps with a panic (a header
//! name that is not UTF-8, which any producer may send).
//!
//! Each function states why its pointers are valid. Nothing here keeps a pointer beyond its call.
#![expect(unsafe_code, reason = "librdkafka is C; everything unsafe of the crate stands in this file")]

use crate::domain::record::Headers;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{IsError, KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, TopicPartitionList};
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};
use std::time::Duration;

/// Leader epoch of the batch that a message came in, -1 where the broker told none.
pub(super) fn leader_epoch(message: &BorrowedMessage<'_>) -> i32 {
    // SAFETY: the message lives as long as the borrow.
    unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) }
}

/// The headers of a message. A name that is not UTF-8 has its bad bytes replaced.
pub(super) fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let mut headers = Headers::new();
    let mut list = null_mut();
    // SAFETY: the message lives as long as the borrow, and owns the list.
    if unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut list) }.is_error() || list.is_null() {
        return headers;
    }
    for index in 0.. {
        let (mut name, mut value, mut len) = (null(), null(), 0);
        // SAFETY: the list is not changed while it is read; name and value point into it.
        unsafe {
            let status =
                sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len);
            if status.is_error() || name.is_null() {
                break;
            }
            let name = CStr::from_ptr(name).to_string_lossy().into();
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), len).into());
            headers.push((name, value));
        }
    }
    headers
}

/// Sets the leader epoch of the only entry of a list.
pub(super) fn set_leader_epoch(list: &TopicPartitionList, epoch: i32) {
    // SAFETY: the list owns its entries, and has as many as it says.
    unsafe {
        let list = &*list.ptr();
        if list.cnt > 0 {
            sys::rd_kafka_topic_partition_set_leader_epoch(list.elems, epoch);
        }
    }
}

/// The leader epochs of the entries of a list, in its order.
pub(super) fn leader_epochs(list: &TopicPartitionList) -> Vec<i32> {
    // SAFETY: the list owns its entries, and has as many as it says.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        (0..count)
            .map(|index| sys::rd_kafka_topic_partition_get_leader_epoch(list.elems.add(index)))
            .collect()
    }
}

/// Frees what it holds at the end of a call, whichever way that ends.
struct Freed<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Freed<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by the matching constructor, freed once.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// Kafka's id of a topic, as one broker knows it; 0 if that is too old to have any. Blocks at most `timeout`.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    broker: i32,
    timeout: Duration,
) -> KafkaResult<u128> {
    let name = CString::new(topic)?;
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let failed = |code: RDKafkaRespErr| KafkaError::MetadataFetch(code.into());
    // SAFETY: every object is freed after its last use, in reverse order; the client outlives the call; the
    // description belongs to the event.
    unsafe {
        let rk = client.native_ptr();
        let mut names = [name.as_ptr()];
        let topics = Freed(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1),
            sys::rd_kafka_TopicCollection_destroy,
        );
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options =
            Freed(sys::rd_kafka_AdminOptions_new(rk, operation), sys::rd_kafka_AdminOptions_destroy);
        let mut text = [0; 128];
        let (text, len) = (text.as_mut_ptr(), text.len());
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout, text, len);
        sys::rd_kafka_AdminOptions_set_broker(options.0, broker, text, len);
        let queue = Freed(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy);
        sys::rd_kafka_DescribeTopics(rk, topics.0, options.0, queue.0);
        // The request has its own time-out; the second is for an answer that comes with it.
        let event = Freed(
            sys::rd_kafka_queue_poll(queue.0, timeout.saturating_add(1_000)),
            sys::rd_kafka_event_destroy,
        );
        if event.0.is_null() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
        }
        let status = sys::rd_kafka_event_error(event.0);
        if status.is_error() {
            return Err(failed(status));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::Fail));
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() || count == 0 {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        let description = *described;
        let status = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description));
        if status.is_error() {
            return Err(failed(status));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return Ok(0);
        }
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        Ok(u128::from(high) << 64 | u128::from(low))
    }
}

/// Asks for a commit, whose answer comes to the context's `commit_callback`. The crate's own asynchronous
/// commit has no answer: librdkafka gives one only to a C callback or to a queue that is named.
pub(super) fn commit<C: ClientContext>(client: &Client<C>, list: &TopicPartitionList) -> KafkaResult<()> {
    // SAFETY: the client outlives the call; the list is copied; the queue is counted, and freed here.
    let status = unsafe {
        let rk = client.native_ptr();
        let queue = Freed(sys::rd_kafka_queue_get_consumer(rk), sys::rd_kafka_queue_destroy);
        if queue.0.is_null() {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownGroup));
        }
        sys::rd_kafka_commit_queue(rk, list.ptr(), queue.0, None, null_mut())
    };
    if status.is_error() { Err(KafkaError::ConsumerCommit(status.into())) } else { Ok(()) }
}

/// How long the mock cluster of a client waits for more members when a group is formed.
pub(super) fn set_group_delay<C: ClientContext>(client: &Client<C>, delay: Duration) {
    let delay = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client owns its mock cluster, and outlives the call.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay);
        }
    }
}

/// Makes the mock cluster of a client keep what it is asked from now on.
pub(super) fn track_requests<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client owns its mock cluster, and outlives the call.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_start_request_tracking(cluster);
        }
    }
}

/// The kinds of all requests that the mock cluster of a client has kept, which it then forgets.
pub(super) fn take_requests<C: ClientContext>(client: &Client<C>) -> Vec<i16> {
    // SAFETY: the client owns its mock cluster, and outlives the call; the list is a copy that has as many
    // entries as it says, and is freed here with all of them.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if cluster.is_null() {
            return Vec::new();
        }
        let mut count = 0;
        let requests = sys::rd_kafka_mock_get_requests(cluster, &raw mut count);
        sys::rd_kafka_mock_clear_requests(cluster);
        if requests.is_null() {
            return Vec::new();
        }
        let keys = (0..count).map(|nth| sys::rd_kafka_mock_request_api_key(*requests.add(nth))).collect();
        sys::rd_kafka_mock_request_destroy_array(requests, count);
        keys
    }
}

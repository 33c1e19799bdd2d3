//! What tests of packs and of duties put beside rows: plain records and erasures of orders.

use crate::domain::erasure::Erasure;
use crate::domain::ids::{AggregateKey, Digest, LedgerId, Lineage, Offset, PartitionNo, Timestamp, Version};
use crate::domain::record::{RecordId, RecordKind, RecordMeta};
use std::collections::BTreeSet;

/// A record of one order's events above `from` up to a version.
pub(crate) fn increment(id: &str, from: u64, upto: u64) -> RecordMeta {
    RecordMeta {
        id: RecordId {
            key: AggregateKey { kind: "order".into(), id: id.into() },
            lineage: Lineage(1),
            upto_version: Version(upto),
            kind: RecordKind::Increment,
            from_version: Version(from),
        },
        partition: PartitionNo(3),
        first_offset: Offset(1),
        last_offset: Offset(9),
        leader_epoch: 4,
        effective_time: Timestamp(1),
        chain: Some(Digest([5; 32])),
        state_digest: None,
        is_deleted: false,
        is_quarantined: false,
        trail: None,
    }
}

/// The erasure of one order.
pub(crate) fn erasure(id: &str) -> Erasure {
    Erasure {
        key: AggregateKey { kind: "order".into(), id: id.into() },
        at: LedgerId::mint(Timestamp(5), [3; 10]),
        reason: "asked for".into(),
        request: None,
        lineage: Lineage(1),
        partition: Some(PartitionNo(3)),
        version: Version(1),
        offset: Offset(1),
        packs: BTreeSet::new(),
    }
}

//! The statements of the index, prepared once: every one of them may be repeated, and waits for the local
//! quorum. Tables are named with their keyspace, so a session needs no current one.
//!
//! Invariant: a read that may bring many rows is paged; only single rows are asked for without pages.

use super::connect::Profiles;
use super::outcome;
use crate::domain::outcome::PortResult;
use futures_util::future;
use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;

/// Rows of a page, a few hundred bytes each.
const PAGE_ROWS: i32 = 1_000;
/// Dead letters of a page: they hold records of up to some MiB.
const PAGE_LETTERS: i32 = 16;

/// Columns of a snapshot row, as they are read.
const SNAPSHOT: &str = "aggregate_type, aggregate_id, lineage, version, pack, kind, from_version, partition_no, \
     first_offset, last_offset, leader_epoch, effective_time, created_at, creation_ms, trigger, event_type, \
     chain, raw_bytes, stored_bytes, state_digest, state_bytes, deleted, quarantined, locator, crc";

const PUT_SNAPSHOT_ID: &str =
    "INSERT INTO KS.snapshot_ids (id, aggregate_type, aggregate_id, lineage, version) VALUES (?, ?, ?, ?, ?)";
const SNAPSHOT_BY_ID: &str =
    "SELECT aggregate_type, aggregate_id, lineage, version FROM KS.snapshot_ids WHERE id = ?";
const DELETE_SNAPSHOT: &str = "\
     DELETE FROM KS.snapshots USING TIMESTAMP ? \
     WHERE aggregate_type = ? AND aggregate_id = ? AND lineage = ? AND version = ? AND pack = ?";
const PUT_DELETION: &str = "\
     INSERT INTO KS.snapshot_deletions (aggregate_type, aggregate_id, lineage, version, pack, deletion) \
     VALUES (?, ?, ?, ?, ?, ?)";
const DELETIONS: &str = "\
     SELECT deletion FROM KS.snapshot_deletions WHERE aggregate_type = ? AND aggregate_id = ? AND lineage = ?";
const DELETION: &str = "\
     SELECT deletion FROM KS.snapshot_deletions WHERE aggregate_type = ? AND aggregate_id = ? AND \
     lineage = ? AND version = ? AND pack = ?";
const PUT_CHECKPOINT: &str = "\
     INSERT INTO KS.checkpoints (topic, partition_no, lineage, pack, first_offset, end_offset, \
     entry_count, object_bytes, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const DELETE_CHECKPOINT: &str = "\
     DELETE FROM KS.checkpoints USING TIMESTAMP ? WHERE topic = ? AND partition_no = ? AND lineage = ? \
     AND pack = ?";
const CHECKPOINTS: &str = "\
     SELECT pack, first_offset, end_offset, entry_count, object_bytes, crc FROM KS.checkpoints WHERE \
     topic = ? AND partition_no = ? AND lineage = ?";
const PUT_WATERMARK: &str = "\
     INSERT INTO KS.partitions (topic, partition_no, lineage, topic_id, leader_epoch, low_watermark, \
     crc) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const WATERMARKS: &str = "\
     SELECT topic_id, leader_epoch, low_watermark, crc FROM KS.partitions WHERE topic = ? AND \
     partition_no = ? AND lineage = ?";
const PUT_OWNER: &str = "INSERT INTO KS.owners (topic, partition_no, lineage, address, position, heartbeat) \
     VALUES (?, ?, ?, ?, ?, ?)";
const OWNER: &str =
    "SELECT address, position, heartbeat FROM KS.owners WHERE topic = ? AND partition_no = ? AND lineage = ?";
const PUT_AGGREGATE: &str = "\
     INSERT INTO KS.aggregates (aggregate_type, slot, aggregate_id, partition_no, crc) VALUES (?, ?, ?, \
     ?, ?)";
const AGGREGATES: &str = "\
     SELECT aggregate_id, partition_no, crc FROM KS.aggregates WHERE aggregate_type = ? AND slot = ? \
     AND (aggregate_id, partition_no) > (?, ?) LIMIT ?";
const PUT_BUCKET: &str =
    "INSERT INTO KS.dead_letter_buckets (topic, partition_no, lineage, bucket) VALUES (?, ?, ?, ?)";
const BUCKETS: &str = "\
     SELECT bucket FROM KS.dead_letter_buckets WHERE topic = ? AND partition_no = ? AND lineage = ? AND \
     bucket >= ?";
const PUT_DEAD_LETTER: &str = "\
     INSERT INTO KS.dead_letters (topic, partition_no, lineage, bucket, record_offset, leader_epoch, \
     code, detail, aggregate_type, aggregate_id, letter) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const PUT_NOTE: &str = "\
     INSERT INTO KS.notes (aggregate_type, aggregate_id, lineage, version, note, label, pinned, reason, crc) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
const NOTES: &str = "\
     SELECT version, note, label, pinned, reason, crc FROM KS.notes WHERE aggregate_type = ? AND \
     aggregate_id = ? AND lineage = ? AND version >= ? AND version <= ?";
const PUT_HOLD: &str = "\
     INSERT INTO KS.holds (aggregate_type, aggregate_id, hold, held, reason, crc) VALUES (?, ?, ?, ?, ?, ?)";
const HOLDS: &str =
    "SELECT hold, held, reason, crc FROM KS.holds WHERE aggregate_type = ? AND aggregate_id = ?";
const PUT_SCHEDULE: &str = "\
     INSERT INTO KS.schedules (bucket, name, change, form, aggregate_type, aggregate_id, id_prefix, \
     schedule, timezone, enabled, jitter_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const SCHEDULES: &str = "SELECT name, form FROM KS.schedules WHERE bucket = ?";
const SCHEDULE: &str = "SELECT form FROM KS.schedules WHERE bucket = ? AND name = ?";
const SCHEDULES_CHANGED: &str = "SELECT DISTINCT change FROM KS.schedules WHERE bucket = ?";
const PUT_RUN: &str = "\
     INSERT INTO KS.schedule_runs (name, topic, partition_no, place, run_number, on_time, due, started, \
     finished, created_count, exists_count, failed_count, form) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const RUNS: &str = "SELECT form FROM KS.schedule_runs WHERE name = ? AND topic = ? AND partition_no = ?";
const PUT_DICTIONARY: &str = "INSERT INTO KS.dictionaries (id, bytes) VALUES (?, ?)";
const DICTIONARY: &str = "SELECT bytes FROM KS.dictionaries WHERE id = ?";
const SCHEMA_VERSION: &str = "SELECT version FROM KS.schema_versions WHERE version = ?";
const DEAD_LETTERS: &str = "\
     SELECT record_offset, letter FROM KS.dead_letters WHERE topic = ? AND partition_no = ? AND lineage \
     = ? AND bucket = ? AND record_offset >= ?";

/// All statements.
pub(super) struct Statements {
    pub(super) put_snapshot: PreparedStatement,
    pub(super) put_snapshot_id: PreparedStatement,
    pub(super) snapshots_down: PreparedStatement,
    pub(super) snapshots_up: PreparedStatement,
    pub(super) snapshot_by_id: PreparedStatement,
    pub(super) delete_snapshot: PreparedStatement,
    pub(super) put_deletion: PreparedStatement,
    pub(super) deletions: PreparedStatement,
    pub(super) deletion: PreparedStatement,
    pub(super) put_checkpoint: PreparedStatement,
    pub(super) delete_checkpoint: PreparedStatement,
    pub(super) checkpoints: PreparedStatement,
    pub(super) put_watermark: PreparedStatement,
    pub(super) watermarks: PreparedStatement,
    pub(super) put_owner: PreparedStatement,
    pub(super) owner: PreparedStatement,
    pub(super) put_aggregate: PreparedStatement,
    pub(super) aggregates: PreparedStatement,
    pub(super) put_bucket: PreparedStatement,
    pub(super) buckets: PreparedStatement,
    pub(super) put_dead_letter: PreparedStatement,
    pub(super) dead_letters: PreparedStatement,
    pub(super) put_note: PreparedStatement,
    pub(super) notes: PreparedStatement,
    pub(super) put_hold: PreparedStatement,
    pub(super) holds: PreparedStatement,
    pub(super) put_schedule: PreparedStatement,
    pub(super) schedules: PreparedStatement,
    pub(super) schedule: PreparedStatement,
    pub(super) schedules_changed: PreparedStatement,
    pub(super) put_run: PreparedStatement,
    pub(super) runs: PreparedStatement,
    pub(super) put_dictionary: PreparedStatement,
    pub(super) dictionary: PreparedStatement,
    pub(super) schema_version: PreparedStatement,
}

/// Prepares statements of one keyspace.
struct Preparing<'a> {
    session: &'a Session,
    keyspace: &'a str,
}

impl Preparing<'_> {
    async fn prepare(
        &self,
        text: &str,
        profile: &ExecutionProfileHandle,
        page: i32,
    ) -> PortResult<PreparedStatement> {
        let text = text.replace("KS.", &format!("\"{}\".", self.keyspace));
        let prepared = self.session.prepare(text).await;
        let mut prepared = prepared.map_err(|error| outcome::prepare_failed(&error))?;
        prepared.set_is_idempotent(true);
        prepared.set_execution_profile_handle(Some(profile.clone()));
        prepared.set_page_size(page);
        Ok(prepared)
    }
}

/// The columns that are written: those that are read, and the algorithm's name for people.
fn put_snapshot() -> String {
    let columns = format!("{SNAPSHOT}, codec");
    let places = vec!["?"; columns.split(',').count()].join(", ");
    format!("INSERT INTO KS.snapshots ({columns}) VALUES ({places}) USING TIMESTAMP ?")
}

impl Statements {
    /// Prepares all of them.
    ///
    /// # Errors
    /// `Permanent` where the keyspace or a table is missing, with what to do about it.
    pub(super) async fn prepare(session: &Session, keyspace: &str, profiles: &Profiles) -> PortResult<Self> {
        let preparing = Preparing { session, keyspace };
        let write = |text: &'static str| preparing.prepare(text, &profiles.writes, PAGE_ROWS);
        let read = |text: &'static str| preparing.prepare(text, &profiles.reads, PAGE_ROWS);
        let schema_version = read(SCHEMA_VERSION).await?;
        let walk = |rest: &str| {
            let of = "WHERE aggregate_type = ? AND aggregate_id = ? AND lineage = ?";
            format!("SELECT {SNAPSHOT} FROM KS.snapshots {of} {rest}")
        };
        let (put_snapshot, down) = (put_snapshot(), walk("AND version <= ? LIMIT ?"));
        let up = walk("AND version > ? ORDER BY lineage ASC, version ASC, pack DESC");
        let (put_snapshot, snapshots_down, snapshots_up, dead_letters) = future::try_join4(
            preparing.prepare(&put_snapshot, &profiles.writes, PAGE_ROWS),
            preparing.prepare(&down, &profiles.reads, PAGE_ROWS),
            preparing.prepare(&up, &profiles.reads, PAGE_ROWS),
            preparing.prepare(DEAD_LETTERS, &profiles.reads, PAGE_LETTERS),
        )
        .await?;
        Ok(Self {
            put_snapshot,
            snapshots_down,
            snapshots_up,
            dead_letters,
            schema_version,
            put_snapshot_id: write(PUT_SNAPSHOT_ID).await?,
            snapshot_by_id: read(SNAPSHOT_BY_ID).await?,
            delete_snapshot: write(DELETE_SNAPSHOT).await?,
            put_deletion: write(PUT_DELETION).await?,
            deletions: read(DELETIONS).await?,
            deletion: read(DELETION).await?,
            put_checkpoint: write(PUT_CHECKPOINT).await?,
            delete_checkpoint: write(DELETE_CHECKPOINT).await?,
            checkpoints: read(CHECKPOINTS).await?,
            put_watermark: write(PUT_WATERMARK).await?,
            watermarks: read(WATERMARKS).await?,
            put_owner: write(PUT_OWNER).await?,
            owner: read(OWNER).await?,
            put_aggregate: write(PUT_AGGREGATE).await?,
            aggregates: read(AGGREGATES).await?,
            put_bucket: write(PUT_BUCKET).await?,
            buckets: read(BUCKETS).await?,
            put_dead_letter: write(PUT_DEAD_LETTER).await?,
            put_note: write(PUT_NOTE).await?,
            notes: read(NOTES).await?,
            put_hold: write(PUT_HOLD).await?,
            holds: read(HOLDS).await?,
            put_schedule: write(PUT_SCHEDULE).await?,
            schedules: read(SCHEDULES).await?,
            schedule: read(SCHEDULE).await?,
            schedules_changed: read(SCHEDULES_CHANGED).await?,
            put_run: write(PUT_RUN).await?,
            runs: read(RUNS).await?,
            put_dictionary: write(PUT_DICTIONARY).await?,
            dictionary: read(DICTIONARY).await?,
        })
    }
}

//! Which faults a seed has, and how often: swarm testing. Each seed turns a random subset on, because a fault
//! that is
//! always on hides what happens without it (a bug that needs a long calm as well as a crash, for instance).

use crate::rng::{Odds, Rng};

/// Chances of the ways in which a call may go wrong; what is left of 10,000 goes well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallFaults {
    /// Not done, and the caller hears so.
    pub(crate) refused: Odds,
    /// Done, and the caller hears "unknown".
    pub(crate) unheard: Odds,
    /// Not done, and the caller hears "unknown".
    pub(crate) lost: Odds,
    /// The caller hears "unknown", then it is done. On the index: on each replica now, later or never.
    pub(crate) late: Odds,
    /// Done or not; the caller hears "unknown" after `hang_ms`.
    pub(crate) hung: Odds,
    /// The answer takes up to 3 s instead of 20 ms.
    pub(crate) slow: Odds,
}

/// All that can go wrong in one seed. Times are virtual milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan {
    /// Calls of the index.
    pub(crate) index: CallFaults,
    /// Calls of the blob store.
    pub(crate) blobs: CallFaults,
    /// Calls of the log.
    pub(crate) log: CallFaults,
    /// How long a hung call hangs: the adapter's time-out.
    pub(crate) hang_ms: u64,
    /// The third replica's write comes after the acknowledgement.
    pub(crate) replica_late: Odds,
    /// The third replica's write never comes.
    pub(crate) replica_lost: Odds,
    /// A read writes what it merged back to the replicas it read.
    pub(crate) read_repair: bool,
    /// "Not done" of an index write may be a lie: harsher than the port's contract, off unless a test sets
    /// it.
    pub(crate) refusals_lie: bool,
    /// One bit of what a blob read returns is flipped.
    pub(crate) bit_flip: Odds,
    /// What a blob read returns is cut short.
    pub(crate) truncated_read: Odds,
    /// Mean time between damages of a stored blob whose name has one of [`crate::world::Setup::damageable`]'s
    /// prefixes; 0 for never.
    pub(crate) damage_every_ms: u64,
    /// Mean time between kills; 0 for never. The same for what follows.
    pub(crate) kill_every_ms: u64,
    /// Longest time until a dead worker is started again.
    pub(crate) restart_ms: u64,
    /// Mean time between pauses.
    pub(crate) pause_every_ms: u64,
    /// Longest pause.
    pub(crate) pause_ms: u64,
    /// One task is put off for up to 50 ms though it could run.
    pub(crate) stall: Odds,
    /// Wall clocks differ from the world's by up to this.
    pub(crate) skew_ms: u64,
    /// Mean time between jumps of a wall clock by up to an hour.
    pub(crate) clock_jump_every_ms: u64,
    /// A member is dropped if it is silent for this long.
    pub(crate) session_ms: u64,
    /// A member that has not released what was revoked is dropped after this.
    pub(crate) revoke_ms: u64,
    /// At a heartbeat, a member that runs is dropped all the same.
    pub(crate) expel: Odds,
    /// A notice of the group comes up to 3 s late.
    pub(crate) late_notice: Odds,
    /// Partitions move even without need when the group changes.
    pub(crate) restless: bool,
    /// A commit of an expelled member succeeds.
    pub(crate) zombie_commit: Odds,
    /// A reader fetches ahead of what it was asked for.
    pub(crate) prefetch: bool,
    /// Most records that one read returns.
    pub(crate) page: u64,
    /// An append is followed by an offset without a record (a transaction marker).
    pub(crate) offset_gap: Odds,
    /// Mean time between clean leader elections.
    pub(crate) election_every_ms: u64,
    /// Mean time between unclean ones.
    pub(crate) truncation_every_ms: u64,
    /// Mean time between re-creations of a topic.
    pub(crate) recreation_every_ms: u64,
    /// Committed offsets outlive the topic they were for (a zombie's commit after the re-creation, for
    /// instance).
    pub(crate) commits_outlive_topic: bool,
    /// Mean time between moves of a log's start.
    pub(crate) retention_every_ms: u64,
    /// Retention may pass the low watermarks: history is lost.
    pub(crate) retention_past_watermark: bool,
    /// Mean time between two events.
    pub(crate) event_every_ms: u64,
    /// Percent of the events that go to one hot aggregate.
    pub(crate) hot_percent: u32,
    /// Events come again with the same bytes.
    pub(crate) duplicate: Odds,
    /// An event's time is not the time of its appending.
    pub(crate) out_of_order: Odds,
    /// A record is poison.
    pub(crate) poison: Odds,
    /// A record is a tombstone (a key without a value).
    pub(crate) tombstone: Odds,
}

fn some(rng: &mut Rng, percent: u32, odds: [u32; 3]) -> Odds {
    if rng.percent(percent) { Odds(*rng.pick(&odds)) } else { Odds(0) }
}

fn every(rng: &mut Rng, percent: u32, low: u64, high: u64) -> u64 {
    if rng.percent(percent) { rng.between(low, high) } else { 0 }
}

impl CallFaults {
    fn drawn(rng: &mut Rng) -> Self {
        Self {
            refused: some(rng, 50, [50, 200, 1_000]),
            unheard: some(rng, 50, [50, 200, 1_000]),
            lost: some(rng, 50, [50, 200, 1_000]),
            late: some(rng, 50, [50, 200, 1_000]),
            hung: some(rng, 25, [10, 20, 50]),
            slow: some(rng, 50, [20, 100, 300]),
        }
    }
}

impl FaultPlan {
    /// A world in which nothing goes wrong, with short delays and a group that works.
    pub(crate) fn calm() -> Self {
        Self {
            hang_ms: 3_000,
            restart_ms: 50,
            session_ms: 500,
            revoke_ms: 500,
            page: 50,
            event_every_ms: 20,
            read_repair: true,
            ..Self::default()
        }
    }

    /// The plan of a seed.
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let mut plan = Self {
            index: CallFaults::drawn(rng),
            blobs: CallFaults::drawn(rng),
            log: CallFaults::drawn(rng),
            hang_ms: rng.between(500, 6_000),
            replica_late: some(rng, 60, [500, 2_000, 5_000]),
            replica_lost: some(rng, 60, [200, 1_000, 5_000]),
            read_repair: rng.percent(40),
            bit_flip: some(rng, 40, [20, 50, 100]),
            truncated_read: some(rng, 30, [20, 50, 100]),
            damage_every_ms: every(rng, 20, 2_000, 10_000),
            ..Self::calm_group(rng)
        };
        Self::draw_processes(&mut plan, rng);
        Self::draw_log(&mut plan, rng);
        plan
    }

    fn calm_group(rng: &mut Rng) -> Self {
        Self {
            session_ms: rng.between(200, 1_500),
            revoke_ms: rng.between(200, 1_500),
            expel: some(rng, 40, [5, 20, 50]),
            late_notice: some(rng, 50, [500, 2_000, 5_000]),
            restless: rng.percent(30),
            zombie_commit: some(rng, 70, [2_000, 5_000, 10_000]),
            ..Self::default()
        }
    }

    fn draw_processes(plan: &mut Self, rng: &mut Rng) {
        plan.kill_every_ms = every(rng, 85, 400, 4_000);
        plan.restart_ms = rng.between(10, 2_000);
        plan.pause_every_ms = every(rng, 60, 800, 5_000);
        plan.pause_ms = rng.between(50, 4_000);
        plan.stall = some(rng, 50, [50, 200, 400]);
        plan.skew_ms = every(rng, 60, 1, 2_000);
        plan.clock_jump_every_ms = every(rng, 20, 2_000, 10_000);
    }

    fn draw_log(plan: &mut Self, rng: &mut Rng) {
        plan.event_every_ms = rng.between(10, 60);
        plan.hot_percent = *rng.pick(&[0, 30, 60]);
        plan.prefetch = rng.percent(50);
        plan.page = *rng.pick(&[1, 5, 20, 100]);
        plan.offset_gap = some(rng, 40, [100, 1_000, 5_000]);
        plan.election_every_ms = every(rng, 50, 1_000, 6_000);
        plan.truncation_every_ms = every(rng, 28, 1_000, 5_000);
        plan.recreation_every_ms = every(rng, 18, 3_000, 12_000);
        plan.commits_outlive_topic = rng.percent(30);
        plan.retention_every_ms = every(rng, 50, 500, 4_000);
        plan.duplicate = some(rng, 70, [100, 300, 1_000]);
        plan.out_of_order = some(rng, 60, [200, 1_000, 5_000]);
        plan.poison = some(rng, 60, [30, 60, 120]);
        plan.tombstone = some(rng, 30, [20, 100, 300]);
    }

    /// The healed plan: what the producer still writes stays odd, the world no longer fails.
    pub(crate) fn healed(&self) -> Self {
        Self {
            read_repair: self.read_repair,
            page: self.page.max(5),
            prefetch: self.prefetch,
            skew_ms: self.skew_ms,
            duplicate: self.duplicate,
            out_of_order: self.out_of_order,
            ..Self::calm()
        }
    }
}

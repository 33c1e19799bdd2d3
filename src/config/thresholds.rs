//! When and how snapshots are taken: the section `snapshot` of a stream.

use super::reader::Section;
use super::stream::History;
use crate::domain::partition::Strategy;

/// `snapshot`.
pub(super) struct Thresholds {
    pub(super) events_max: u64,
    pub(super) age_ms_max: u64,
    pub(super) bytes_max: u64,
    pub(super) strategy: Strategy,
    pub(super) write_amplification_permille: u64,
    pub(super) adaptive_us: Option<u64>,
}

impl Thresholds {
    pub(super) fn read(it: Section<'_>) -> Self {
        let full_every = u32::try_from(it.whole("fullEvery")).unwrap_or(1);
        let strategy = match it.choice("strategy").as_str() {
            "full" => Strategy::Full,
            "auto" => Strategy::Auto { full_every, every: AUTO_EVERY },
            _ => Strategy::Incremental { full_every },
        };
        if strategy == Strategy::Full && it.given("fullEvery").is_some() {
            it.problem("fullEvery", "`fullEvery` has no meaning with `strategy: full`", "remove it");
        }
        Self {
            events_max: it.whole("eventThreshold"),
            age_ms_max: it.ms("timeThreshold"),
            bytes_max: it.bytes("sizeThreshold"),
            strategy,
            write_amplification_permille: it.permille("maxWriteAmplification"),
            adaptive_us: adaptive(&it),
        }
    }

    /// With `auto`, events are stored unless only snapshots are promised. A topic that keeps them for longer
    /// today may keep them for less tomorrow, and whoever changes that does not ask us.
    pub(super) fn strategy_for(&self, history: History) -> Strategy {
        match (self.strategy, history) {
            (Strategy::Auto { full_every, .. }, History::Forever | History::Ms(_)) => {
                Strategy::Incremental { full_every }
            }
            (strategy, _) => strategy,
        }
    }
}

/// Snapshots after which `auto` looks again at what they cost.
const AUTO_EVERY: u32 = 1_000;

/// Longest and shortest target of reconstruction, in milliseconds.
const TARGET_MS: std::ops::RangeInclusive<u64> = 1..=60_000;

fn adaptive(it: &Section<'_>) -> Option<u64> {
    it.given("adaptive")?;
    it.section("adaptive", |of| {
        if of.given("targetReconstruct").is_none() {
            of.problem(
                "targetReconstruct",
                "`adaptive` without `targetReconstruct`",
                "write one, as in `20ms`",
            );
            return None;
        }
        let target_ms = of.ms("targetReconstruct");
        if !TARGET_MS.contains(&target_ms) {
            of.problem("targetReconstruct", "the target lies beyond 1ms to 60s", "write one between them");
        }
        Some(target_ms.saturating_mul(1_000))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;
    use super::*;

    #[test]
    fn auto_is_incremental_unless_only_snapshots_are_promised() {
        let strategy = |keys: &str| {
            let text = format!(
                "streams:\n  - {{ type: order, topic: orders, format: cloudevents, reducer: merge, {keys} }}\n"
            );
            loaded(&text, &[], &[]).streams[0].strategy
        };
        let auto = "snapshot: { strategy: auto, fullEvery: 5 }";
        assert_eq!(strategy(auto), Strategy::Incremental { full_every: 5 });
        assert_eq!(strategy(&format!("{auto}, history: 90d")), Strategy::Incremental { full_every: 5 });
        let measured = strategy(&format!("{auto}, history: snapshots"));
        assert!(matches!(measured, Strategy::Auto { full_every: 5, .. }), "{measured:?}");
    }
}

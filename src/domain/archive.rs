//! Which packs go to the archive: pure, by the types of what they hold and by how old they are.
//!
//! INVARIANT: a pack goes only once it is older than `archiveAfter` of every type in it. What has none, or is
//! not known here, keeps the whole pack where it is.

use super::ids::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `archiveAfter` of each type that has one, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(pub BTreeMap<Arc<str>, u64>);

impl Policy {
    /// Younger packs stay whatever they hold; none if all stay.
    #[must_use]
    pub fn earliest_ms(&self) -> Option<u64> {
        self.0.values().copied().min()
    }

    /// The age from which on a pack with these types goes; none if it stays for good.
    pub fn goes_after<'a>(&self, kinds: impl IntoIterator<Item = &'a str>) -> Option<u64> {
        let mut latest = None;
        for kind in kinds {
            latest = latest.max(Some(*self.0.get(kind)?));
        }
        latest
    }
}

/// Whether a pack of this minting time is older than `ms`; one from the future is not.
#[must_use]
pub fn is_older(minted_at: Timestamp, now: Timestamp, ms: u64) -> bool {
    u64::try_from(now.0.saturating_sub(minted_at.0)).is_ok_and(|age| age >= ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_goes_by_the_type_that_stays_longest() {
        let policy = Policy([("order".into(), 90), ("cart".into(), 30)].into());
        assert_eq!(policy.earliest_ms(), Some(30));
        assert_eq!(policy.goes_after(["order"]), Some(90));
        assert_eq!(policy.goes_after(["cart", "order", "cart"]), Some(90));
        assert_eq!(policy.goes_after(["cart", "customer"]), None, "that type has no `archiveAfter`");
        assert_eq!(policy.goes_after([]), None, "a pack of nothing is none that we know");
        assert_eq!(Policy::default().earliest_ms(), None);
    }

    #[test]
    fn age_is_counted_from_minting() {
        let minted = Timestamp(1_000);
        assert!(is_older(minted, Timestamp(1_090), 90) && !is_older(minted, Timestamp(1_089), 90));
        assert!(!is_older(minted, Timestamp(0), 0), "minted in the future");
        assert!(!is_older(Timestamp(i64::MIN), Timestamp(0), u64::MAX));
    }
}

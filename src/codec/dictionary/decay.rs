//! Watches how well bodies compress with what was learnt last: data changes, and a dictionary does not.
//!
//! INVARIANT: a training that comes of it starts the watch anew, whether or not it found something better. So
//! data that simply compresses worse costs one training, not one after the other.

/// Bodies that are measured together: fewer vary by themselves.
pub(super) const WINDOW: u64 = 1_000;

/// How much worse than it was is a decay, in percent.
const WORSE_PERCENT: u128 = 10;

/// Bytes before and after compression.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bodies: u64,
    raw: u64,
    stored: u64,
}

impl Sum {
    /// Whether it compresses to a larger share than `percent` of another's.
    fn is_worse_than(&self, percent: u128, other: &Self) -> bool {
        let share = |one: &Self, of: &Self| u128::from(one.stored) * u128::from(of.raw);
        share(self, other) * 100 > share(other, self) * percent
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Decay {
    window: Sum,
    /// The best window since the watch began.
    best: Option<Sum>,
}

impl Decay {
    /// A body was stored; true if the window that it ends is worse than the best one was.
    pub(super) fn stored(&mut self, raw: usize, stored: usize) -> bool {
        self.window.bodies += 1;
        self.window.raw += raw as u64;
        self.window.stored += stored as u64;
        if self.window.bodies < WINDOW {
            return false;
        }
        let window = std::mem::take(&mut self.window);
        let best = *self.best.get_or_insert(window);
        if best.is_worse_than(100, &window) {
            self.best = Some(window);
        }
        window.is_worse_than(100 + WORSE_PERCENT, &best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of bodies of 100 bytes that become so many; the first that counts as a decay.
    fn first_decay(stored: &[usize]) -> Option<usize> {
        let mut decay = Decay::default();
        stored.iter().position(|stored| (0..WINDOW).any(|_| decay.stored(100, *stored)))
    }

    #[test]
    fn a_window_is_measured_against_the_best_one() {
        assert_eq!(first_decay(&[30, 31, 32, 33, 29, 30, 31]), None);
        assert_eq!(first_decay(&[30, 32, 34, 90]), Some(2));
        assert_eq!(first_decay(&[40, 30, 32, 34]), Some(3), "it became better first");
        assert_eq!(first_decay(&[0, 0, 0]), None);
        assert_eq!(first_decay(&[90]), None, "there is nothing before it");
    }
}

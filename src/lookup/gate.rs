//! How many reads run at once: a semaphore over futures, so that falling back never becomes a storm.
//!
//! *If cancelled*: a turn that was handed to a waiter which is gone goes on to the next one.

use futures_channel::oneshot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

struct Queue {
    free: usize,
    waiting_max: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// Hands out turns in the order in which they were asked for.
#[derive(Clone)]
pub(super) struct Gate(Arc<Mutex<Queue>>);

/// The right to read; dropping it lets the next one in.
pub(crate) struct Turn(Option<Gate>);

impl Gate {
    pub(super) fn new(turns: usize, waiting_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue { free: turns.max(1), waiting_max, waiting: VecDeque::new() })))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().expect("no panic while the queue is held")
    }

    /// A turn, as soon as there is one; none if too many wait already.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let wait = {
            let mut queue = self.queue();
            if queue.free > 0 {
                queue.free -= 1;
                return Some(Turn(Some(self.clone())));
            }
            queue.waiting.retain(|waiter| !waiter.is_canceled());
            if queue.waiting.len() >= queue.waiting_max {
                return None;
            }
            let (sender, wait) = oneshot::channel();
            queue.waiting.push_back(sender);
            wait
        };
        wait.await.ok()
    }

    fn give_back(&self) {
        loop {
            let next = {
                let mut queue = self.queue();
                match queue.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        queue.free += 1;
                        return;
                    }
                }
            };
            // Outside of the lock, because a turn that comes back at once would ask for it again.
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                Err(mut refused) => refused.0 = None,
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn no_more_than_so_many_read_and_no_more_than_so_many_wait() {
        let gate = Gate::new(1, 2);
        let first = gate.turn().now_or_never().flatten().expect("it is free");
        let (mut second, mut third) = (Box::pin(gate.turn()), Box::pin(gate.turn()));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(gate.turn().now_or_never().expect("it is told at once").is_none());
        // The second is not interested any more: its turn goes to the third.
        drop(second);
        drop(first);
        let third = third.now_or_never().flatten().expect("its turn");
        assert!(gate.turn().now_or_never().is_none());
        drop(third);
        assert!(gate.turn().now_or_never().flatten().is_some());
    }
}

//! What one topic's worker hears of the group, and how it answers.
//!
//! *Order*: notices come in the order in which the group's member took them.
//! *If cancelled*: a notice is taken in the same poll that hands it out.

use super::consumer::{Command, Commands};
use super::queue::{Key, QueueRecords};
use crate::domain::ids::{Offset, PartitionNo};
use crate::domain::outcome::{PortError, PortResult};
use crate::kafka::{Group, GroupEvent, Records};
use futures_channel::oneshot;
use futures_util::future::{BoxFuture, poll_fn};
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

/// Notices that the worker has not heard yet.
#[derive(Default)]
pub(super) struct Mailbox {
    notices: Mutex<VecDeque<GroupEvent>>,
    waker: AtomicWaker,
}

impl Mailbox {
    fn notices(&self) -> MutexGuard<'_, VecDeque<GroupEvent>> {
        self.notices.lock().expect("no panic while notices are held")
    }

    /// Puts a notice at the end, unless it is about nothing.
    pub(super) fn tell(&self, event: fn(Vec<PartitionNo>) -> GroupEvent, partitions: Vec<PartitionNo>) {
        if partitions.is_empty() {
            return;
        }
        self.notices().push_back(event(partitions));
        self.waker.wake();
    }

    /// Takes back that these partitions were assigned; true for each that the worker had not heard of yet, so
    /// that it has nothing to let go of.
    pub(super) fn take_back(&self, partition: PartitionNo) -> bool {
        let mut notices = self.notices();
        let mut found = false;
        for notice in notices.iter_mut() {
            if let GroupEvent::Assigned(partitions) = notice {
                let before = partitions.len();
                partitions.retain(|other| *other != partition);
                found |= partitions.len() < before;
            }
        }
        notices.retain(|notice| !matches!(notice, GroupEvent::Assigned(none) if none.is_empty()));
        found
    }
}

/// The membership of one topic's worker.
pub(super) struct Member {
    pub(super) topic: Arc<str>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) commands: Commands,
}

impl Member {
    fn key(&self, partition: PartitionNo) -> Key {
        (Arc::clone(&self.topic), partition.0)
    }
}

impl Group for Member {
    fn next(&self) -> BoxFuture<'_, GroupEvent> {
        Box::pin(poll_fn(|context| {
            self.mailbox.waker.register(context.waker());
            self.mailbox.notices().pop_front().map_or(Poll::Pending, Poll::Ready)
        }))
    }

    fn released(&self, partitions: &[PartitionNo]) {
        let keys = partitions.iter().map(|partition| self.key(*partition)).collect();
        // A consumer that is closed has let go of everything.
        let _ = self.commands.send(Command::Released(keys));
    }

    fn records(&self, partition: PartitionNo, from: Offset) -> BoxFuture<'_, PortResult<Box<dyn Records>>> {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            self.commands.send(Command::Open(self.key(partition), from, sender))?;
            let slot =
                answer.await.map_err(|_| PortError::NotDone("the consumer is closed".to_owned()))??;
            Ok(Box::new(QueueRecords(slot)) as Box<dyn Records>)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn what_the_worker_has_not_heard_of_is_taken_back_without_asking_it() {
        let mailbox = Mailbox::default();
        mailbox.tell(GroupEvent::Assigned, vec![PartitionNo(1), PartitionNo(2)]);
        assert!(mailbox.take_back(PartitionNo(1)));
        assert!(!mailbox.take_back(PartitionNo(1)));
        mailbox.tell(GroupEvent::Revoked, vec![]);
        let (commands, _) = Commands::new();
        let member = Member { topic: "t".into(), mailbox: Arc::new(mailbox), commands };
        assert_eq!(member.next().now_or_never(), Some(GroupEvent::Assigned(vec![PartitionNo(2)])));
        assert_eq!(member.next().now_or_never(), None);
    }
}

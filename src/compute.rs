//! Long computations, as a port: to encode and compress a pack takes milliseconds, to train a dictionary
//! seconds, and a task that did either itself would keep all that shares its thread waiting.

use futures_channel::oneshot;
use futures_util::future::BoxFuture;

/// A computation without I/O.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs computations beside the tasks.
pub trait Compute: Send + Sync {
    /// Starts `job` at once; the future completes when it is done. Dropping the future does not end it.
    fn start(&self, job: Job) -> BoxFuture<'static, ()>;
}

/// Computes `value` beside the tasks and waits for it.
///
/// # Panics
/// If the computation does.
pub async fn computed<T: Send + 'static>(
    compute: &dyn Compute,
    value: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = oneshot::channel();
    compute
        .start(Box::new(move || {
            // Whoever waited may be gone.
            let _ = sender.send(value());
        }))
        .await;
    receiver.await.expect("the computation has ended, and without a panic")
}

/// Computes at once, where it is asked: for a single thread, as in the simulator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Compute for Inline {
    fn start(&self, job: Job) -> BoxFuture<'static, ()> {
        job();
        Box::pin(std::future::ready(()))
    }
}

#[cfg(feature = "runtime")]
pub use threads::{FILE_THREADS_MAX, Threads};

#[cfg(feature = "runtime")]
mod threads {
    use super::{BoxFuture, Compute, Job};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use tokio::sync::oneshot;

    /// Threads that compute: two may train dictionaries for a second or two (one for each kind of record),
    /// one makes a checkpoint, and snapshots do not wait for that.
    const COMPUTING: usize = 4;

    /// Threads that a runtime may have for reads and writes of files.
    ///
    /// COST: tokio's default is 512. Each keeps memory of its own that it has freed: a burst of loads with a
    /// thread for each took a gigabyte.
    pub const FILE_THREADS_MAX: usize = 16;

    type Waiting = (Job, oneshot::Sender<()>);

    /// Computes on threads that do nothing else and end with the last clone of this.
    ///
    /// COST: few threads and always the same: a pack is made of some ten megabytes that its thread keeps for
    /// the next one.
    #[derive(Clone, Debug)]
    pub struct Threads(Sender<Waiting>);

    impl Threads {
        /// Starts them.
        ///
        /// # Errors
        /// If the operating system has no more threads.
        pub fn start() -> std::io::Result<Self> {
            let (sender, jobs) = channel();
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..COMPUTING {
                let jobs = Arc::clone(&jobs);
                std::thread::Builder::new().name("compute".to_owned()).spawn(move || work(&jobs))?;
            }
            Ok(Self(sender))
        }
    }

    /// Computes what comes until nobody is left who could ask.
    fn work(jobs: &Mutex<Receiver<Waiting>>) {
        loop {
            let next = jobs.lock().expect("no panic while it is held").recv();
            let Ok((job, done)) = next else { return };
            // Its caller notices the panic of a job: there is no value then.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = done.send(());
        }
    }

    impl Compute for Threads {
        fn start(&self, job: Job) -> BoxFuture<'static, ()> {
            let (done, end) = oneshot::channel();
            self.0.send((job, done)).expect("the threads wait as long as there is a sender");
            Box::pin(async move {
                let _ = end.await;
            })
        }
    }
}

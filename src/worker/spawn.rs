//! Tasks on a tokio runtime that end with whoever started them.

use super::Spawn;
use crate::compute::FILE_THREADS_MAX;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;

/// Starts tasks on a runtime.
#[derive(Clone, Debug)]
pub struct TokioSpawn {
    runtime: Handle,
    _own: Option<Arc<Own>>,
}

/// A runtime that ends with its last clone.
#[derive(Debug)]
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        // Whoever drops it may be a task, which must not wait for threads to end.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl TokioSpawn {
    /// Tasks go to this runtime.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, _own: None }
    }

    /// Tasks go to a runtime of their own, whose threads have this name.
    ///
    /// COST: a partition's task folds for milliseconds at a time. On the threads of everything else, each
    /// step of a flush and each answer over HTTP would wait behind that.
    ///
    /// # Errors
    /// If the operating system has no more threads.
    pub fn apart(name: &str) -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.thread_name(name).max_blocking_threads(FILE_THREADS_MAX).enable_all();
        let runtime = builder.build()?;
        Ok(Self { runtime: runtime.handle().clone(), _own: Some(Arc::new(Own(Some(runtime)))) })
    }
}

/// Ends its task when it is dropped.
struct Owned(AbortHandle);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Box<dyn Send + Sync> {
        Box::new(Owned(self.runtime.spawn(task).abort_handle()))
    }
}

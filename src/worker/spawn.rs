//! Tasks on a tokio runtime that end with whoever started them.

use super::Spawn;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Starts tasks on a runtime.
#[derive(Clone, Debug)]
pub struct TokioSpawn(Handle);

impl TokioSpawn {
    /// Tasks go to this runtime.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self(runtime)
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
        Box::new(Owned(self.0.spawn(task).abort_handle()))
    }
}

//! Runs the log in a thread of its own, so that log and deliveries do not wait for each other.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use crate::error::Error;

/// A runtime for the tasks of the log. Dropping it ends the tasks without waiting for them, so it
/// may be dropped in async code.
#[derive(Debug)]
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// # Errors
    /// [`Error::Os`] if the system gives no further thread.
    pub(super) fn start() -> Result<Self, Error> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("log").enable_all().build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(|source| Error::Os { what: "starting threads", source })
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let handle = self.0.as_ref().map(tokio::runtime::Runtime::handle);
        handle.expect("it is there until it is dropped").spawn(task)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

//! Appends that wait for their answer.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::entry::Appended;
use crate::protocol::{Outcome, Refusal};

/// Counts the appends without an answer.
#[derive(Debug, Default)]
pub(super) struct OpenAppends(TaskTracker);

/// The answer that an append waits for.
#[derive(Debug)]
pub(super) struct AppendAnswer {
    sender: oneshot::Sender<Appended>,
    _open: TaskTrackerToken,
}

impl OpenAppends {
    /// Begins an append.
    pub(super) fn begin(&self) -> (AppendAnswer, oneshot::Receiver<Appended>) {
        let (sender, outcome) = oneshot::channel();
        (AppendAnswer { sender, _open: self.0.token() }, outcome)
    }

    /// Ends when no append waits for its answer.
    pub(super) fn answered(&self) -> BoxFuture<'_, ()> {
        // A closed tracker still counts; an open one never reports that it is empty.
        self.0.close();
        self.0.wait().boxed()
    }
}

impl AppendAnswer {
    /// Answers. The sender may have left; the entry counts all the same.
    pub(super) fn send(self, appended: Appended) {
        let _ = self.sender.send(appended);
    }

    /// Answers that the log failed.
    pub(super) fn fail(self, outcome: Outcome, why: &'static str) {
        self.send(Err(Refusal::unavailable(outcome, why)));
    }
}

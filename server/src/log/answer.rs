//! Tracks the appends that wait for their answer.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::entry::Appended;
use crate::protocol::{Outcome, Refusal};

/// Counts the appends that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct OpenAppends(TaskTracker);

/// The sending end of an answer. The append is open until this value is dropped.
#[derive(Debug)]
pub(super) struct AppendAnswer {
    sender: oneshot::Sender<Appended>,
    _open: TaskTrackerToken,
}

impl OpenAppends {
    /// Begins an append. Its answer is sent through the first value and received through the
    /// second.
    pub(super) fn begin(&self) -> (AppendAnswer, oneshot::Receiver<Appended>) {
        let (sender, outcome) = oneshot::channel();
        (AppendAnswer { sender, _open: self.0.token() }, outcome)
    }

    /// Completes when no append waits for its answer.
    pub(super) fn answered(&self) -> BoxFuture<'_, ()> {
        // The tracker is closed only because `wait` would otherwise never end. It still counts new
        // appends.
        self.0.close();
        self.0.wait().boxed()
    }
}

impl AppendAnswer {
    /// Sends the answer. The receiver may be gone; the entry is applied nevertheless.
    pub(super) fn send(self, appended: Appended) {
        let _ = self.sender.send(appended);
    }

    /// Answers that the append failed.
    pub(super) fn fail(self, outcome: Outcome, why: &'static str) {
        self.send(Err(Refusal::unavailable(outcome, why)));
    }
}

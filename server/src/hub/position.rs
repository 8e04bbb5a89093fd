//! The position of the hub in the log, the tasks that wait for a position, and the reset after a
//! loss of entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{Hub, HubState};
use crate::entry::Target;
use crate::hub::dedup::DedupWindow;
use crate::hub::delivery_queue::Work;
use crate::id::{Address, Tag};
use crate::log::Replica;
use crate::protocol::Mark;

/// The tasks that wait until an entry is applied, by the entry's number. An entry wakes only the
/// tasks that wait for it, and costs nothing while none waits.
#[derive(Debug, Default)]
pub(super) struct Waiters(BTreeMap<u64, Arc<Notify>>);

/// Takes a task off the list of waiters when the task ends or is cancelled.
struct WaiterGuard {
    hub: Arc<Hub>,
    seq: u64,
}

impl Hub {
    /// The number of the last entry applied.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn move_to(&self, state: &mut HubState, seq: u64) {
        self.head.store(seq, Ordering::Release);
        while let Some(first) = state.waiters.0.first_entry()
            && *first.key() <= seq
        {
            first.remove().notify_waiters();
        }
    }
}

impl Replica for Hub {
    fn head(&self) -> u64 {
        Self::head(self)
    }

    fn applied(self: Arc<Self>, seq: u64) -> BoxFuture<'static, ()> {
        async move {
            let _guard = WaiterGuard { hub: Arc::clone(&self), seq };
            let applied = {
                // No entry is applied while this lock is held, so none is missed between the check
                // and the addition to the waiters. A `Notified` need not be polled first: it is
                // woken by every notification after its creation.
                let mut state = self.state.lock();
                if self.head() >= seq {
                    return;
                }
                Arc::clone(state.waiters.0.entry(seq).or_default()).notified_owned()
            };
            applied.await;
        }
        .boxed()
    }

    fn admits(self: Arc<Self>) -> BoxFuture<'static, ()> {
        async move {
            while Self::admit(&self).is_err() {
                for shard in &self.shards {
                    shard.until_free().await;
                }
            }
        }
        .boxed()
    }

    fn skip(&self, seq: u64) {
        self.move_to(&mut self.state.lock(), seq);
    }

    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark) {
        Self::tell_read(self, tag, address, mark, None);
    }

    fn reset_to(&self, seq: u64) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        self.move_to(state, seq);
        state.history.reset_to(seq);
        state.dedup = DedupWindow::default();
        state.generation.0 += 1;
        state.registrations = 0;
        state.ids = 0;
        for (tag, listeners) in state.tags.drain() {
            for (index, shard) in self.shards.iter().enumerate() {
                if listeners.concerns(index, Target::Everyone) {
                    shard.push(Work::Dissolve { tag: tag.clone() });
                }
            }
        }
    }
}

impl Drop for WaiterGuard {
    fn drop(&mut self) {
        let waiters = &mut self.hub.state.lock().waiters.0;
        // Only this task waited for the entry.
        if waiters.get(&self.seq).is_some_and(|notify| Arc::strong_count(notify) == 1) {
            waiters.remove(&self.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::hub::RegistrationLimits;
    use crate::hub::history::Settings;

    #[test]
    fn who_waits_for_an_entry_is_woken_by_it_and_forgotten_when_it_leaves() {
        let (settings, limits) = (Settings::default(), RegistrationLimits::default());
        let hub = Arc::new(Hub::new("e".into(), vec![Arc::default()], settings, limits, 0));
        let mut context = Context::from_waker(Waker::noop());
        let [mut early, mut late, mut other] = [2, 3, 3].map(|seq| Arc::clone(&hub).applied(seq));
        let mut is_ready =
            |future: &mut BoxFuture<'static, ()>| future.poll_unpin(&mut context).is_ready();
        assert!(![&mut early, &mut late, &mut other].into_iter().any(&mut is_ready));
        hub.skip(2);
        assert!(is_ready(&mut early) && !is_ready(&mut late));
        drop(late);
        assert_eq!(hub.state.lock().waiters.0.len(), 1);
        assert!(!is_ready(&mut other));
        drop(other);
        assert!(hub.state.lock().waiters.0.is_empty());
        assert!(is_ready(&mut Arc::clone(&hub).applied(2)));
        let mut last = Arc::clone(&hub).applied(9);
        assert!(!is_ready(&mut last));
        hub.reset_to(10);
        assert!(is_ready(&mut last));
    }
}

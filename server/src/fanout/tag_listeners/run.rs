//! Writes successive deliveries of a tag to each listener in one write.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;

use super::{Listener, SLICE, TagListeners};
use crate::entry::Target;
use crate::fanout::join::join;
use crate::hub::delivery_queue::{Delivery, Load, Work};
use crate::hub::tally::Tally;

/// How many outboxes are read ahead, so that the CPU loads them at the same time. A core has about
/// this number of memory loads in flight.
const TOUCHED: usize = 8;
/// The most deliveries in one write. The limit is well below that of an outbox, so that one run
/// does not close a client that keeps up.
const RUN_FRAMES: usize = 64;
const RUN_BYTES: usize = 64 * 1024;

/// Successive deliveries that are being written to one listener after the other. Nobody joins or
/// leaves during a run, so the indexes stay valid.
#[derive(Debug)]
pub(super) struct Run {
    /// The frames of the broadcasts, joined in one buffer.
    joined: Bytes,
    /// The number of frames in `joined`.
    frames: usize,
    /// The times at which this process accepted the entries.
    received: Vec<Instant>,
    /// The connections that also get direct messages. They are written to when the run begins.
    served: HashSet<u64>,
    /// The index of the next listener.
    next: usize,
    /// The amount of work that is done when the run ends.
    load: Load,
    /// Whether any listener got a frame.
    reached: bool,
}

impl TagListeners {
    /// Begins a run with `first` and the deliveries that follow it in the queue.
    pub(super) fn begin_run(&mut self, first: Delivery, mut load: Load, tally: &mut Tally) {
        let mut bytes = first.frame.len();
        let mut deliveries = vec![first];
        while let Some(Work::Deliver { delivery, .. }) = self.backlog.front()
            && deliveries.len() < RUN_FRAMES
            && bytes + delivery.frame.len() <= RUN_BYTES
        {
            bytes += delivery.frame.len();
            if let Some(work) = self.backlog.pop_front() {
                load.add(Load::of(&work));
                if let Work::Deliver { delivery, .. } = work {
                    deliveries.push(delivery);
                }
            }
        }
        for late in self.catching_up.values_mut() {
            late.hold(&deliveries);
        }
        let before = tally.deliveries;
        let served = self.serve_people(&deliveries, tally);
        let reached = tally.deliveries > before;
        let received = deliveries.iter().filter_map(|delivery| delivery.received).collect();
        let everyones = deliveries.iter().filter(|other| other.target == Target::Everyone);
        let frames = everyones.clone().count();
        let joined = join(everyones.map(|delivery| delivery.frame.clone()));
        self.run = Some(Run { joined, frames, received, served, next: 0, load, reached });
    }

    /// Writes to each recipient of a direct message all frames of the run that are for it, in
    /// order.
    fn serve_people(&self, deliveries: &[Delivery], tally: &mut Tally) -> HashSet<u64> {
        let mut served = HashSet::new();
        for delivery in deliveries {
            let Target::One(address) = delivery.target else { continue };
            for connection in self.people.get(&address).into_iter().flatten() {
                let number = connection.number;
                if served.insert(number) {
                    let theirs =
                        deliveries.iter().filter(|other| other.concerns(number, Some(address)));
                    let frames = theirs.clone().count();
                    let joined = join(theirs.map(|delivery| delivery.frame.clone()));
                    if !joined.is_empty() && connection.outbox.push(&joined).is_taken() {
                        tally.deliver(1, frames, joined.len());
                    }
                }
            }
        }
        served
    }

    /// Serves one slice of the run. Returns the load of the run once it has ended, and before that
    /// an empty load.
    pub(super) fn continue_run(&mut self, tally: &mut Tally) -> Load {
        let Some(run) = &mut self.run else { return Load::default() };
        let all = if run.frames == 0 { 0 } else { self.listeners.len() };
        let end = all.min(run.next + SLICE);
        let mut taken = 0;
        for group in self.listeners[run.next..end].chunks(TOUCHED) {
            let touched = group.iter().filter(|listener| listener.connection.outbox.touch());
            std::hint::black_box(touched.count());
            for Listener { connection, .. } in group {
                if run.served.is_empty() || !run.served.contains(&connection.number) {
                    taken += u64::from(connection.outbox.push(&run.joined).is_taken());
                }
            }
        }
        tally.deliver(taken, run.frames, run.joined.len());
        run.reached |= taken > 0;
        run.next = end;
        if end < all {
            return Load::default();
        }
        if run.reached {
            tally.reached_all(run.received.drain(..));
        }
        let load = run.load;
        self.run = None;
        load
    }
}

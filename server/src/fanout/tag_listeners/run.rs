//! Deliveries that stood together in a tag's queue, and their writing.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;

use super::{Listener, SLICE, TagListeners};
use crate::entry::Target;
use crate::fanout::batch::{Delivery, join};
use crate::hub::delivery_queue::{Load, Work};
use crate::hub::tally::Tally;

/// Connections whose memory is asked for at once: as many loads as a core has in flight.
const TOUCHED: usize = 8;
/// Deliveries joined into one write. Well below the outbox's bound: a client that keeps up must
/// not overflow by one batch.
const RUN_FRAMES: usize = 64;
const RUN_BYTES: usize = 64 * 1024;

/// Deliveries that stood together in the queue, being written to one listener after the other.
/// Nobody joins or leaves while a run is under way, so places stay what they are.
#[derive(Debug)]
pub(super) struct Run {
    /// What everyone gets, in one buffer.
    joined: Bytes,
    /// How many frames that are.
    frames: usize,
    /// When its entries were accepted.
    received: Vec<Instant>,
    /// Those who get direct messages in between; served when the run begins.
    served: HashSet<u64>,
    /// The next listener.
    place: usize,
    /// What it is of the queue.
    load: Load,
    /// Whether anybody has got anything of it.
    reached: bool,
}

impl TagListeners {
    /// Takes the deliveries that stand together at the front of the queue, `first` and its `load`
    /// before them.
    pub(super) fn begin_run(&mut self, first: Delivery, mut load: Load, tally: &mut Tally) {
        let mut bytes = first.frame.len();
        let mut deliveries = vec![first];
        while let Some(Work::Deliver { frame, .. }) = self.backlog.front()
            && deliveries.len() < RUN_FRAMES
            && bytes + frame.len() <= RUN_BYTES
        {
            bytes += frame.len();
            if let Some(work) = self.backlog.pop_front() {
                load.add(Load::of(&work));
                if let Work::Deliver { seq, target, except, kept, frame, received, .. } = work {
                    deliveries.push(Delivery { seq, target, except, kept, frame, received });
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
        self.run = Some(Run { joined, frames, received, served, place: 0, load, reached });
    }

    /// Writes to those for whom there are direct messages everything that is for them, in order.
    fn serve_people(&self, deliveries: &[Delivery], tally: &mut Tally) -> HashSet<u64> {
        let mut served = HashSet::new();
        for delivery in deliveries {
            let Target::One(address) = delivery.target else { continue };
            for connection in self.people.get(&address).into_iter().flatten() {
                let number = connection.number();
                if served.insert(number) {
                    let theirs =
                        deliveries.iter().filter(|other| other.concerns(number, Some(address)));
                    let frames = theirs.clone().count();
                    let joined = join(theirs.map(|delivery| delivery.frame.clone()));
                    if !joined.is_empty() && connection.outbox().push(&joined).is_taken() {
                        tally.deliver(1, frames, joined.len());
                    }
                }
            }
        }
        served
    }

    /// Answers the load of a run that ends with it.
    pub(super) fn continue_run(&mut self, tally: &mut Tally) -> Load {
        let Some(run) = &mut self.run else { return Load::default() };
        let all = if run.frames == 0 { 0 } else { self.listeners.len() };
        let end = all.min(run.place + SLICE);
        let mut taken = 0;
        for group in self.listeners[run.place..end].chunks(TOUCHED) {
            let touched = group.iter().filter(|listener| listener.connection.outbox().touch());
            std::hint::black_box(touched.count());
            for Listener { connection, .. } in group {
                if run.served.is_empty() || !run.served.contains(&connection.number()) {
                    taken += u64::from(connection.outbox().push(&run.joined).is_taken());
                }
            }
        }
        tally.deliver(taken, run.frames, run.joined.len());
        run.reached |= taken > 0;
        run.place = end;
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

//! Decides when each connection is pinged. One wheel per shard replaces a timer per connection.
//!
//! A connection is in one slot of the wheel and is visited once per turn of the wheel, which takes
//! half a ping interval. If the client sent nothing since the last visit, it is pinged. After the
//! second such visit in a row it is pinged again, and after the third it counts as dead. The client
//! last sent something less than one interval before the first of these visits. So a dead client is
//! found within two intervals, after two unanswered pings. A pong counts as data, so a quiet client
//! is pinged once per interval. The slots spread the visits over the whole turn.

use std::time::Duration;

use tokio::time::Instant;

const SLOTS: usize = 128;

/// The result of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    Fine,
    Ping,
    Dead,
}

/// Decides what to do with a connection. `heard` tells whether the client sent anything since the
/// last visit. `quiet` counts the visits since the client last sent something.
pub(super) fn visit(quiet: &mut u8, heard: bool) -> Visit {
    if heard {
        *quiet = 0;
        return Visit::Fine;
    }
    *quiet = quiet.saturating_add(1);
    match *quiet {
        1 | 2 => Visit::Ping,
        _ => Visit::Dead,
    }
}

#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<u64>>,
    tick: Duration,
    /// The slot that is visited next; `next_tick` is the time of that visit.
    next: usize,
    pub(super) next_tick: Instant,
    /// The slot of the newest connection.
    fill: usize,
}

impl Wheel {
    pub(super) fn new(ping_interval: Duration, now: Instant) -> Self {
        let tick = (ping_interval / 2 / SLOTS as u32).max(Duration::from_millis(1));
        Self { slots: vec![Vec::new(); SLOTS], tick, next: 0, next_tick: now + tick, fill: 0 }
    }

    /// Adds a connection and returns its slot. Connections that are added one after the other get
    /// distant slots, so that they are not pinged together.
    pub(super) fn add(&mut self, connection: u64) -> usize {
        // 79 is odd, so every slot is reached. 79/128 is near the golden ratio, so the slots in use
        // are spread evenly.
        self.fill = (self.fill + 79) % SLOTS;
        self.slots[self.fill].push(connection);
        self.fill
    }

    pub(super) fn remove(&mut self, connection: u64, slot: usize) {
        let slot = &mut self.slots[slot];
        if let Some(index) = slot.iter().position(|other| *other == connection) {
            slot.swap_remove(index);
        }
        if slot.is_empty() {
            *slot = Vec::new();
        }
    }

    /// Continues at the current slot one tick from `now`, however long the wheel stood still.
    pub(super) fn restart(&mut self, now: Instant) {
        self.next_tick = now + self.tick;
    }

    /// The connections that are due, each at most once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        let mut due = Vec::new();
        for _ in 0..SLOTS {
            if self.next_tick > now {
                return due;
            }
            due.extend_from_slice(&self.slots[self.next]);
            self.next = (self.next + 1) % SLOTS;
            self.next_tick += self.tick;
        }
        // The wheel stood still for more than a turn: nobody was registered, or the machine slept.
        self.next_tick = self.next_tick.max(now);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_unanswered_pings_are_death() {
        let mut quiet = 0;
        assert_eq!(visit(&mut quiet, true), Visit::Fine);
        assert_eq!(visit(&mut quiet, false), Visit::Ping);
        assert_eq!(visit(&mut quiet, true), Visit::Fine);
        let silence = [(); 3].map(|()| visit(&mut quiet, false));
        assert_eq!(silence, [Visit::Ping, Visit::Ping, Visit::Dead]);
    }

    #[test]
    fn everyone_is_visited_once_per_half_interval_and_not_all_at_once() {
        let interval = Duration::from_secs(25);
        let start = Instant::now();
        let mut wheel = Wheel::new(interval, start);
        let slots: Vec<usize> = (0..1000).map(|connection| wheel.add(connection)).collect();
        wheel.remove(500, slots[500]);
        let mut seen = Vec::new();
        for tick in 1..=SLOTS as u32 {
            let due = wheel.due(start + wheel.tick * tick);
            assert!(due.len() <= 1000 / SLOTS + 1, "spread over the turn");
            seen.extend(due);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).filter(|connection| *connection != 500).collect::<Vec<_>>());
        assert!(wheel.tick * SLOTS as u32 <= interval / 2);
    }

    #[test]
    fn after_a_pause_everyone_is_visited_only_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(Duration::from_secs(25), start);
        wheel.add(7);
        let later = start + Duration::from_secs(3600);
        assert_eq!(wheel.due(later), [7]);
        assert!(wheel.next_tick >= later);
    }
}

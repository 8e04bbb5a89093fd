//! Whether the thread that accepts has time left.
//!
//! Its CPU time counts, not how long its work took: where other programs hold the cores, a second
//! thread would have to wait for them too.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A shorter time says nothing: one handshake may take half a millisecond.
const WINDOW: Duration = Duration::from_millis(50);

/// Of the time passed, what a busy thread has used: four fifths.
const BUSY: (u32, u32) = (4, 5);

/// A moment, on the wall and as CPU time of a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    wall: Instant,
    cpu: Duration,
}

impl Now {
    pub(super) fn of_this_thread() -> Self {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        Self { wall: Instant::now(), cpu: Duration::try_from(cpu).unwrap_or_default() }
    }
}

/// What the thread did in the last [`WINDOW`] or longer, as seen whenever someone asked.
#[derive(Debug, Default)]
pub(super) struct CpuLoad {
    seen: Option<Now>,
    is_busy: bool,
}

impl CpuLoad {
    /// Whether the thread was busy. It is looked at only when asked: an idle one is not woken.
    pub(super) fn is_busy(&mut self, now: Now) -> bool {
        let Some(seen) = self.seen else {
            self.seen = Some(now);
            return false;
        };
        let passed = now.wall.saturating_duration_since(seen.wall);
        if passed >= WINDOW {
            self.is_busy = now.cpu.saturating_sub(seen.cpu) * BUSY.1 >= passed * BUSY.0;
            self.seen = Some(now);
        }
        self.is_busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_of_a_window_are_busy() {
        let begin = Now::of_this_thread();
        let after = |wall, cpu| Now {
            wall: begin.wall + Duration::from_millis(wall),
            cpu: begin.cpu + Duration::from_millis(cpu),
        };
        let mut cpu_load = CpuLoad::default();
        assert!(!cpu_load.is_busy(begin));
        assert!(!cpu_load.is_busy(after(49, 49)), "too short to tell");
        assert!(!cpu_load.is_busy(after(100, 79)));
        assert!(cpu_load.is_busy(after(200, 159)));
        assert!(cpu_load.is_busy(after(249, 159)), "as it was");
        assert!(!cpu_load.is_busy(after(300, 159)));
    }

    /// It would not end with a clock that stands still.
    #[test]
    fn work_is_seen_in_the_threads_own_clock() {
        let begin = Now::of_this_thread();
        while Now::of_this_thread().cpu < begin.cpu + Duration::from_millis(2) {}
    }
}

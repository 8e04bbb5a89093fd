//! Measures whether the accepting thread is busy.
//!
//! The measure is the CPU time of the thread, not the time that its work took. If other programs
//! occupy the cores, moving work to a second thread would not help, because that thread would wait
//! for them too.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The shortest time between two measurements. It is long, because a single handshake may take half
/// a millisecond.
const WINDOW: Duration = Duration::from_millis(50);

/// A thread is busy if it uses at least this share of a core: four fifths.
const BUSY: (u32, u32) = (4, 5);

/// A point in time, as real time and as CPU time of the thread.
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

/// The load of the thread during the last [`WINDOW`], or since the last measurement if that is
/// longer ago.
#[derive(Debug, Default)]
pub(super) struct CpuLoad {
    seen: Option<Now>,
    is_busy: bool,
}

impl CpuLoad {
    /// Whether the thread was busy. Called only when a connection comes, so measuring does not wake
    /// an idle thread.
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

    /// If the thread's clock did not advance, this test would not end.
    #[test]
    fn work_is_seen_in_the_threads_own_clock() {
        let begin = Now::of_this_thread();
        while Now::of_this_thread().cpu < begin.cpu + Duration::from_millis(2) {}
    }
}

//! Memory that connections have left is given back to the system.
//!
//! glibc's allocator gives back only what lies at the end of its heap, and there is always a
//! connection that lies behind. After thousands have left, all of theirs would stay resident. So
//! once many of them have, it is told to look through its heaps.

use std::time::Duration;

use crate::metrics::{ConnectionPeak, Metrics};

/// How often the connections are counted.
const INTERVAL: Duration = Duration::from_secs(5);

/// Fewer than these leave too little behind to look for it: some 4 MiB.
const MIN_GONE: i64 = 500;

/// Gives back what can be, a moment after many connections have ended. Never ends.
pub(crate) async fn run(metrics: &Metrics) {
    let mut held = HeldFor::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if held.should_trim(metrics.take_peak()) {
            // Some milliseconds. It holds the lock of one of glibc's heaps after another, so who
            // allocates from that heap waits; on a thread of its own, nobody else does.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
    }
}

/// The peak connections that memory is still held for.
#[derive(Debug, Default)]
struct HeldFor(i64);

impl HeldFor {
    /// Whether it is for many more than there are; then it is given back.
    fn should_trim(&mut self, connections: ConnectionPeak) -> bool {
        // Also of those who came and left since the last look.
        let peak = self.0.max(connections.peak);
        let trim = peak - connections.live >= MIN_GONE.max(peak / 4);
        self.0 = if trim { connections.live } else { peak };
        trim
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "glibc has no other interface for it, and no crate a safe one")]
fn trim() {
    unsafe extern "C" {
        /// malloc_trim(3). Since glibc 2.8 it releases whole pages anywhere in all heaps.
        fn malloc_trim(pad: usize) -> i32;
    }
    // SAFETY: the declaration is that of the manual; it takes any value, is safe to call from any
    // thread at any time (MT-Safe), takes the heaps' locks itself and leaves all that is in use as
    // it is. The allocator of this program is glibc's: nothing declares another one.
    unsafe {
        malloc_trim(0);
    }
}

/// musl's allocator gives back by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    const BLOCK: usize = 1_000;
    const BLOCKS: usize = 32 * 1024;

    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size()
    }

    #[test]
    fn who_comes_and_leaves_between_two_looks_counts() {
        let mut held = HeldFor::default();
        let mut look = |peak, live| held.should_trim(ConnectionPeak { live, peak });
        assert!(!look(0, 0));
        assert!(look(3_000, 0));
        assert!(!look(0, 0), "once");
        // Gradually, too.
        assert!(!look(3_000, 3_000));
        assert!(!look(3_000, 2_400));
        assert!(look(2_400, 2_200));
        // Few of many, and few at all.
        assert!(!look(10_000, 8_000));
        let mut held = HeldFor::default();
        assert!(!held.should_trim(ConnectionPeak { live: 0, peak: MIN_GONE - 1 }));
    }

    #[test]
    fn what_lies_before_the_last_block_is_given_back() {
        let mut blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![7; BLOCK]).collect();
        let last = blocks.pop();
        let full = resident();
        drop(blocks);
        trim();
        assert!(full - resident() > BLOCK * BLOCKS / 2);
        assert_eq!(last.map(|block| block.len()), Some(BLOCK));
    }
}

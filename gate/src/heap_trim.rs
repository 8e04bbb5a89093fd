//! Returns the memory of closed connections to the system.
//!
//! glibc's allocator by itself returns only the free memory at the end of its heap, and the memory
//! of some open connection is always near the end. So the memory of thousands of closed connections
//! would stay resident. After many connections have closed, `malloc_trim` therefore releases free
//! pages everywhere in the heap.

use std::time::Duration;

use crate::metrics::{ConnectionPeak, Metrics};

const INTERVAL: Duration = Duration::from_secs(5);

/// The least number of closed connections that makes a trim worthwhile. The memory of 500 closed
/// connections is about 4 MiB.
const MIN_GONE: i64 = 500;

/// Trims the heap shortly after many connections have closed. Never ends.
pub(crate) async fn run(metrics: &Metrics) {
    let mut held = HeldFor::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if held.should_trim(metrics.take_peak()) {
            // A trim takes some milliseconds. It locks each of glibc's heaps in turn, and threads
            // that allocate from the locked heap wait. The trim has a thread of its own, so that no
            // connection waits for the whole trim.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
    }
}

/// The peak number of connections whose memory may still be held.
#[derive(Debug, Default)]
struct HeldFor(i64);

impl HeldFor {
    /// Whether the current number of connections is so far below the peak that a trim is due.
    fn should_trim(&mut self, connections: ConnectionPeak) -> bool {
        // The peak includes connections that began and ended since the last check.
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
    // SAFETY: the declaration matches the manual. malloc_trim takes any value, may be called from
    // any thread at any time (MT-Safe), locks the heaps itself and does not change used memory.
    // This program uses glibc's allocator, because it declares no other allocator.
    unsafe {
        malloc_trim(0);
    }
}

/// musl's allocator returns memory by itself.
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
        // A trim is also due when connections close gradually.
        assert!(!look(3_000, 3_000));
        assert!(!look(3_000, 2_400));
        assert!(look(2_400, 2_200));
        // No trim is due if only a small part of the connections has closed, or if there were only
        // a few connections at the peak.
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

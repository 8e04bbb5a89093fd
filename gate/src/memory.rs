//! Memory that connections have left is given back to the system.
//!
//! glibc's allocator gives back only what lies at the end of its heap, and there is always a
//! connection that lies behind. After thousands have left, all of theirs would stay resident. So
//! once many of them have, it is told to look through its heaps.

use std::time::Duration;

use crate::Gate;

/// How often the connections are counted.
const INTERVAL: Duration = Duration::from_secs(5);

/// Fewer than these leave too little behind to look for it: some 4 MiB.
const MANY: i64 = 500;

/// Gives back what can be, a moment after many connections have ended. Never ends.
pub(crate) async fn tidy(gate: &Gate) {
    let mut most = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = gate.metrics.live.get();
        most = most.max(now);
        if most - now >= MANY.max(most / 4) {
            most = now;
            // Some milliseconds, in which connections wait only if they need the heap that is being
            // looked through.
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "glibc has no other interface for it, and no crate a safe one")]
fn give_back() {
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

/// Other allocators have other ways, and keep what they keep.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

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
    fn what_lies_before_the_last_block_is_given_back() {
        let mut blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![7; BLOCK]).collect();
        let last = blocks.pop();
        let full = resident();
        drop(blocks);
        give_back();
        assert!(full - resident() > BLOCK * BLOCKS / 2);
        assert_eq!(last.map(|block| block.len()), Some(BLOCK));
    }
}

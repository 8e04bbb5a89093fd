//! The rate limit buckets of IP addresses, bounded in number.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use shared::ip_prefix::ip_prefix;

use crate::access::bucket::{Bucket, Moment};

/// The kinds of requests that an address has a bucket for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BucketKind {
    Connect,
    Set,
    Send,
    WrongKey,
}

impl BucketKind {
    pub(super) const COUNT: usize = 4;
}

/// The most addresses with buckets of their own, which take about 10 MB. Further addresses share
/// one set of buckets.
const MOST: usize = 100_000;

/// The map is split into this many parts. Removing idle addresses holds the lock, and scanning one
/// part means about 400 entries instead of 100,000.
const PARTS: usize = 256;

/// The shortest time between two scans of one part, in nanoseconds: one second.
const SCAN_INTERVAL: Moment = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Addresses {
    /// The hasher that chooses the part of an address. The map of each part has a hasher of its
    /// own, because with this one all addresses of a part would have similar hashes and collide.
    hasher: RandomState,
    parts: Box<[AddressMap]>,
    /// How many addresses all parts have together.
    count: usize,
    /// The index of the part that is scanned next.
    next: usize,
    /// The buckets of all addresses beyond `MOST`.
    others: Buckets,
}

type Buckets = [Bucket; BucketKind::COUNT];

#[derive(Debug, Default)]
struct AddressMap {
    buckets: HashMap<IpAddr, Buckets>,
    scanned: Moment,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::iter::repeat_with(AddressMap::default).take(PARTS).collect(),
            count: 0,
            next: 0,
            others: Buckets::default(),
        }
    }
}

impl Addresses {
    pub(super) fn bucket(&mut self, address: IpAddr, kind: BucketKind, now: Moment) -> &mut Bucket {
        let address = ip_prefix(address);
        let part = self.part_of(address);
        if !self.parts[part].buckets.contains_key(&address) {
            self.scan_next_part(now);
            if self.count >= MOST {
                return &mut self.others[kind as usize];
            }
            self.count += 1;
        }
        &mut self.parts[part].buckets.entry(address).or_default()[kind as usize]
    }

    fn part_of(&self, address: IpAddr) -> usize {
        // `PARTS` is 256, so the remainder fits into `usize`.
        (self.hasher.hash_one(address) % PARTS as u64) as usize
    }

    /// Removes the idle addresses of the next part. Each new address causes one call.
    fn scan_next_part(&mut self, now: Moment) {
        let part = &mut self.parts[self.next];
        self.next = (self.next + 1) % PARTS;
        if now < part.scanned.saturating_add(SCAN_INTERVAL) {
            return;
        }
        part.scanned = now;
        self.count -= part.remove_idle(now);
    }
}

impl AddressMap {
    /// Removes the addresses whose buckets are full, because new buckets are full too. Returns how
    /// many addresses were removed.
    fn remove_idle(&mut self, now: Moment) -> usize {
        let before = self.buckets.len();
        self.buckets.retain(|_, buckets| !buckets.iter().all(|bucket| bucket.is_full(now)));
        if self.buckets.len() < self.buckets.capacity() / 4 {
            self.buckets.shrink_to_fit();
        }
        before - self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::bucket::Rate;

    const SECOND: Moment = 1_000_000_000;

    fn take(addresses: &mut Addresses, address: u32, now: Moment) -> bool {
        let rate = Rate::new(1, 1).unwrap();
        addresses.bucket(IpAddr::V4(address.into()), BucketKind::Send, now).take(rate, now).is_ok()
    }

    fn kept(addresses: &Addresses) -> usize {
        let kept = addresses.parts.iter().map(|part| part.buckets.len()).sum();
        assert_eq!(addresses.count, kept);
        kept
    }

    fn full(now: Moment) -> Addresses {
        let mut addresses = Addresses::default();
        for address in 0..MOST as u32 {
            assert!(take(&mut addresses, address, now));
        }
        addresses
    }

    #[test]
    fn addresses_are_apart_until_there_are_too_many() {
        let mut addresses = full(SECOND);
        assert!(!take(&mut addresses, 7, SECOND));
        let [one, other] = [1, 2].map(|more| MOST as u32 + more);
        assert!(take(&mut addresses, one, SECOND));
        assert!(!take(&mut addresses, other, SECOND), "they share a bucket");
        assert_eq!(kept(&addresses), MOST);
        // A second later all buckets are full again. Each new address causes the removal of the
        // addresses in one part.
        assert!(take(&mut addresses, one, 2 * SECOND));
        assert!(take(&mut addresses, other, 2 * SECOND));
        assert!(kept(&addresses) < MOST);
    }

    #[test]
    fn idle_addresses_are_removed_a_part_at_a_time_while_others_come() {
        let mut addresses = full(SECOND);
        // This address stays, because it has taken from its bucket again.
        assert!(take(&mut addresses, 7, 2 * SECOND));
        let largest = addresses.parts.iter().map(|part| part.buckets.len()).max().unwrap();
        assert!(largest < 2 * MOST / PARTS, "{largest}");
        let mut before = kept(&addresses);
        let arriving = MOST as u32..(MOST + PARTS) as u32;
        for address in arriving.clone() {
            assert!(take(&mut addresses, address, 2 * SECOND));
            let now = kept(&addresses);
            assert!(now <= MOST && before <= now + largest, "no more than a part at a time");
            before = now;
        }
        assert_eq!(before, arriving.len() + 1);
        assert!(arriving.chain([7]).all(|address| !take(&mut addresses, address, 2 * SECOND)));
        let capacity: usize = addresses.parts.iter().map(|part| part.buckets.capacity()).sum();
        assert!(capacity < MOST / 4, "{capacity}");
    }

    #[test]
    fn there_are_never_too_many_whatever_comes_when() {
        let mut addresses = Addresses::default();
        for address in 0..3 * MOST as u32 {
            // The loop covers three seconds. The bucket of each address is full again after one
            // second.
            let now = SECOND + SECOND / MOST as u64 * u64::from(address);
            assert!(take(&mut addresses, address, now) || addresses.count == MOST);
            assert!(addresses.count <= MOST);
        }
        kept(&addresses);
    }
}

//! The buckets of addresses: a bounded number of them.

use std::collections::HashMap;
use std::net::IpAddr;

use shared::household::household;

use super::{Bucket, Kind, Moment};

/// Addresses that are told apart, with 10 MB in all. Beyond, the others share one place.
const MOST: usize = 100_000;

/// How long after a look for places that are free again the next one may come: each looks at all.
const LOOK_AGAIN: Moment = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Addresses {
    buckets: HashMap<IpAddr, [Bucket; Kind::COUNT]>,
    /// Of those for whom there is no place.
    others: [Bucket; Kind::COUNT],
    looked: Moment,
}

impl Addresses {
    pub(super) fn bucket(&mut self, address: IpAddr, kind: Kind, now: Moment) -> &mut Bucket {
        let address = household(address);
        if self.buckets.len() >= MOST && !self.buckets.contains_key(&address) {
            self.forget_the_quiet(now);
            if self.buckets.len() >= MOST {
                return &mut self.others[kind as usize];
            }
        }
        &mut self.buckets.entry(address).or_default()[kind as usize]
    }

    /// Those whose buckets are full again are as good as new.
    fn forget_the_quiet(&mut self, now: Moment) {
        if now < self.looked.saturating_add(LOOK_AGAIN) {
            return;
        }
        self.looked = now;
        self.buckets.retain(|_, buckets| !buckets.iter().all(|bucket| bucket.is_full(now)));
        if self.buckets.len() < MOST / 4 {
            self.buckets.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::Rate;

    fn take(addresses: &mut Addresses, address: u32, now: Moment) -> bool {
        let rate = Rate::new(1, 1).unwrap();
        addresses.bucket(IpAddr::V4(address.into()), Kind::Send, now).take(rate, now).is_ok()
    }

    #[test]
    fn addresses_are_apart_until_there_are_too_many() {
        const SECOND: Moment = 1_000_000_000;
        let mut addresses = Addresses::default();
        let now = SECOND;
        for address in 0..MOST as u32 {
            assert!(take(&mut addresses, address, now));
        }
        assert!(!take(&mut addresses, 7, now));
        let [one, other] = [1, 2].map(|more| MOST as u32 + more);
        assert!(take(&mut addresses, one, now));
        assert!(!take(&mut addresses, other, now), "they share a place");
        assert_eq!(addresses.buckets.len(), MOST);
        // A second later everybody is as good as new, and forgotten.
        assert!(take(&mut addresses, one, now + SECOND));
        assert!(take(&mut addresses, other, now + SECOND));
        assert_eq!(addresses.buckets.len(), 2);
    }
}

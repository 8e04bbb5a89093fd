//! A memory budget that all requests share.
//!
//! Three quarters of the budget are for large requests. Each of these may take a quarter of the
//! bytes that are left there, so a few slow requests leave little for the next. The last quarter of
//! the budget is for the first 64 KiB of each request, so that small requests always find memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest small request, in bytes.
pub(crate) const SMALL: usize = 64 * 1024;

/// The memory budget, in two pools.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    small: Pool,
    large: Pool,
}

/// The memory of one request. Dropping it returns the memory to the budget.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: usize,
    small: PoolShare,
    large: PoolShare,
}

/// The error if too little of the budget is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug, Clone)]
struct Pool {
    free: Arc<Semaphore>,
    /// A request may take 1/`share` of the bytes that are left.
    share: usize,
}

#[derive(Debug)]
struct PoolShare {
    pool: Pool,
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// Creates a budget of `bytes` bytes, or of as many as a semaphore can count.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        let pool = |bytes, share| Pool { free: Arc::new(Semaphore::new(bytes)), share };
        Self { small: pool(bytes / 4, 64), large: pool(bytes - bytes / 4, 4) }
    }

    /// An empty reservation.
    pub(crate) fn reserve(&self) -> Reservation {
        let nothing = |pool: &Pool| PoolShare { pool: pool.clone(), permit: None };
        Reservation { bytes: 0, small: nothing(&self.small), large: nothing(&self.large) }
    }
}

impl Reservation {
    /// Takes more bytes.
    ///
    /// # Errors
    /// [`Full`] if the request would exceed its share. The bytes that it took before stay reserved.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let from = if self.bytes + bytes <= SMALL { &mut self.small } else { &mut self.large };
        from.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl PoolShare {
    fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let Pool { free, share } = &self.pool;
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if has + bytes > free.available_permits() / share {
            return Err(Full);
        }
        let permits = u32::try_from(bytes).map_err(|_| Full)?;
        let more = Arc::clone(free).try_acquire_many_owned(permits).map_err(|_| Full)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: usize = 64 << 20;

    fn greedy(budget: &MemoryBudget, step: usize) -> Reservation {
        let mut reservation = budget.reserve();
        while reservation.grow(step).is_ok() {}
        reservation
    }

    #[test]
    fn however_many_are_large_there_is_memory_for_small_ones() {
        let budget = MemoryBudget::new(WHOLE);
        let all: Vec<Reservation> = (0..128).map(|_| greedy(&budget, 16 * 1024)).collect();
        let mut another = budget.reserve();
        assert_eq!(another.grow(SMALL + 1), Err(Full));
        assert_eq!(another.grow(SMALL), Ok(()));
        drop((all, another));
        // The limit is a quarter of the bytes that are left, so a single large request gets a fifth
        // of the large pool.
        let alone = greedy(&budget, 1024).bytes;
        assert!((WHOLE / 7..WHOLE / 6).contains(&alone), "{alone}");
        assert_eq!(budget.small.free.available_permits(), WHOLE / 4);
        assert_eq!(budget.large.free.available_permits(), WHOLE - WHOLE / 4);
    }

    #[test]
    fn the_more_small_requests_the_less_each_may_take() {
        let budget = MemoryBudget::new(WHOLE);
        // The pool has exactly enough memory for 256 of these requests.
        let all: Vec<Reservation> = (0..512)
            .map(|_| {
                let mut reservation = budget.reserve();
                while reservation.bytes < SMALL && reservation.grow(256).is_ok() {}
                reservation
            })
            .collect();
        assert_eq!(all[0].bytes, SMALL);
        assert_eq!(budget.reserve().grow(256), Ok(()));
        assert_eq!(budget.reserve().grow(SMALL), Err(Full));
    }
}

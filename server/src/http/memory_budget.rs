//! Memory that requests take, bounded in all.
//!
//! Three quarters are for those who take much. Of what is left of that, each may have a quarter, so a
//! few who keep theirs for long leave nothing for the next who wants as much: that is what the last
//! quarter is for, of which everyone has a little at first.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What everyone may have before it is much.
pub(crate) const LITTLE: usize = 64 * 1024;

/// So many bytes, for all together.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    little: Pool,
    much: Pool,
}

/// One request's part, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: usize,
    little: Taken,
    much: Taken,
}

/// There is too little left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug, Clone)]
struct Pool {
    free: Arc<Semaphore>,
    /// Each may have this part of what nobody has.
    share: usize,
}

#[derive(Debug)]
struct Taken {
    pool: Pool,
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// MemoryBudget for `bytes`, at most what a semaphore can count.
    #[must_use]
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        let pool = |bytes, share| Pool { free: Arc::new(Semaphore::new(bytes)), share };
        Self { little: pool(bytes / 4, 64), much: pool(bytes - bytes / 4, 4) }
    }

    /// Nothing of it yet.
    #[must_use]
    pub(crate) fn part(&self) -> Reservation {
        let nothing = |pool: &Pool| Taken { pool: pool.clone(), permit: None };
        Reservation { bytes: 0, little: nothing(&self.little), much: nothing(&self.much) }
    }
}

impl Reservation {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// [`Full`] if that would be more than a share of what is left; what was taken before stays.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let from = if self.bytes + bytes <= LITTLE { &mut self.little } else { &mut self.much };
        from.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Taken {
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
        let mut part = budget.part();
        while part.grow(step).is_ok() {}
        part
    }

    #[test]
    fn however_many_take_much_there_is_room_for_little() {
        let budget = MemoryBudget::new(WHOLE);
        let all: Vec<Reservation> = (0..128).map(|_| greedy(&budget, 16 * 1024)).collect();
        let mut another = budget.part();
        assert_eq!(another.grow(LITTLE + 1), Err(Full));
        assert_eq!(another.grow(LITTLE), Ok(()));
        drop((all, another));
        // A fifth of what is for those who take much, if nobody else does.
        let alone = greedy(&budget, 1024).bytes;
        assert!((WHOLE / 7..WHOLE / 6).contains(&alone), "{alone}");
        assert_eq!(budget.little.free.available_permits(), WHOLE / 4);
        assert_eq!(budget.much.free.available_permits(), WHOLE - WHOLE / 4);
    }

    #[test]
    fn of_little_there_is_less_the_more_have_it() {
        let budget = MemoryBudget::new(WHOLE);
        // 256 could have all of what each may have.
        let all: Vec<Reservation> = (0..512)
            .map(|_| {
                let mut part = budget.part();
                while part.bytes < LITTLE && part.grow(256).is_ok() {}
                part
            })
            .collect();
        assert_eq!(all[0].bytes, LITTLE);
        assert_eq!(budget.part().grow(256), Ok(()));
        assert_eq!(budget.part().grow(LITTLE), Err(Full));
    }
}

//! The hub as the place where a log's entries take effect.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Hub;
use crate::entry::{AppendContext, Appended, Entry};
use crate::id::{Address, Tag};
use crate::log::{Replica, Sink};
use crate::protocol::{Mark, Refusal};

impl Sink for Hub {
    fn admit(&self) -> Result<(), Refusal> {
        Self::admit(self)
    }

    fn apply(&self, seq: u64, entry: &Entry, context: AppendContext) -> Appended {
        Self::apply(self, seq, entry, context)
    }
}

impl Replica for Hub {
    fn head(&self) -> u64 {
        Self::head(self)
    }

    fn applied(self: Arc<Self>, seq: u64) -> BoxFuture<'static, ()> {
        self.when_applied(seq)
    }

    fn skip(&self, seq: u64) {
        self.move_to(&mut self.state.lock(), seq);
    }

    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark) {
        Self::tell_read(self, tag, address, mark, None);
    }

    fn reset_to(&self, seq: u64) {
        self.reset(seq);
    }
}

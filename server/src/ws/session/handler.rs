//! Implements the trait of WebSocket handlers for the session.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Session, Unanswered};
use crate::conn::frame::{Rules, text_frame};
use crate::conn::outbox::Closing;
use crate::limits;
use crate::protocol::{self, Action};
use crate::ws::handler::Handler;

/// After a restart, clients reconnect at random times within this range.
const RETURN_SPREAD: Duration = Duration::from_secs(5);

impl Handler for Session {
    const RULES: Rules = Rules::SERVER;

    fn on_text(&mut self, text: &str) {
        let incoming = protocol::parse(text);
        match incoming.action {
            // These actions take effect at once, so they must wait until the earlier requests are
            // answered.
            Ok(Action::Set(_) | Action::Unset(_) | Action::Read(_))
                if !self.unanswered.is_empty() =>
            {
                self.next = Some(Box::new(incoming));
            }
            Ok(Action::Set(ref set)) => match self.service.lag(set.resume.since.as_ref()) {
                None => self.perform(incoming),
                Some(lag) => {
                    self.unanswered.push_back(Unanswered::Lag(lag));
                    self.next = Some(Box::new(incoming));
                }
            },
            _ => self.perform(incoming),
        }
    }

    fn is_ready(&self) -> bool {
        self.unanswered.len() < limits::IN_FLIGHT && self.next.is_none()
    }

    fn owes_answers(&self) -> bool {
        !self.unanswered.is_empty()
    }

    fn may_be_idle(&self) -> bool {
        !self.registrations.is_empty()
    }

    fn drained(&self) {
        self.service.hub.drained(&self.registrations.connection);
    }

    fn take_acted(&mut self) -> bool {
        std::mem::take(&mut self.acted)
    }

    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut answered = Poll::Pending;
        while let Some(oldest) = self.unanswered.front_mut() {
            match oldest {
                Unanswered::Reply(reference, pending) => {
                    let Poll::Ready(reply) = pending.poll_unpin(context) else { return answered };
                    let reference = std::mem::take(reference);
                    self.reply(&reference, &reply);
                }
                Unanswered::Lag(lag) => {
                    if lag.poll_unpin(context).is_pending() {
                        return answered;
                    }
                }
            }
            self.unanswered.pop_front();
            answered = Poll::Ready(());
        }
        if let Some(next) = self.next.take() {
            self.perform(*next);
        }
        answered
    }

    fn closed(&self, closing: Option<Closing>) {
        let closing = closing.map(|Closing { code, by_peer }| (code, by_peer));
        self.service.counters.closed(closing);
    }

    fn stopping(&self) {
        self.registrations.connection.outbox.push(&text_frame(&protocol::bye(return_in_ms())));
    }
}

/// A random time within `RETURN_SPREAD`, in milliseconds.
fn return_in_ms() -> u64 {
    let spread = u64::try_from(RETURN_SPREAD.as_millis()).unwrap_or(u64::MAX);
    // Without random numbers all clients reconnect at the end of the range, which is late but
    // works.
    getrandom::u64().map_or(spread, |random| random % spread)
}

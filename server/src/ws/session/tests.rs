use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::*;
use crate::access::auth::Auth;
use crate::access::policy::Policy;
use crate::access::rate_limit::RateLimiter;
use crate::conn::outbox::Outbox;
use crate::conn::outbox::pipe::Pipe;
use crate::counters::Counters;
use crate::entry::{AppendContext, Appended, Applied, Entry};
use crate::hub::delivery_queue::DeliveryQueue;
use crate::hub::history::Settings;
use crate::hub::{Hub, RegistrationLimits};
use crate::id::IdKey;
use crate::limits;
use crate::log::{Appending, Counts, Log};
use crate::ws::handler::Handler as _;

/// A log whose appends complete when the test says so.
#[derive(Debug, Default)]
struct SlowLog(Arc<Mutex<Vec<oneshot::Sender<Appended>>>>, Counts);

impl Log for SlowLog {
    fn append(&self, _: Entry, _: AppendContext) -> Appending {
        let (sender, outcome) = oneshot::channel();
        self.0.lock().push(sender);
        Appending::Waiting(outcome)
    }

    fn name(&self) -> &'static str {
        "slow"
    }

    fn counts(&self) -> &Counts {
        &self.1
    }
}

struct Test {
    session: Session,
    pipe: Arc<Pipe>,
    appends: Arc<Mutex<Vec<oneshot::Sender<Appended>>>>,
}

impl Test {
    fn new() -> Self {
        let log = SlowLog::default();
        let appends = Arc::clone(&log.0);
        let hub = Arc::new(Hub::new(
            "e".into(),
            vec![Arc::new(DeliveryQueue::default())],
            Settings::default(),
            RegistrationLimits::default(),
            0,
        ));
        let service = Service {
            hub,
            log: Box::new(log),
            policy: ArcSwap::from_pointee(Policy {
                auth: Auth::open_to_all(),
                ..Policy::default()
            }),
            rates: RateLimiter::default(),
            id_key: IdKey::generate().unwrap(),
            counters: Arc::new(Counters::new([])),
            backlog: Arc::default(),
            at_work: TaskTracker::new(),
        };
        let pipe = Pipe::with_room(1 << 20);
        let outbox = Outbox::new(Arc::<Pipe>::clone(&pipe), Arc::default());
        let connection = Arc::new(Connection::new(1, 0, outbox));
        Self {
            session: Session::new(Arc::new(service), connection, Visitor::new(None)),
            pipe,
            appends,
        }
    }

    fn broadcast(&mut self, reference: u32) {
        self.session.on_text(&format!(
            r#"{{"action":"broadcast","tag":"t","message":1,"ref":{reference}}}"#
        ));
    }

    /// Completes the append with this index.
    fn appended(&mut self, index: usize) {
        let outcome = Applied {
            seq: index as u64 + 1,
            clients: 0,
            stored: false,
            duplicate: false,
            partial: false,
        };
        let (unused, _) = oneshot::channel();
        let sender = std::mem::replace(&mut self.appends.lock()[index], unused);
        sender.send(Ok(outcome)).unwrap();
    }

    fn poll(&mut self) -> Poll<()> {
        let waker = std::task::Waker::noop();
        self.session.poll_answers(&mut Context::from_waker(waker))
    }

    /// The text that the session has written, without frame headers.
    fn written(&self) -> String {
        String::from_utf8_lossy(&self.pipe.taken()).replace(|c: char| c.is_control(), "")
    }

    fn references(&self) -> Vec<u32> {
        let written = self.written();
        let marks = written.split("\"ref\":").skip(1);
        marks.map(|rest| rest.split('}').next().unwrap().parse().unwrap()).collect()
    }
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let mut test = Test::new();
    test.broadcast(0);
    test.broadcast(1);
    test.session.on_text(r#"{"action":"ping","ref":2}"#);
    assert!(test.session.owes_answers());
    test.appended(1);
    assert_eq!(test.poll(), Poll::Pending);
    assert_eq!(test.written(), "");
    test.appended(0);
    assert_eq!(test.poll(), Poll::Ready(()));
    assert_eq!(test.references(), [0, 1, 2]);
    assert!(!test.session.owes_answers());
}

#[test]
fn a_registration_waits_for_the_messages_before_it() {
    let mut test = Test::new();
    test.broadcast(0);
    test.session.on_text(r#"{"action":"set","tag":"t","ref":1}"#);
    assert!(!test.session.is_ready());
    assert!(!test.session.may_be_idle());
    test.appended(0);
    assert_eq!(test.poll(), Poll::Ready(()));
    assert!(test.session.may_be_idle());
    assert_eq!(test.references(), [0, 1]);
    assert!(test.session.is_ready());
}

#[test]
fn so_many_are_in_flight_at_most() {
    let mut test = Test::new();
    for reference in 0..limits::IN_FLIGHT {
        assert!(test.session.is_ready());
        test.broadcast(u32::try_from(reference).unwrap());
    }
    assert!(!test.session.is_ready());
    test.appended(0);
    assert_eq!(test.poll(), Poll::Ready(()));
    assert!(test.session.is_ready());
}

#[test]
fn a_log_that_ends_leaves_the_outcome_unknown() {
    let mut test = Test::new();
    test.broadcast(0);
    test.appends.lock().clear();
    assert_eq!(test.poll(), Poll::Ready(()));
    assert!(test.written().contains(r#""error":"unavailable""#));
    assert!(test.written().contains(r#""outcome":"unknown""#));
}

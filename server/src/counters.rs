//! What the server counts, and how Prometheus is told.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use shared::process::Process;

use crate::conn::outbox::{Backlog, Closing};
use crate::hub::tally::ShardProgress;
use crate::hub::{Hub, Totals};
use crate::log::{Log, Queued};
use crate::protocol::ErrorCode;

/// What is counted where it happens. Hub, shards and log count what is theirs, and are asked when
/// somebody wants to know.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    /// Told to come back.
    pub(crate) turned_away: Counter,
    /// Gone before they had said for whom they connect, or not among those who may.
    pub(crate) unintroduced: Counter,
    pub(crate) live: Gauge,
    /// What waits for sockets, of all connections.
    pub(crate) backlog: Arc<Backlog>,
    errors: Family<ErrorLabel, Counter>,
    closes: Family<Close, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Close {
    by: &'static str,
    code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Metrics {
    /// Every error and code stands at 0 from the start: what appears with 1 has no increase.
    pub(crate) fn new(backlog: Arc<Backlog>) -> Self {
        let errors = Family::<ErrorLabel, Counter>::default();
        for code in ErrorCode::ALL {
            drop(errors.get_or_create(&ErrorLabel { code: code.as_str() }));
        }
        let closes = Family::<Close, Counter>::default();
        for (by, names) in [("server", &OWN[..]), ("client", &PEERS[..])] {
            for (code, _) in names {
                drop(closes.get_or_create(&Close::by(by, names, *code)));
            }
        }
        Self {
            accepted: Counter::default(),
            turned_away: Counter::default(),
            unintroduced: Counter::default(),
            live: Gauge::default(),
            backlog,
            errors,
            closes,
        }
    }

    /// Counts an error reply.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.errors.get_or_create(&ErrorLabel { code: code.as_str() }).inc();
    }

    /// Counts the end of a WebSocket connection; `None` is one without any close frame.
    pub(crate) fn closed(&self, closing: Option<Closing>) {
        let close = match closing {
            None => Close { by: "client", code: "none" },
            Some(Closing { code, by_peer: true }) => Close::by("client", &PEERS, code),
            Some(Closing { code, by_peer: false }) => Close::by("server", &OWN, code),
        };
        self.closes.get_or_create(&close).inc();
    }

    /// In OpenMetrics' text format.
    pub(crate) fn encode(&self, hub: &Hub, log: &dyn Log) -> String {
        let mut registry = Registry::default();
        let server = registry.sub_registry_with_prefix("server");
        server.register("connections", "Connections that are open", self.live.clone());
        server.register("accepted", "Connections that were accepted", self.accepted.clone());
        let help = "Connections that were told to come back";
        server.register("turned_away", help, self.turned_away.clone());
        let help = "Connections to the listeners for proxies that ended without a PROXY header that is \
                    believed";
        server.register("unintroduced", help, self.unintroduced.clone());
        let help = "Connections that ended as WebSockets";
        server.register("closes", help, self.closes.clone());
        server.register("errors", "Error replies", self.errors.clone());
        bytes(
            server,
            "outbox",
            "Waiting for clients' sockets, or for the ends of their messages",
            self.backlog.bytes(),
        );
        register_totals(server, &hub.totals());
        register_progress(server, &hub.progress());
        register_log(server, log);
        registry.register_collector(Box::new(Process));
        let mut out = String::new();
        // Writing to a string fails for nobody.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

fn register_totals(server: &mut Registry, totals: &Totals) {
    gauge(
        server,
        "registrations",
        "Listening connections, once for each tag",
        totals.registrations,
    );
    gauge(server, "tags", "Tags that somebody listens on", totals.tags);
    gauge(server, "ids", "Different IDs that listen, once for each tag", totals.ids);
    let kept = &totals.kept;
    gauge(server, "kept_tags", "Tags of which something is remembered", kept.tags);
    gauge(server, "kept_broadcasts", "Broadcasts kept for those who come back", kept.broadcasts);
    gauge(server, "kept_unread", "Unread messages in inboxes", kept.unread);
    gauge(server, "kept_inboxes", "Inboxes with unread messages", kept.inboxes);
    bytes(server, "kept", "Memory that all that is kept takes", kept.bytes);
    bytes(server, "kept_limit", "Memory that it may take", kept.max_bytes);
}

fn register_progress(server: &mut Registry, progress: &ShardProgress) {
    let done = &progress.tally;
    let help = "Frames written to clients' sockets or queued for them as things happened";
    server.register("deliveries", help, ConstCounter::new(done.deliveries));
    let help = "The same frames";
    server.register_with_unit("delivered", help, Unit::Bytes, ConstCounter::new(done.bytes));
    let help = "Messages handed to clients that came back";
    server.register("replayed", help, ConstCounter::new(done.replayed));
    gauge(server, "replays", "Registrations still being handed what they missed", done.replays);
    let help = "From the acceptance of a message until all listeners of a shard have it";
    server.register_with_unit("delivery", help, Unit::Seconds, done.latency.clone());
    gauge(server, "shard_queue_entries", "What waits for the shards", progress.entries);
    bytes(server, "shard_queue", "Frames that wait for the shards", progress.bytes);
}

fn register_log(server: &mut Registry, log: &dyn Log) {
    let counts = log.counts();
    server.register("log_appends", "Entries by what became of them", counts.appends.clone());
    // A log that keeps nothing has no commits, and nothing waits for it.
    if let Some(Queued { entries, bytes: waiting }) = log.queued() {
        gauge(server, "log_queue_entries", "Entries that wait for the disk", entries);
        bytes(server, "log_queue", "Entries that wait for the disk", waiting);
        let help = "Writing and syncing a transaction";
        let commits = counts.commits.lock().clone();
        server.register_with_unit("log_commit", help, Unit::Seconds, commits);
    }
}

fn gauge<N>(registry: &mut Registry, name: &str, help: &str, value: N)
where
    i64: TryFrom<N>,
{
    registry.register(name, help, constant(value));
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: usize) {
    registry.register_with_unit(name, help, Unit::Bytes, constant(value));
}

fn constant<N>(value: N) -> impl EncodeMetric + Send + Sync + std::fmt::Debug + 'static
where
    i64: TryFrom<N>,
{
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The codes that the server closes with, and those that browsers do; clients may choose any.
const OWN: [(u16, &str); 11] = [
    (1001, "1001"),
    (1002, "1002"),
    (1003, "1003"),
    (1007, "1007"),
    (1009, "1009"),
    (4000, "4000"),
    (4001, "4001"),
    (4002, "4002"),
    (4004, "4004"),
    (4005, "4005"),
    (4500, "4500"),
];
const PEERS: [(u16, &str); 2] = [(1000, "1000"), (1001, "1001")];

impl Close {
    fn by(by: &'static str, names: &[(u16, &'static str)], code: u16) -> Self {
        let name = names.iter().find(|(known, _)| *known == code).map(|(_, name)| *name);
        Self { by, code: name.unwrap_or("other") }
    }
}

//! `/metrics`: the counters of the server in the OpenMetrics text format.

use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use shared::process::Process;

use crate::hub::Totals;
use crate::hub::tally::ShardProgress;
use crate::log::{Log, Queued};
use crate::publish::Service;

/// Encodes the counters of a server in the OpenMetrics text format.
pub(super) fn encode(service: &Service) -> String {
    let (hub, counters) = (&service.hub, &service.counters);
    let mut registry = Registry::default();
    let server = registry.sub_registry_with_prefix("server");
    server.register("connections", "Connections that are open", counters.live.clone());
    server.register("accepted", "Connections that were accepted", counters.accepted.clone());
    let help = "Connections that were told to come back";
    server.register("turned_away", help, counters.rejected.clone());
    let help = "Connections to the listeners for proxies that ended without a PROXY header that is \
                    believed";
    server.register("unintroduced", help, counters.without_proxy_header.clone());
    let help = "Requests of pages whose origin is not allowed";
    server.register("refused_origins", help, counters.foreign_origins.clone());
    let help = "Requests whose head was too large (431)";
    server.register("refused_heads", help, counters.large_heads.clone());
    let help = "WebSocket requests that a proxy sent by HTTP/1.0";
    server.register("refused_http_1_0", help, counters.old_http.clone());
    let help = "Connections that ended as WebSockets";
    server.register("closes", help, counters.closes.clone());
    server.register("errors", "Error replies", counters.errors.clone());
    let help = "Waiting for clients' sockets, or for the ends of their messages";
    bytes(server, "outbox", help, service.backlog.bytes());
    register_totals(server, &hub.totals());
    register_progress(server, &hub.progress());
    register_log(server, &*service.log);
    registry.register_collector(Box::new(Process));
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

fn register_totals(server: &mut Registry, totals: &Totals) {
    let help = "Listening connections, once for each tag";
    gauge(server, "registrations", help, totals.registrations);
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
    // A log in memory has no queue and no commits.
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

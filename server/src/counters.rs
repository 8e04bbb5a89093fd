//! Counters of connections, closes and error replies. `http::metrics_text` encodes them as text.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// The counters that are incremented where an event happens. The hub, the shards and the log have
/// counters of their own, which are read when metrics are requested.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    /// Connections that were answered with 503.
    pub(crate) rejected: Counter,
    /// Connections to `--listen-proxy` or `unix:` that sent no valid PROXY header or came from an
    /// untrusted proxy.
    pub(crate) without_proxy_header: Counter,
    /// Requests of pages whose origin is not allowed.
    pub(crate) foreign_origins: Counter,
    /// Requests that were answered with 431, because their head is too large.
    pub(crate) large_heads: Counter,
    /// WebSocket requests by HTTP/1.0, which a proxy made of the client's.
    pub(crate) old_http: Counter,
    /// Open connections.
    pub(crate) live: Gauge,
    pub(crate) errors: Family<ErrorLabel, Counter>,
    pub(crate) closes: Family<CloseLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ErrorLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CloseLabel {
    by: &'static str,
    code: &'static str,
}

impl Counters {
    /// Creates a counter with the value 0 for each of `codes` and each close code: Prometheus
    /// computes no increase for a series that first appears with the value 1.
    pub(crate) fn new(codes: impl IntoIterator<Item = &'static str>) -> Self {
        let errors = Family::<ErrorLabel, Counter>::default();
        for code in codes {
            drop(errors.get_or_create(&ErrorLabel { code }));
        }
        let closes = Family::<CloseLabel, Counter>::default();
        for (by, names) in [("server", &OWN[..]), ("client", &PEERS[..])] {
            for &code in names {
                drop(closes.get_or_create(&CloseLabel { by, code }));
            }
        }
        Self {
            accepted: Counter::default(),
            rejected: Counter::default(),
            without_proxy_header: Counter::default(),
            foreign_origins: Counter::default(),
            large_heads: Counter::default(),
            old_http: Counter::default(),
            live: Gauge::default(),
            errors,
            closes,
        }
    }

    /// Counts an error reply with this code.
    pub(crate) fn refused(&self, code: &'static str) {
        self.errors.get_or_create(&ErrorLabel { code }).inc();
    }

    /// Counts the end of a WebSocket connection. `closing` is the code of the close frame and
    /// whether the peer sent it, or `None` if the connection ended without a close frame.
    pub(crate) fn closed(&self, closing: Option<(u16, bool)>) {
        let close = match closing {
            None => CloseLabel { by: "client", code: "none" },
            Some((code, true)) => CloseLabel::by("client", &PEERS, code),
            Some((code, false)) => CloseLabel::by("server", &OWN, code),
        };
        self.closes.get_or_create(&close).inc();
    }
}

/// The close codes that the server sends.
const OWN: [&str; 11] =
    ["1001", "1002", "1003", "1007", "1009", "4000", "4001", "4002", "4004", "4005", "4500"];
/// The close codes that browsers send. A client may send any code; all others are counted as
/// `other`.
const PEERS: [&str; 2] = ["1000", "1001"];

impl CloseLabel {
    fn by(by: &'static str, names: &[&'static str], code: u16) -> Self {
        let name = names.iter().find(|name| name.parse() == Ok(code));
        Self { by, code: name.unwrap_or(&"other") }
    }
}

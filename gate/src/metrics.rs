//! The gate's metrics.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rustls::{CommonState, HandshakeKind};
use shared::process::Process;

use crate::error::Error;
use crate::limits::Refusal;
use crate::tls::names::{group_name, negotiated_version};

/// All counters. Counting costs one addition, whether or not the metrics are collected.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) live: Gauge,
    /// The peak of `live` since [`Metrics::take_peak`] was last called.
    peak: AtomicI64,
    refused: Family<ReasonLabel, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    pub(crate) resumptions: Counter,
    pub(crate) bytes: Meter,
    pub(crate) backend_errors: Counter,
    unfinished: Gauge,
    expiry: Gauge,
}

/// The number of open connections, and its peak over some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionPeak {
    pub(crate) live: i64,
    pub(crate) peak: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// The labels of a handshake. Version and group are empty if the handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    outcome: &'static str,
    version: &'static str,
    group: &'static str,
}

/// Bytes that a connection has forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Bytes from the client that the backend has taken.
    pub(crate) to_backend: u64,
    /// Bytes from the backend that were encrypted for the client.
    pub(crate) to_client: u64,
}

/// Bytes that all connections have forwarded. Open connections update these counters while they
/// forward bytes.
#[derive(Debug)]
pub(crate) struct Meter {
    family: Family<DirectionLabel, Counter>,
    to_backend: Counter,
    to_client: Counter,
}

impl Default for Meter {
    fn default() -> Self {
        let family = Family::<DirectionLabel, Counter>::default();
        let of = |direction| family.get_or_create_owned(&DirectionLabel { direction });
        let (to_backend, to_client) = (of("to_backend"), of("to_client"));
        Self { family, to_backend, to_client }
    }
}

impl Meter {
    /// Counts the bytes that a connection has forwarded since `before`.
    pub(crate) fn add(&self, before: Carried, now: Carried) {
        // A counter is written only if it changes: all threads share it, and even adding 0 would
        // cost a write to shared memory.
        if now.to_backend != before.to_backend {
            self.to_backend.inc_by(now.to_backend - before.to_backend);
        }
        if now.to_client != before.to_client {
            self.to_client.inc_by(now.to_client - before.to_client);
        }
    }

    /// Bytes that the backend has sent so far on all connections.
    pub(crate) fn answered(&self) -> u64 {
        self.to_client.get()
    }
}

/// Values that are read only when metrics are collected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampledGauges {
    /// The number of unfinished handshakes.
    pub(crate) handshakes: usize,
    /// The time when the certificate expires, in seconds since 1970.
    pub(crate) expiry: i64,
}

impl Metrics {
    /// Counts a connection that was opened.
    pub(crate) fn opened(&self) {
        let live = self.live.inc() + 1;
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
    }

    /// The number of open connections, and its peak since the last call.
    pub(crate) fn take_peak(&self) -> ConnectionPeak {
        let live = self.live.get();
        ConnectionPeak { live, peak: self.peak.swap(live, Ordering::Relaxed).max(live) }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Connections => "connections_per_address",
            Refusal::Handshakes => "handshakes_per_address",
        };
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn completed(&self, tls: &CommonState) {
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed {
            self.resumptions.inc();
        }
        self.count(HandshakeLabels {
            outcome: if resumed { "resumed" } else { "full" },
            version: negotiated_version(tls),
            group: tls.negotiated_key_exchange_group().map_or("", |group| group_name(group.name())),
        });
    }

    pub(crate) fn failed(&self, error: &Error) {
        let outcome = match error {
            Error::Slow(_) => "slow",
            Error::Left => "left",
            Error::NotTls => "not_tls",
            Error::Evicted => "overtaken",
            Error::Stopping => "stopping",
            _ => "failed",
        };
        self.count(HandshakeLabels { outcome, version: "", group: "" });
    }

    fn count(&self, handshake: HandshakeLabels) {
        self.handshakes.get_or_create(&handshake).inc();
    }

    /// Encodes all metrics in OpenMetrics' text format.
    pub(crate) fn encode(&self, now: SampledGauges) -> String {
        self.set(now);
        let mut registry = Registry::default();
        let gate = registry.sub_registry_with_prefix("gate");
        gate.register("connections", "Connections that are open", self.live.clone());
        gate.register("accepted", "Connections that were accepted", self.accepted.clone());
        gate.register("refused", "Connections closed before TLS", self.refused.clone());
        gate.register("handshakes", "TLS handshakes that ended", self.handshakes.clone());
        gate.register("handshakes_unfinished", "Handshakes under way", self.unfinished.clone());
        gate.register("resumptions", "Handshakes that resumed a session", self.resumptions.clone());
        gate.register_with_unit(
            "forwarded",
            "Plain bytes forwarded",
            Unit::Bytes,
            self.bytes.family.clone(),
        );
        let help = "Connections that got no backend";
        gate.register("backend_errors", help, self.backend_errors.clone());
        gate.register_with_unit(
            "certificate_expiry",
            "When the certificate expires, since 1970",
            Unit::Seconds,
            self.expiry.clone(),
        );
        registry.register_collector(Box::new(Process));
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    fn set(&self, now: SampledGauges) {
        self.unfinished.set(i64::try_from(now.handshakes).unwrap_or(i64::MAX));
        self.expiry.set(now.expiry);
    }
}

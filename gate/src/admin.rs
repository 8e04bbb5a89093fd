//! The gate's `/status` and `/metrics` on the admin port.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shared::admin::Report;

use crate::gate::Gate;
use crate::metrics::SampledGauges;

#[derive(Debug)]
pub(crate) struct Admin {
    gate: Arc<Gate>,
    started: Instant,
}

impl Admin {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, started: Instant::now() }
    }

    fn sample(&self) -> SampledGauges {
        SampledGauges {
            handshakes: self.gate.limiter.handshakes(),
            expiry: since_1970(self.gate.served.load().identity.expires),
        }
    }
}

impl Report for Admin {
    fn status(&self) -> String {
        let (metrics, sampled) = (&self.gate.metrics, self.sample());
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "connections": metrics.live.get(),
            "max_connections": self.gate.drain.capacity,
            "accepted": metrics.accepted.get(),
            "handshakes_unfinished": sampled.handshakes,
            "resumptions": metrics.resumptions.get(),
            "backend": self.gate.backend.to_string(),
            "backend_errors": metrics.backend_errors.get(),
            "certificate": {
                "names": self.gate.served.load().identity.names,
                "expires": sampled.expiry,
            },
        });
        format!("{status:#}\n")
    }

    fn metrics(&self) -> Option<String> {
        Some(self.gate.metrics.encode(self.sample()))
    }
}

fn since_1970(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

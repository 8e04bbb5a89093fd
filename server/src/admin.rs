//! What the server tells its administrators, on a port of its own that no gate forwards to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use shared::admin::Report;

use crate::publish::Service;

/// What the administrators' side tells of.
#[derive(Debug)]
pub struct Admin {
    /// Registry, log, keys.
    pub service: Arc<Service>,
    /// Open connections, registered or not.
    pub connections: Arc<AtomicUsize>,
    /// When the server came up.
    pub started: Instant,
}

impl Report for Admin {
    /// Counts only: no IDs, no keys.
    fn status(&self) -> String {
        let hub = &self.service.hub;
        let tags: serde_json::Map<_, _> = hub
            .counts()
            .into_iter()
            .map(|counts| {
                let value = json!({"registrations": counts.registrations, "ids": counts.ids});
                (counts.tag.to_string(), value)
            })
            .collect();
        let protected: Vec<String> = self
            .service
            .policy
            .load()
            .auth
            .protected()
            .into_iter()
            .map(|(tag, action)| format!("{tag}:{}", action.name()))
            .collect();
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "log": self.service.log.name(),
            "epoch": hub.epoch(),
            "seq": hub.head(),
            "connections": self.connections.load(Ordering::Relaxed),
            "tags": tags,
            "protected": protected,
        });
        format!("{status:#}\n")
    }
}

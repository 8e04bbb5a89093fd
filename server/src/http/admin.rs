//! The pages for administrators. They are on a port of their own, to which the gate does not
//! forward.

use std::sync::Arc;
use std::time::Instant;

use serde::{Serialize, Serializer};
use serde_json::json;
use shared::admin::Report;

use crate::access::auth::Guarded;
use crate::http::metrics_text;
use crate::hub::TagCounts;
use crate::publish::Service;

/// The most tags in `/status`. If the configuration declares no tags, there can be very many.
const TAGS: usize = 100;

/// The data for the pages of the admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    pub service: Arc<Service>,
    /// When the server started.
    pub started: Instant,
}

/// The content of `/status`: counts, but no IDs and no keys.
#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    uptime_s: u64,
    log: &'static str,
    epoch: &'a str,
    seq: u64,
    connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_servers: Option<usize>,
    tags: Tags,
    tags_left_out: usize,
    protected: Vec<String>,
    open: Vec<String>,
}

/// A JSON object with the tags in this order: most registrations first.
struct Tags(Vec<TagCounts>);

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|counts| {
            let value = json!({
                "registrations": counts.registrations,
                "ids": counts.ids,
                "deliveries": counts.deliveries,
                "broadcasts": counts.kept.broadcasts,
                "unread": counts.kept.unread,
            });
            (counts.tag.as_str(), value)
        }))
    }
}

impl Report for Admin {
    fn status(&self) -> String {
        let service = &self.service;
        let (tags, tags_left_out) = service.hub.counts(TAGS);
        let policy = service.policy.load();
        let names = |pairs: Vec<Guarded>| pairs.iter().map(Guarded::to_string).collect();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            log: service.log.name(),
            epoch: &service.hub.epoch,
            seq: service.hub.head(),
            connections: service.counters.live.get(),
            other_servers: service.log.cluster().map(|cluster| cluster.peers()),
            tags: Tags(tags),
            tags_left_out,
            protected: names(policy.auth.protected()),
            open: names(policy.auth.opened()),
        };
        // Serializing these types cannot fail.
        serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
    }

    fn not_ready(&self) -> Option<&'static str> {
        self.service.log.cluster()?.not_ready()
    }

    fn metrics(&self) -> Option<String> {
        Some(metrics_text::encode(&self.service))
    }
}

//! What a running server cannot change.

use super::Config;

/// As it was when the server began: each option with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed(Vec<(&'static str, String)>);

impl Config {
    /// What a running server cannot change.
    #[must_use]
    pub fn fixed(&self) -> Fixed {
        let Self {
            listen,
            listen_proxy,
            trust_proxy,
            admin,
            data,
            nats,
            id_key_file,
            origins,
            demo,
            ping_interval,
            idle_timeout,
            log,
            log_format,
            bounds,
            threads,
            // These can.
            policy: _,
            keeping: _,
            // Follows from others.
            demo_key: _,
            warnings: _,
        } = self;
        Fixed(vec![
            ("listen", format!("{listen:?}")),
            ("listen-proxy", format!("{listen_proxy:?}")),
            ("trust-proxy", format!("{trust_proxy:?}")),
            ("admin", format!("{admin:?}")),
            ("data and data-size", format!("{data:?}")),
            ("nats and what belongs to it", format!("{nats:?}")),
            ("id-key-file", format!("{id_key_file:?}")),
            ("origin", format!("{origins:?}")),
            ("demo", demo.to_string()),
            ("ping-interval", format!("{ping_interval:?}")),
            ("idle-timeout", format!("{idle_timeout:?}")),
            ("log", log.clone()),
            ("log-format", format!("{log_format:?}")),
            ("threads", threads.to_string()),
            ("max-connections", bounds.connections.to_string()),
            ("max-tags", bounds.room.tags.to_string()),
            ("max-registrations", bounds.room.registrations.to_string()),
            ("max-backlog", bounds.backlog.to_string()),
            ("spare-memory", bounds.spare_memory.to_string()),
        ])
    }
}

impl Fixed {
    /// The options that are another way in `other`.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(one, other)| one != other).map(|((name, _), _)| *name).collect()
    }
}

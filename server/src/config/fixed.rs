//! What a running server cannot change.

use super::Config;
use crate::hub::history::Settings;
use crate::id::Tag;
use crate::protocol::Protectable;

/// As it was when the server began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Each option with its value.
    options: Vec<(&'static str, String)>,
    /// What is kept and protected, where others that share the log must keep and protect the same.
    agreed: Option<(Settings, Vec<(Tag, Protectable)>)>,
}

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
            // These can, unless others must do so too.
            policy,
            keeping,
            // Follows from others.
            demo_key: _,
            warnings: _,
        } = self;
        let agreed = nats.is_some().then(|| (keeping.clone(), policy.auth.protected()));
        let options = vec![
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
        ];
        Fixed { options, agreed }
    }
}

impl Fixed {
    /// The options that are another way in `other`.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.options.iter().zip(&other.options);
        pairs.filter(|(one, other)| one != other).map(|((name, _), _)| *name).collect()
    }

    /// Whether `other` keeps or protects something else than the servers have agreed on.
    #[must_use]
    pub fn disagrees(&self, other: &Self) -> bool {
        self.agreed.is_some() && self.agreed != other.agreed
    }
}

//! Checks the addresses of the configuration: two options may name the same one, or an option may
//! have no effect.

use super::Config;
use super::cli::RunArgs;
use crate::error::Error;
use crate::net::addresses::{Listen, ListenAddress};
use crate::net::listeners::PROXY;

impl Config {
    /// Logs a warning for each address option that has no effect. `sockets_given`: a service
    /// manager passes the sockets, which replace the configured ones.
    ///
    /// # Errors
    /// The first address that two options name, unless a service manager passes the sockets.
    pub fn check_addresses(&self, sockets_given: bool) -> Result<(), Error> {
        if let (false, Some(clash)) = (sockets_given, self.clashes().into_iter().next()) {
            return Err(clash);
        }
        for warning in self.without_effect(sockets_given) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// An error for each address that two options name. Binding an address twice would fail with an
    /// error that blames another program. Sockets of a service manager replace all of these
    /// addresses except that of the admin port.
    pub(crate) fn clashes(&self) -> Vec<Error> {
        let sockets = &self.sockets;
        let tcp = |option: &'static str| move |at: &ListenAddress| (option, Listen::Tcp(*at));
        let listen = sockets.listen.iter().map(|listen| ("listen", listen.clone()));
        let listen_proxy = sockets.listen_proxy.iter().map(tcp("listen-proxy"));
        let admin = sockets.admin.iter().filter(|at| at.given).map(tcp("admin"));
        let all: Vec<(&'static str, Listen)> = listen.chain(listen_proxy).chain(admin).collect();
        let mut found = Vec::new();
        for (index, (option, listen)) in all.iter().enumerate() {
            // A port alone also means the IPv6 address; only its IPv4 address is reported.
            let implied = matches!(listen, Listen::Tcp(address) if !address.given);
            let other = all[..index].iter().find(|(_, other)| other.overlaps(listen));
            if let (false, Some((other, _))) = (implied, other) {
                let reason = match other == option {
                    true => format!("{listen} is named twice; remove one"),
                    false => {
                        format!("{listen} is where --{other} listens; give each its own port")
                    }
                };
                found.push((*option, reason));
            }
        }
        found.dedup();
        found.into_iter().map(|(option, reason)| Error::Option { option, reason }).collect()
    }

    /// A warning for each address option that has no effect.
    pub(crate) fn without_effect(&self, sockets_given: bool) -> Vec<String> {
        let Ok(default) = Self::resolve(RunArgs::default()) else { return Vec::new() };
        let sockets = &self.sockets;
        let no_port = sockets.listen_proxy.is_empty();
        let changed = |options: [(&'static str, bool); 2]| {
            options.into_iter().filter(|(_, changed)| *changed).map(|(option, _)| option)
        };
        if sockets_given {
            let listen = sockets.listen != default.sockets.listen;
            let unused = changed([("--listen", listen), ("--listen-proxy", !no_port)]);
            let unused = unused.collect::<Vec<_>>().join(" and ");
            let warning = format!(
                "{unused} not used: the service manager passes the sockets; set the addresses in \
                 its socket units, where FileDescriptorName={PROXY} replaces --listen-proxy"
            );
            return if unused.is_empty() { Vec::new() } else { vec![warning] };
        }
        let unix = sockets.listen.iter().any(|listen| matches!(listen, Listen::Unix(_)));
        let trust = sockets.trust_proxy != default.sockets.trust_proxy;
        let rate = self.policy.limits.connect != default.policy.limits.connect;
        let useless = changed([
            ("--trust-proxy", no_port && trust),
            ("--connect-rate", no_port && rate && !unix),
        ]);
        let useless = useless.map(|option| {
            format!(
                "{option} has no effect without --listen-proxy, or a socket of the service manager \
                 that is named {PROXY}: no proxy tells the server who connects"
            )
        });
        let displaced = sockets.displaced_admin().map(|admin| {
            format!(
                "there is no admin port: clients connect to {admin}, where it usually is; choose \
                 another with --admin ADDR:PORT"
            )
        });
        useless.chain(displaced).collect()
    }
}

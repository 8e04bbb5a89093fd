//! What the addresses of several options come to together.

use super::Config;
use super::cli::RunArgs;
use crate::error::Error;
use crate::net::addresses::{Listen, ListenAddress};
use crate::net::listeners::PROXY;

impl Config {
    /// Addresses that two options name, of which the second would be told that "another program" has
    /// them. Not for sockets of a service manager, which take the place of all but the admin port.
    #[must_use]
    pub fn clashes(&self) -> Vec<Error> {
        let sockets = &self.sockets;
        let listen = sockets.listen.iter().map(|place| ("listen", place.clone()));
        let tcp = |option: &'static str| move |at: &ListenAddress| (option, Listen::Tcp(*at));
        let listen_proxy = sockets.listen_proxy.iter().map(tcp("listen-proxy"));
        let admin = sockets.admin.iter().filter(|at| at.given).map(tcp("admin"));
        let mut taken: Vec<(&str, Listen)> = Vec::new();
        let mut found = Vec::new();
        for (option, place) in listen.chain(listen_proxy).chain(admin) {
            if let Some((other, _)) = taken.iter().find(|(_, other)| other.overlaps(&place)) {
                let reason = match *other == option {
                    true => format!("{place} is named twice; leave one"),
                    false => {
                        format!("{place} is where --{other} listens; give each a port of its own")
                    }
                };
                // An address that nobody gave stands there only because another of its port does.
                let implied = matches!(&place, Listen::Tcp(address) if !address.given);
                if found.last() != Some(&(option, reason.clone())) && !implied {
                    found.push((option, reason));
                }
            }
            taken.push((option, place));
        }
        found.into_iter().map(|(option, reason)| Error::Option { option, reason }).collect()
    }

    /// Options of addresses that have no effect, each with the reason. `sockets_given`: a service
    /// manager gives the sockets, in place of those that the configuration names.
    #[must_use]
    pub fn without_effect(&self, sockets_given: bool) -> Vec<String> {
        let Ok(unasked) = Self::resolve(RunArgs::default()) else { return Vec::new() };
        let (asked, unasked_sockets) = (&self.sockets, &unasked.sockets);
        let no_port = asked.listen_proxy.is_empty();
        if sockets_given {
            let options = [
                ("--listen", asked.listen != unasked_sockets.listen),
                ("--listen-proxy", !no_port),
            ];
            let unused = options.into_iter().filter(|(_, asked)| *asked).map(|(option, _)| option);
            let unused = unused.collect::<Vec<_>>().join(" and ");
            let warning = format!(
                "{unused} not used: the service manager gives the sockets; change its units, in which \
                 FileDescriptorName={PROXY} stands for --listen-proxy"
            );
            return if unused.is_empty() { Vec::new() } else { vec![warning] };
        }
        let introduced = asked.listen.iter().any(|place| matches!(place, Listen::Unix(_)));
        let limited = self.policy.limits.connect != unasked.policy.limits.connect;
        let options = [
            ("--trust-proxy", asked.trust_proxy != unasked_sockets.trust_proxy),
            ("--connect-rate", limited && !introduced),
        ];
        let useless = options.into_iter().filter(|(_, asked)| no_port && *asked);
        let useless = useless.map(|(option, _)| {
            format!(
                "{option} means nothing without --listen-proxy (or a socket of the service manager \
                 named {PROXY}): no proxy says who connects"
            )
        });
        let displaced = asked.displaced_admin().map(|admin| {
            format!(
                "no admin port: clients connect at its usual {admin}; choose one with --admin ADDR:PORT"
            )
        });
        useless.chain(displaced).collect()
    }
}

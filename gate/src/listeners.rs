//! The listening sockets of a gate.

use std::net::{SocketAddr, TcpListener};

use shared::accept::Listener;
use shared::telemetry::announce;

use crate::backend::self_forward;
use crate::config::Config;
use crate::error::Error;

/// The sockets that clients and administrators connect to.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) clients: Vec<Listener>,
    pub(crate) admin: Option<Listener>,
}

impl Listeners {
    /// Uses the sockets `given` by a service manager. Without them, opens the sockets that the
    /// configuration names. Must be called within a tokio runtime.
    ///
    /// # Errors [`Error::Bind`]; [`Error::System`] for a socket that cannot be used;
    /// [`Error::Usage`] if a socket has the address of the backend, or if two options name one
    /// port.
    pub fn open(config: &Config, given: Vec<TcpListener>) -> Result<Self, Error> {
        let unusable = |source| Error::System { what: "use the listening socket", source };
        let mut clients = Vec::new();
        for socket in given {
            let addresses = self_forward::addresses_of(&socket).map_err(unusable)?;
            self_forward::reject(&config.backend, &addresses, self_forward::LISTENS)?;
            clients.push(Listener::adopt(socket).map_err(unusable)?);
        }
        if clients.is_empty() {
            config.separate_ports()?;
            clients.push(config.listen.bind()?);
        } else {
            tracing::info!(
                sockets = clients.len(),
                "listening on the sockets of the service manager"
            );
        }
        for listener in &clients {
            listener.keep_alive().map_err(unusable)?;
        }
        let admin = config.admin.map(bind_admin).transpose()?;
        Ok(Self { clients, admin })
    }

    /// Prints the addresses of the open sockets on stdout.
    pub fn announce(&self) {
        for listener in &self.clients {
            announce("gate", listener.address());
        }
        if let Some(listener) = &self.admin {
            announce("admin", listener.address());
        }
    }
}

fn bind_admin(address: SocketAddr) -> Result<Listener, Error> {
    Listener::bind(address).map_err(|source| Error::Bind { address: address.to_string(), source })
}

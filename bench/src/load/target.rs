//! A server that is loaded: where it is and how it is spoken to.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frame::{TEXT, client_frame};
use super::url::Url;
use super::wire::{Secrecy, Wire};

/// Where Linux systems keep what they trust.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Connections from one loopback address: fewer than there are ports for them.
const PER_SOURCE: usize = 25_000;

/// Time for a blocking connection to begin, and for each of its reads.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is asked to listen and to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Tocsin's, as far as the load needs it; the peers written for the comparison know it too.
    Actions,
    /// Listening is a path, publishing a `POST`.
    Nchan,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    dialect: Dialect,
    address: SocketAddr,
    authority: String,
    path: String,
    secrecy: Option<Secrecy>,
    /// For publishing where that is protected.
    key: Option<String>,
}

impl Target {
    /// A server of our own, or one that speaks as it does, at `url`.
    ///
    /// # Errors
    /// When its name has no address, or `trusted` is no file of certificates.
    pub(crate) fn at(
        url: &Url,
        key: Option<String>,
        trusted: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let address = (url.host.as_str(), url.port)
            .to_socket_addrs()
            .with_context(|| format!("{} is not known", url.host))?
            .next()
            .with_context(|| format!("{} has no address", url.host))?;
        let secrecy = if url.tls {
            let name = ServerName::try_from(url.host.clone())?;
            Some(Secrecy { config: Arc::new(trust(trusted)?), name })
        } else {
            None
        };
        Ok(Self {
            dialect: Dialect::Actions,
            address,
            authority: url.authority(),
            path: url.path.clone(),
            secrecy,
            key,
        })
    }

    /// A program of this machine's.
    pub(crate) fn local(dialect: Dialect, address: SocketAddr, key: Option<String>) -> Self {
        let path = "/ws".to_owned();
        Self { dialect, address, authority: address.to_string(), path, secrecy: None, key }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The request that becomes a WebSocket.
    pub(crate) fn upgrade(&self, tag: &str) -> Vec<u8> {
        let path = match self.dialect {
            Dialect::Actions => self.path.clone(),
            Dialect::Nchan => format!("/sub/{tag}"),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.authority
        )
        .into_bytes()
    }

    /// What registers a listener, where that takes more than the path. `more` are further fields
    /// of the action, each with a comma before it.
    pub(crate) fn join(&self, tag: &str, more: &str) -> Option<Vec<u8>> {
        match self.dialect {
            Dialect::Actions => {
                let action = format!("{{\"action\":\"set\",\"tag\":\"{tag}\"{more}}}");
                Some(client_frame(TEXT, action.as_bytes()))
            }
            Dialect::Nchan => None,
        }
    }

    /// A broadcast as an action; `mid` is the message's own name.
    pub(crate) fn broadcast(&self, tag: &str, message: &str, mid: Option<u64>) -> String {
        let mut action = format!("{{\"action\":\"broadcast\",\"tag\":\"{tag}\"");
        // Writing to a string cannot fail.
        if let Some(key) = &self.key {
            let _ = write!(action, ",\"key\":\"{key}\"");
        }
        if let Some(mid) = mid {
            let _ = write!(action, ",\"mid\":\"bench-{mid}\"");
        }
        let _ = write!(action, ",\"message\":{message}}}");
        action
    }

    /// A request that publishes.
    pub(crate) fn post(&self, tag: &str, message: &str, mid: Option<u64>) -> Vec<u8> {
        let (path, body) = match self.dialect {
            Dialect::Actions => ("/messages".to_owned(), self.broadcast(tag, message, mid)),
            Dialect::Nchan => (format!("/pub/{tag}"), message.to_owned()),
        };
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        )
        .into_bytes()
    }

    /// Begins to connect, without waiting. `number` counts the connections: many of them to this
    /// machine come from several of its addresses, as each has only so many ports.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn begin(&self, number: usize) -> anyhow::Result<Wire> {
        let socket =
            Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Thousands of ports would otherwise wait for a minute after they were closed.
        socket.set_linger(Some(Duration::ZERO))?;
        if let (true, source @ 1..) = (is_v4_loopback(self.address), number / PER_SOURCE) {
            let last = u8::try_from(1 + source).context("too many connections")?;
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        }
        match socket.connect(&SockAddr::from(self.address)) {
            Err(error) if !is_under_way(&error) => return Err(error).context("connecting"),
            _ => {}
        }
        Wire::new(socket.into(), self.secrecy.as_ref())
    }

    /// Connects and waits for it. Reads of the connection wait, too, but not for ever.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn connect(&self) -> anyhow::Result<Wire> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Wire::new(stream, self.secrecy.as_ref())
    }
}

fn is_under_way(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

fn is_v4_loopback(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(address) if address.is_loopback())
}

/// TLS as browsers speak it, trusting the certificates of `file`, or what this system trusts.
fn trust(file: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let file =
        match file {
            Some(file) => file,
            None => TRUSTED.iter().map(Path::new).find(|path| path.is_file()).context(
                "this system trusts no certificates; name a file of them with --ca FILE",
            )?,
        };
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    ensure!(!roots.is_empty(), "{} holds no certificates", file.display());
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

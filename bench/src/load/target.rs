//! The server under load: its address and its protocol.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio_tungstenite::tungstenite::http::Uri;

use super::connection::{Connection, Poll, TlsSettings};
use super::wire::{PublishMethod, TEXT, client_frame};

/// The largest number of connections from one loopback address, which is below the number of its
/// ports.
const PER_SOURCE: usize = 25_000;

/// Time for an address of the server's name to accept a connection.
const ANSWER: Duration = Duration::from_secs(5);

/// How a client joins and publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientProtocol {
    /// The actions of our server. The peers that run in Node support the actions that the load
    /// uses.
    Actions,
    /// The protocol of nchan: the path of the request joins, and `POST` publishes.
    Nchan,
}

pub(crate) struct Target {
    pub(crate) protocol: ClientProtocol,
    pub(crate) address: SocketAddr,
    authority: String,
    path: String,
    tls: Option<TlsSettings>,
    /// The key for publishing, if the tag is protected.
    pub(crate) key: Option<String>,
}

impl Target {
    /// Returns the target for a server at `url` that speaks our protocol.
    ///
    /// # Errors
    /// When no address of its name answers, or `trusted` is not a file of certificates.
    pub(crate) fn at(url: &Url, key: Option<String>, trusted: Option<&Path>) -> Result<Self> {
        let address = url.answering_address()?;
        let mut target = Self::local(ClientProtocol::Actions, address);
        (target.authority, target.path, target.key) = (url.authority(), url.path.clone(), key);
        if url.tls {
            let (config, name) = (tls_config(trusted)?, ServerName::try_from(url.host.clone())?);
            target.tls = Some(TlsSettings { config: Arc::new(config), name });
        }
        Ok(target)
    }

    /// Returns the target for a program on this machine.
    pub(crate) fn local(protocol: ClientProtocol, address: SocketAddr) -> Self {
        let (authority, path) = (address.to_string(), "/ws".to_owned());
        Self { protocol, address, authority, path, tls: None, key: None }
    }

    /// Returns the request that upgrades the connection to a WebSocket.
    pub(crate) fn upgrade(&self, tag: &str) -> Vec<u8> {
        let path = match self.protocol {
            ClientProtocol::Actions => self.path.clone(),
            ClientProtocol::Nchan => format!("/sub/{tag}"),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.authority
        )
        .into_bytes()
    }

    /// Returns the frame that registers a listener, or `None` if the path of the request does so.
    /// `more` are further fields of the action, each with a comma before it.
    pub(crate) fn join(&self, tag: &str, more: &str) -> Option<Vec<u8>> {
        let action = format!("{{\"action\":\"set\",\"tag\":\"{tag}\"{more}}}");
        (self.protocol == ClientProtocol::Actions).then(|| client_frame(TEXT, action.as_bytes()))
    }

    /// Returns the bytes that publish a message. `mid` is the ID of the message.
    pub(crate) fn publication(
        &self,
        method: PublishMethod,
        tag: &str,
        message: &str,
        mid: Option<u64>,
    ) -> Vec<u8> {
        let action = || self.broadcast(tag, message, mid);
        let (path, body) = match (method, self.protocol) {
            (PublishMethod::WebSocket, _) => return client_frame(TEXT, action().as_bytes()),
            (_, ClientProtocol::Actions) => ("/messages".to_owned(), action()),
            (_, ClientProtocol::Nchan) => (format!("/pub/{tag}"), message.to_owned()),
        };
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        )
        .into_bytes()
    }

    fn broadcast(&self, tag: &str, message: &str, mid: Option<u64>) -> String {
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

    /// Begins to connect, without blocking. `poll` reports the events of the connection under
    /// `number`, which counts the connections. Connections to this machine come from several
    /// loopback addresses, because the ports of one do not suffice. `upgrade` is the request for an
    /// upgrade to a WebSocket.
    pub(crate) fn connect(
        &self,
        poll: &Poll,
        number: usize,
        upgrade: Option<Vec<u8>>,
    ) -> Result<Connection> {
        let socket =
            Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Without this option, thousands of ports stay in TIME_WAIT for a minute after the close.
        socket.set_linger(Some(Duration::ZERO))?;
        let is_local = matches!(self.address.ip(), IpAddr::V4(address) if address.is_loopback());
        if let (true, source @ 1..) = (is_local, number / PER_SOURCE) {
            let last = u8::try_from(1 + source).context("too many connections")?;
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        }
        if let Err(error) = socket.connect(&SockAddr::from(self.address))
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error).context("connecting");
        }
        poll.add(&socket, number)?;
        Connection::new(socket.into(), self.tls.as_ref(), upgrade)
    }
}

/// Returns a TLS configuration that trusts the certificates of `file`, or else those of this
/// system.
fn tls_config(file: Option<&Path>) -> Result<ClientConfig> {
    let found = match file {
        Some(file) => load_certs_from_paths(Some(file), None),
        None => load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    ensure!(!roots.is_empty(), "no certificate to trust (--ca FILE): {:?}", found.errors);
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The URL of a server's WebSocket, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    /// A host name or an IP address. An IPv6 address has no brackets here.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || "give ws://HOST:PORT/ws, or wss://…".to_owned();
        let uri: Uri = text.parse().map_err(|error| format!("{text}: {error}"))?;
        let (tls, default_port) = match uri.scheme_str() {
            Some("wss") => (true, 443),
            Some("ws") => (false, 80),
            _ => return Err(usage()),
        };
        let authority = uri.authority().ok_or_else(usage)?;
        let (host, port) = (authority.host(), authority.port_u16());
        if port.is_none() && authority != host {
            return Err(format!("{authority} is not HOST or HOST:PORT"));
        }
        // `Uri` does not distinguish an absent path from `/`.
        let path = match uri.path_and_query() {
            Some(path) if !text.ends_with(authority.as_str()) => path.as_str(),
            _ => "/ws",
        };
        let (host, path) = (host.trim_matches(['[', ']']).to_owned(), path.to_owned());
        Ok(Self { tls, host, port: port.unwrap_or(default_port), path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Url {
    /// The first address of the name that accepts a connection. A name such as `localhost` may have one
    /// of IPv6 before the one of IPv4 on which the server listens.
    ///
    /// # Errors
    /// When the name is not known, or none of its addresses answers; with the reason for each.
    fn answering_address(&self) -> Result<SocketAddr> {
        let addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .with_context(|| format!("{} is not known", self.host))?;
        let mut reasons = Vec::new();
        for address in addresses {
            match TcpStream::connect_timeout(&address, ANSWER) {
                Ok(_closed_at_once) => return Ok(address),
                Err(error) => reasons.push(format!("{address}: {error}")),
            }
        }
        ensure!(!reasons.is_empty(), "{} has no address", self.host);
        bail!("no address of {} answers ({})", self.host, reasons.join("; "))
    }

    /// The host and port for the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let url: Url = "wss://shop.example:9091/ws".parse().unwrap();
        assert_eq!((url.tls, url.authority().as_str()), (true, "shop.example:9091"));
        let url: Url = "ws://[::1]:9090".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 9090, "/ws"));
        assert_eq!(url.authority(), "[::1]:9090");
        assert_eq!(url.to_string(), "ws://[::1]:9090/ws");
        assert_eq!("wss://shop.example/".parse::<Url>().unwrap().port, 443);
        assert!("http://shop.example/".parse::<Url>().is_err());
        assert!("ws:///ws".parse::<Url>().is_err());
        assert!("ws://shop:x/".parse::<Url>().is_err());
    }

    #[test]
    fn the_address_that_answers_is_taken() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(ip) else { continue };
            let address = listener.local_addr().unwrap();
            let url: Url = format!("ws://localhost:{}", address.port()).parse().unwrap();
            if !(url.host.as_str(), url.port)
                .to_socket_addrs()
                .unwrap()
                .any(|found| found == address)
            {
                continue;
            }
            assert_eq!(url.answering_address().unwrap(), address);
            drop(listener);
            let error = url.answering_address().unwrap_err().to_string();
            assert!(error.contains(&format!("{address}: ")), "{error}");
        }
    }
}

//! Addresses as users write them: `ws://HOST[:PORT][/PATH]`, or `wss`.

use std::fmt;
use std::str::FromStr;

/// Where a server's WebSocket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    /// A name or an address; one of IPv6 is without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("wss", rest)) => (true, rest),
            Some(("ws", rest)) => (false, rest),
            _ => return Err("give ws://HOST:PORT/ws, or wss://…".to_owned()),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/ws"),
        };
        let (host, port) = split_port(authority);
        let port = match port {
            Some(port) => port.parse().map_err(|_| format!("{port} is not a port"))?,
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{text} names no server"));
        }
        Ok(Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Url {
    /// For the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
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
}

//! Addresses as users write them: `ws://HOST[:PORT][/PATH]`, or `wss`.

use std::fmt;
use std::str::FromStr;

use tokio_tungstenite::tungstenite::http::Uri;

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
        // `Uri` takes an absent path for `/`.
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
    /// For the `Host` header.
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
}

//! Checks which pages may use this server. Browsers send the origin of a page in `Origin`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderValue};

/// The allowed origins, in addition to that of the server itself.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeSet<String>);

/// The error of a request from an origin that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign;

/// The error of a text that is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write scheme, host and, if needed, port, for example https://shop.example:8443")]
pub(crate) struct BadOrigin;

impl Origins {
    /// Allows another origin.
    ///
    /// # Errors
    /// [`BadOrigin`] unless the origin consists of `http://` or `https://`, a name and perhaps a
    /// port.
    pub(crate) fn allow(&mut self, origin: &str) -> Result<(), BadOrigin> {
        let trimmed = origin.strip_suffix('/').unwrap_or(origin);
        host_of(trimmed).ok_or(BadOrigin)?;
        self.0.insert(trimmed.to_ascii_lowercase());
        Ok(())
    }

    /// Checks the `Origin` of a request and returns it for the answer. Requests of other programs
    /// than browsers have no `Origin` and are allowed.
    ///
    /// # Errors
    /// [`Foreign`] unless the origin is in the list, or has the host of the `Host` header and any
    /// port. An `http:` origin must be in the list unless its host is `localhost` or an IP address:
    /// a page whose name was rebound to this server by DNS has the host of the `Host` header, too,
    /// but it has no certificate for that name.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Foreign> {
        let Some(value) = headers.get(header::ORIGIN) else { return Ok(None) };
        let origin = value.to_str().map_err(|_| Foreign)?.to_ascii_lowercase();
        let host = host_of(&origin).ok_or(Foreign)?;
        let own = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| host_of(&format!("http://{host}")));
        let is_own = own.as_ref() == Some(&host);
        let cannot_be_rebound = origin.starts_with("https:") || is_fixed(&host);
        if is_own && cannot_be_rebound || self.0.contains(&origin) {
            return Ok(Some(value.clone()));
        }
        Err(Foreign)
    }
}

/// Whether DNS has no part in where a host leads.
fn is_fixed(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok()
}

/// The host of an origin `scheme://host[:port]`, in lower case.
fn host_of(origin: &str) -> Option<String> {
    let uri: Uri = origin.parse().ok()?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.path() == "/"
        && !origin.ends_with('/')
        && uri.query().is_none()
        && !origin.contains('@');
    plain.then(|| uri.host().map(str::to_ascii_lowercase))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: &str) -> bool {
        let mut origins = Origins::default();
        origins.allow("https://www.shop.example").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        origins.check(&headers).is_ok()
    }

    #[test]
    fn the_own_name_with_any_port_and_what_is_allowed() {
        assert!(check("shop.example:9091", "https://shop.example"));
        assert!(check("SHOP.example:9091", "https://shop.example:8443"));
        assert!(check("[::1]:9091", "https://[::1]"));
        assert!(check("shop.example", "https://www.shop.example"));
        for host in ["localhost", "127.0.0.1", "[::1]", "192.0.2.7"] {
            assert!(check(&format!("{host}:9090"), &format!("http://{host}:8080")), "{host}");
        }
        // DNS can rebind such a name to this server.
        for host in ["shop.example", "localhost.evil.example", "1.2.3.4.evil.example"] {
            assert!(!check(host, &format!("http://{host}")), "{host}");
        }
        assert!(!check("shop.example", "http://www.shop.example"));
        assert!(!check("shop.example", "https://www.shop.example:444"));
        assert!(!check("shop.example", "https://shop.example.evil.example"));
        assert!(!check("shop.example", "https://evil.example"));
        assert!(!check("shop.example", "null"));
        assert!(!check("shop.example", "file://shop.example"));
        assert!(!check("shop.example", "https://shop.example@evil.example"));
        assert_eq!(Origins::default().check(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_may_be_configured() {
        let mut origins = Origins::default();
        assert_eq!(origins.allow("https://Shop.example/"), Ok(()));
        for bad in ["shop.example", "https://shop.example/path", "ftp://shop.example", "*", ""] {
            assert_eq!(origins.allow(bad), Err(BadOrigin), "{bad}");
        }
    }
}

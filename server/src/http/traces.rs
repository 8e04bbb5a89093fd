//! Log lines about requests that are refused before they are an action, at most one a minute for each
//! reason. They name what the operator can change.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};
use shared::log_throttle::LogThrottle;

use crate::limits;

/// The most of a header that a line repeats, in characters.
const MAX_SHOWN: usize = 100;

/// A page of another origin was refused.
pub(super) fn foreign_origin(headers: &HeaderMap, from: Option<IpAddr>) {
    static THROTTLE: LogThrottle = LogThrottle::new();
    if let Some(requests) = THROTTLE.record() {
        let (origin, host) = (shown(headers, header::ORIGIN), shown(headers, header::HOST));
        tracing::warn!(
            requests,
            "refused with 403, the last time to {}: a page of {origin} may not use this server, which it \
             calls {host}; if the page is yours, allow it with --origin",
            address(from)
        );
    }
}

/// The head of a request was too large.
pub(super) fn large_head(from: Option<IpAddr>) {
    static THROTTLE: LogThrottle = LogThrottle::new();
    if let Some(requests) = THROTTLE.record() {
        tracing::warn!(
            requests,
            "refused with 431, the last time to {}: the head of a request has more than {} bytes; the \
             site's cookies may be too large",
            address(from),
            limits::HEAD
        );
    }
}

/// A request for a WebSocket came by HTTP/1.0, which has no WebSockets.
pub(super) fn old_http(from: Option<IpAddr>) {
    static THROTTLE: LogThrottle = LogThrottle::new();
    if let Some(requests) = THROTTLE.record() {
        tracing::warn!(
            requests,
            "refused with 426, the last time to {}: a request for a WebSocket came by HTTP/1.0; the proxy \
             in between must use HTTP/1.1 (nginx: proxy_http_version 1.1)",
            address(from)
        );
    }
}

fn address(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string())
}

/// A header without control characters, cut off if it is long: a stranger wrote it.
fn shown(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    String::from_utf8_lossy(value).chars().take(MAX_SHOWN).flat_map(char::escape_default).collect()
}

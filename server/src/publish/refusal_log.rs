//! Log lines about refusals that a wrong configuration of the site may cause.

use std::net::IpAddr;

use shared::log_throttle::LogThrottle;

use crate::protocol::{ErrorCode, Refusal};

/// Logs a refusal with what was wanted and from where, at most once a minute for each of these codes. The
/// detail of a refusal never contains an ID or a key.
pub(super) fn log(refusal: &Refusal, from: Option<IpAddr>) {
    static DENIED: LogThrottle = LogThrottle::new();
    static WEAK_ID: LogThrottle = LogThrottle::new();
    static BAD_TAG: LogThrottle = LogThrottle::new();
    let throttle = match refusal.code {
        ErrorCode::Denied => &DENIED,
        ErrorCode::WeakId => &WEAK_ID,
        ErrorCode::BadTag => &BAD_TAG,
        _ => return,
    };
    if let Some(requests) = throttle.record() {
        let from =
            from.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        tracing::warn!(
            requests,
            "refused, the last time to {from}: {}: {}",
            refusal.code.as_str(),
            refusal.detail
        );
    }
}

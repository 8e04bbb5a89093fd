//! The provider of cryptography for rustls: aws-lc-rs.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The provider is always passed explicitly, because a process-wide default would depend on which
/// other crates are linked.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

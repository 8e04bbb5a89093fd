//! The cryptography that TLS uses.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The cryptography of aws-lc-rs. Callers pass it explicitly, because rustls's process-wide default
/// would depend on which other crates are linked.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

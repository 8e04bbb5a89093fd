//! The provider of cryptography.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Always passed explicitly: a process-wide default would depend on which other crates are linked.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

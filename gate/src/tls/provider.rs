//! The one provider of cryptography.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Always passed explicitly: a process-wide default would depend on what else is linked.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

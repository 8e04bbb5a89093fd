//! Names of the negotiated TLS parameters, for metrics, logs and the PROXY header.

use rustls::{CipherSuite, CommonState, NamedGroup, ProtocolVersion};

/// The name of the negotiated version. Empty if the handshake failed before the version was
/// negotiated.
pub(crate) fn negotiated_version(tls: &CommonState) -> &'static str {
    tls.protocol_version().map_or("", version_name)
}

/// OpenSSL's name of the version. Servers that read the PROXY header expect this name.
pub(crate) fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "unknown",
    }
}

/// OpenSSL's name of the cipher suite.
pub(crate) fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

/// The name of the key exchange group in rustls.
pub(crate) fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "secp256r1MLKEM768",
        NamedGroup::MLKEM768 => "MLKEM768",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider;

    #[test]
    fn every_version_and_suite_has_a_name() {
        let provider = provider();
        assert!(!provider.cipher_suites.is_empty());
        for suite in provider.cipher_suites {
            assert_ne!(suite_name(suite.suite()), "unknown", "{suite:?}");
            assert_ne!(version_name(suite.version().version), "unknown", "{suite:?}");
        }
    }
}

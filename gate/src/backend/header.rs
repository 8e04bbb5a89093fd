//! The PROXY protocol: a header before the client's first byte tells the backend the client's
//! address.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::fmt;
use std::net::SocketAddr;

use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};
use rustls::{CipherSuite, CommonState, ProtocolVersion};
use tokio::net::TcpStream;

use crate::tls::names::{suite_name, version_name};

/// The value of the header's field `verify` for a client that presented no certificate. The value 0
/// means that a certificate was verified.
const NOT_VERIFIED: u32 = 1;

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyVersion {
    /// The header is one line of text with addresses and ports.
    V1,
    /// The header is binary, and also names the TLS version and the cipher suite.
    V2,
}

impl fmt::Display for ProxyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl ProxyVersion {
    pub(super) fn header(self, peer: SocketAddr, client: &TcpStream, tls: &CommonState) -> Vec<u8> {
        let local = client.local_addr().ok();
        let tls = tls.protocol_version().zip(tls.negotiated_cipher_suite());
        self.encode(peer, local, tls.map(|(version, suite)| (version, suite.suite())))
    }

    fn encode(
        self,
        peer: SocketAddr,
        local: Option<SocketAddr>,
        tls: Option<(ProtocolVersion, CipherSuite)>,
    ) -> Vec<u8> {
        // A dual-stack socket reports IPv4 addresses as IPv6 addresses (`::ffff:192.0.2.7`).
        let plain =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let mut header = match local {
            Some(local) => {
                ProxyHeader::with_address(ProxiedAddress::stream(plain(peer), plain(local)))
            }
            // An open socket always has a local address. If the kernel reports none, the header
            // says that the gate itself made the connection.
            None => ProxyHeader::with_local(),
        };
        let mut bytes = Vec::with_capacity(128);
        let encoded = match self {
            Self::V1 => header.encode_v1(&mut bytes),
            Self::V2 => {
                if let Some((version, suite)) = tls {
                    let mut info = SslInfo::new(true, false, false, NOT_VERIFIED);
                    info.append_tlv(Tlv::SslVersion(version_name(version).into()));
                    info.append_tlv(Tlv::SslCipher(suite_name(suite).into()));
                    header.append_tlv(Tlv::Ssl(info));
                }
                header.encode_v2(&mut bytes)
            }
        };
        debug_assert!(encoded.is_ok(), "both ends of a connection are of one family");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: Option<(ProtocolVersion, CipherSuite)> =
        Some((ProtocolVersion::TLSv1_3, CipherSuite::TLS13_AES_128_GCM_SHA256));

    fn encode(version: ProxyVersion, peer: &str, local: &str) -> Vec<u8> {
        version.encode(peer.parse().unwrap(), Some(local.parse().unwrap()), TLS)
    }

    #[test]
    fn version_1_is_one_line() {
        assert_eq!(
            encode(ProxyVersion::V1, "192.0.2.7:49152", "198.51.100.1:9091"),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 9091\r\n"
        );
        assert_eq!(
            encode(ProxyVersion::V1, "[2001:db8::7]:49152", "[2001:db8::1]:9091"),
            b"PROXY TCP6 2001:db8::7 2001:db8::1 49152 9091\r\n"
        );
        assert_eq!(
            encode(ProxyVersion::V1, "192.0.2.7:49152", "[::ffff:198.51.100.1]:9091"),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 9091\r\n"
        );
    }

    /// Compares each byte with chapters 2.2 and 2.2.5 of the specification.
    #[test]
    fn version_2_names_tls_version_and_suite() {
        let tlvs = [
            &[0x20, 0, 5 + 3 + 7 + 3 + 22, 1, 0, 0, 0, 1][..],
            &[0x21, 0, 7],
            b"TLSv1.3",
            &[0x23, 0, 22],
            b"TLS_AES_128_GCM_SHA256",
        ]
        .concat();
        let expected = |family: u8, addresses: &[u8]| {
            let length = u8::try_from(addresses.len() + tlvs.len()).unwrap();
            let signature = b"\r\n\r\n\0\r\nQUIT\n\x21";
            [signature, &[family, 0, length][..], addresses, &tlvs].concat()
        };
        let (ports, four) = ([0xc0, 0, 0x23, 0x83], [192, 0, 2, 7, 198, 51, 100, 1]);
        assert_eq!(
            encode(ProxyVersion::V2, "192.0.2.7:49152", "198.51.100.1:9091"),
            expected(0x11, &[&four[..], &ports].concat())
        );
        let six = |last: u8| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        assert_eq!(
            encode(ProxyVersion::V2, "[2001:db8::7]:49152", "[2001:db8::1]:9091"),
            expected(0x21, &[&six(7)[..], &six(1), &ports].concat())
        );
    }
}

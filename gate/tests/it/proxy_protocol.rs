//! The PROXY header that the backend gets before a client's first byte.

use proxy_header::{ParseConfig, ProxyHeader};
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Gate, VERSIONS, accept, backend, rest, soon};

/// Reads a header of version 2. The header's bytes 14 and 15 hold the length of the rest.
pub(crate) async fn read_version_2(stream: &mut (impl AsyncRead + Unpin)) -> ProxyHeader<'static> {
    soon(async {
        let mut bytes = vec![0; 16];
        stream.read_exact(&mut bytes).await.unwrap();
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        bytes.resize(16 + length, 0);
        stream.read_exact(&mut bytes[16..]).await.unwrap();
        let config = ParseConfig { allow_v1: false, ..ParseConfig::default() };
        let (header, used) = ProxyHeader::parse(&bytes, config).unwrap();
        assert_eq!(used, bytes.len());
        header.into_owned()
    })
    .await
}

#[tokio::test]
async fn version_1_is_a_line_before_everything() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &["--proxy-protocol", "v1"]);
    let mut client = gate.client().await;
    let from = client.get_ref().0.local_addr().unwrap();
    let expected =
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), gate.address.port());
    let mut server = accept(&listener).await;
    // The header arrives although the client has not sent anything yet.
    let mut line = vec![0; expected.len()];
    soon(server.read_exact(&mut line)).await.unwrap();
    assert_eq!(String::from_utf8(line).unwrap(), expected);

    client.write_all(b"PROXY me not\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"PROXY me not\r\n");
}

#[tokio::test]
async fn version_2_tells_what_the_client_sees_itself() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &["--proxy-protocol", "v2"]);
    for version in VERSIONS {
        let (mut client, mut server) = gate.connect_by(version, &listener).await;
        let header = read_version_2(&mut server).await;
        let addresses = header.proxied_address().unwrap();
        let (tcp, tls) = client.get_ref();
        assert_eq!(addresses.source, tcp.local_addr().unwrap());
        assert_eq!(addresses.destination, gate.address);

        let ssl = header.ssl().unwrap();
        assert!(ssl.client_ssl() && !ssl.client_cert_conn() && !ssl.client_cert_sess());
        assert_ne!(ssl.verify(), 0);
        let (name, prefix) = match tls.protocol_version().unwrap() {
            ProtocolVersion::TLSv1_3 => ("TLSv1.3", "TLS_"),
            _ => ("TLSv1.2", "ECDHE-ECDSA-"),
        };
        assert_eq!(ssl.version(), Some(name));
        let cipher = ssl.cipher().unwrap().to_owned();
        assert!(cipher.starts_with(prefix), "{cipher}");
        // OpenSSL and rustls spell the same suite differently (AES256 and AES_256).
        let letters = |text: &str| text.replace(['_', '-'], "");
        let suite = format!("{:?}", tls.negotiated_cipher_suite().unwrap().suite());
        let tail = letters(suite.rsplit_once("WITH_").map_or(&suite[6..], |(_, tail)| tail));
        assert!(letters(&cipher).contains(tail.trim_end_matches("SHA256")), "{cipher}, {suite}");

        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"hello");
    }
}

//! The PROXY protocol, in which a proxy first sends the address of its client.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use shared::deadline::within;
use shared::log_throttle::LogThrottle;
use shared::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The time-out for the header. A proxy sends it at once and in one piece.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time-out for the header of a connection that was accepted right before the stop.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// The shortest header in bytes: `PROXY UNKNOWN` with its line end, in version 1.
const SHORTEST: usize = 15;
/// The longest header of version 1 in bytes, with its line end (section 2.1 of the specification).
const LONGEST_LINE: usize = 107;
/// The fixed part of a version 2 header in bytes: signature, version, family and length.
const FIXED: usize = 16;
const LINE: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The most bytes after the fixed part. Addresses and TLS fields take a few hundred bytes.
const MOST_FOLLOWING: usize = 2048;

/// Reads the header and no byte after it. Returns `Some` with the address of the client; the
/// address is `None` if the proxy speaks for itself or names no IP address. Returns `None` if there
/// is no valid header; the connection must then be closed.
pub(crate) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    shutdown: &Shutdown,
) -> Option<Option<IpAddr>> {
    static MISSING: LogThrottle = LogThrottle::new();
    let error = match client(stream, shutdown).await {
        Ok(address) => return Some(address),
        Err(error) => error,
    };
    // A peer that sends other bytes is logged as a warning. A peer that sends nothing may be a
    // health check.
    if error.kind() == io::ErrorKind::InvalidData
        && let Some(connections) = MISSING.record()
    {
        tracing::warn!(
            connections,
            "closed: no PROXY header, which --listen-proxy and unix: require; start the gate with \
             --proxy-protocol v2, or let it connect to --listen"
        );
    }
    tracing::debug!(%error, "closed: the connection sent no valid PROXY header");
    None
}

/// Logs a warning if a connection begins with a PROXY header although none is expected.
pub(crate) fn expect_none(first: &[u8]) {
    static UNEXPECTED: LogThrottle = LogThrottle::new();
    if (first.starts_with(LINE) || first.starts_with(SIGNATURE))
        && let Some(connections) = UNEXPECTED.record()
    {
        tracing::warn!(
            connections,
            "refused: a PROXY header, which --listen does not accept; let the gate connect to \
             --listen-proxy, or start it without --proxy-protocol"
        );
    }
}

/// Does the same as [`read_header`], but returns the reason of a failure.
///
/// # Errors
/// `InvalidData` if the bytes are not a header; `TimedOut` if the header does not arrive within 5
/// seconds, or within half a second of the stop; otherwise the error of the read.
async fn client(
    stream: &mut (impl AsyncRead + Unpin),
    shutdown: &Shutdown,
) -> io::Result<Option<IpAddr>> {
    let mut reading = pin!(within("the PROXY header", PATIENCE, read(stream)));
    let read = tokio::select! {
        biased;
        read = reading.as_mut() => read,
        () = shutdown.stopping() => {
            within("the PROXY header", LAST_PATIENCE, reading).await.and_then(|read| read)
        }
    };
    let bytes = read.map_err(|expired| io::Error::new(io::ErrorKind::TimedOut, expired))??;
    let (header, length) =
        ProxyHeader::parse(&bytes, ParseConfig::default()).map_err(|_faulty| no_header())?;
    if length != bytes.len() {
        return Err(no_header());
    }
    Ok(header.proxied_address().map(|address| address.source.ip().to_canonical()))
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(LINE) {
        // The line is read byte by byte, because the bytes after it belong to the client.
        while !header.ends_with(b"\r\n") {
            if header.len() == LONGEST_LINE {
                return Err(no_header());
            }
            header.push(stream.read_u8().await?);
        }
    } else if header.starts_with(SIGNATURE) {
        header.push(stream.read_u8().await?);
        let following = usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
        if following > MOST_FOLLOWING {
            return Err(no_header());
        }
        header.resize(FIXED + following, 0);
        stream.read_exact(&mut header[FIXED..]).await?;
    } else {
        return Err(no_header());
    }
    Ok(header)
}

fn no_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

#[cfg(test)]
mod tests {
    use proxy_header::{ProxiedAddress, SslInfo, Tlv};

    use super::*;

    /// Reads a header from `bytes`, and also returns the bytes after it.
    async fn named(mut bytes: &[u8]) -> (Result<Option<IpAddr>, io::ErrorKind>, &[u8]) {
        let client = client(&mut bytes, &Shutdown::new()).await.map_err(|error| error.kind());
        (client, bytes)
    }

    fn version_2(from: &str) -> Vec<u8> {
        let address = ProxiedAddress::stream(from.parse().unwrap(), from.parse().unwrap());
        let mut header = ProxyHeader::with_address(address);
        header.append_tlv(Tlv::Ssl(SslInfo::new(true, false, false, 1)));
        let mut bytes = Vec::new();
        header.encode_v2(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_rest() {
        let lines = [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 49152 9091\r\n", "192.0.2.7"),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 49152 9091\r\n", "2001:db8::7"),
        ];
        let binary = [
            (version_2("192.0.2.7:49152"), "192.0.2.7"),
            (version_2("[2001:db8::7]:49152"), "2001:db8::7"),
            (version_2("[::ffff:192.0.2.7]:49152"), "192.0.2.7"),
        ];
        let lines = lines.map(|(line, address)| (line.as_bytes().to_vec(), address));
        for (header, address) in lines.into_iter().chain(binary) {
            let bytes = [&header[..], b"GET /ws"].concat();
            let expected = Ok(Some(address.parse().unwrap()));
            assert_eq!(named(&bytes).await, (expected, &b"GET /ws"[..]));
        }
    }

    #[tokio::test]
    async fn a_proxy_may_speak_for_itself() {
        let mut local = Vec::new();
        ProxyHeader::with_local().encode_v2(&mut local).unwrap();
        assert_eq!(named(&local).await.0, Ok(None));
        assert_eq!(named(b"PROXY UNKNOWN\r\n").await.0, Ok(None));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let huge = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        let cases: [(&[u8], io::ErrorKind); 6] = [
            (b"GET /ws HTTP/1.1\r\n\r\n", InvalidData),
            (b"PROXY TCP4 nobody 198.51.100.1 1 2\r\n", InvalidData),
            (&endless, InvalidData),
            (&huge, InvalidData),
            (&version_2("192.0.2.7:49152")[..20], UnexpectedEof),
            (b"", UnexpectedEof),
        ];
        for (bytes, kind) in cases {
            assert_eq!(named(bytes).await.0, Err(kind), "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_waited_for_long() {
        let (mut near, _far) = tokio::io::duplex(8);
        for (stopping, limit) in [(false, PATIENCE), (true, LAST_PATIENCE)] {
            let (shutdown, begun) = (Shutdown::new(), tokio::time::Instant::now());
            if stopping {
                shutdown.stop();
            }
            let error = client(&mut near, &shutdown).await.unwrap_err();
            assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, limit));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_cut_off_one_that_is_on_its_way() {
        let (mut near, mut far) = tokio::io::duplex(8);
        let shutdown = Shutdown::new();
        shutdown.stop();
        let header = version_2("192.0.2.7:49152");
        let sending = tokio::io::AsyncWriteExt::write_all(&mut far, &header);
        let (client, sent) = tokio::join!(client(&mut near, &shutdown), sending);
        sent.unwrap();
        assert_eq!(client.unwrap(), Some("192.0.2.7".parse().unwrap()));
    }
}

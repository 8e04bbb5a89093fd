//! The page for a client that sends plain HTTP to the TLS port.

use std::net::SocketAddr;

use shared::linger::linger;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Sends a page with the https address, for a person who typed `http:`. The request is ignored.
pub(super) async fn send_hint(client: &mut TcpStream, host: Option<&str>) {
    let Ok(local) = client.local_addr() else { return };
    let host = host.map(str::to_owned).unwrap_or_else(|| match local {
        SocketAddr::V4(local) => local.ip().to_string(),
        SocketAddr::V6(local) => format!("[{}]", local.ip()),
    });
    let page = page(&format!("https://{host}:{}/", local.port()));
    if client.write_all(page.as_bytes()).await.is_ok() {
        linger(client).await;
    }
}

fn page(address: &str) -> String {
    // The host comes from a certificate, so characters that could end an HTML attribute or tag are
    // removed.
    let address: String =
        address.chars().filter(|c| c.is_ascii_alphanumeric() || "-._:/[]".contains(*c)).collect();
    let body = format!(
        "<!DOCTYPE html><title>400 Bad Request</title>\
         <p>This port speaks HTTPS. Use <a href=\"{address}\">{address}</a></p>\n"
    );
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_exactly_as_long_as_it_says_and_quotes_nothing() {
        let page = page("https://shop.example\"><script>:9091/");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(body.contains("<a href=\"https://shop.examplescript:9091/\">"));
    }
}

//! The status and the end of HTTP responses.

use anyhow::{Context as _, Result, ensure};
use tokio_tungstenite::tungstenite::handshake::{client, machine::TryParse as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Bytes of head and body.
    pub(crate) length: usize,
    pub(crate) head: usize,
}

/// The first response in `input`, once it has arrived completely.
///
/// # Errors
/// When it is not a response, or comes in chunks, which servers use for large bodies only.
pub(crate) fn response(input: &[u8]) -> Result<Option<Response>> {
    let parsed = client::Response::try_parse(input).context("an answer that is not HTTP/1.1")?;
    let Some((head, response)) = parsed else { return Ok(None) };
    let headers = response.headers();
    ensure!(!headers.contains_key("transfer-encoding"), "an answer in chunks");
    let body = headers.get("content-length").map_or(Ok("0"), |length| length.to_str())?;
    let length = head + body.parse::<usize>().context("an answer's length")?;
    let status = response.status().as_u16();
    Ok((input.len() >= length).then_some(Response { status, length, head }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_their_length_says() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let two = [one.as_slice(), b"HTTP/1.1 201"].concat();
        assert_eq!(
            response(&two).unwrap(),
            Some(Response { status: 200, length: one.len(), head: one.len() - 5 })
        );
        assert_eq!(response(&one[..one.len() - 1]).unwrap(), None);
        assert_eq!(response(&one[..20]).unwrap(), None);
        assert!(response(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}

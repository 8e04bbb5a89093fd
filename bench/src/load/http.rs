//! The status and the end of HTTP responses.

use anyhow::{Context as _, Result, bail};

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
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&input[..end]).context("an answer that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
        .context("an answer that is not HTTP/1.1")?;
    let mut body = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse().context("an answer's length")?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("an answer in chunks");
        }
    }
    let length = end + 4 + body;
    Ok((input.len() >= length).then_some(Response { status, length, head: end + 4 }))
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

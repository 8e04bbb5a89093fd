//! The answers of a server to published messages.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use super::frame::{CLOSE, Frame, PING, PONG, TEXT, client_frame, scan};
use super::http;

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublishMethod {
    /// A WebSocket that stays open
    #[value(name = "ws")]
    WebSocket,
    /// `POST /messages` over connections that stay open
    Post,
}

/// The whole answers at the beginning of some bytes.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Messages that the server has accepted.
    pub(crate) accepted: usize,
    /// Bytes of the whole answers.
    pub(crate) used: usize,
    /// Frames that have to be sent back.
    pub(crate) pongs: Vec<u8>,
}

/// Reads the whole answers.
///
/// # Errors
/// When a message was not accepted.
pub(crate) fn answers(method: PublishMethod, input: &[u8]) -> Result<Answers> {
    match method {
        PublishMethod::WebSocket => replies(input),
        PublishMethod::Post => responses(input),
    }
}

fn replies(input: &[u8]) -> Result<Answers> {
    let mut answers = Answers::default();
    answers.used = scan(input, |frame| match frame {
        Frame { opcode: TEXT, payload } if payload.starts_with(b"{\"ok\":") => {
            answers.accepted += 1;
            Ok(())
        }
        Frame { opcode: PING, payload } => {
            answers.pongs.extend(client_frame(PONG, payload));
            Ok(())
        }
        Frame { opcode: TEXT | CLOSE, payload } => {
            bail!("the server said: {}", String::from_utf8_lossy(payload))
        }
        _ => Ok(()),
    })?;
    Ok(answers)
}

fn responses(input: &[u8]) -> Result<Answers> {
    let mut answers = Answers::default();
    while let Some(response) = http::response(&input[answers.used..])? {
        let body = &input[answers.used + response.head..answers.used + response.length];
        ensure!(
            (200..300).contains(&response.status),
            "the server answered {}: {}",
            response.status,
            String::from_utf8_lossy(body)
        );
        answers.accepted += 1;
        answers.used += response.length;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::super::frame::server_frame;
    use super::*;

    #[test]
    fn whole_answers_count() {
        let reply = server_frame(br#"{"ok":"broadcast","seq":7}"#);
        let input = [reply.as_slice(), &reply, &reply[..5]].concat();
        let got = answers(PublishMethod::WebSocket, &input).unwrap();
        assert_eq!((got.accepted, got.used), (2, 2 * reply.len()));

        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let input = [response.as_slice(), response, b"HTTP/1.1 2"].concat();
        let got = answers(PublishMethod::Post, &input).unwrap();
        assert_eq!((got.accepted, got.used), (2, 2 * response.len()));
    }

    #[test]
    fn refusals_are_errors() {
        let refused = server_frame(br#"{"error":"denied"}"#);
        let error = answers(PublishMethod::WebSocket, &refused).unwrap_err();
        assert_eq!(error.to_string(), r#"the server said: {"error":"denied"}"#);
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!\n";
        let error = answers(PublishMethod::Post, refused).unwrap_err();
        assert_eq!(error.to_string(), "the server answered 403: no!\n");
    }
}

//! One `POST` for one message, retried safely.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::value::RawValue;
use shared::deadline::within;
use tokio::net::TcpStream;

use super::{Server, print_line};
use crate::cli::PublishArgs;
use crate::error::Error;
use crate::id::{Id, Tag, random_hex};
use crate::{limits, secret};

/// Waits before each further attempt, while the server restarts. The `mid` makes them safe. The help
/// and docs/operations.md name them.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

/// Sends to `id`, or to everyone on the tag.
pub(super) async fn send(args: PublishArgs, id: Option<Id>) -> Result<(), Error> {
    let server = Server::parse(&args.to.to)?;
    let key = match &args.key_file {
        Some(file) => Some(secret::first_line("key file", file)?),
        None => std::env::var("TOCSIN_KEY").ok().filter(|key| !key.is_empty()),
    };
    let body = body_of(&args, id.as_ref())?;
    let mut retries = RETRIES.into_iter();
    let (status, reply) = loop {
        let failure = match post(&server, &body, key.as_deref()).await {
            Ok((StatusCode::SERVICE_UNAVAILABLE, reply)) => Error::Unavailable(words_of(&reply)),
            Ok(answer) => break answer,
            Err(failure @ Error::Unavailable(_)) => failure,
            Err(failure) => return Err(failure),
        };
        match retries.next() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(failure),
        }
    };
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Error::Denied(words_of(&reply)));
        }
        StatusCode::TOO_MANY_REQUESTS => return Err(Error::Unavailable(words_of(&reply))),
        _ => return Err(Error::Data(words_of(&reply))),
    }
    if !args.quiet {
        print_line(&reply)?;
    }
    let field =
        |name: &str| serde_json::from_str::<serde_json::Value>(&reply).ok()?.get(name).cloned();
    let nobody = field("clients").is_some_and(|clients| clients == 0);
    let stored = field("stored").is_some_and(|stored| stored == true);
    if args.require && nobody && !stored {
        return Err(Error::NobodyThere);
    }
    Ok(())
}

fn body_of(args: &PublishArgs, id: Option<&Id>) -> Result<String, Error> {
    let tag = Tag::parse(&args.tag).map_err(|error| Error::Data(format!("bad_tag: {error}")))?;
    let message = message_of(args)?;
    let mid = match &args.mid {
        Some(mid) => mid.clone(),
        None => random_hex::<16>().map_err(Error::no_randomness)?,
    };
    let mut action = serde_json::Map::new();
    action.insert("action".into(), if id.is_some() { "send" } else { "broadcast" }.into());
    action.insert("tag".into(), tag.as_str().into());
    action.insert("mid".into(), mid.into());
    if let Some(id) = id {
        action.insert("id".into(), id.reveal().into());
    }
    if let Some(ttl) = &args.ttl {
        let ttl = humantime::parse_duration(ttl).map_err(|_| Error::Option {
            option: "--ttl",
            reason: format!("{ttl}: write a time such as 90s, 1h or 7d"),
        })?;
        action.insert("ttl".into(), ttl.as_secs().into());
    }
    let fields = serde_json::Value::Object(action).to_string();
    // The message goes in as it is: a parsed one might come out with other digits.
    let open = fields.strip_suffix('}').unwrap_or(&fields);
    Ok(format!(r#"{open},"message":{}}}"#, message.get()))
}

/// JSON as it is, anything else as a text.
fn message_of(args: &PublishArgs) -> Result<Box<RawValue>, Error> {
    let text = if args.message == "-" {
        let mut text = String::new();
        let most = limits::FRAME as u64;
        std::io::stdin()
            .take(most)
            .read_to_string(&mut text)
            .map_err(|error| Error::Data(format!("the message on stdin: {error}")))?;
        let line_end = if text.ends_with("\r\n") { 2 } else { usize::from(text.ends_with('\n')) };
        text.truncate(text.len() - line_end);
        text
    } else {
        args.message.clone()
    };
    if !args.text
        && let Ok(json) = serde_json::from_str::<Box<RawValue>>(&text)
    {
        return Ok(json);
    }
    serde_json::value::to_raw_value(&text)
        .map_err(|error| Error::Data(format!("the message: {error}")))
}

/// Posts `body`; answers the status and the JSON that came back.
async fn post(
    server: &Server,
    body: &str,
    key: Option<&str>,
) -> Result<(StatusCode, String), Error> {
    let stream = within("connecting", CONNECT, TcpStream::connect(&server.authority))
        .await
        .map_err(|expired| server.unreachable(&expired))?
        .map_err(|error| server.unreachable(&error))?;
    within("answer", ANSWER, exchange(server, stream, body, key))
        .await
        .map_err(|expired| server.unreachable(&expired))?
}

async fn exchange(
    server: &Server,
    stream: TcpStream,
    body: &str,
    key: Option<&str>,
) -> Result<(StatusCode, String), Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| server.unreachable(&error))?;
    let mut request = Request::post(format!("{}/messages", server.prefix))
        .header(header::HOST, &server.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request
        .body(Full::from(body.to_owned()))
        .map_err(|_| Error::Data("the key holds characters that no key has".into()))?;
    // The connection must be driven while its answer is awaited. It ends with the answer, and at
    // the latest when `sender` is dropped.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| server.unreachable(&error))?;
    let status = answer.status();
    let collecting = Limited::new(answer.into_body(), limits::BODY).collect();
    let body = collecting.await.map_err(|error| server.unreachable(&error))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// An error reply in one line.
fn words_of(reply: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(reply).unwrap_or_default();
    match (value["error"].as_str(), value["detail"].as_str()) {
        (Some(error), Some(detail)) => format!("{error}: {detail}"),
        _ => "an answer that is not from a Tocsin server; see --to".into(),
    }
}

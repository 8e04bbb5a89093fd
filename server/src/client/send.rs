//! `server send` and `server broadcast`: a message in a `POST`, with retries.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{HeaderMap, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use shared::deadline::within;
use tokio::net::TcpStream;

use super::args::PublishArgs;
use super::server::{self, Server};
use super::{message, print_line};
use crate::error::Error;
use crate::hex::random_hex;
use crate::id::{Id, Tag};
use crate::limits;
use crate::secret_file;
use crate::sender_key::{self, Found};

/// The waits before further attempts, because the server may be restarting. All attempts have the
/// same `mid`, so the message is delivered once. The help and docs/operations.md name these times.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
const PATH: &str = "/messages";
/// The time-out for the answer. It is longer than the server waits for its log, 10 s
/// (`limits::APPEND`).
const ANSWER: Duration = Duration::from_secs(15);

/// Sends the message to the person with this `id`, or without an `id` to everyone on the tag.
pub(super) async fn send(args: PublishArgs, id: Option<Id>) -> Result<(), Error> {
    let server = Server::parse(&args.to.to)?;
    let given = match &args.key_file {
        Some(file) => Some(Found::File(secret_file::first_line("key file", file)?, file.clone())),
        None => None,
    };
    let body = body_of(&args, id.as_ref())?;
    let mut retries = RETRIES.into_iter();
    let Answer { text, reply, .. } = loop {
        // Looked for anew at every attempt, because a server that restarts may have made another key.
        let found = match &given {
            Some(given) => given.clone(),
            None => sender_key::find(&server.host, server.port)?,
        };
        let answer = post(&server, &body, found.key()).await;
        // There is no retry after a rate limit, which lasts longer than these waits.
        let worth_retrying =
            !matches!(&answer, Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS);
        let failure = match answer.and_then(|answer| answer.judge(&server)) {
            Ok(answer) => break answer,
            Err(failure) => failure,
        };
        match (failure, retries.next()) {
            (Error::Unavailable(_), Some(wait)) if worth_retrying => tokio::time::sleep(wait).await,
            (Error::Denied(reason), _) => {
                return Err(Error::Denied(format!("{reason}; {}", found.origin())));
            }
            (failure, _) => return Err(failure),
        }
    };
    if !args.quiet {
        print_line(&text)?;
    }
    if args.require && reply["clients"] == 0 && reply["stored"] != true {
        return Err(Error::NobodyThere { partial: reply["partial"] == true });
    }
    Ok(())
}

fn body_of(args: &PublishArgs, id: Option<&Id>) -> Result<String, Error> {
    let tag = Tag::parse(&args.tag).map_err(|error| Error::Data(format!("bad_tag: {error}")))?;
    let message = message::message(args)?;
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
            option: "ttl",
            reason: format!("{ttl}: write a time, for example 90s, 1h or 7d"),
        })?;
        // The server takes whole seconds, so a fraction is rounded up.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        action.insert("ttl".into(), seconds.into());
    }
    let fields = Value::Object(action).to_string();
    // The message is inserted as text, because parsing it might change the digits of its numbers.
    let open = fields.strip_suffix('}').unwrap_or(&fields);
    Ok(format!(r#"{open},"message":{}}}"#, message.get()))
}

/// The answer to a `POST`.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    /// `text` as JSON; null if it is not JSON.
    reply: Value,
}

impl Answer {
    /// `Ok` if a Tocsin server accepted the message.
    fn judge(self, server: &Server) -> Result<Self, Error> {
        let words = server::refusal(&self.reply).map(|(_, words)| words);
        let ours = words.is_some();
        let words = words.unwrap_or_else(|| server.strange(PATH, self.status, &self.headers));
        match self.status {
            StatusCode::OK if self.reply["ok"].is_string() => Ok(self),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if ours => Err(Error::Denied(words)),
            StatusCode::TOO_MANY_REQUESTS => Err(Error::Unavailable(words)),
            status if status.is_server_error() => Err(Error::Unavailable(words)),
            _ => Err(Error::Data(words)),
        }
    }
}

async fn post(server: &Server, body: &str, key: Option<&str>) -> Result<Answer, Error> {
    let stream = server.connect().await?;
    within("answer", ANSWER, exchange(server, stream, body, key))
        .await
        .map_err(|expired| server.unreachable(&expired))?
}

async fn exchange(
    server: &Server,
    stream: TcpStream,
    body: &str,
    key: Option<&str>,
) -> Result<Answer, Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| server.unanswered(&error))?;
    let mut request = Request::post(format!("{}{PATH}", server.prefix))
        .header(header::HOST, &server.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let bad_key =
        "the key contains characters that no key has; check the first line of the key file";
    let request =
        request.body(Full::from(body.to_owned())).map_err(|_| Error::Data(bad_key.into()))?;
    // This task moves the bytes of the connection. It ends when the answer is complete or `sender`
    // is dropped.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| server.unanswered(&error))?;
    let (head, body) = answer.into_parts();
    let collecting = Limited::new(body, limits::BODY).collect();
    let bytes = collecting.await.map_err(|error| server.unanswered(error.as_ref()))?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let reply = serde_json::from_str(&text).unwrap_or_default();
    Ok(Answer { status: head.status, headers: head.headers, text, reply })
}

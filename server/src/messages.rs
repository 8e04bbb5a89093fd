//! `POST /messages`: how PHP and cron jobs send.

use std::fmt;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, SeqAccess};
use serde_json::value::RawValue;
use shared::answer::{Answer, json};
use shared::deadline::within;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::auth::Key;
use crate::http::retry_after;
use crate::limits;
use crate::log::Appending;
use crate::protocol::{self, Action, ErrorCode, Outcome, Reference, Refusal, Reply};
use crate::publish::{Asked, Service};
use crate::rates::Visitor;

/// `POST /messages`: one action, or an array of them.
pub async fn post(
    service: &Service,
    visitor: &Mutex<Visitor>,
    bodies: &Semaphore,
    request: Request<Incoming>,
) -> Answer {
    let bearer = match bearer(request.headers()) {
        Ok(bearer) => bearer,
        Err(refusal) => return unauthorised(refused(service, StatusCode::UNAUTHORIZED, refusal)),
    };
    // Before a byte of it is kept: many large bodies must not fill the memory.
    let Some(_room) = room_for(request.body(), bodies) else {
        let refusal =
            Refusal::unavailable(Outcome::Refused, "too many requests at once; retry soon");
        return closing(retry_soon(refused(service, StatusCode::SERVICE_UNAVAILABLE, refusal)));
    };
    let body = match read_body(service, request).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let Ok(body) = std::str::from_utf8(&body) else {
        return refused(
            service,
            StatusCode::BAD_REQUEST,
            Refusal::bad("the body is not UTF-8".into()),
        );
    };
    let _work = service.work();
    if body.trim_start().starts_with('[') {
        return batch(service, visitor, body, bearer.as_ref()).await;
    }
    let pending = Pending::begin(service, visitor, protocol::parse(body), bearer.as_ref());
    let key_given = pending.key_given;
    let (reply, reference) = pending.finish(service, Instant::now() + limits::APPEND).await;
    let status = status_of(&reply, key_given);
    let mut answer = json(status, reply.to_json(&reference));
    if let Reply::Refused(Refusal { retry_in: Some(wait), .. }) = reply {
        retry_after(&mut answer, wait);
    }
    if status == StatusCode::UNAUTHORIZED { unauthorised(answer) } else { answer }
}

async fn batch(
    service: &Service,
    visitor: &Mutex<Visitor>,
    body: &str,
    bearer: Option<&Key>,
) -> Answer {
    let Ok(actions) = serde_json::from_str::<Actions<'_>>(body) else {
        let refusal = Refusal::bad("the body is neither a JSON object nor an array".into());
        return refused(service, StatusCode::BAD_REQUEST, refusal);
    };
    let Actions::Some(actions) = actions else {
        let detail = format!("a batch has at most {} actions", limits::BATCH);
        let refusal = Refusal::new(ErrorCode::TooLarge, detail.into());
        return refused(service, StatusCode::PAYLOAD_TOO_LARGE, refusal);
    };
    // Appended before the first is awaited, so that one commit can carry many; but what looks at
    // how things stand waits for everything before it.
    let until = Instant::now() + limits::APPEND;
    let mut pending = Vec::new();
    let mut replies = Vec::with_capacity(actions.len());
    for action in actions {
        let incoming = protocol::parse(action.get());
        if matches!(incoming.action, Ok(Action::Inbox(_) | Action::Read(_))) {
            finish_all(service, &mut pending, &mut replies, until).await;
        }
        pending.push(Pending::begin(service, visitor, incoming, bearer));
    }
    finish_all(service, &mut pending, &mut replies, until).await;
    json(StatusCode::OK, format!("[{}]", replies.join(",")))
}

/// They have the time until `until` together, not each.
async fn finish_all(
    service: &Service,
    pending: &mut Vec<Pending>,
    replies: &mut Vec<String>,
    until: Instant,
) {
    for pending in pending.drain(..) {
        let (reply, reference) = pending.finish(service, until).await;
        replies.push(reply.to_json(&reference));
    }
}

/// The elements of an array, none of which is kept if there are too many: eight MiB hold four
/// million of them.
enum Actions<'a> {
    Some(Vec<&'a RawValue>),
    TooMany,
}

impl<'de> Deserialize<'de> for Actions<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ActionsVisitor)
    }
}

struct ActionsVisitor;

impl<'de> de::Visitor<'de> for ActionsVisitor {
    type Value = Actions<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut actions = Vec::new();
        while let Some(action) = seq.next_element()? {
            if actions.len() == limits::BATCH {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Actions::TooMany);
            }
            actions.push(action);
        }
        Ok(Actions::Some(actions))
    }
}

/// One action of a `POST`, appended but not yet answered.
struct Pending {
    reference: Reference,
    key_given: bool,
    answer: Answering,
}

enum Answering {
    Known(Reply),
    Appending(Asked, Appending),
}

impl Pending {
    fn begin(
        service: &Service,
        visitor: &Mutex<Visitor>,
        incoming: protocol::Incoming,
        bearer: Option<&Key>,
    ) -> Self {
        let visitor = &mut visitor.lock();
        let own = incoming.action.as_ref().ok().and_then(|action| match action {
            Action::Publish(publish) => publish.key.as_ref(),
            Action::Read(read) => read.key.as_ref(),
            Action::Inbox(person) | Action::Drop(person) => person.key.as_ref(),
            _ => None,
        });
        let key_given = bearer.is_some() || own.is_some_and(|key| !key.is_empty());
        let answer = match incoming.action {
            Ok(action) => Self::act(service, visitor, action, bearer),
            Err(refusal) => service.count(visitor).and(Err(refusal)),
        };
        let answer = answer.unwrap_or_else(|refusal| Answering::Known(Reply::Refused(refusal)));
        Self { reference: incoming.reference, key_given, answer }
    }

    fn act(
        service: &Service,
        visitor: &mut Visitor,
        action: Action,
        bearer: Option<&Key>,
    ) -> Result<Answering, Refusal> {
        Ok(match action {
            Action::Publish(publish) => {
                let asked = Asked::Message(publish.action());
                Answering::Appending(asked, service.publish(visitor, *publish, bearer)?)
            }
            Action::Read(read) => match service.read_for(visitor, &read, bearer)? {
                None => Answering::Known(Reply::Read),
                Some(appending) => Answering::Appending(Asked::Read, appending),
            },
            Action::Drop(person) => {
                Answering::Appending(Asked::Drop, service.log_out(visitor, &person, bearer)?)
            }
            Action::Inbox(person) => Answering::Known(service.inbox(visitor, &person, bearer)?),
            Action::Set(_) | Action::Unset(_) | Action::Ping => {
                service.count(visitor)?;
                return Err(Refusal::bad("this action needs a WebSocket, at /ws".into()));
            }
        })
    }

    async fn finish(self, service: &Service, until: Instant) -> (Reply, Reference) {
        let reply = match self.answer {
            Answering::Known(reply) => reply,
            Answering::Appending(asked, appending) => {
                let appended = within("append", until - Instant::now(), appending).await;
                asked.reply(appended.unwrap_or_else(|_expired| {
                    Err(Refusal::unavailable(
                        Outcome::Unknown,
                        "the log did not answer in time; retry with the same mid",
                    ))
                }))
            }
        };
        service.note(&reply);
        (reply, self.reference)
    }
}

/// The key of `Authorization: Bearer KEY`, if there is any.
fn bearer(headers: &HeaderMap) -> Result<Option<Key>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() => {
            Ok(Some(Key::given(key.trim())))
        }
        _ => Err(Refusal::new(
            ErrorCode::Denied,
            "write the key as `Authorization: Bearer KEY`".into(),
        )),
    }
}

/// A place for as many bytes as the body announces, or may have.
fn room_for<'a>(body: &Incoming, bodies: &'a Semaphore) -> Option<SemaphorePermit<'a>> {
    let most = limits::BODY as u64;
    // More than may be will be refused before it is read.
    let length = body.size_hint().upper().unwrap_or(most).min(most);
    bodies.try_acquire_many(u32::try_from(length).ok()?).ok()
}

fn retry_soon(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

async fn read_body(service: &Service, request: Request<Incoming>) -> Result<Bytes, Box<Answer>> {
    let too_large = || {
        let detail = format!("a request is at most {} bytes; send several", limits::BODY);
        let refusal = Refusal::new(ErrorCode::TooLarge, detail.into());
        Box::new(closing(refused(service, StatusCode::PAYLOAD_TOO_LARGE, refusal)))
    };
    let body = request.into_body();
    if body.size_hint().lower() > limits::BODY as u64 {
        return Err(too_large());
    }
    match within("request body", limits::REQUEST_BODY, Limited::new(body, limits::BODY).collect())
        .await
    {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_broken)) => Err(Box::new(closing(refused(
            service,
            StatusCode::BAD_REQUEST,
            Refusal::bad("the body broke off".into()),
        )))),
        Err(expired) => Err(Box::new(closing(refused(
            service,
            StatusCode::REQUEST_TIMEOUT,
            Refusal::bad(expired.to_string()),
        )))),
    }
}

fn status_of(reply: &Reply, key_given: bool) -> StatusCode {
    let Reply::Refused(refusal) = reply else { return StatusCode::OK };
    match refusal.code {
        ErrorCode::Denied if key_given => StatusCode::FORBIDDEN,
        ErrorCode::Denied => StatusCode::UNAUTHORIZED,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn refused(service: &Service, status: StatusCode, refusal: Refusal) -> Answer {
    let reply = Reply::Refused(refusal);
    service.note(&reply);
    json(status, reply.to_json(&Reference::default()))
}

fn unauthorised(mut answer: Answer) -> Answer {
    let challenge = HeaderValue::from_static("Bearer");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    answer
}

/// Marks an answer to a request that was not read to its end.
fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

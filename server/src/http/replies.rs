//! Answers to refused requests. Their headers tell the client what to do.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use shared::answer::{Answer, json};

use crate::protocol::{ErrorCode, Outcome, Reference, Refusal, Reply};
use crate::publish::Service;

/// A rejected client is asked to return after a random time in this range, in seconds.
const RETURN: std::ops::Range<u64> = 3..10;

/// Adds a header to an answer.
pub(super) fn with(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}

/// Adds `Retry-After` to an answer. The wait is rounded up to whole seconds, so that the retry does
/// not come too early.
pub(super) fn retry_after(answer: Answer, wait: Duration) -> Answer {
    with(answer, header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))
}

pub(super) fn status_of(reply: &Reply, key_given: bool) -> StatusCode {
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

pub(super) fn refused(service: &Service, status: StatusCode, refusal: Refusal) -> Answer {
    let reply = Reply::Refused(refusal);
    service.note(&reply, None);
    json(status, reply.to_json(&Reference::default()))
}

pub(super) fn unauthorised(answer: Answer) -> Answer {
    with(answer, header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Adds `Connection: close` to an answer, after which the connection ends.
pub(super) fn closing(answer: Answer) -> Answer {
    with(answer, header::CONNECTION, HeaderValue::from_static("close"))
}

/// The answer to an upgrade request on a connection that may stay open for one request only.
pub(super) fn no_capacity() -> Answer {
    let body = server_full().to_json(&Reference::default());
    let answer = json(StatusCode::SERVICE_UNAVAILABLE, body);
    with(answer, header::RETRY_AFTER, HeaderValue::from(return_in()))
}

/// The reply to a client that is rejected because the server is full.
pub(crate) fn server_full() -> Reply {
    let detail = "this server is full; come back in a few seconds";
    Reply::Refused(Refusal::unavailable(Outcome::Refused, detail))
}

/// The seconds after which a rejected client may return. They are random, so that not all clients
/// return at once.
pub(crate) fn return_in() -> u64 {
    RETURN.start + getrandom::u64().unwrap_or_default() % (RETURN.end - RETURN.start)
}

//! Answers to requests that were refused, and what they tell the client to do.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use shared::answer::{Answer, json};

use crate::protocol::{ErrorCode, Reference, Refusal, Reply};
use crate::publish::Service;

/// In whole seconds, not a moment too early.
pub(super) fn retry_after(answer: &mut Answer, wait: Duration) {
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    answer.headers_mut().insert(header::RETRY_AFTER, seconds);
}

pub(super) fn retry_soon(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
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
    service.note(&reply);
    json(status, reply.to_json(&Reference::default()))
}

pub(super) fn unauthorised(mut answer: Answer) -> Answer {
    let challenge = HeaderValue::from_static("Bearer");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    answer
}

/// Marks an answer after which the connection ends.
pub(super) fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

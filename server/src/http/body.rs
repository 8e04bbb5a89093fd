//! Reads the body of a request. Memory is reserved for bytes that arrived, not for the length in
//! the header.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use shared::answer::Answer;
use shared::deadline::within;

use crate::http::memory_budget::{MemoryBudget, Reservation};
use crate::http::replies::{closing, refused, retry_after};
use crate::limits;
use crate::protocol::{ErrorCode, Outcome, Refusal};
use crate::publish::Service;

/// The body of a request, and its part of the memory budget.
pub(super) struct RequestBody {
    pub(super) bytes: Vec<u8>,
    _reserved: Reservation,
}

/// Why a body could not be read.
enum BodyError {
    TooLarge,
    OverBudget,
    BrokenOff,
}

/// Reads the body within the time-out and within its share of the budget `bodies`.
///
/// # Errors
/// The answer to send instead. The connection is closed after it.
pub(super) async fn read(
    service: &Service,
    request: Request<Incoming>,
    bodies: &MemoryBudget,
) -> Result<RequestBody, Box<Answer>> {
    let read = within("request body", limits::REQUEST_BODY, collect(request.into_body(), bodies));
    let (status, refusal) = match read.await {
        Ok(Ok(body)) => return Ok(body),
        Ok(Err(BodyError::TooLarge)) => {
            let detail = format!("a request is at most {} bytes; send several", limits::BODY);
            let refusal = Refusal::new(ErrorCode::TooLarge, detail.into());
            (StatusCode::PAYLOAD_TOO_LARGE, refusal)
        }
        Ok(Err(BodyError::OverBudget)) => {
            let detail = "too many large requests at once; retry soon, or send less at once";
            let refusal = Refusal::unavailable(Outcome::Refused, detail);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let answer = retry_after(refused(service, status, refusal), Duration::ZERO);
            return Err(Box::new(closing(answer)));
        }
        Ok(Err(BodyError::BrokenOff)) => {
            let detail = "the connection ended before the end of the body";
            (StatusCode::BAD_REQUEST, Refusal::bad(detail.into()))
        }
        Err(expired) => (StatusCode::REQUEST_TIMEOUT, Refusal::bad(expired.to_string())),
    };
    Err(Box::new(closing(refused(service, status, refusal))))
}

async fn collect(mut body: Incoming, bodies: &MemoryBudget) -> Result<RequestBody, BodyError> {
    if body.size_hint().lower() > limits::BODY as u64 {
        return Err(BodyError::TooLarge);
    }
    let (mut bytes, mut reserved) = (Vec::new(), bodies.reserve());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::BrokenOff)?.into_data() else { continue };
        if bytes.len() + data.len() > limits::BODY {
            return Err(BodyError::TooLarge);
        }
        reserved.grow(data.len()).map_err(|_| BodyError::OverBudget)?;
        bytes.extend_from_slice(&data);
    }
    Ok(RequestBody { bytes, _reserved: reserved })
}

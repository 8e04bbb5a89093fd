//! `POST /messages`, with which PHP and cron jobs send.

use std::net::IpAddr;
use std::sync::Arc;

use crate::http::batch::Actions;
use crate::http::body;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use parking_lot::Mutex;
use shared::answer::{Answer, with_type};
use shared::deadline::within;
use tokio::time::Instant;

use crate::access::visitor::Visitor;
use crate::http::Site;
use crate::http::memory_budget::{Full, Reservation};
use crate::http::replies::{closing, refused, retry_after, status_of, unauthorised};
use crate::limits;
use crate::protocol::{self, Action, ErrorCode, Key, Outcome, Reference, Refusal, Reply};
use crate::publish::Service;
use crate::publish::dispatcher::{Dispatcher, PendingReply, Via, needs_websocket};

/// Handles `POST /messages`: one action or an array of actions. If the client ignores the rate
/// limits, its connection is closed after the answer.
pub(crate) async fn post(
    site: &Site,
    visitor: &Mutex<Visitor>,
    request: Request<Incoming>,
) -> Answer {
    let answer = answer(site, visitor, request).await;
    let is_deaf = visitor.lock().is_deaf();
    if is_deaf { closing(answer) } else { answer }
}

async fn answer(site: &Site, visitor: &Mutex<Visitor>, request: Request<Incoming>) -> Answer {
    let service = &site.service;
    let bearer = match bearer(request.headers()) {
        Ok(bearer) => bearer,
        Err(refusal) => return unauthorised(refused(service, StatusCode::UNAUTHORIZED, refusal)),
    };
    let body = match body::read(service, request, &site.bodies).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let Ok(body) = std::str::from_utf8(&body.bytes) else {
        let refusal = Refusal::bad("the body is not UTF-8".into());
        return refused(service, StatusCode::BAD_REQUEST, refusal);
    };
    let _work = service.at_work.token();
    let from = visitor.lock().address;
    let request = Posted {
        service,
        visitor,
        bearer,
        from,
        text: String::new(),
        budget: site.answers.reserve(),
    };
    if body.trim_start().starts_with('[') {
        return request.batch(body).await;
    }
    request.one(body).await
}

/// A request whose body was read.
struct Posted<'a> {
    service: &'a Arc<Service>,
    visitor: &'a Mutex<Visitor>,
    bearer: Option<Key>,
    /// The address of the client, if it is known.
    from: Option<IpAddr>,
    /// The answer so far.
    text: String,
    /// The reserved memory for the inboxes in the answer.
    budget: Reservation,
}

impl Posted<'_> {
    async fn one(mut self, body: &str) -> Answer {
        let pending = self.begin(protocol::parse(body));
        let key_given = pending.key_given;
        let (reply, reference) =
            pending.finish(self.service, Instant::now() + limits::APPEND, self.from).await;
        let status = status_of(&reply, key_given);
        self.text = reply.to_json(&reference);
        let mut answer = self.answer(status);
        if let Reply::Refused(Refusal { retry_in: Some(wait), .. }) = reply {
            answer = retry_after(answer, wait);
        }
        if status == StatusCode::UNAUTHORIZED { unauthorised(answer) } else { answer }
    }

    async fn batch(mut self, body: &str) -> Answer {
        let Ok(actions) = serde_json::from_str::<Actions<'_>>(body) else {
            let refusal = Refusal::bad("the body is neither a JSON object nor an array".into());
            return refused(self.service, StatusCode::BAD_REQUEST, refusal);
        };
        let Actions::Some(actions) = actions else {
            let detail = format!("a batch has at most {} actions", limits::BATCH);
            let refusal = Refusal::new(ErrorCode::TooLarge, detail.into());
            return refused(self.service, StatusCode::PAYLOAD_TOO_LARGE, refusal);
        };
        // All actions are appended before the first reply is awaited, so that one commit can
        // contain many. Only actions that read state wait for the actions before them.
        let until = Instant::now() + limits::APPEND;
        let mut pending = Vec::new();
        self.text.push('[');
        for action in actions {
            let incoming = protocol::parse(action.get());
            if matches!(incoming.action, Ok(Action::Inbox(_) | Action::Read(_))) {
                self.finish_all(&mut pending, until).await;
            }
            pending.push(self.begin(incoming));
        }
        self.finish_all(&mut pending, until).await;
        self.text.push(']');
        self.answer(StatusCode::OK)
    }

    /// Waits for these replies, at most until `until`, and adds them to the answer.
    async fn finish_all(&mut self, pending: &mut Vec<PerformedAction>, until: Instant) {
        for pending in pending.drain(..) {
            let (reply, reference) = pending.finish(self.service, until, self.from).await;
            if self.text.len() > 1 {
                self.text.push(',');
            }
            self.text.push_str(&reply.to_json(&reference));
        }
    }

    fn begin(&mut self, incoming: protocol::ParsedRequest) -> PerformedAction {
        let protocol::ParsedRequest { reference, action } = incoming;
        let own = action.as_ref().ok().and_then(Action::key);
        let key_given = self.bearer.is_some() || own.is_some_and(|key| !key.is_empty());
        let visitor = &mut self.visitor.lock();
        let via = Via::Post(self.bearer.as_ref());
        let result = Dispatcher { service: self.service, visitor, via }
            .perform(action, &reference)
            .and_then(|pending| pending.ok_or_else(needs_websocket))
            .and_then(|pending| self.budget_for(&pending).map(|()| pending));
        let pending = result.unwrap_or_else(|refusal| PendingReply::Known(Reply::Refused(refusal)));
        PerformedAction { reference, key_given, pending }
    }

    /// Reserves memory for the inbox in a reply, because many small requests for large inboxes
    /// could fill the memory.
    fn budget_for(&mut self, pending: &PendingReply) -> Result<(), Refusal> {
        let PendingReply::Known(Reply::Inbox { messages, .. }) = pending else { return Ok(()) };
        let bytes = messages.iter().map(|message| message.len()).sum();
        self.budget.grow(bytes).map_err(|Full| {
            let detail = "too many inboxes at once; retry soon, or ask for fewer at once";
            Refusal::unavailable(Outcome::Refused, detail)
        })
    }

    /// Makes the answer. Its reserved memory is returned when the answer is written.
    fn answer(self, status: StatusCode) -> Answer {
        let text = BudgetedText { text: self.text, _budget: self.budget };
        with_type(status, Bytes::from_owner(text), "application/json")
    }
}

/// The text of an answer, and its reserved memory.
struct BudgetedText {
    text: String,
    _budget: Reservation,
}

impl AsRef<[u8]> for BudgetedText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// An action of a request that was performed. The reply may still be pending.
struct PerformedAction {
    reference: Reference,
    key_given: bool,
    pending: PendingReply,
}

impl PerformedAction {
    async fn finish(
        self,
        service: &Service,
        until: Instant,
        from: Option<IpAddr>,
    ) -> (Reply, Reference) {
        let reply = within("append", until - Instant::now(), self.pending).await;
        let reply = reply.unwrap_or_else(|_expired| {
            let detail = "the log did not answer in time; retry with the same mid";
            Reply::Refused(Refusal::unavailable(Outcome::Unknown, detail))
        });
        service.note(&reply, from);
        (reply, self.reference)
    }
}

/// The key in the `Authorization` header, if there is one.
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

//! Takes the next HTTP/1 request from a connection and makes it the one that the engine reads.
//!
//! The engine answers what it cannot read by itself: without our limits, our causes, a line in the access log. So its
//! head is read here, by the same rules as on the express lane. What is no request, or one whose end is in doubt, is
//! answered here; all else goes on to the engine, in a form that it takes:
//!
//! | what the rules allow and the engine does not | what the engine gets |
//! |---|---|
//! | an absolute target whose host is spelt in another way than `Host` | the path and the target's host |
//! | characters in the target that a URI must encode | those, encoded |
//! | more fields than it has room for | those that frame the message; [`Handle::take_rest`] has the rest |
//!
//! Invariant: every request that is answered here is counted and has its line in the access log.

use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::http::server::Session as ServerSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, PREFACE};
use super::context::EngineContext;
use super::exchange::Exchange;
use super::handle::{Handle, Rest};
use super::inbound::Inbound;
use crate::proxy::codec::body::Body;
use crate::proxy::codec::head::{Arrival, BAD_REQUEST, Look};
use crate::proxy::codec::target::encode;
use crate::proxy::io::transport::linger;
use crate::proxy::request::admit::{self, RequestId, RoutedRequest};
use crate::proxy::request::context::Logged;
use crate::proxy::request::end::{BODY_DRAIN, LOCAL_RESPONSE_TIMEOUT};
use crate::proxy::request::head::ParsedHead;
use crate::proxy::request::{local_response, token};
use crate::proxy::shared::Shared;
use crate::snapshot::Snapshot;
use crate::telemetry::access_log::LogText;
use crate::traffic::validate::refusal::{FIELDS_TOO_MANY, TARGET_TOO_LONG};
use crate::traffic::validate::{self, Framing, Validated};
use crate::traffic::{HttpVersion, Refusal};

/// What came of waiting for a request.
pub(crate) enum Taken {
    /// The engine can read it.
    Request,
    /// The beginning of an HTTP/2 connection.
    Http2,
    /// It was refused and answered, or the client is gone.
    End,
}

/// What is known of a request that is refused.
struct Refused {
    refusal: Refusal,
    head_only: bool,
    logged: Box<Logged>,
}

/// Fields that the engine gets at most; it has room for 256, and a few that frame the message may come on top.
const ENGINE_FIELDS: usize = 200;
/// The largest head that the engine gets; it takes 1 MiB.
const ENGINE_BYTES: usize = 512 * 1024;
/// The longest target that the engine takes.
const ENGINE_TARGET: usize = u16::MAX as usize - 1;

impl Connection {
    /// Waits for a request.
    pub(crate) async fn take_request(&mut self, shared: &Arc<Shared>) -> Taken {
        let mut input = BytesMut::from(std::mem::take(&mut self.ahead));
        let mut arrival = Arrival::default();
        let first = self.limits.began.take();
        let mut since = first.unwrap_or_else(Instant::now);
        let mut begun = false;
        loop {
            let preface = !self.handle.tls && http2_begins(&input);
            if preface && input.len() >= PREFACE.len() {
                self.ahead = input.freeze();
                return Taken::Http2;
            }
            let look = if preface { Look::Part } else { arrival.look(&input, &shared.current.peek().limits) };
            match look {
                Look::Blank(length) => {
                    let _ = input.split_to(length);
                    continue;
                }
                Look::Part => {}
                Look::Complete(length) => return self.begin(input, length, shared).await,
                Look::Refused(refusal) => {
                    let refused = Refused::unread(refusal, &input, &self.handle);
                    return self.refuse(refused, shared).await;
                }
            }
            self.handle.head_begins(!input.is_empty());
            if begun == input.is_empty() {
                begun = !begun;
                since = first.unwrap_or_else(Instant::now);
                if !begun {
                    self.handle.seat.idle(since);
                } else if !self.handle.seat.busy() {
                    return Taken::End;
                }
            }
            let in_time = begun || first.is_some();
            let limit = if in_time { self.limits.head } else { self.limits.keepalive };
            input.reserve(READ_HEAD);
            let Some(transport) = &mut self.transport else { return Taken::End };
            match timeout_at(since + limit, transport.read_buf(&mut input)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Taken::End,
                Err(_) => {
                    if in_time {
                        self.handle.head_timed_out();
                    }
                    return Taken::End;
                }
            }
        }
    }

    /// Looks at a complete head, and decides who answers it.
    async fn begin(&mut self, mut input: BytesMut, length: usize, shared: &Arc<Shared>) -> Taken {
        let head = input.split_to(length);
        let snapshot = shared.current.load();
        match decide(&head, &snapshot, &self.handle) {
            Ok(Plan { rewritten, rest, framing }) => {
                let head = rewritten.map_or(head, |text| BytesMut::from(&*text));
                self.inbound = Some(Inbound::new(head, Body::of(framing), input));
                self.handle.request_taken(rest);
                Taken::Request
            }
            Err(refused) => {
                self.inbound = Some(Inbound::new(BytesMut::new(), Body::Done, input));
                self.refuse(*refused, shared).await
            }
        }
    }

    /// Answers a request, records it, and ends the connection.
    async fn refuse(&mut self, refused: Refused, shared: &Arc<Shared>) -> Taken {
        let Refused { refusal, head_only, logged } = refused;
        let Some(transport) = &mut self.transport else { return Taken::End };
        let mut context = EngineContext::new(Arc::clone(shared), Arc::new(Exchange::new(Arc::clone(&self.handle))));
        context.began = Some(Instant::now());
        self.handle.request_begun();
        shared.request_begun();
        context.logged = Some(logged);
        context.progress.answered_locally(refusal);
        let answer = local_response::bytes(refusal, head_only);
        let write = async {
            transport.write_all(&answer).await?;
            transport.flush().await
        };
        context.progress.complete = matches!(timeout(LOCAL_RESPONSE_TIMEOUT, write).await, Ok(Ok(())));
        context.progress.client_gone = !context.progress.complete;
        if context.progress.complete {
            context.progress.bytes_out = refusal.body_bytes(head_only);
        }
        drop(context);
        linger(transport, BODY_DRAIN).await;
        Taken::End
    }
}

/// Completes a request that the engine has read: with the fields it had no room for, and with what it may answer.
///
/// # Errors
/// Only if a field is none, which validation saw to.
pub(crate) fn complete(session: &mut ServerSession, handle: &Handle) -> pingora_error::Result<()> {
    for (name, value) in handle.take_rest() {
        session.req_header_mut().append_header(name, value)?;
    }
    // HTTP/1.0 knows no informational answers (RFC 9110 §15.2).
    if session.req_header().version == http::Version::HTTP_10 {
        session.set_ignore_info_resp(true);
    }
    Ok(())
}

/// What is read of a head at once.
const READ_HEAD: usize = 4 * 1024;

/// Whether `bytes` are the beginning of an HTTP/2 connection, as far as they go.
pub(crate) fn http2_begins(bytes: &[u8]) -> bool {
    let len = bytes.len().min(PREFACE.len());
    len > 0 && bytes.get(..len) == PREFACE.get(..len)
}

/// How the engine gets a request.
struct Plan {
    /// Its head, where the engine cannot have it as it came.
    rewritten: Option<Vec<u8>>,
    rest: Rest,
    framing: Framing,
}

/// Decides what becomes of a complete head.
fn decide(bytes: &[u8], snapshot: &Snapshot, handle: &Handle) -> Result<Plan, Box<Refused>> {
    let unread = |refusal| Box::new(Refused::unread(refusal, bytes, handle));
    let mut room = vec![httparse::EMPTY_HEADER; snapshot.limits.fields.saturating_add(1)];
    let mut request = httparse::Request::new(&mut room);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(unread(FIELDS_TOO_MANY)),
        _ => return Err(unread(BAD_REQUEST)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(unread(BAD_REQUEST));
    };
    let version = if version == 0 { HttpVersion::Http10 } else { HttpVersion::Http11 };
    let mut head = ParsedHead { version, method, target, fields: request.headers, client: None };
    let ingress = handle.ingress();
    let trusted = admit::identify(&mut head, snapshot, &ingress);
    let is_absolute = !target.starts_with('/') && target != "*";
    let planned = match admit::decide(&head, snapshot, &ingress) {
        Ok(RoutedRequest { validated, .. }) => {
            plan(&head, bytes.len(), is_absolute.then_some(&validated), validated.framing)
        }
        // Where it ends is certain: the engine's half refuses it, and the connection goes on.
        Err(refusal) if !refusal.close && !is_absolute => {
            validate::framing(&head, snapshot.limits_of(&handle.listener))
                .and_then(|framing| plan(&head, bytes.len(), None, framing))
        }
        Err(refusal) => Err(refusal),
    };
    planned.map_err(|refusal| Box::new(Refused::read(refusal, &head, trusted, handle)))
}

/// Decides how the engine gets a request whose head had so many bytes; `absolute` is what a target in absolute form
/// came to.
fn plan(
    head: &ParsedHead<'_, '_>,
    length: usize,
    absolute: Option<&Validated<'_>>,
    framing: Framing,
) -> Result<Plan, Refusal> {
    let target = absolute.map_or(head.target, |admitted| &admitted.target);
    let encoded = encode(target);
    let target = encoded.as_deref().unwrap_or(target);
    if target.len() > ENGINE_TARGET {
        return Err(TARGET_TOO_LONG);
    }
    let fits = head.fields.len() <= ENGINE_FIELDS && length <= ENGINE_BYTES;
    if fits && absolute.is_none() && encoded.is_none() {
        return Ok(Plan { rewritten: None, rest: Rest::new(), framing });
    }
    let version = if head.version == HttpVersion::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut out = format!("{} {target} {version}\r\n", head.method).into_bytes();
    let mut rest = Rest::new();
    let mut push = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
        out.len()
    };
    let (mut given, mut bytes) = (0, 0);
    if let Some(admitted) = absolute {
        bytes = push("Host", admitted.authority.as_bytes());
        given += 1;
    }
    let mut full = false;
    for field in head.fields {
        if absolute.is_some() && field.name.eq_ignore_ascii_case("host") {
            continue;
        }
        full |= given >= ENGINE_FIELDS || bytes + field.name.len() + field.value.len() > ENGINE_BYTES;
        if full && !FRAMING.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            rest.push((field.name.to_owned(), field.value.to_vec()));
        } else {
            bytes = push(field.name, field.value);
            given += 1;
        }
    }
    if given > ENGINE_FIELDS + FRAMING_FIELDS || bytes > 2 * ENGINE_BYTES - ENGINE_TARGET {
        return Err(FIELDS_TOO_MANY);
    }
    out.extend_from_slice(b"\r\n");
    Ok(Plan { rewritten: Some(out), rest, framing })
}

/// Fields by which the engine frames a message and keeps or changes its connection: it gets them in any case.
const FRAMING: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"];
/// How many of those the engine gets beyond its share: none but `Connection` has a use more than once.
const FRAMING_FIELDS: usize = 48;

impl Refused {
    /// A request whose head could not be read, as far as it goes.
    fn unread(refusal: Refusal, bytes: &[u8], handle: &Handle) -> Self {
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let protocol = match version {
            b"HTTP/1.0" => "HTTP/1.0",
            b"HTTP/1.1" => "HTTP/1.1",
            _ => "",
        };
        let logged = Logged {
            protocol,
            method: LogText::word(method),
            path: LogText::path(target),
            ..Logged::without_head(&token::token(), &handle.listener, handle.client)
        };
        Self { refusal, head_only: method == b"HEAD", logged: Box::new(logged) }
    }

    /// A request whose head was read.
    fn read(refusal: Refusal, head: &ParsedHead<'_, '_>, trusted: bool, handle: &Handle) -> Self {
        let request_id = RequestId::of(head, trusted);
        let logged = Box::new(Logged::of(head, request_id.as_bytes(), &handle.listener));
        Self { refusal, head_only: head.method == "HEAD", logged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(target: &str, fields: &[(&str, &str)], absolute: bool) -> Plan {
        let fields: Vec<httparse::Header<'_>> =
            fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let head = ParsedHead { version: HttpVersion::Http11, method: "GET", target, fields: &fields, client: None };
        let admitted = validate::validate(&head, &validate::Limits { fields: 1000, ..Default::default() }).unwrap();
        let framing = admitted.framing;
        plan(&head, 100, absolute.then_some(&admitted), framing).unwrap()
    }

    fn rewritten(plan: &Plan) -> &str {
        str::from_utf8(plan.rewritten.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn what_the_engine_can_have_goes_on_as_it_came() {
        assert!(planned("/a", &[("Host", "a")], false).rewritten.is_none());
    }

    #[test]
    fn what_a_uri_must_encode_is_encoded() {
        let plan = planned("/ws?f=\"", &[("Host", "a"), ("X", "1")], false);
        assert_eq!(rewritten(&plan), "GET /ws?f=%22 HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
    }

    #[test]
    fn of_an_absolute_target_the_engine_gets_the_path_and_its_host() {
        let plan = planned("http://SHOP.test:80/a?b", &[("X", "1"), ("Host", "shop.test")], true);
        assert_eq!(rewritten(&plan), "GET /a?b HTTP/1.1\r\nHost: SHOP.test:80\r\nX: 1\r\n\r\n");
    }

    #[test]
    fn fields_that_the_engine_has_no_room_for_follow_in_their_order() {
        let names: Vec<String> = (0..300).map(|at| format!("X-{at}")).collect();
        let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "v")).collect();
        fields.push(("Content-Length", "3"));
        fields.push(("Host", "a"));
        let plan = planned("/", &fields, false);
        assert_eq!(plan.framing, Framing::Length(3));
        assert!(rewritten(&plan).ends_with("X-199: v\r\nContent-Length: 3\r\nHost: a\r\n\r\n"));
        let rest: Vec<String> = plan.rest.into_iter().map(|(name, _)| name).collect();
        assert_eq!(rest, names[200..]);
    }
}

//! One request and its answer over a stream to an HTTP/2 endpoint: the general lane's hooks in their order, both
//! directions at once, in the request's own task.
//!
//! ```text
//! client ─ body ─► hooks ─► waits for the endpoint's window ─► stream
//!        ◄─ write ─ hooks ◄─ answer (taken as it comes) ◄──────┘
//! ```
//!
//! Invariants: at most one piece of the request waits here, and of the answer at most the stream's window; a request
//! that the endpoint did not process is never counted against it.

use std::future::poll_fn;
use std::time::Duration;

use ::h2::SendStream;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use tokio::time::Instant;

use super::context::EngineContext;
use super::{attempt, error, message};
use crate::proxy::codec::response;
use crate::proxy::request::end::End;
use crate::proxy::request::headers::strip_hop_by_hop;
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::h2::connection::StreamPermit;
use crate::proxy::upstream::h2::error::StreamError;
use crate::proxy::upstream::h2::pool::Acquired;
use crate::proxy::upstream::h2::request;
use crate::proxy::upstream::h2::stream::{ResponseEvent, ResponseStream};

/// The hooks of the general lane.
pub(crate) trait Hooks: ProxyHttp<CTX = EngineContext> + Sync {}

impl<H: ProxyHttp<CTX = EngineContext> + Sync> Hooks for H {}

/// Forwards a routed request to its version and the answer back, with the attempts that the hooks allow.
///
/// # Errors
/// The last attempt's; the hooks have counted it.
pub(crate) async fn forward<H: Hooks>(
    hooks: &H,
    pools: &Pools,
    session: &mut Session,
    context: &mut EngineContext,
) -> Result<()> {
    loop {
        match try_once(hooks, pools, session, context).await {
            Err(error) if error.retry() => {}
            ended => return ended,
        }
    }
}

async fn try_once<H: Hooks>(
    hooks: &H,
    pools: &Pools,
    session: &mut Session,
    context: &mut EngineContext,
) -> Result<()> {
    attempt::begin(context)?;
    let routed = context.routed().or_err(ErrorType::InternalError, "the request has no route yet")?;
    let endpoint = routed.endpoint().or_err(ErrorType::InternalError, "the request has no endpoint yet")?;
    let tls = endpoint.upstream.tls.is_some();
    let timeouts = routed.service().timeouts;
    let to = Destination::of(endpoint, &timeouts);
    let acquired = pools.http2.acquire(&to, &pools.tls, routed.attempts.is_fresh()).await;
    let Acquired { permit, checkout, reused } = match acquired {
        Ok(acquired) => acquired,
        Err(failed) => return Err(attempt::connect_failed(context, error::of_connect(failed))),
    };
    context.connected(Some(checkout), reused, true);
    context.exchange.attend();
    let carried = match Relay::begin(hooks, session, context, &permit, tls).await {
        Ok(relay) => relay.run(timeouts.idle).await,
        Err(error) => Err(error),
    };
    carried.map_err(|error| attempt::broke(session, context, error))
}

/// A request under way on its stream.
struct Relay<'a, H> {
    hooks: &'a H,
    session: &'a mut Session,
    context: &'a mut EngineContext,
    permit: &'a StreamPermit,
    upload: Upload,
    answer: ResponseStream,
    /// When the client, which waits for a 100, gets ours.
    promise: Option<Instant>,
    /// The final head arrived.
    answered: bool,
}

/// The request's body on its way.
struct Upload {
    send: SendStream<Bytes>,
    /// What waits for the endpoint's window, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
    /// Since when.
    since: Instant,
    /// All of it was read from the client.
    read: bool,
    /// The endpoint wants no more of it.
    refused: bool,
}

/// What happened.
enum Turn {
    /// Of the client's body; none at its end.
    Body(Result<Option<Bytes>>),
    /// The endpoint has room for so many bytes.
    Room(usize),
    /// The endpoint wants no more of the request.
    Refused,
    /// The endpoint took nothing for too long.
    Stuck,
    Came(Result<ResponseEvent, StreamError>),
    /// The client waited long enough for the endpoint's 100.
    Promise,
    /// The client reset the stream.
    Gone,
    /// The exchange was ended from outside.
    Ended,
}

/// A client that waits for `100 Continue` gets ours when the endpoint has said nothing for so long (RFC 9110 §10.1.1 lets
/// a proxy; servers of HTTP/2 often send none). As long as curl waits before it sends anyway.
const PROMISE: Duration = Duration::from_secs(1);

impl<'a, H: Hooks> Relay<'a, H> {
    async fn begin(
        hooks: &'a H,
        session: &'a mut Session,
        context: &'a mut EngineContext,
        permit: &'a StreamPermit,
        tls: bool,
    ) -> Result<Self> {
        let mut head: Parts = session.req_header().clone().into();
        let version = message::version(head.version);
        strip_hop_by_hop(&mut head.headers, version);
        let mut head = head.into();
        hooks.upstream_request_filter(session, &mut head, context).await?;
        let mut head: Parts = head.into();
        // The hook offers an upgrade where one was asked for; HTTP/2 has none.
        strip_hop_by_hop(&mut head.headers, version);
        let expects = head.version == Version::HTTP_11 && head.headers.contains_key(header::EXPECT);
        let routed = context.routed().or_err(ErrorType::InternalError, "the request has no route yet")?;
        let bodied = routed.has_body;
        let request = request::write(head, &routed.authority, tls).map_err(error::of_stream)?;
        let (send, answer) = permit.send(request, !bodied).await.map_err(error::of_stream)?;
        let upload = Upload { waiting: None, since: Instant::now(), read: !bodied, refused: false, send };
        let mut relay = Self {
            hooks,
            session,
            context,
            permit,
            upload,
            answer,
            promise: expects.then(|| Instant::now() + PROMISE),
            answered: false,
        };
        if bodied {
            relay.replay().await?;
        }
        Ok(relay)
    }

    /// Sends again what an attempt before this one read of the body.
    async fn replay(&mut self) -> Result<()> {
        let downstream = self.session.as_mut();
        downstream.enable_retry_buffering();
        let (body, done) = (downstream.get_retry_buffer(), downstream.is_body_done());
        if body.is_some() || done { self.pass_on(body, done).await } else { Ok(()) }
    }

    /// Runs to the end of the answer. `write_timeout`: how long the endpoint may take no byte of the request.
    async fn run(mut self, write_timeout: Duration) -> Result<()> {
        loop {
            let over = match self.turn(write_timeout).await {
                Turn::Body(body) => {
                    let body = body.map_err(Error::into_down)?;
                    let done = body.is_none() || self.session.as_mut().is_body_done();
                    self.pass_on(body, done).await?;
                    false
                }
                Turn::Room(room) => {
                    self.upload.send(room);
                    false
                }
                Turn::Refused => {
                    self.upload.refuse();
                    false
                }
                Turn::Came(Ok(event)) => self.came(event).await?,
                Turn::Came(Err(error)) => return Err(error::of_stream(error)),
                Turn::Promise => {
                    self.promise = None;
                    self.answer.meanwhile(self.session.as_mut().write_continue_response()).await?;
                    false
                }
                Turn::Stuck => {
                    self.permit.retire();
                    return Err(Error::explain(ErrorType::WriteTimedout, "the endpoint takes no more").into_up());
                }
                Turn::Gone => return Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down()),
                Turn::Ended => {
                    if self.context.exchange.ended() == Some(End::FirstByte) {
                        // It may hang as a whole; those who are on it have deadlines of their own.
                        self.permit.retire();
                    }
                    return Err(Error::explain(ErrorType::ReadTimedout, "the exchange was ended").into_up());
                }
            };
            if over {
                return self.session.as_mut().finish_body().await.map_err(Error::into_down);
            }
        }
    }

    /// Waits for what happens next.
    async fn turn(&mut self, write_timeout: Duration) -> Turn {
        let Self { session, context, upload, answer, promise, .. } = self;
        context.exchange.request_waits(upload.waiting.as_ref().map(|_| upload.since));
        let (read, waits) = (upload.read, upload.waiting.is_some() || upload.refused);
        let downstream = &mut session.downstream_session;
        let client = async {
            if waits {
                match downstream.watch_h2_stream_close() {
                    Some(closed) => drop(closed.await),
                    None => std::future::pending().await,
                }
                Turn::Gone
            } else {
                Turn::Body(downstream.read_body_or_idle(read).await)
            }
        };
        let promised = async {
            match *promise {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            turn = client => turn,
            turn = upload.room(write_timeout) => turn,
            came = answer.next() => Turn::Came(came),
            () = promised => Turn::Promise,
            () = context.exchange.ending() => Turn::Ended,
        }
    }

    /// Passes a piece of the body through the hook and on.
    async fn pass_on(&mut self, mut body: Option<Bytes>, done: bool) -> Result<()> {
        self.hooks.request_body_filter(self.session, &mut body, done, self.context).await?;
        self.upload.read = done;
        self.upload.put(body.unwrap_or_default(), done);
        Ok(())
    }

    /// Passes on what came; whether it was the last.
    async fn came(&mut self, event: ResponseEvent) -> Result<bool> {
        match event {
            ResponseEvent::Informational(head) => self.informational(head).await.map(|()| false),
            ResponseEvent::Head(head) => self.head(head).await,
            ResponseEvent::Data(bytes) => self.data(bytes).await,
            ResponseEvent::End(None) => self.write(HttpTask::Done).await.map(|()| true),
            ResponseEvent::End(Some(trailers)) => self.trailers(trailers).await.map(|()| true),
        }
    }

    async fn informational(&mut self, head: Response<()>) -> Result<()> {
        let mut head = ResponseHeader::from(head.into_parts().0);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "101 over HTTP/2").into_up());
        }
        self.hooks.upstream_response_filter(self.session, &mut head, self.context).await?;
        if head.status == StatusCode::CONTINUE && self.promise.take().is_none() {
            // The client waits for none, or has ours.
            return Ok(());
        }
        if self.session.req_header().version != Version::HTTP_11 {
            return Ok(());
        }
        message::to_client(&mut head);
        head.set_version(Version::HTTP_11);
        self.write(HttpTask::Header(Box::new(head), false)).await
    }

    /// Passes on the final head; whether there is nothing after it.
    async fn head(&mut self, head: Response<()>) -> Result<bool> {
        self.answered = true;
        self.promise = None;
        let mut head = ResponseHeader::from(head.into_parts().0);
        self.hooks.upstream_response_filter(self.session, &mut head, self.context).await?;
        head.set_version(Version::HTTP_11);
        if !self.upload.read {
            // What of the request is still to come may be read by nobody.
            self.session.set_keepalive(None);
        }
        let ends = self.answer.ends();
        frame(&mut head, &self.session.req_header().method, ends)?;
        self.hooks.response_filter(self.session, &mut head, self.context).await?;
        self.write(HttpTask::Header(Box::new(head), ends)).await?;
        Ok(ends)
    }

    async fn data(&mut self, bytes: Bytes) -> Result<bool> {
        let length = bytes.len();
        let ends = self.answer.ends();
        let mut body = Some(bytes);
        self.hooks.response_body_filter(self.session, &mut body, ends, self.context)?;
        self.write(HttpTask::Body(body, ends)).await?;
        self.answer.forwarded(length);
        Ok(ends)
    }

    async fn trailers(&mut self, mut trailers: HeaderMap) -> Result<()> {
        if FRAMING.iter().any(|name| trailers.contains_key(name)) {
            return Err(Error::explain(ErrorType::H2Error, "trailers that frame the body").into_up());
        }
        self.hooks.upstream_response_trailer_filter(self.session, &mut trailers, self.context)?;
        self.write(HttpTask::Trailer(Some(Box::new(trailers)))).await
    }

    /// Writes to the client. What the endpoint sends meanwhile is taken.
    async fn write(&mut self, task: HttpTask) -> Result<()> {
        self.context.exchange.writing(true);
        let written = self.answer.meanwhile(self.session.write_response_tasks(vec![task])).await.map(drop);
        self.context.exchange.writing(false);
        written
    }
}

impl Upload {
    /// Takes the next piece, or the end.
    fn put(&mut self, bytes: Bytes, last: bool) {
        if !bytes.is_empty() {
            self.send.reserve_capacity(bytes.len());
            self.waiting = Some((bytes, last));
            self.since = Instant::now();
        } else if last && self.send.send_data(bytes, true).is_err() {
            self.refuse();
        }
    }

    /// Waits for room for what waits.
    async fn room(&mut self, write_timeout: Duration) -> Turn {
        if self.waiting.is_none() {
            return std::future::pending().await;
        }
        let send = &mut self.send;
        let room = async {
            loop {
                match send.capacity() {
                    0 => {}
                    room => return Turn::Room(room),
                }
                match poll_fn(|cx| send.poll_capacity(cx)).await {
                    Some(Ok(_)) => {}
                    // Why, the answer tells.
                    Some(Err(_)) | None => return Turn::Refused,
                }
            }
        };
        tokio::time::timeout_at(self.since + write_timeout, room).await.unwrap_or(Turn::Stuck)
    }

    /// Sends as much of what waits.
    fn send(&mut self, room: usize) {
        let Some((mut bytes, last)) = self.waiting.take() else { return };
        let piece = bytes.split_to(room.min(bytes.len()));
        if self.send.send_data(piece, last && bytes.is_empty()).is_err() {
            self.refuse();
        } else if !bytes.is_empty() {
            self.put(bytes, last);
        }
    }

    fn refuse(&mut self) {
        self.refused = true;
        self.waiting = None;
    }
}

/// Frames the answer as HTTP/1.1 has it; over HTTP/2 to the client the engine takes that out again.
fn frame(head: &mut ResponseHeader, method: &Method, ends: bool) -> Result<()> {
    // Several alike are one (RFC 9110 §8.6); the h2 crate refuses those that differ.
    if let Some(length) = head.headers.get(header::CONTENT_LENGTH) {
        let length = response::length(length.as_bytes());
        let length = length.or_err(ErrorType::InvalidHTTPHeader, "the length is no number").map_err(Error::into_up)?;
        return head.insert_header(header::CONTENT_LENGTH, length);
    }
    if method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        Ok(())
    } else if ends {
        head.insert_header(header::CONTENT_LENGTH, "0")
    } else {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")
    }
}

/// Fields that must not come after the body (RFC 9110 §6.5.1).
const FRAMING: [header::HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST];

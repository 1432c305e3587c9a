//! One request and its answer over a stream to an HTTP/2 endpoint: the general lane's hooks in their order, both
//! directions at once, in the request's own task.
//!
//! ```text
//! client ─ body ─► hooks ─► waits for the endpoint's window ─► stream
//!        ◄─ write ─ hooks ◄─ answer ◄──────────────────────────┘
//! ```
//!
//! Invariants: at most one piece of the request and one of the answer wait here, and of the answer at most the stream's
//! window besides; a request that the endpoint did not process is never counted against it.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{Method, StatusCode, Version, header};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use tokio::time::Instant;

use super::context::EngineContext;
use super::{attempt, error, h2_message, message};
use crate::proxy::codec::response;
use crate::proxy::request::end::End;
use crate::proxy::request::headers::strip_hop_by_hop;
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::multiplex;
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::proxy::upstream::multiplex::slot::{Event, Opening};
use crate::proxy::upstream::multiplex::stream::Stream;

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
    attempt::pause(context).await;
    attempt::begin(context)?;
    let routed = context.routed().or_err(ErrorType::InternalError, "the request has no route yet")?;
    let endpoint = routed.endpoint().or_err(ErrorType::InternalError, "the request has no endpoint yet")?;
    let tls = endpoint.upstream.tls.is_some();
    let timeouts = routed.timeouts();
    let to = Destination::of(endpoint, &timeouts);
    let mut stream = match multiplex::acquire(pools, &to, routed.attempts.is_fresh()).await {
        Ok(stream) => stream,
        Err(failed) => return Err(attempt::connect_failed(context, error::of_connect(failed))),
    };
    context.connected(Some(stream.checkout().handle().check_out()), stream.is_reused(), true);
    context.exchange.attend();
    let carried = match Relay::begin(hooks, session, context, &mut stream, tls).await {
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
    stream: &'a mut Stream,
    upload: Upload,
    /// When the client, which waits for a 100, gets ours.
    promise: Option<Instant>,
    /// The final head arrived.
    answered: bool,
}

/// The request's body on its way.
struct Upload {
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
    /// The endpoint took some of the request.
    Sent,
    /// The endpoint took nothing for too long.
    Stuck,
    Came(Result<Event, StreamFailure>),
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
        stream: &'a mut Stream,
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
        let opening = Opening { ends: !bodied, head: head.method == Method::HEAD };
        let authority = &*routed.authority;
        let opened = stream.open(opening, |encoder, block| h2_message::write(&head, authority, tls, encoder, block));
        opened.map_err(error::of_stream)?;
        let upload = Upload { waiting: None, since: Instant::now(), read: !bodied, refused: false };
        let mut relay = Self {
            hooks,
            session,
            context,
            stream,
            upload,
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
                Turn::Sent => false,
                Turn::Came(Ok(event)) => self.came(event).await?,
                Turn::Came(Err(failure)) => return Err(error::of_stream(failure)),
                Turn::Promise => {
                    self.promise = None;
                    self.session.as_mut().write_continue_response().await?;
                    false
                }
                Turn::Stuck => {
                    self.stream.retire();
                    return Err(Error::explain(ErrorType::WriteTimedout, "the endpoint takes no more").into_up());
                }
                Turn::Gone => return Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down()),
                Turn::Ended => {
                    if self.context.exchange.ended() == Some(End::FirstByte) {
                        // It may hang as a whole; those who are on it have deadlines of their own.
                        self.stream.retire();
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
        let Self { session, context, upload, stream, promise, .. } = self;
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
        let stuck = upload.waiting.as_ref().map(|_| upload.since + write_timeout);
        tokio::select! {
            turn = client => turn,
            turn = poll_fn(|cx| upload.poll(cx, stream)) => turn,
            () = until(*promise) => Turn::Promise,
            () = until(stuck) => Turn::Stuck,
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
    async fn came(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::Informational => self.informational().await.map(|()| false),
            Event::Head { .. } => self.head().await,
            Event::Data => self.data().await,
            Event::End => self.write(HttpTask::Done).await.map(|()| true),
            Event::Trailers => self.trailers().await.map(|()| true),
        }
    }

    /// The head that was told last.
    fn told_head(&self) -> Result<ResponseHeader> {
        let head = self.stream.fields().and_then(h2_message::response);
        let head = head.ok_or_else(|| error::of_stream(StreamFailure::Protocol))?;
        Ok(ResponseHeader::from(head.into_parts().0))
    }

    async fn informational(&mut self) -> Result<()> {
        let mut head = self.told_head()?;
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
    async fn head(&mut self) -> Result<bool> {
        self.answered = true;
        self.promise = None;
        let mut head = self.told_head()?;
        self.hooks.upstream_response_filter(self.session, &mut head, self.context).await?;
        head.set_version(Version::HTTP_11);
        if !self.upload.read {
            // What of the request is still to come may be read by nobody.
            self.session.set_keepalive(None);
        }
        let ends = self.stream.ends();
        frame(&mut head, &self.session.req_header().method, ends)?;
        self.hooks.response_filter(self.session, &mut head, self.context).await?;
        self.write(HttpTask::Header(Box::new(head), ends)).await?;
        Ok(ends)
    }

    async fn data(&mut self) -> Result<bool> {
        let mut bytes = BytesMut::new();
        self.stream.read(|waiting| {
            let piece = waiting.get(..PIECE).unwrap_or(waiting);
            bytes.extend_from_slice(piece);
            piece.len()
        });
        let ends = self.stream.ends();
        let mut body = Some(bytes.freeze());
        self.hooks.response_body_filter(self.session, &mut body, ends, self.context)?;
        self.write(HttpTask::Body(body, ends)).await?;
        Ok(ends)
    }

    async fn trailers(&mut self) -> Result<()> {
        let trailers = self.stream.fields().and_then(h2_message::fields);
        let mut trailers = trailers.ok_or_else(|| error::of_stream(StreamFailure::Protocol))?;
        self.hooks.upstream_response_trailer_filter(self.session, &mut trailers, self.context)?;
        self.write(HttpTask::Trailer(Some(Box::new(trailers)))).await
    }

    /// Writes to the client.
    async fn write(&mut self, task: HttpTask) -> Result<()> {
        self.context.exchange.writing(true);
        let written = self.session.write_response_tasks(vec![task]).await.map(drop);
        self.context.exchange.writing(false);
        written
    }
}

/// Returns at this time, or never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Upload {
    /// Takes the next piece, or the end.
    fn put(&mut self, bytes: Bytes, last: bool) {
        if !bytes.is_empty() || last {
            self.waiting = Some((bytes, last));
            self.since = Instant::now();
        }
    }

    /// Sends what waits, or tells what came.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Turn> {
        let Some((bytes, last)) = &mut self.waiting else { return stream.poll_event(cx).map(Turn::Came) };
        let taken = match stream.poll_send(cx, bytes, *last) {
            Poll::Ready(taken) => taken,
            Poll::Pending => return stream.poll_event(cx).map(Turn::Came),
        };
        match taken {
            Ok(taken) if !stream.wants_no_more() => {
                bytes.advance(taken);
                self.since = Instant::now();
                if bytes.is_empty() {
                    self.waiting = None;
                }
            }
            // Why it is taken no further, the answer tells.
            Ok(_) | Err(_) => {
                self.refused = true;
                self.waiting = None;
            }
        }
        Poll::Ready(Turn::Sent)
    }
}

/// The most of an answer's body that is handed to the engine at once.
const PIECE: usize = 64 * 1024;

/// Frames the answer as HTTP/1.1 has it; over HTTP/2 to the client the engine takes that out again.
fn frame(head: &mut ResponseHeader, method: &Method, ends: bool) -> Result<()> {
    // Several alike are one (RFC 9110 §8.6); a stream has none that differ.
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

//! The loop over a client's requests: waits for a head, decides where it goes, and forwards it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::client::Client;
use super::forward::{H1Request, Next};
use super::request::{self, HeadRewrite, ParsedRequest, Shape};
use crate::proxy::codec::body::Body;
use crate::proxy::codec::head::{Arrival, Look};
use crate::proxy::express::Exit;
use crate::proxy::express::context::ExpressContext;
use crate::proxy::express::response::ParseContext;
use crate::proxy::express::upload::Upload;
use crate::proxy::io::buffer::Buffer;
use crate::proxy::request::admit::{self, Admitted, Identified, Ingress, RoutedRequest};
use crate::proxy::request::headers::RequestRewrite;
use crate::proxy::request::{kind, mirror};
use crate::proxy::shared::{Phase, Shared};
use crate::proxy::worker::Worker;
use crate::snapshot::{ClientLimits, Snapshot};
use crate::traffic::{HttpVersion, Request as _};

/// What arrived of a request.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment; a box would be an allocation for each request")]
enum Begun<'s> {
    /// Not all of its head.
    Part,
    /// Something for the other lane.
    Other,
    /// One that this lane carries.
    Request(H1Request<'s>),
}

/// What waiting for a head came to.
enum Waited {
    /// There are bytes that nobody looked at.
    Bytes,
    /// The client is gone, or was to go.
    End,
    /// It took too long over a head.
    Late,
}

impl Client {
    /// Serves requests until the connection ends or something comes that is not for this lane. `began` is since when the
    /// connection's first head is waited for, if it is the first; none afterwards.
    pub(crate) async fn serve(&mut self, worker: &Worker, began: &mut Option<Instant>) -> Exit {
        let shared = &*worker.shared;
        let mut part = false;
        let mut since = began.unwrap_or_else(Instant::now);
        let mut limits = shared.current.peek().client;
        loop {
            let idle_since = since;
            if part || self.input.is_empty() {
                if !part {
                    self.seat.idle(since);
                }
                let first = began.is_some();
                match poll_fn(|cx| self.poll_head(cx, shared, &mut since, &limits, first)).await {
                    Waited::Bytes => {}
                    Waited::End => {
                        self.close().await;
                        return Exit::Over;
                    }
                    Waited::Late => return Exit::SlowHead,
                }
            }
            let read = worker.snapshot();
            limits = read.snapshot.client;
            let mut request = match self.begin(shared, &read.snapshot) {
                Begun::Request(request) => request,
                Begun::Part => {
                    if !part {
                        self.arrival = Arrival::begun();
                    }
                    match self.arrival.look(self.input.data(), &read.snapshot.limits) {
                        Look::Part if self.input.has_room() => part = true,
                        Look::Blank(length) => {
                            self.input.consume(length);
                            part = !self.input.is_empty();
                            since = if part { since } else { idle_since };
                        }
                        // Too large, or more than this lane's memory: the other lane reads on, or says why not.
                        _ => return Exit::Other,
                    }
                    continue;
                }
                Begun::Other => return Exit::Other,
            };
            *began = None;
            let next = self.run(&worker.pools, &read.snapshot, &mut request).await;
            since = request.context.ended_at.unwrap_or_else(Instant::now);
            drop(request);
            match next {
                Next::Request => {}
                Next::Close => {
                    self.close().await;
                    return Exit::Over;
                }
                Next::Linger => {
                    self.linger().await;
                    return Exit::Over;
                }
                Next::Abort => return Exit::Over,
            }
            part = false;
        }
    }

    /// Reads until there is something to look at. `since` is when waiting for a head began, or its first byte came; the
    /// `first` head of a connection has its time from the beginning.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        since: &mut Instant,
        limits: &ClientLimits,
        first: bool,
    ) -> Poll<Waited> {
        loop {
            let before = self.input.len();
            match self.input.poll_fill(cx, Pin::new(&mut self.transport)) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    let fresh = self.input.data().get(before..).unwrap_or_default();
                    if before == 0 {
                        if !self.seat.busy() {
                            return Poll::Ready(Waited::End);
                        }
                        if !first {
                            *since = Instant::now();
                        }
                        self.arrival = Arrival::default();
                    }
                    // Most heads come whole. What does not is not parsed again with each piece.
                    let whole = before == 0 && memchr::memchr(b'\n', fresh).is_some();
                    if whole || !self.is_part(shared) {
                        return Poll::Ready(Waited::Bytes);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Waited::End),
                Poll::Pending if self.input.is_empty() => {
                    if shared.is_in(Phase::Closing) || self.seat.is_evicted() {
                        return Poll::Ready(Waited::End);
                    }
                    if first {
                        return self.timer.poll(cx, *since + limits.head_timeout).map(|()| Waited::Late);
                    }
                    return self.timer.poll(cx, *since + limits.keepalive).map(|()| Waited::End);
                }
                Poll::Pending => return self.timer.poll(cx, *since + limits.head_timeout).map(|()| Waited::Late),
            }
        }
    }

    /// Whether what arrived is the beginning of a head that this lane may still carry.
    #[cold]
    fn is_part(&mut self, shared: &Shared) -> bool {
        let look = self.arrival.look(self.input.data(), &shared.current.peek().limits);
        look == Look::Part && self.input.has_room()
    }

    /// Looks at what arrived and decides where it goes.
    fn begin<'s>(&mut self, shared: &'s Shared, snapshot: &'s Snapshot) -> Begun<'s> {
        let mut room = request::fields();
        let (mut head, length) = match request::parse(self.input.data(), &mut room) {
            ParsedRequest::Head(head, length) => (head, length),
            ParsedRequest::Partial => return Begun::Part,
            ParsedRequest::Other => return Begun::Other,
        };
        let shape = head.shape();
        if shape == Shape::Other {
            return Begun::Other;
        }
        let ingress = Ingress { listener: &self.listener, sni: self.transport.sni(), peer: self.peer, tls: self.tls };
        let known = Identified::of(&mut head, &ingress, shared, snapshot);
        let head = known.head;
        let admitted = admit::admit(head, &ingress, snapshot, |routed| is_carried(routed, shape));
        let Ok(admitted) = admitted else { return Begun::Other };
        let mut context = ExpressContext::enter(shared, admitted.assignment(), head.method, known.logged);
        let Admitted { routed, set_cookie, refusal, .. } = admitted;
        let upgrade = offered(&routed);
        let RoutedRequest { validated, service, underscore, .. } = routed;
        let mut out = Buffer::default();
        let rewrite = HeadRewrite {
            rewrite: RequestRewrite {
                peer: &self.peer_text,
                trusted: known.trusted,
                underscore,
                tls: self.tls,
                authority: validated.authority,
                request_id: known.request_id.as_bytes(),
                version: HttpVersion::Http11,
                may_wait: false,
                overrides: service.chooser.overrides(),
                told: context.assigned.told(),
                flags: context.assigned.flags,
            },
            target: &validated.target,
            host: service.host.as_deref(),
            framing: validated.framing,
            upgrade,
        };
        request::write(head, &rewrite, &mut out);
        let grpc = kind::is_grpc(head.header("content-type"));
        if let Some(mut copy) = mirror::copy(&context.assigned, head.method, upgrade.is_some() || grpc) {
            copy.set_head(out.data().to_vec());
            context.copy = Some(copy);
        }
        let idempotent = context.attempts.is_idempotent();
        let request = H1Request {
            context,
            upload: Upload::new(out, Body::of(validated.framing), idempotent, service.body_limit(snapshot)),
            parse_context: ParseContext { head_only: head.method == "HEAD", grpc },
            // What follows an offer may be of the other protocol already, whatever becomes of it (RFC 9931).
            closes: head.closes() || upgrade.is_some(),
            upgrade,
            refusal,
            set_cookie,
        };
        self.input.consume(length);
        Begun::Request(request)
    }
}

/// Whether this lane carries a request that may pass.
fn is_carried(routed: &RoutedRequest<'_, '_>, shape: Shape) -> bool {
    let RoutedRequest { validated, service, too_large, .. } = routed;
    let takes_shape = match shape {
        Shape::Plain => true,
        // The rest of them are ordinary requests in an odd spelling.
        Shape::Upgrade => offered(routed).is_some(),
        Shape::Other => false,
    };
    service.speaks_http1 && !too_large && takes_shape && !validated.expect_continue
}

/// The protocol that the endpoint is offered: the first of the client's that the service has.
fn offered<'s>(routed: &RoutedRequest<'_, 's>) -> Option<&'s str> {
    let token = routed.validated.upgrade?.choose(&routed.service.upgrades)?;
    routed.service.upgrades.iter().map(|known| &**known).find(|known| known.eq_ignore_ascii_case(token))
}

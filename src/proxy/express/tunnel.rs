//! A tunnel: what two sides send each other once they have left HTTP, carried both ways in one task.
//!
//! ```text
//! client ─► buffer ─► endpoint        the end of one direction is passed on, and the other goes on
//! client ◄─ buffer ◄─ endpoint
//! ```
//!
//! A silent tunnel has no limit, as long as both sides may still send. Where one has ended its half it may be one that
//! nobody reads any more, and the limit on silence holds.
//!
//! Invariant: nothing is read that the other side has no room for, so each direction holds one buffer at most, and none
//! while it is silent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::broken::Broken;
use crate::proxy::io::buffer::{Buffer, LARGE};
use crate::proxy::request::end::End;
use crate::proxy::request::failure::RESET;

/// How long a tunnel may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelLimits {
    /// After one side has ended its half.
    pub(crate) idle: Duration,
    /// While the client does not take what was written.
    pub(crate) write_timeout: Duration,
}

/// Both directions.
pub(crate) struct Tunnel {
    to_endpoint: Direction,
    to_client: Direction,
    limits: TunnelLimits,
    /// When something moved last.
    active: Instant,
}

/// One direction, from its source to its sink.
#[derive(Default)]
struct Direction {
    buffer: Buffer,
    /// Bytes that the sink got.
    bytes: u64,
    /// The source sends no more.
    ended: bool,
    /// The sink was told so, or takes no more.
    over: bool,
    /// The sink does not take what was written.
    blocked: bool,
    /// The source sends much at once.
    busy: bool,
    moved: bool,
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailedEnd {
    Source,
    Sink,
}

impl Tunnel {
    /// A tunnel that begins with what each side has sent already.
    pub(crate) fn new(from_client: Buffer, from_endpoint: Buffer, limits: TunnelLimits, now: Instant) -> Self {
        let to_endpoint = Direction { buffer: from_client, ..Direction::default() };
        let to_client = Direction { buffer: from_endpoint, ..Direction::default() };
        Self { to_endpoint, to_client, limits, active: now }
    }

    /// Carries what there is, until both sides have ended.
    ///
    /// # Errors
    /// Why it ended sooner. What the endpoint had sent before it failed is with the client.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut client: Pin<&mut (impl AsyncRead + AsyncWrite)>,
        mut endpoint: Pin<&mut (impl AsyncRead + AsyncWrite)>,
    ) -> Poll<Result<(), Broken>> {
        match self.to_endpoint.poll(cx, client.as_mut(), endpoint.as_mut()) {
            Poll::Ready(Err(FailedEnd::Source)) => return Poll::Ready(Err(Broken::ClientGone)),
            // What it has sent before, and perhaps still sends, is the client's.
            Poll::Ready(Err(FailedEnd::Sink)) => self.to_endpoint.stop(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match self.to_client.poll(cx, endpoint, client) {
            Poll::Ready(Err(FailedEnd::Source)) => return Poll::Ready(Err(Broken::Endpoint(RESET))),
            Poll::Ready(Err(FailedEnd::Sink)) => return Poll::Ready(Err(Broken::ClientGone)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if self.to_endpoint.take_moved() | self.to_client.take_moved() {
            self.active = Instant::now();
        }
        if self.to_endpoint.over && self.to_client.over { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// When it is to be ended if nothing moves until then, and why.
    pub(crate) fn due(&self) -> Option<(Instant, Broken)> {
        if self.to_client.blocked {
            return Some((self.active + self.limits.write_timeout, Broken::ClientSlow));
        }
        let half_closed = self.to_client.ended || self.to_endpoint.ended;
        half_closed.then(|| (self.active + self.limits.idle, Broken::Ended(End::Left)))
    }

    /// Bytes that the endpoint got of the client.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.to_endpoint.bytes
    }

    /// Bytes that the client got of the endpoint.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.to_client.bytes
    }
}

impl Direction {
    /// Carries what there is, until the source's end is passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut source: Pin<&mut impl AsyncRead>,
        mut sink: Pin<&mut impl AsyncWrite>,
    ) -> Poll<Result<(), FailedEnd>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        loop {
            let written = self.poll_write(cx, sink.as_mut());
            self.blocked = written.is_pending();
            ready!(written).map_err(|_| FailedEnd::Sink)?;
            if self.ended {
                let told = ready!(sink.poll_shutdown(cx));
                self.over = true;
                return Poll::Ready(told.map_err(|_| FailedEnd::Sink));
            }
            if self.busy {
                self.buffer.grow(LARGE);
            }
            let read = match ready!(self.buffer.poll_fill(cx, source.as_mut())) {
                Ok(read) => read,
                // Over TLS, an end without the word for it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(_) => return Poll::Ready(Err(FailedEnd::Source)),
            };
            self.moved = true;
            self.ended = read == 0;
            self.busy = read >= BUSY;
        }
    }

    /// Writes what there is, and sees to it that it leaves.
    fn poll_write(&mut self, cx: &mut Context<'_>, mut sink: Pin<&mut impl AsyncWrite>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            match ready!(sink.as_mut().poll_write(cx, self.buffer.data()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.buffer.consume(written);
                    self.bytes += written as u64;
                    self.moved = true;
                }
            }
        }
        sink.poll_flush(cx)
    }

    /// The sink takes no more.
    fn stop(&mut self) {
        self.buffer.clear();
        self.buffer.rest();
        (self.over, self.blocked) = (true, false);
    }

    fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

/// Who sends so much at once is read in larger pieces.
const BUSY: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMITS: TunnelLimits = TunnelLimits { idle: Duration::from_secs(60), write_timeout: Duration::from_secs(20) };

    /// Where what is carried ends.
    struct Sides {
        client: DuplexStream,
        endpoint: DuplexStream,
    }

    fn sides(room: usize) -> (Sides, Sides) {
        let ((client, client_far), (endpoint, endpoint_far)) = (duplex(room), duplex(room));
        (Sides { client, endpoint }, Sides { client: client_far, endpoint: endpoint_far })
    }

    fn of(text: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.push(text);
        buffer
    }

    fn tunnel() -> Tunnel {
        Tunnel::new(of(b"early "), of(b"hello "), LIMITS, Instant::now())
    }

    async fn carry(tunnel: &mut Tunnel, near: &mut Sides) -> Result<(), Broken> {
        poll_fn(|cx| tunnel.poll(cx, Pin::new(&mut near.client), Pin::new(&mut near.endpoint))).await
    }

    /// Carries what is there now.
    async fn turn(tunnel: &mut Tunnel, near: &mut Sides) -> Poll<Result<(), Broken>> {
        poll_fn(|cx| Poll::Ready(tunnel.poll(cx, Pin::new(&mut near.client), Pin::new(&mut near.endpoint)))).await
    }

    #[tokio::test]
    async fn both_directions_end_for_themselves_and_nothing_is_lost() {
        let (mut near, Sides { mut client, mut endpoint }) = sides(1_000);
        let mut tunnel = tunnel();
        let (sent, answered) = (vec![b'x'; 300_000], vec![b'y'; 200_000]);
        let there = async {
            let mut received = Vec::new();
            endpoint.read_to_end(&mut received).await.unwrap();
            endpoint.write_all(&answered).await.unwrap();
            endpoint.shutdown().await.unwrap();
            received
        };
        let here = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        };
        let (carried, there, here) = tokio::join!(carry(&mut tunnel, &mut near), there, here);
        assert_eq!(carried, Ok(()));
        assert!(there.strip_prefix(b"early ") == Some(&*sent) && here.strip_prefix(b"hello ") == Some(&*answered));
        assert_eq!((tunnel.bytes_in(), tunnel.bytes_out()), (300_006, 200_006));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_limited_once_a_side_has_ended_or_the_client_takes_nothing() {
        let (mut near, Sides { mut client, mut endpoint }) = sides(64);
        let mut tunnel = tunnel();
        assert!(turn(&mut tunnel, &mut near).await.is_pending());
        assert!(tunnel.due().is_none(), "both may be silent");
        tokio::time::advance(Duration::from_secs(5)).await;
        endpoint.shutdown().await.unwrap();
        assert!(turn(&mut tunnel, &mut near).await.is_pending());
        assert_eq!(tunnel.due(), Some((Instant::now() + LIMITS.idle, Broken::Ended(End::Left))));
        // The end is not news for ever.
        let due = tunnel.due();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(turn(&mut tunnel, &mut near).await.is_pending());
        assert_eq!(tunnel.due(), due);
        client.shutdown().await.unwrap();
        assert_eq!(turn(&mut tunnel, &mut near).await, Poll::Ready(Ok(())));

        let (mut near, Sides { client, mut endpoint }) = sides(64);
        let mut tunnel = self::tunnel();
        endpoint.write_all(&[0; 64]).await.unwrap();
        assert!(turn(&mut tunnel, &mut near).await.is_pending());
        assert_eq!(tunnel.due(), Some((Instant::now() + LIMITS.write_timeout, Broken::ClientSlow)));
        drop(client);
        assert_eq!(turn(&mut tunnel, &mut near).await, Poll::Ready(Err(Broken::ClientGone)));
    }

    #[tokio::test]
    async fn what_an_endpoint_sent_before_it_went_is_the_clients() {
        let (mut near, Sides { mut client, mut endpoint }) = sides(1_000);
        let mut tunnel = tunnel();
        endpoint.write_all(b"last").await.unwrap();
        drop(endpoint);
        client.write_all(b"lost").await.unwrap();
        assert_eq!(turn(&mut tunnel, &mut near).await, Poll::Ready(Ok(())));
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hello last");
    }
}

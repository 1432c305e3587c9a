//! The task of a connection: it alone reads and writes the socket. A turn reads the frames that are there, wakes the
//! streams that they are for, and writes what all streams have to say at once.
//!
//! Invariant: a turn is bounded in bytes and frames; then those who wait for them come first.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::connection::Connection;
use super::failure::StreamFailure;
use super::settings::{FAREWELL, FRAME, OUTPUT_STOP, TURN_BYTES, TURN_FRAMES};
use super::sharing::Sharing;
use super::state::State;
use crate::proxy::codec::frame::{self, ErrorCode, FrameError, FrameHead};
use crate::proxy::io::buffer::{Buffer, LARGE};
use crate::proxy::io::transport::Transport;
use crate::proxy::upstream::connection::{Checkout, PooledConnection};
use crate::proxy::upstream::connector;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::tls::TlsConnectors;

/// Connects to an endpoint, for one request at once; calls `closed` at the end.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn open(
    to: &Destination,
    tls: &TlsConnectors,
    sharing: Arc<Sharing>,
    closed: impl FnOnce() + Send + 'static,
) -> Result<(Arc<Connection>, Checkout), ConnectError> {
    let PooledConnection { transport, checkout } = connector::connect(to, tls).await?;
    if matches!(transport, Transport::Tls(_)) && !transport.alpn_h2() {
        return Err(ConnectError::NoHttp2);
    }
    let connection = Arc::new(Connection::new(to, checkout.handle(), sharing));
    let driver = Driver::new(Arc::clone(&connection), transport);
    tokio::spawn(async move {
        driver.run().await;
        closed();
    });
    Ok((connection, checkout))
}

/// The task of a connection.
struct Driver<S> {
    connection: Arc<Connection>,
    socket: Socket<S>,
}

/// Its bytes.
struct Socket<S> {
    transport: S,
    input: Buffer,
    /// What was written may still be on this side.
    unflushed: bool,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody needs it any more.
    Done,
    /// The endpoint closed it, or it broke.
    Closed,
    /// It does not answer.
    Dead,
    /// The endpoint broke the rules.
    Fault(ErrorCode),
}

/// A read that brings so much is followed by a larger one.
const MUCH: usize = 4 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(connection: Arc<Connection>, transport: S) -> Self {
        let socket = Socket { transport, input: Buffer::default(), unflushed: false };
        Self { connection, socket }
    }

    /// Moves bytes until the connection ends, and tells its streams.
    async fn run(mut self) {
        let end = poll_fn(|cx| {
            let mut state = self.connection.lock();
            state.turn_begins(cx.waker());
            let turn = self.socket.turn(&mut state, cx);
            state.turn_ends();
            turn.map_or_else(Poll::Ready, |()| Poll::Pending)
        })
        .await;
        self.connection.handle.retire();
        let rest = {
            let mut state = self.connection.lock();
            state.end(end.failure());
            end.goodbye(&mut state.out);
            std::mem::take(&mut state.out)
        };
        let farewell = async {
            if matches!(end, End::Done | End::Fault(_)) {
                self.socket.transport.write_all(rest.data()).await?;
            }
            self.socket.transport.shutdown().await
        };
        // An endpoint that is gone need not hear it.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

impl End {
    fn failure(self) -> StreamFailure {
        match self {
            Self::Done | Self::Closed | Self::Dead => StreamFailure::Broken,
            Self::Fault(_) => StreamFailure::Protocol,
        }
    }

    fn goodbye(self, out: &mut Buffer) {
        match self {
            Self::Done => frame::go_away(out, 0, ErrorCode::NO_ERROR),
            Self::Fault(code) => frame::go_away(out, 0, code),
            Self::Closed | Self::Dead => {}
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// One turn.
    ///
    /// # Errors
    /// The connection's end.
    fn turn(&mut self, state: &mut State, cx: &mut Context<'_>) -> Result<(), End> {
        // Reading comes first: what is known to be over gets nothing more, so that nothing more is lost.
        self.read(state, cx)?;
        let stopped = state.out.len() > OUTPUT_STOP;
        if self.write(state, cx).is_err() {
            // What it said before it went may say more.
            self.read(state, cx)?;
            return Err(End::Closed);
        }
        state.wake_blocked();
        if state.dead {
            return Err(End::Dead);
        }
        if state.is_over() && state.active() == 0 && state.out.is_empty() {
            return Err(End::Done);
        }
        if stopped && state.out.len() <= OUTPUT_STOP {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Reads what is there, within the bounds of a turn.
    fn read(&mut self, state: &mut State, cx: &mut Context<'_>) -> Result<(), End> {
        let (mut bytes, mut frames, mut much) = (0, 0, false);
        loop {
            while frames < TURN_FRAMES && self.next_frame(state).map_err(End::Fault)? {
                frames += 1;
            }
            if frames >= TURN_FRAMES || bytes >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            if state.out.len() > OUTPUT_STOP {
                return Ok(());
            }
            if much {
                self.input.grow(LARGE);
            }
            match self.input.poll_fill(cx, Pin::new(&mut self.transport)) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(read @ 1..)) => {
                    state.liveness.heard();
                    bytes += read;
                    much = read >= MUCH;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Closed),
            }
        }
    }

    /// Takes a frame that is here as a whole; whether there was one.
    fn next_frame(&mut self, state: &mut State) -> Result<bool, ErrorCode> {
        let Some(head) = FrameHead::read(self.input.data()) else { return Ok(false) };
        if let Err(FrameError::Connection(code) | FrameError::Stream(code)) = head.check(FRAME) {
            return Err(code);
        }
        let size = FrameHead::SIZE + head.length;
        let Some(payload) = self.input.data().get(FrameHead::SIZE..size) else { return Ok(false) };
        state.frame(&head, payload)?;
        self.input.consume(size);
        Ok(true)
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// If nothing can be written any more.
    fn write(&mut self, state: &mut State, cx: &mut Context<'_>) -> Result<(), ()> {
        while !state.out.is_empty() {
            match Pin::new(&mut self.transport).poll_write(cx, state.out.data()) {
                Poll::Ready(Ok(written @ 1..)) => {
                    state.out.consume(written);
                    state.written += written as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Ok(0) | Err(_)) => return Err(()),
                Poll::Pending => break,
            }
        }
        state.out.rest();
        if self.unflushed {
            match Pin::new(&mut self.transport).poll_flush(cx) {
                Poll::Ready(flushed) => {
                    self.unflushed = false;
                    flushed.map_err(drop)?;
                }
                Poll::Pending => {}
            }
        }
        Ok(())
    }
}

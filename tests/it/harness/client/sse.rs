//! A reader of server-sent events, over either protocol, that gives each event as it arrives.

use bytes::BytesMut;

use super::{Failure, H1, H2, H2Stream, Protocol, Request};
use crate::harness::socket::Target;
use crate::harness::wire::ResponseHead;

/// An open event stream.
pub(crate) struct Sse {
    carrier: Carrier,
    head: ResponseHead,
    buffer: BytesMut,
    /// A connection that nobody else holds.
    _own: Option<H2>,
}

enum Carrier {
    H1(Box<H1>),
    H2(H2Stream),
}

impl Sse {
    /// Opens `target_path` on an HTTP/1 connection of its own; ends the story if the answer is no event stream.
    pub(crate) async fn open(target: impl Into<Target>, target_path: &str) -> Self {
        let mut h1 = H1::connect(target).await;
        let head = h1.open(&Request::get(target_path)).await;
        Self::begin(Carrier::H1(Box::new(h1)), head)
    }

    /// Opens `target_path` over this protocol, on a connection of its own.
    pub(crate) async fn open_over(protocol: Protocol, target: impl Into<Target>, target_path: &str) -> Self {
        match protocol {
            Protocol::Http1 => Self::open(target, target_path).await,
            Protocol::Http2 => {
                let h2 = H2::connect(target).await;
                let events = Self::open_on(&h2, target_path).await;
                Self { _own: Some(h2), ..events }
            }
        }
    }

    /// Opens `target_path` as a stream of this HTTP/2 connection.
    pub(crate) async fn open_on(h2: &H2, target_path: &str) -> Self {
        let mut stream = h2.open(&Request::get(target_path)).await;
        let head = stream.head().await;
        Self::begin(Carrier::H2(stream), head)
    }

    fn begin(carrier: Carrier, head: ResponseHead) -> Self {
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.headers.get("content-type"), Some("text/event-stream"), "{head:?}");
        Self { carrier, head, buffer: BytesMut::new(), _own: None }
    }

    /// Which origin answered.
    pub(crate) fn origin(&self) -> &str {
        self.head.headers.get("x-origin").unwrap_or_default()
    }

    /// The data of the next event; none when the stream ends in good order, between events.
    ///
    /// # Errors
    /// [`Failure::Truncated`] if it ends otherwise, [`Failure::Timeout`].
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event = self.buffer.split_to(end + 2);
                let event = std::str::from_utf8(&event).expect("an event is text");
                let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                return Ok(Some(data.join("\n")));
            }
            let piece = match &mut self.carrier {
                Carrier::H1(h1) => h1.piece().await?,
                Carrier::H2(stream) => stream.piece().await?,
            };
            match piece {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => panic!("the stream ends in the middle of an event: {:?}", self.buffer),
            }
        }
    }

    /// The data of the next event; ends the story if none comes.
    pub(crate) async fn event(&mut self) -> String {
        match self.next().await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the stream ended"),
            Err(failure) => panic!("no event: {failure}"),
        }
    }
}

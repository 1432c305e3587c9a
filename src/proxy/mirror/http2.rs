//! A copy and its response over HTTP/2.

use std::future::poll_fn;

use super::head::CopiedHead;
use super::{MAX_RESPONSE, NotAnswered, Target};
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::proxy::upstream::multiplex::slot::{Event, Opening};
use crate::proxy::upstream::multiplex::stream::Stream;
use crate::proxy::upstream::{Pools, multiplex};

/// Sends a copy and reads its response; the status.
///
/// # Errors
/// No response came.
pub(super) async fn exchange(
    pools: &Pools,
    target: &Target,
    head: &CopiedHead<'_>,
    body: &[u8],
) -> Result<u16, NotAnswered> {
    let mut fresh = false;
    loop {
        let mut stream = multiplex::acquire(pools, &target.to, fresh).await.map_err(|_| NotAnswered)?;
        match over(&mut stream, target.tls, head, body).await {
            // The connection was about to go.
            Err(StreamFailure::Unprocessed) if !fresh => fresh = true,
            answered => return answered.map_err(|_| NotAnswered),
        }
    }
}

async fn over(stream: &mut Stream, tls: bool, head: &CopiedHead<'_>, body: &[u8]) -> Result<u16, StreamFailure> {
    let opening = Opening { ends: body.is_empty(), head: head.is_for_head() };
    stream.open(opening, |encoder, block| head.http2(tls, body, encoder, block))?;
    let mut rest = body;
    while !rest.is_empty() {
        let sent = poll_fn(|cx| stream.poll_send(cx, rest, true)).await?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    let (mut status, mut taken) = (None, 0);
    loop {
        match poll_fn(|cx| stream.poll_event(cx)).await? {
            Event::Informational => {}
            Event::Head { end } => {
                status = stream.fields().and_then(|fields| fields.status());
                if end {
                    break;
                }
            }
            Event::Data => {
                taken += stream.read(<[u8]>::len);
                if taken > MAX_RESPONSE {
                    break;
                }
            }
            Event::Trailers | Event::End => break,
        }
    }
    status.ok_or(StreamFailure::Protocol)
}

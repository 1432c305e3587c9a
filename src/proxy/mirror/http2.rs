//! A copy and its response over HTTP/2.

use std::future::poll_fn;

use super::answer::{Answer, AnswerReader};
use super::head::CopiedHead;
use super::{MAX_RESPONSE, NotAnswered, Target};
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::proxy::upstream::multiplex::slot::{Event, Opening};
use crate::proxy::upstream::multiplex::stream::Stream;
use crate::proxy::upstream::{Pools, multiplex};

/// Sends a copy and reads its response.
///
/// # Errors
/// No response came.
pub(super) async fn exchange(
    pools: &Pools,
    target: &Target,
    head: &CopiedHead<'_>,
    body: &[u8],
    compared: &[Box<str>],
) -> Result<Answer, NotAnswered> {
    let mut fresh = false;
    loop {
        let mut stream = multiplex::acquire(pools, &target.to, fresh).await.map_err(|_| NotAnswered)?;
        match over(&mut stream, target.tls, (head, body), compared).await {
            // The connection was about to go.
            Err(StreamFailure::Unprocessed) if !fresh => fresh = true,
            answered => return answered.map_err(|_| NotAnswered),
        }
    }
}

async fn over(
    stream: &mut Stream,
    tls: bool,
    (head, body): (&CopiedHead<'_>, &[u8]),
    compared: &[Box<str>],
) -> Result<Answer, StreamFailure> {
    let opening = Opening { ends: body.is_empty(), head: head.is_for_head() };
    stream.open(opening, |encoder, block| head.http2(tls, body, encoder, block))?;
    let mut rest = body;
    while !rest.is_empty() {
        let sent = poll_fn(|cx| stream.poll_send(cx, rest, true)).await?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    let (mut answer, mut taken) = (None, 0);
    let whole = loop {
        match poll_fn(|cx| stream.poll_event(cx)).await? {
            Event::Informational => {}
            Event::Head { end } => {
                answer = stream.fields().and_then(|fields| {
                    let each = || fields.iter().map(|field| (field.name, field.value));
                    Some(AnswerReader::of(fields.status()?, compared, each))
                });
                if end {
                    break true;
                }
            }
            Event::Data => {
                taken += stream.read(|bytes| {
                    if let Some(answer) = &mut answer {
                        answer.body(bytes);
                    }
                    bytes.len()
                });
                if taken > MAX_RESPONSE {
                    break false;
                }
            }
            Event::Trailers | Event::End => break true,
        }
    };
    answer.map(|answer| answer.ended(whole)).ok_or(StreamFailure::Protocol)
}

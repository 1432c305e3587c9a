//! A copy and its response over HTTP/1.1.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::answer::{Answer, AnswerReader};
use super::{MAX_RESPONSE, NotAnswered, Target};
use crate::proxy::codec::body::{Body, Piece, Sender};
use crate::proxy::codec::response::{self, MAX_HEAD, Read};
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::connection::PooledConnection;
use crate::proxy::upstream::connector;

/// The connection broke, or what came on it was no response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken {
    /// Something had come of a response.
    pub(super) begun: bool,
}

/// What is read at once.
const READ: usize = 16 * 1024;

/// A new connection to the mirror.
///
/// # Errors
/// There is none.
pub(super) async fn connect(pools: &Pools, target: &Target) -> Result<PooledConnection, NotAnswered> {
    connector::connect(&target.to, &pools.tls).await.map_err(|_| NotAnswered)
}

/// Sends `request` and reads its response. The connection is kept if it can be used again.
///
/// # Errors
/// No response came.
pub(super) async fn exchange(
    pools: &Pools,
    target: &Target,
    mut connection: PooledConnection,
    (request, head_only): (&[u8], bool),
    compared: &[Box<str>],
) -> Result<Answer, Broken> {
    let transport = &mut connection.transport;
    let mut input = Vec::with_capacity(READ);
    let unsent = Broken { begun: false };
    transport.write_all(request).await.map_err(|_| unsent)?;
    transport.flush().await.map_err(|_| unsent)?;
    let (mut answer, mut body, closes) = loop {
        let (length, status, seen) = match response::read(&input, |head, length| {
            let body = head.body(head_only);
            let fields = || head.fields.iter().map(|field| (field.name, field.value));
            let answer = AnswerReader::of(head.status, compared, fields);
            (length, head.status, (answer, body, head.closes(body)))
        }) {
            Read::Head(head) => head,
            Read::Partial if input.len() < MAX_HEAD => {
                read(&transport.read_buf(&mut input).await, !input.is_empty())?;
                continue;
            }
            _ => return Err(Broken { begun: true }),
        };
        input.drain(..length);
        match status {
            101 => return Err(Broken { begun: true }),
            100..200 => {}
            _ => break seen,
        }
    };
    let mut taken = 0;
    loop {
        let Piece { framing, data } = body.next_of(Sender::Endpoint, &input).map_err(|_| Broken { begun: true })?;
        body.took(data);
        answer.body(input.get(framing..framing + data).unwrap_or_default());
        input.drain(..framing + data);
        taken += data;
        if body.is_done() || taken > MAX_RESPONSE {
            break;
        }
        if data == 0 {
            match transport.read_buf(&mut input).await {
                Ok(0) if body == Body::UntilClose => {
                    body = Body::Done;
                    break;
                }
                more => read(&more, true)?,
            }
        }
    }
    let whole = body.is_done();
    if whole && input.is_empty() && !closes {
        pools.http1.put(target.key, connection, Instant::now() + target.to.idle_timeout, true);
    }
    Ok(answer.ended(whole))
}

fn read(read: &std::io::Result<usize>, begun: bool) -> Result<(), Broken> {
    match read {
        Ok(1..) => Ok(()),
        _ => Err(Broken { begun }),
    }
}

//! Bytes as they are to the proxy, and what came back, without a client's good manners.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::model::Address;

use crate::harness::Target;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The status of each response, in order.
    pub(crate) statuses: Vec<u16>,
    /// Whether the connection ended.
    pub(crate) closed: bool,
    /// All bytes.
    pub(crate) text: String,
}

/// Connects.
pub(crate) async fn connect(web: &Target) -> TcpStream {
    let Address::Inet(address) = &web.address else { panic!("a TCP listener") };
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Sends `bytes` and reads until the end, or until `quiet` passes without a byte.
pub(crate) async fn exchange(web: &Target, bytes: &[u8], quiet: Duration) -> Answers {
    let mut socket = connect(web).await;
    let (mut reader, mut writer) = socket.split();
    let mut read = Vec::new();
    let receive = async {
        loop {
            match timeout(quiet, reader.read_buf(&mut read)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return true,
                Err(_) => return false,
            }
        }
    };
    // A server that has heard enough may close before it has taken everything.
    let send = async { writer.write_all(bytes).await.ok() };
    let (closed, _) = tokio::join!(receive, send);
    let text = String::from_utf8_lossy(&read).into_owned();
    // No body of this test-bed contains a status line.
    let statuses = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    Answers { statuses: statuses.collect(), closed, text }
}

/// Long enough for an answer on a busy machine, short enough to wait for silence.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

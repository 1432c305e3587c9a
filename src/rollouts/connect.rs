//! Connects to the endpoints of a canary, to see whether something listens there: the question, the answer, and the way
//! there. Nothing is sent.

use std::io;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::view::ReadyAddress;
use crate::model::Name;

/// Connects that are made at once.
const AT_ONCE: usize = 32;

/// Endpoints that are to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectQuestion {
    pub(crate) service: Name,
    pub(crate) version: Name,
    pub(crate) addresses: Vec<ReadyAddress>,
    /// How long a connect may take: the service's `timeouts.connect`.
    pub(crate) timeout: Duration,
}

/// What was asked, and answered.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenCheck {
    /// The last question, when it was asked, and whether its answer is still to come.
    pub(super) asked: Option<(ConnectQuestion, Duration, bool)>,
    /// The last answer: why not, if they do not accept.
    pub(super) answered: Option<(ConnectQuestion, Option<String>)>,
}

/// Why not all of these accept connections, if so: the first that does not, and how many more.
pub(super) async fn refusal(addresses: &[ReadyAddress], limit: Duration) -> Option<String> {
    let each = addresses.iter().cloned();
    let refusals = stream::iter(each).map(|address| refused(address, limit)).buffered(AT_ONCE);
    let refused: Vec<String> = refusals.filter_map(std::future::ready).collect().await;
    let first = refused.first()?;
    let more = match refused.len() {
        1 => String::new(),
        count => format!("; {} of {} do not", count, addresses.len()),
    };
    Some(format!("{first}{more}"))
}

/// Why one endpoint does not accept connections, if so.
async fn refused(address: ReadyAddress, limit: Duration) -> Option<String> {
    let why = match timeout(limit, connect(&address)).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            kind => kind.to_string(),
        },
        Err(_) => format!("no answer within {limit:?}"),
    };
    Some(format!("{address} does not accept connections ({why})"))
}

async fn connect(address: &ReadyAddress) -> io::Result<()> {
    match address {
        ReadyAddress::Inet(address) => TcpStream::connect(address).await.map(drop),
        ReadyAddress::Unix(path) => UnixStream::connect(path).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn all_must_accept_and_the_first_that_does_not_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listens = ReadyAddress::Inet(listener.local_addr().unwrap());
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let socket = ReadyAddress::Unix(path.clone());
        assert_eq!(refusal(std::slice::from_ref(&listens), LIMIT).await, None);
        let refuses = format!("{closed} does not accept connections (connection refused)");
        assert_eq!(refusal(&[listens.clone(), ReadyAddress::Inet(closed)], LIMIT).await, Some(refuses.clone()));
        let both = refusal(&[ReadyAddress::Inet(closed), listens, socket.clone()], LIMIT).await;
        assert_eq!(both, Some(format!("{refuses}; 2 of 3 do not")));
        let missing = format!("{socket} does not accept connections (there is no such socket)");
        assert_eq!(refusal(std::slice::from_ref(&socket), LIMIT).await, Some(missing));
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(refusal(&[socket], LIMIT).await, None);
    }
}

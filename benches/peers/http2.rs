//! An HTTP/2 client for the open loop: many share a connection, each has one stream in flight at most.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};

use crate::client::Target;
use crate::{Failure, HOST, http1};

#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
}

impl Client {
    /// A connection, driven by a task until the last client of it is gone.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Failure> {
        let stream = http1::connect(target).await?;
        let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| format!("HTTP/2: {error}"))?;
        tokio::task::spawn_local(async move {
            // Streams that it breaks say so to their own clients.
            let _ended = connection.await;
        });
        Ok(Self { sender })
    }

    pub(crate) async fn exchange(&mut self) -> Result<(), Failure> {
        self.once().await.map_err(|error| format!("HTTP/2: {error}"))?
    }

    async fn once(&mut self) -> Result<Result<(), Failure>, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let Ok(request) = Request::get(format!("https://{HOST}/")).body(()) else {
            return Ok(Err("the request cannot be built".to_owned()));
        };
        let (response, _) = sender.send_request(request, true)?;
        let response = response.await?;
        if response.status() != StatusCode::OK {
            return Ok(Err(format!("status {}", response.status())));
        }
        let mut body = response.into_body();
        let mut received = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            received += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        Ok(if received == 128 { Ok(()) } else { Err(format!("{received} bytes of body instead of 128")) })
    }
}

//! One POST to a server outside, and its response.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};

use crate::http_client::{CallLimits, Client, HttpError, HttpResponse, Url};

use super::secret::{SIGNATURE_HEADER, SecretError};

/// What is kept of a response.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Why a call was not made, or got no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// What is sent.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    pub(super) content_type: &'static str,
    /// `weir-signature`, if the call is signed.
    pub(super) signature: Option<header::HeaderValue>,
    pub(super) body: Bytes,
    /// For everything, from the look-up of the name to the last byte of the response.
    pub(super) timeout: Duration,
}

impl Post<'_> {
    /// Sends it.
    pub(super) async fn send(self, client: &Client) -> Result<HttpResponse, HttpError> {
        let mut request = Request::post(self.url.path.clone())
            .header(header::CONTENT_TYPE, self.content_type)
            .header(header::ACCEPT, "application/json");
        if let Some(signature) = self.signature {
            request = request.header(SIGNATURE_HEADER, signature);
        }
        let request = request
            .body(Full::new(self.body))
            .map_err(|error| HttpError::Protocol { server: self.url.to_string(), why: error.to_string() })?;
        let limits = CallLimits { timeout: self.timeout, body_bytes: MAX_BODY_BYTES };
        client.send(&self.url.server, request, limits).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::stub::{Reply, Stub};

    #[tokio::test]
    async fn a_post_says_what_it_carries_and_is_signed_only_if_it_shall_be() {
        for signature in [None, Some(header::HeaderValue::from_static("t=1,v1=00"))] {
            let stub = Stub::start([Reply::Answer(200, String::new())]).await;
            let url = stub.url("/").parse().unwrap();
            let (content_type, timeout) = ("application/json", Duration::from_secs(5));
            let post = Post { url: &url, content_type, signature: signature.clone(), body: "{}".into(), timeout };
            post.send(&Client::without_tls()).await.unwrap();
            let request = stub.only();
            assert_eq!(request.field("content-type"), Some("application/json"));
            assert_eq!(request.field("weir-signature"), signature.as_ref().map(|value| value.to_str().unwrap()));
        }
    }
}

//! What comes back, and what stands in its place, from receivers that are well, slow, gone, wrong or too eager.

use std::time::Instant;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::stub::{Reply, Stub, refusing};
use super::*;

const MAX_BODY_BYTES: usize = 64 * 1024;

async fn post(client: &Client, url: &str, timeout: u64) -> Result<HttpResponse, HttpError> {
    let url: Url = url.parse()?;
    let request = Request::post(url.path).body(Full::from("{}")).unwrap();
    let limits = CallLimits { timeout: Duration::from_millis(timeout), body_bytes: MAX_BODY_BYTES };
    client.send(&url.server, request, limits).await
}

fn client() -> Client {
    Client::trusting(RootCertStore::empty()).unwrap()
}

#[test]
fn urls_as_people_write_them() {
    let shown = |text: &str| {
        let url = text.parse::<Url>()?;
        let (host, port) = url.server.host_and_port().unwrap();
        Ok((host, port, url.server.host_header().to_owned(), url.path.to_string()))
    };
    let parts = |host: &str, port, authority: &str, path: &str| -> Result<_, BadUrl> {
        Ok((host.to_owned(), port, authority.to_owned(), path.to_owned()))
    };
    assert_eq!(shown("http://a.b"), parts("a.b", 80, "a.b", "/"));
    assert_eq!(shown("https://a/x?y=1"), parts("a", 443, "a", "/x?y=1"));
    assert_eq!(shown("http://[::1]:9090/p/"), parts("::1", 9090, "[::1]:9090", "/p/"));
    assert_eq!(shown("http://a:0x50/"), Err(BadUrl::Syntax));
    assert_eq!(shown("ftp://a/"), Err(BadUrl::Scheme));
    assert_eq!(shown("/a"), Err(BadUrl::Scheme));
    assert_eq!(shown("a b"), Err(BadUrl::Syntax));
    assert_eq!(shown("http://user:secret@a/"), Err(BadUrl::User));
    for port in ["http://a:/", "http://a:99999/"] {
        assert!(shown(port).is_err(), "{port}");
    }
}

#[test]
fn a_url_shows_no_path() {
    let url: Url = "https://hooks.example/services/secret?key=secret".parse().unwrap();
    assert_eq!(format!("{url} {url:?}"), "https://hooks.example https://hooks.example/…");
    assert_eq!(url.join("api/v1").unwrap().path, "/services/secret/api/v1");
}

#[tokio::test]
async fn a_call_and_its_answer() {
    let stub = Stub::start([Reply::Answer(418, "teapot".to_owned())]).await;
    let answer = post(&client(), &stub.url("/a?b=c"), 5_000).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..], answer.truncated), (418, &b"teapot"[..], false));
    let request = stub.only();
    assert!(request.head.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.field("host"), Some(&*format!("127.0.0.1:{}", stub.port())));
    assert_eq!(request.body, b"{}");
}

#[tokio::test]
async fn of_a_large_answer_only_the_beginning_is_kept() {
    for (size, cut) in [(MAX_BODY_BYTES, false), (MAX_BODY_BYTES + 1, true), (4 << 20, true)] {
        let stub = Stub::start([Reply::Answer(200, "x".repeat(size))]).await;
        let answer = post(&client(), &stub.url("/"), 5_000).await.unwrap();
        assert_eq!((answer.body.len(), answer.truncated), (MAX_BODY_BYTES, cut), "of {size} bytes");
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_alone_in_time() {
    for reply in [Reply::Hang, Reply::HangInBody] {
        let stub = Stub::start([reply.clone()]).await;
        let began = Instant::now();
        let error = post(&client(), &stub.url("/"), 100).await.unwrap_err();
        assert!(matches!(error, HttpError::TimedOut { .. }), "{reply:?}: {error}");
        assert!(error.to_string().ends_with("did not answer within 100ms"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}

#[tokio::test]
async fn nobody_there() {
    let error = post(&client(), &refusing().await, 5_000).await.unwrap_err();
    assert!(matches!(&error, HttpError::Unreachable { why, .. } if why.contains("refused")), "{error}");
}

#[tokio::test]
async fn no_answer_at_all_and_one_that_is_no_http() {
    for reply in [Reply::Close, Reply::Raw("hello\r\n\r\n".to_owned())] {
        let stub = Stub::start([reply.clone()]).await;
        let error = post(&client(), &stub.url("/"), 5_000).await.unwrap_err();
        assert!(matches!(error, HttpError::Protocol { .. }), "{reply:?}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let elsewhere = Stub::start([Reply::Answer(200, String::new())]).await;
    for (location, shown) in [(elsewhere.url("/secret"), elsewhere.url("")), ("/secret".into(), "another path".into())]
    {
        let head = format!("HTTP/1.1 307 Over There\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let stub = Stub::start([Reply::Raw(head)]).await;
        let error = post(&client(), &stub.url("/"), 5_000).await.unwrap_err();
        assert_eq!(error, HttpError::Redirected { server: stub.url(""), to: shown });
        assert_eq!(stub.received().len(), 1);
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn tls_to_whom_we_trust_and_to_nobody_else() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    let stub = Stub::start_tls(Reply::Answer(200, "safe".to_owned()), TlsAcceptor::from(Arc::new(server))).await;
    let url = format!("https://localhost:{}/", stub.port());

    let mut roots = RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let answer = post(&Client::trusting(roots).unwrap(), &url, 5_000).await.unwrap();
    assert_eq!(&answer.body[..], b"safe");

    let error = post(&client(), &url, 5_000).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer") && error.contains("SSL_CERT_FILE"), "{error}");
    assert_eq!(stub.received().len(), 1, "nothing is sent to whom we do not trust");
}

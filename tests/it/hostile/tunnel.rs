//! What an endpoint does to an upgrade: what follows a 101 is the tunnel's and nobody else's, and a 101 is believed only
//! for the protocol that was offered.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::raw::connect;
use crate::harness::{Signal, Target, Weir, eventually, within};

/// An endpoint that takes upgrades; the path says how, and what it does to the tunnel once something came through it.
async fn endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

async fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&read).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let upgrade = match path {
        "/other" => "upgrade: foo\r\n",
        "/more" => "upgrade: websocket, foo\r\n",
        "/none" => "",
        _ => "upgrade: WebSocket\r\n",
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\n{upgrade}connection: upgrade\r\ncontent-length: 5\r\nweir-error: x\r\n\r\n"
    );
    socket.write_all(answer.as_bytes()).await?;
    socket.write_all(HELLO).await?;
    // What the client says in the tunnel.
    socket.read_exact(&mut [0; 4]).await?;
    match path {
        "/reset" => socket.set_zero_linger()?,
        "/stay" => while socket.read(&mut [0; 64]).await? > 0 {},
        _ => {}
    }
    Ok(())
}

/// What the endpoint says in the tunnel: it looks like HTTP and must not be taken for it.
const HELLO: &[u8] = b"HTTP/1.1 500 no answer\r\ncontent-length: 0, 1\r\n\r\n";

async fn start(endpoint: &str) -> (Weir, Target) {
    let weir = Weir::start(&format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
telemetry: {{ address: \"127.0.0.1:0\" }}
admin: {{ address: \"{{admin}}\" }}
state: {{ directory: \"{{dir}}/state\" }}
shutdown: {{ deadline: 1s }}
services:
  shop:
    versions: {{ v1: {{ endpoints: [\"{endpoint}\"] }} }}
    timeouts: {{ first_byte: 300ms, idle: 300ms }}
routes:
  - {{ service: shop }}
"
    ))
    .await;
    let web = Target::from(weir.address("web").await);
    (weir, web)
}

/// Asks for an upgrade; the head of the answer, and the connection.
async fn upgrade(web: &Target, path: &str) -> (String, TcpStream) {
    let mut socket = connect(web).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    within("the head is complete", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
    })
    .await;
    (String::from_utf8(head).unwrap(), socket)
}

/// Everything until the end, however it comes.
async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    within("the tunnel ends", async { while let Ok(1..) = socket.read_buf(&mut read).await {} }).await;
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_ours_comes_out_of_a_tunnel() {
    let endpoint = endpoint().await;
    let (weir, web) = start(&endpoint).await;
    for path in ["/reset", "/close", "/none"] {
        let (head, mut socket) = upgrade(&web, path).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        let lower = head.to_ascii_lowercase();
        assert!(!lower.contains("content-length") && !lower.contains("weir-error"), "{path}: {head}");
        socket.write_all(b"ping").await.unwrap();
        let told = rest(&mut socket).await;
        assert_eq!(String::from_utf8_lossy(&told), String::from_utf8_lossy(HELLO), "{path}");
    }
    // Longer than the timeouts, which are not for tunnels, and then cut by the end of the process.
    let (head, mut socket) = upgrade(&web, "/stay").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    socket.write_all(b"ping").await.unwrap();
    let mut hello = vec![0; HELLO.len()];
    within("the endpoint speaks", socket.read_exact(&mut hello)).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(700), socket.read_u8()).await;
    assert!(silent.is_err(), "the tunnel ended: {silent:?}");
    weir.signal(Signal::Term);
    assert_eq!(rest(&mut socket).await, b"", "at the deadline");
    eventually("the process is gone", async || weir.exited().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_to_what_was_not_offered_is_no_answer() {
    let endpoint = endpoint().await;
    let (weir, web) = start(&endpoint).await;
    for path in ["/other", "/more"] {
        let (head, mut socket) = upgrade(&web, path).await;
        assert!(head.starts_with("HTTP/1.1 502 ") && head.contains("protocol"), "{path}: {head}");
        let told = rest(&mut socket).await;
        let told = String::from_utf8_lossy(&told);
        assert!(!told.contains("no answer"), "{path}: {told}");
    }
    weir.stop().await;
}

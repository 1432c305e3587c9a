//! What a client can hold, and for how long. The clock is the test's; sockets are pipes, or loopback where the
//! accept loop is looked at.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// A connection with a pipe of `buffer` bytes; the answer to `/` is `body`.
async fn connected(buffer: usize, body: &'static str) -> (DuplexStream, JoinHandle<()>, watch::Sender<()>) {
    let (client, server) = duplex(buffer);
    let router = Router::new()
        .route("/", get(move || async move { body }))
        .route("/slow", get(std::future::pending::<&'static str>));
    let (stop, stopping) = watch::channel(());
    let task =
        tokio::spawn(connection(Box::pin(server), Arrival::Unix, Arc::new(ConnectionSlot::new()), router, stopping));
    (client, task, stop)
}

fn assert_lasted(began: Instant, time: Duration) {
    let lasted = began.elapsed();
    assert!(lasted >= time && lasted <= time + Duration::from_secs(1), "{lasted:?}");
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let (_client, task, _stop) = connected(1024, "").await;
    let began = Instant::now();
    task.await.unwrap();
    assert_lasted(began, HEADER_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_not_waited_for() {
    let (mut client, task, _stop) = connected(1024, "").await;
    let began = Instant::now();
    let trickle = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nhost: a-host-with-a-long-name\r\n" {
            if client.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(HEADER_TIMEOUT / 10).await;
        }
    });
    task.await.unwrap();
    assert_lasted(began, HEADER_TIMEOUT);
    trickle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answer_is_let_go() {
    let body: &'static str = "x".repeat(1 << 20).leak();
    let (mut client, task, _stop) = connected(64, body).await;
    client.write_all(GET).await.unwrap();
    let began = Instant::now();
    task.await.unwrap();
    assert_lasted(began, WRITE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_for_several_requests_but_not_for_ever() {
    let (mut client, task, _stop) = connected(1024, "answer").await;
    let began = Instant::now();
    let mut answers = 0;
    let mut buffer = [0; 1024];
    while client.write_all(GET).await.is_ok() && client.read(&mut buffer).await.is_ok_and(|read| read > 0) {
        answers += 1;
        sleep(HEADER_TIMEOUT / 2).await;
    }
    task.await.unwrap();
    assert!(answers > 10, "{answers}");
    assert!(began.elapsed() <= MAX_CONNECTION_AGE + CLOSE_TIMEOUT + HEADER_TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_a_503() {
    let (mut client, _task, _stop) = connected(1024, "").await;
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_connections_at_once() {
    let (mut client, task, stop) = connected(1024, "answer").await;
    client.write_all(GET).await.unwrap();
    let mut buffer = [0; 1024];
    assert!(client.read(&mut buffer).await.unwrap() > 0);
    let began = Instant::now();
    drop(stop);
    task.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_served_listener_answers_and_ends_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Router::new().route("/", get(|| async { "answer" }));
    let served = tokio::spawn(serve(AdminListener::Tcp(listener), router, 8, async { drop(stopped.await) }));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(GET).await.unwrap();
    let mut buffer = [0; 1024];
    let read = client.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200 OK"));
    stop.send(()).unwrap();
    served.await.unwrap();
    assert_eq!(client.read(&mut buffer).await.unwrap(), 0, "the idle connection was closed");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// A listener with this many places: `/` answers at once, `/slow` never.
async fn served(places: usize) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router =
        Router::new().route("/", get(|| async { "answer" })).route("/slow", get(std::future::pending::<&'static str>));
    let served = tokio::spawn(serve(AdminListener::Tcp(listener), router, places, std::future::pending()));
    (address, served)
}

async fn ask(address: std::net::SocketAddr) -> String {
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn whoever_is_idle_the_longest_goes_for_whoever_comes() {
    let (address, served) = served(4).await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        assert!(ask(address).await.starts_with("HTTP/1.1 200 "));
    }
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).await.unwrap(), 0, "the first to be idle is the first to go");
    served.abort();
}

#[tokio::test]
async fn a_request_that_is_being_answered_is_not_cut_for_another() {
    let (address, served) = served(2).await;
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        assert!(ask(address).await.starts_with("HTTP/1.1 200 "));
    }
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(1), slow.read(&mut byte)).await.is_err(), "it still waits for its answer");
    served.abort();
}

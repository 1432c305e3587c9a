//! Pool poisoning: an origin that answers before it reads the body, and then takes the body for the next request.
//!
//! Its answer to the body must never reach another client (request smuggling of the kind "0.CL").

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::raw;
use crate::harness::Fixture as _;
use crate::harness::{H1, H2, Origin, Request, Target, Weir, eventually, shop};

/// An origin that knows no bodies: every head is answered at once, and what follows is the next head. Of each answer it
/// may send the status line first, and the rest `apart` later.
struct Bodyless {
    address: std::net::SocketAddr,
    counted: Arc<Counted>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Counted {
    /// Requests that were a body.
    smuggled: AtomicUsize,
    /// Answers to attackers that were begun, in pieces.
    begun: AtomicUsize,
}

impl Bodyless {
    async fn start(apart: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counted = Arc::<Counted>::default();
        let counter = Arc::clone(&counted);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                // It ends with the connection.
                tokio::spawn(serve(socket, Arc::clone(&counter), apart));
            }
        });
        Self { address, counted, accepting }
    }
}

impl Drop for Bodyless {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut socket: TcpStream, counted: Arc<Counted>, apart: Duration) -> Option<()> {
    let mut read = Vec::new();
    // Answers leave together where their requests came together: one that comes any time later, on a connection that
    // has been idle since, is beyond what a proxy can know.
    let mut answers = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
            socket.write_all(&std::mem::take(&mut answers)).await.ok()?;
            read.reserve(256 * 1024);
            if socket.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
            continue;
        };
        let head = String::from_utf8_lossy(&read.drain(..end).collect::<Vec<u8>>()).into_owned();
        let nonce = head.lines().find_map(|line| line.strip_prefix("x-nonce: ")).unwrap_or("none").to_owned();
        if head.contains("/poison") {
            counted.smuggled.fetch_add(1, Ordering::SeqCst);
            if !apart.is_zero() {
                // Late enough that the connection looks idle when the next client's request takes it.
                tokio::time::sleep(apart).await;
            }
        }
        let rest = format!("x-nonce: {nonce}\r\ncontent-length: 2\r\n\r\nok");
        if apart.is_zero() {
            answers.extend_from_slice(format!("HTTP/1.1 200 OK\r\n{rest}").as_bytes());
        } else {
            socket.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            counted.begun.fetch_add(usize::from(head.contains("/attack")), Ordering::SeqCst);
            tokio::time::sleep(apart).await;
            socket.write_all(rest.as_bytes()).await.ok()?;
        }
    }
}

/// A request to be taken for the body: small, and so large that it is sent as it comes. The last part comes after the
/// pause.
fn poison(large: bool) -> (String, &'static str) {
    let head = "GET /poison HTTP/1.1\r\nhost: shop.test\r\nx-nonce: poison";
    if large { (format!("{head}\r\nx-pad: {}", "x".repeat(70_000)), "\r\n\r\n") } else { (String::new(), POISON) }
}

const POISON: &str = "GET /poison HTTP/1.1\r\nhost: shop.test\r\nx-nonce: poison\r\n\r\n";

/// Between the attacker's head and its body: from one packet to far after the origin's answer.
const DELAYS: [u64; 10] = [0, 0, 1, 1, 2, 3, 5, 10, 25, 60];

async fn attack_h1(web: &Target, pause: impl Future<Output = ()>, (chunked, large): (bool, bool), patience: Duration) {
    let (first, last) = poison(large);
    let framing = if chunked {
        "transfer-encoding: chunked".to_owned()
    } else {
        format!("content-length: {}", first.len() + last.len())
    };
    let head = format!("POST /attack HTTP/1.1\r\nhost: shop.test\r\nx-nonce: attacker\r\n{framing}\r\n\r\n");
    let framed = |part: &str, end: &str| {
        let chunk = if part.is_empty() { String::new() } else { format!("{:x}\r\n{part}\r\n", part.len()) };
        if chunked { format!("{chunk}{end}") } else { part.to_owned() }
    };
    let mut socket = raw::connect(web).await;
    socket.write_all(format!("{head}{}", framed(&first, "")).as_bytes()).await.unwrap();
    pause.await;
    // It may be closed by now, which is one right answer.
    socket.write_all(framed(last, "0\r\n\r\n").as_bytes()).await.ok();
    let mut answer = [0; 4096];
    tokio::time::timeout(patience, socket.read(&mut answer)).await.ok();
}

async fn attack_h2(h2: &H2, pause: impl Future<Output = ()>, large: bool, patience: Duration) {
    let (first, last) = poison(large);
    let mut stream = h2.open(&Request::post("/attack", "").chunked().nonce("attacker")).await;
    stream.write(first).await.ok();
    pause.await;
    if stream.write(last).await.is_ok() {
        stream.finish();
        tokio::time::timeout(patience, stream.piece()).await.ok();
    }
}

async fn victim(web: &Target, h1: &mut H1, nonce: &str) {
    let response = h1.send(&Request::get("/").nonce(nonce)).await;
    assert_eq!((response.status, response.header("x-nonce")), (200, nonce), "an answer that is not its own");
    if response.announced_close {
        *h1 = H1::connect(web).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_always_gets_its_own_answer() {
    attack(400, Duration::ZERO).await;
}

/// The attacker's body may be complete when only the beginning of an early answer is here.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_in_pieces_is_early_all_the_same() {
    attack(30, Duration::from_millis(60)).await;
}

async fn attack(rounds: usize, apart: Duration) {
    let bodyless = Bodyless::start(apart).await;
    let place = Origin::plan("v1").down();
    let yaml = shop(&[(&place, 100.0)]).changed(&place.address().to_string(), &bodyless.address.to_string());
    let weir = Weir::start(&yaml).await;
    let web = Target::from(weir.address("web").await);
    let mut victims = [H1::connect(&web).await, H1::connect(&web).await];
    let mut attacker = H2::connect(&web).await;
    for round in 0..rounds {
        let delay = Duration::from_millis(DELAYS[round % DELAYS.len()]);
        if !attacker.is_open() {
            attacker = H2::connect(&web).await;
        }
        let begun = || bodyless.counted.begun.load(Ordering::SeqCst);
        let before = begun();
        // An answer in pieces is waited for, so that its connection is not given up.
        let patience = Duration::from_millis(2) + apart * 10;
        let pause = async {
            if apart.is_zero() {
                tokio::time::sleep(delay).await;
            } else {
                eventually("an answer began", async || begun() > before).await;
            }
        };
        let attack = async {
            // An answer to a part of a request is possible only where the body is sent as it comes.
            let large = !apart.is_zero() || round % 20 < 10;
            match round / DELAYS.len() % 3 {
                0 => attack_h1(&web, pause, (false, large), patience).await,
                1 => attack_h1(&web, pause, (true, large), patience).await,
                _ => attack_h2(&attacker, pause, large, patience).await,
            }
        };
        let [first, second] = &mut victims;
        // One beside the attack, both after it.
        let beside = format!("beside-{round}");
        tokio::join!(attack, victim(&web, first, &beside));
        tokio::join!(
            async {
                for turn in 0..2 {
                    victim(&web, first, &format!("first-{round}-{turn}")).await;
                }
            },
            async {
                for turn in 0..2 {
                    victim(&web, second, &format!("second-{round}-{turn}")).await;
                }
            }
        );
    }
    let smuggled = bodyless.counted.smuggled.load(Ordering::SeqCst);
    eprintln!("{rounds} attacks, {smuggled} bodies taken for requests");
    assert!(smuggled > 0, "the attack is real");
    weir.stop().await;
}

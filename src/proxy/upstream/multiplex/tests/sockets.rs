//! Whole connections on loopback sockets.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::peer::{Peer, code, echo, head, ok, trailers, within};
use crate::model::Address;
use crate::proxy::codec::frame::{self, ErrorCode, kind, setting};
use crate::proxy::upstream::Pools;
use crate::proxy::upstream::destination::Destination;
use crate::proxy::upstream::error::ConnectError;
use crate::proxy::upstream::multiplex::acquire;
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::proxy::upstream::multiplex::slot::{Event, Opening};
use crate::proxy::upstream::multiplex::stream::Stream;
use crate::proxy::upstream::tests::{PLAIN, destination, listen};
use crate::snapshot::Upstream;

const H2: Upstream = Upstream { http2: true, ..PLAIN };
const GET: Opening = Opening { ends: true, head: false };
const POST: Opening = Opening { ends: false, head: false };

fn to(address: &Address) -> Destination {
    destination(address, "v1:80", H2)
}

fn open(stream: &mut Stream, opening: Opening) -> Result<(), StreamFailure> {
    stream.open(opening, |encoder, block| {
        encoder.request(if opening.ends { "GET" } else { "POST" }, "http", b"shop.test", b"/", block);
        encoder.field(b"x-wish", b"tea", block);
    })
}

async fn started(pools: &Pools, to: &Destination, opening: Opening) -> Stream {
    let mut stream = within(acquire(pools, to, false)).await.unwrap();
    open(&mut stream, opening).unwrap();
    stream
}

async fn event(stream: &mut Stream) -> Result<Event, StreamFailure> {
    within(poll_fn(|cx| stream.poll_event(cx))).await
}

fn status(stream: &Stream) -> Option<u16> {
    stream.fields().and_then(|fields| fields.status())
}

/// Sends `body` and trailers and reads the whole answer, at once: its body, and whether trailers came.
async fn exchange(stream: &mut Stream, body: &[u8]) -> Result<(Vec<u8>, bool), StreamFailure> {
    let (mut sent, mut ended, mut received) = (0, false, Vec::new());
    within(poll_fn(|cx| {
        while sent < body.len() {
            match stream.poll_send(cx, &body[sent..], false) {
                Poll::Ready(taken) => sent += taken?,
                Poll::Pending => break,
            }
        }
        if sent == body.len() && !std::mem::replace(&mut ended, true) {
            stream.send_trailers(|encoder, block| encoder.field(b"grpc-status", b"7", block))?;
        }
        loop {
            match std::task::ready!(stream.poll_event(cx))? {
                Event::Data => {
                    stream.read(|bytes| {
                        received.extend_from_slice(bytes);
                        bytes.len()
                    });
                }
                Event::Trailers => return Poll::Ready(Ok((std::mem::take(&mut received), true))),
                Event::End => return Poll::Ready(Ok((std::mem::take(&mut received), false))),
                Event::Informational | Event::Head { .. } => {}
            }
        }
    }))
    .await
}

/// An endpoint of the `h2` crate, and how many connections it has.
async fn echoing(builder: h2::server::Builder) -> (Address, tokio::task::JoinHandle<()>) {
    let (listener, address) = listen().await;
    (address, tokio::spawn(echo(listener, builder)))
}

/// How many connections a pool has to this endpoint.
fn connections(pools: &Pools, to: &Destination) -> usize {
    pools.multiplex.connections_to(to.key)
}

#[tokio::test]
async fn a_thousand_requests_a_hundred_at_once_are_answered_on_one_connection() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(100);
    let (address, serving) = echoing(builder).await;
    let (pools, to) = (Arc::new(Pools::default()), Arc::new(to(&address)));
    let answered = Arc::new(AtomicUsize::new(0));
    // The first says how many there may be at once.
    exchange(&mut started(&pools, &to, POST).await, b"first").await.unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..100 {
        let (pools, to, answered) = (Arc::clone(&pools), Arc::clone(&to), Arc::clone(&answered));
        clients.spawn(async move {
            for request in 0..10 {
                let body = format!("{client} {request}").repeat(1 + client % 50);
                let mut stream = started(&pools, &to, POST).await;
                assert!(stream.is_reused());
                let (echoed, trailers) = exchange(&mut stream, body.as_bytes()).await.unwrap();
                assert_eq!(String::from_utf8(echoed).unwrap(), body);
                assert!(trailers);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert_eq!(answered.load(Ordering::SeqCst), 1000);
    assert_eq!(connections(&pools, &to), 1);
    serving.abort();
}

#[tokio::test]
async fn a_burst_of_first_requests_shares_a_connection_and_all_are_answered() {
    let (address, serving) = echoing(h2::server::Builder::new()).await;
    let (pools, to) = (Pools::default(), to(&address));
    let all = (0..90).map(|_| async {
        let mut stream = started(&pools, &to, POST).await;
        exchange(&mut stream, b"order").await.unwrap().0
    });
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|body| body == b"order"));
    assert_eq!(connections(&pools, &to), 1);
    serving.abort();
}

#[tokio::test]
async fn large_bodies_pass_both_ways_through_small_windows() {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1_000).initial_connection_window_size(70_000).max_concurrent_streams(10);
    let (address, serving) = echoing(builder).await;
    let (pools, to) = (Pools::default(), to(&address));
    let bodies: Vec<Vec<u8>> =
        (0..8_u8).map(|n| (0..700_000_u32).map(|at| n ^ at.to_le_bytes()[1]).collect()).collect();
    let (shared, endpoint) = (&pools, &to);
    let all = bodies.iter().map(|body| async move {
        let mut stream = started(shared, endpoint, POST).await;
        assert!(exchange(&mut stream, body).await.unwrap().0 == *body);
    });
    futures_util::future::join_all(all).await;
    assert_eq!(connections(&pools, &to), 1);
    serving.abort();
}

#[tokio::test]
async fn an_endpoint_that_takes_two_streams_gets_more_connections() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let (address, serving) = echoing(builder).await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut streams = Vec::new();
    for _ in 0..6 {
        let mut stream = started(&pools, &to, POST).await;
        assert_eq!(event(&mut stream).await, Ok(Event::Head { end: false }));
        assert_eq!(status(&stream), Some(200));
        streams.push(stream);
    }
    assert_eq!(connections(&pools, &to), 3);
    assert!(pools.multiplex.try_acquire(to.key).is_none());
    drop(streams.pop());
    assert!(pools.multiplex.try_acquire(to.key).is_some_and(|stream| stream.is_reused()));
    serving.abort();
}

#[tokio::test]
async fn a_fresh_stream_is_the_first_of_its_connection() {
    let (address, serving) = echoing(h2::server::Builder::new()).await;
    let (pools, to) = (Pools::default(), to(&address));
    drop(started(&pools, &to, GET).await);
    let fresh = within(acquire(&pools, &to, true)).await.unwrap();
    assert!(!fresh.is_reused());
    assert_eq!(connections(&pools, &to), 2);
    serving.abort();
}

#[tokio::test]
async fn all_who_waited_for_a_connection_hear_that_there_is_none() {
    let (listener, address) = listen().await;
    drop(listener);
    let (pools, to) = (Pools::default(), to(&address));
    let all = futures_util::future::join_all((0..20).map(|_| acquire(&pools, &to, false))).await;
    assert!(all.iter().all(|one| matches!(one, Err(ConnectError::Refused))));
}

#[tokio::test]
async fn who_does_not_speak_http_2_is_told_so() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut stream = started(&pools, &to, GET).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    // The first stream lives by real SETTINGS; what comes then are no frames.
    peer.next(kind::HEADERS).await.unwrap();
    peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(event(&mut stream).await, Err(StreamFailure::Protocol));
    assert_eq!(code(&peer.next(kind::GOAWAY).await.unwrap()), ErrorCode::FRAME_SIZE_ERROR);
    assert!(peer.ends().await);
}

#[tokio::test]
async fn a_connection_that_goes_away_in_two_steps_loses_nothing() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut first = started(&pools, &to, GET).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    peer.next(kind::HEADERS).await.unwrap();
    peer.send(|out| ok(out, 1)).await;
    assert_eq!(event(&mut first).await, Ok(Event::Head { end: true }));
    let (mut second, mut third) = (started(&pools, &to, POST).await, started(&pools, &to, POST).await);
    for _ in 0..2 {
        peer.next(kind::HEADERS).await.unwrap();
    }
    peer.send(|out| frame::go_away(out, u32::MAX >> 1, ErrorCode::NO_ERROR)).await;
    // From the announcement on, others go elsewhere.
    let told = async {
        while pools.multiplex.try_acquire(to.key).is_some() {
            tokio::task::yield_now().await
        }
    };
    within(told).await;
    peer.send(|out| {
        frame::go_away(out, 3, ErrorCode::NO_ERROR);
        ok(out, 3);
    })
    .await;
    assert_eq!(event(&mut second).await, Ok(Event::Head { end: true }));
    assert_eq!(event(&mut third).await, Err(StreamFailure::Unprocessed));
    let send = within(poll_fn(|cx| third.poll_send(cx, b"x", true))).await;
    assert_eq!(send, Err(StreamFailure::Unprocessed));
    drop((first, second, third));
    assert!(peer.ends().await, "the last one over, it closes");
    within(async {
        while connections(&pools, &to) > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn a_reset_keeps_its_code_and_what_came_before_it() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut first = started(&pools, &to, GET).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    peer.next(kind::HEADERS).await.unwrap();
    peer.send(|out| {
        frame::header_frames(out, 1, false, &head(200, &[]), 100);
        frame::data(out, 1, false, b"some");
        frame::reset(out, 1, ErrorCode::INTERNAL_ERROR);
    })
    .await;
    assert_eq!(event(&mut first).await, Ok(Event::Head { end: false }));
    assert_eq!(event(&mut first).await, Ok(Event::Data));
    assert_eq!(first.read(<[u8]>::len), 4);
    assert_eq!(event(&mut first).await, Err(StreamFailure::Reset(ErrorCode::INTERNAL_ERROR)));
    // A refusal is only one before the head.
    for (answered, failure) in
        [(false, StreamFailure::Unprocessed), (true, StreamFailure::Reset(ErrorCode::REFUSED_STREAM))]
    {
        let mut stream = started(&pools, &to, GET).await;
        let id = peer.next(kind::HEADERS).await.unwrap().0.stream;
        peer.send(|out| {
            if answered {
                frame::header_frames(out, id, false, &head(200, &[]), 100);
            }
            frame::reset(out, id, ErrorCode::REFUSED_STREAM);
        })
        .await;
        if answered {
            assert_eq!(event(&mut stream).await, Ok(Event::Head { end: false }));
        }
        assert_eq!(event(&mut stream).await, Err(failure));
    }
    drop(first);
    assert_eq!(connections(&pools, &to), 1, "it carries on");
}

#[tokio::test]
async fn an_endpoint_that_wants_no_more_has_answered() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut stream = started(&pools, &to, POST).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    peer.next(kind::HEADERS).await.unwrap();
    // The window is 65,535: the rest waits.
    let mut sent = 0;
    while sent < 65_535 {
        sent += within(poll_fn(|cx| stream.poll_send(cx, &[7; 100_000][sent..], true))).await.unwrap();
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(stream.poll_send(&mut cx, &[7; 34_465], true).is_pending());
    peer.send(|out| {
        frame::header_frames(out, 1, false, &head(200, &[("content-length", "2")]), 100);
        frame::data(out, 1, true, b"no");
        frame::reset(out, 1, ErrorCode::NO_ERROR);
    })
    .await;
    let sent = within(poll_fn(|cx| stream.poll_send(cx, &[7; 34_465], true))).await;
    assert_eq!(sent, Ok(34_465), "taken and dropped");
    assert!(stream.wants_no_more());
    assert_eq!(event(&mut stream).await, Ok(Event::Head { end: false }));
    assert!(!stream.ends());
    assert_eq!(event(&mut stream).await, Ok(Event::Data));
    assert_eq!(stream.read(<[u8]>::len), 2);
    assert!(stream.ends());
    assert_eq!(event(&mut stream).await, Ok(Event::End));
}

#[tokio::test]
async fn a_head_in_many_pieces_is_one_and_a_huge_one_costs_its_stream_only() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut peer = None;
    for (fields, fits) in [(600, true), (1_300, false), (1, true)] {
        let mut stream = started(&pools, &to, GET).await;
        let peer = match &mut peer {
            Some(peer) => peer,
            none => none.insert(Peer::accept(&listener, &[]).await),
        };
        let id = peer.next(kind::HEADERS).await.unwrap().0.stream;
        let value = "v".repeat(100);
        let block = head(200, &vec![("name", &*value); fields]);
        peer.send(|out| frame::header_frames(out, id, true, &block, 5_000)).await;
        if fits {
            assert_eq!(event(&mut stream).await, Ok(Event::Head { end: true }));
            assert_eq!(stream.fields().unwrap().iter().count(), fields);
        } else {
            assert_eq!(event(&mut stream).await, Err(StreamFailure::Protocol));
        }
    }
    assert_eq!(connections(&pools, &to), 1);
}

#[tokio::test]
async fn who_leaves_resets_its_stream_and_no_other() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut stays = started(&pools, &to, GET).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    peer.next(kind::HEADERS).await.unwrap();
    let leaves = started(&pools, &to, POST).await;
    let id = peer.next(kind::HEADERS).await.unwrap().0.stream;
    drop(leaves);
    let reset = peer.next(kind::RST_STREAM).await.unwrap();
    assert_eq!((reset.0.stream, code(&reset)), (id, ErrorCode::CANCEL));
    // What was on its way then is nobody's, and counts.
    peer.send(|out| {
        frame::header_frames(out, id, false, &head(200, &[]), 100);
        frame::data(out, id, true, b"late");
        frame::header_frames(out, 1, false, &head(200, &[]), 100);
        frame::header_frames(out, 1, true, &trailers(&[("grpc-status", "0")]), 100);
    })
    .await;
    assert_eq!(event(&mut stays).await, Ok(Event::Head { end: false }));
    assert_eq!(event(&mut stays).await, Ok(Event::Trailers));
    assert_eq!(stays.fields().and_then(|fields| fields.iter().next()).map(|field| field.value), Some(&b"0"[..]));
    drop(stays);
    // One that has ended both ways needs no reset.
    let mut next = started(&pools, &to, GET).await;
    let (head, _) = within(peer.frame()).await.unwrap();
    assert_eq!(head.kind, kind::HEADERS);
    peer.send(|out| ok(out, head.stream)).await;
    assert_eq!(event(&mut next).await, Ok(Event::Head { end: true }));
}

#[tokio::test]
async fn a_lost_connection_breaks_what_was_sent() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut sent = started(&pools, &to, GET).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    peer.next(kind::HEADERS).await.unwrap();
    drop(peer);
    assert_eq!(event(&mut sent).await, Err(StreamFailure::Broken));
    // Its place is on a connection that is gone: that is no request.
    assert_eq!(open(&mut sent, GET), Err(StreamFailure::Unprocessed));
    drop(sent);
    assert_eq!(connections(&pools, &to), 0);
}

#[tokio::test]
async fn an_idle_connection_ends_in_time_and_at_once_in_a_drain() {
    for drained in [false, true] {
        let (listener, address) = listen().await;
        let (pools, to) = (Pools::default(), to(&address));
        let mut stream = started(&pools, &to, GET).await;
        let mut peer = Peer::accept(&listener, &[]).await;
        peer.next(kind::HEADERS).await.unwrap();
        peer.send(|out| ok(out, 1)).await;
        assert_eq!(event(&mut stream).await, Ok(Event::Head { end: true }));
        let start = Instant::now();
        for second in 0..10 {
            pools.sweep_at(start + Duration::from_secs(second));
        }
        assert!(pools.multiplex.try_acquire(to.key).is_some(), "it is in use");
        drop(stream);
        if drained {
            to.live.set_accepting(false);
        } else {
            pools.sweep_at(start);
            pools.sweep_at(start + to.idle_timeout - Duration::from_millis(1));
            assert!(pools.multiplex.try_acquire(to.key).is_some(), "it is not due");
            // That was a use of it.
            pools.sweep_at(start + to.idle_timeout);
            pools.sweep_at(start + to.idle_timeout * 2);
        }
        assert!(peer.ends().await);
        within(async {
            while connections(&pools, &to) > 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
        assert!(pools.multiplex.try_acquire(to.key).is_none());
    }
}

#[tokio::test]
async fn a_silent_endpoint_is_asked_once_and_taken_for_dead_in_the_end() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut stream = started(&pools, &to, GET).await;
    let mut peer = Peer::accept(&listener, &[]).await;
    peer.next(kind::HEADERS).await.unwrap();
    let start = Instant::now();
    // Its SETTINGS may be read between two looks, and then count as a word.
    let mut second = 0;
    let asked = async {
        loop {
            pools.sweep_at(start + Duration::from_secs(second));
            second += 1;
            tokio::select! {
                biased;
                ping = peer.next(kind::PING) => return ping.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    assert_eq!(within(asked).await.0.flags, 0);
    assert!(second >= 20, "{second}");
    pools.sweep_at(start + Duration::from_secs(second + 11));
    assert!(pools.multiplex.try_acquire(to.key).is_none(), "it gets no more requests");
    pools.sweep_at(start + Duration::from_secs(second + 61));
    assert_eq!(event(&mut stream).await, Err(StreamFailure::Broken));
    assert!(peer.next(kind::PING).await.is_none());
}

#[tokio::test]
async fn an_endpoint_that_ends_connections_after_some_requests_gets_no_more_on_one() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    for connection in 0..3 {
        let mut streams = Vec::new();
        for at in 0..2 {
            let mut stream = started(&pools, &to, GET).await;
            // From the second connection on it is known before it is told.
            let known = pools.multiplex.is_retired(to.key);
            assert_eq!(known, connection > 0 && at == 1, "connection {connection}");
            if streams.is_empty() {
                assert!(!stream.is_reused(), "connection {connection}");
                streams.push((stream, Some(Peer::accept(&listener, &[]).await)));
                continue;
            }
            let peer = streams[0].1.as_mut().unwrap();
            for _ in 0..2 {
                peer.next(kind::HEADERS).await.unwrap();
            }
            peer.send(|out| {
                ok(out, 1);
                frame::go_away(out, 3, ErrorCode::NO_ERROR);
                ok(out, 3);
            })
            .await;
            assert_eq!(event(&mut stream).await, Ok(Event::Head { end: true }));
            streams.push((stream, None));
        }
        assert_eq!(event(&mut streams[0].0).await, Ok(Event::Head { end: true }));
        assert!(pools.multiplex.try_acquire(to.key).is_none());
    }
}

#[tokio::test]
async fn a_stream_takes_its_turn_when_many_wait_for_the_connection() {
    let (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    let mut large = started(&pools, &to, POST).await;
    let mut peer = Peer::accept(&listener, &[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    peer.next(kind::HEADERS).await.unwrap();
    let mut small = started(&pools, &to, POST).await;
    peer.next(kind::HEADERS).await.unwrap();
    // All of the connection's window goes to the one, the other waits.
    let mut sent = 0;
    while sent < 65_535 {
        sent += within(poll_fn(|cx| large.poll_send(cx, &[1; 1 << 17], false))).await.unwrap();
    }
    let both = async {
        let hungry = async {
            loop {
                within(poll_fn(|cx| large.poll_send(cx, &[1; 1 << 17], false))).await.unwrap();
            }
        };
        tokio::select! {
            () = hungry => {}
            sent = poll_fn(|cx| small.poll_send(cx, b"small", true)) => assert_eq!(sent, Ok(5)),
        }
    };
    let serve = async {
        loop {
            let (head, _) = peer.frame().await.unwrap();
            if head.kind == kind::DATA && head.length > 0 {
                let back = u32::try_from(head.length).unwrap();
                peer.send(|out| frame::window_update(out, 0, back)).await;
            }
        }
    };
    tokio::select! {
        () = within(both) => {}
        () = serve => {}
    }
}

#[tokio::test]
async fn waiting_for_a_connection_is_bounded_by_the_time_to_connect() {
    let listener: TcpListener;
    let address;
    (listener, address) = listen().await;
    let (pools, to) = (Pools::default(), to(&address));
    // The kernel accepts; nobody sends SETTINGS. So one may go, and those who wait for more make their own connections.
    let streams = futures_util::future::join_all((0..5).map(|_| acquire(&pools, &to, false)));
    let streams = within(streams).await;
    assert!(streams.iter().all(Result::is_ok));
    assert_eq!(connections(&pools, &to), 5);
    drop(listener);
}

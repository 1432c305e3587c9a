//! A connection frame by frame, without a socket.

use std::sync::Arc;
use std::task::{Poll, Waker};

use proptest::prelude::*;

use super::peer::{head, trailers};
use crate::proxy::codec::frame::{self, ErrorCode, Frame, FrameHead, setting};
use crate::proxy::io::buffer::Buffer;
use crate::proxy::upstream::multiplex::failure::StreamFailure;
use crate::proxy::upstream::multiplex::settings::{
    CONNECTION_WINDOW, DEFAULT_WINDOW, LARGEST_WINDOW, OUTPUT, STREAM_WINDOW,
};
use crate::proxy::upstream::multiplex::sharing::Sharing;
use crate::proxy::upstream::multiplex::slot::{Event, Opening};
use crate::proxy::upstream::multiplex::state::State;

const GET: Opening = Opening { ends: true, head: false };
const POST: Opening = Opening { ends: false, head: false };
const HEAD: Opening = Opening { ends: true, head: true };

/// A connection that heard these SETTINGS, and said its own.
fn settled(entries: &[(u16, u32)]) -> State {
    let mut state = State::new(Arc::<Sharing>::default());
    came(&mut state, |out| frame::settings(out, entries)).unwrap();
    state.out.clear();
    state
}

/// What `write` writes comes from the endpoint.
fn came(state: &mut State, write: impl FnOnce(&mut Buffer)) -> Result<(), ErrorCode> {
    let mut out = Buffer::default();
    write(&mut out);
    let mut rest = out.data();
    while let Some(head) = FrameHead::read(rest) {
        let (frame, after) = rest.split_at(FrameHead::SIZE + head.length);
        state.frame(&head, &frame[FrameHead::SIZE..])?;
        rest = after;
    }
    Ok(())
}

fn open(state: &mut State, opening: Opening) -> usize {
    assert!(state.reserve());
    state.open(opening, |encoder, block| encoder.request("GET", "http", b"shop.test", b"/", block)).unwrap()
}

/// What comes next on a stream.
fn next(state: &mut State, at: usize) -> Option<Result<Event, StreamFailure>> {
    Some(state.streams.at(at)?.next()?.map(|(event, _)| event))
}

fn send(state: &mut State, at: usize, bytes: &[u8], end: bool) -> Option<usize> {
    match state.send(at, Waker::noop(), bytes, end) {
        Poll::Ready(sent) => Some(sent.unwrap()),
        Poll::Pending => None,
    }
}

/// What was said since the last time: the head of each frame, and its number if it is one.
fn said(state: &mut State) -> Vec<(FrameHead, u32)> {
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::read(state.out.data()) {
        let payload = &state.out.data()[FrameHead::SIZE..FrameHead::SIZE + head.length];
        let number = match Frame::parse(&head, payload).unwrap() {
            Frame::WindowUpdate { increment } => increment,
            Frame::Reset { code } => code.0,
            _ => 0,
        };
        frames.push((head, number));
        state.out.consume(FrameHead::SIZE + head.length);
    }
    frames
}

/// The codes of resets that were said since the last time.
fn resets(state: &mut State) -> Vec<ErrorCode> {
    let resets = said(state).into_iter().filter(|(head, _)| head.kind == frame::kind::RST_STREAM);
    resets.map(|(_, code)| ErrorCode(code)).collect()
}

/// The parts of an answer.
#[derive(Clone, Copy)]
enum Part {
    /// A section, and whether it ends the stream.
    Head(u16, &'static [(&'static str, &'static str)], bool),
    Trailers(&'static [(&'static str, &'static str)], bool),
    Data(usize, bool),
}

fn answer(state: &mut State, stream: u32, parts: &[Part]) {
    for part in parts {
        came(state, |out| match part {
            Part::Head(status, fields, end) => frame::header_frames(out, stream, *end, &head(*status, fields), 100),
            Part::Trailers(fields, end) => frame::header_frames(out, stream, *end, &trailers(fields), 100),
            Part::Data(length, end) => frame::data(out, stream, *end, &vec![b'x'; *length]),
        })
        .unwrap();
    }
}

/// Reads all that waits of an answer.
fn read(state: &mut State, at: usize) -> usize {
    state.read(at, |bytes| (bytes.len(), LARGEST_WINDOW)).0
}

/// Reads an answer to its end: the bytes of its body, or why it failed.
fn outcome(state: &mut State, at: usize) -> Result<usize, StreamFailure> {
    let mut body = 0;
    loop {
        match next(state, at).expect("an end")? {
            Event::Data => body += read(state, at),
            Event::Trailers | Event::End => return Ok(body),
            Event::Head { .. } | Event::Informational => {}
        }
    }
}

#[test]
fn sound_answers_are_read() {
    use Part::{Data, Head, Trailers};
    let length = |parts: &[Part], opening| {
        let mut state = settled(&[]);
        let at = open(&mut state, opening);
        answer(&mut state, 1, parts);
        let outcome = outcome(&mut state, at);
        assert_eq!(resets(&mut state), []);
        outcome
    };
    assert_eq!(length(&[Head(204, &[], true)], GET), Ok(0));
    assert_eq!(length(&[Head(103, &[("link", "a")], false), Head(200, &[], false), Data(3, true)], GET), Ok(3));
    assert_eq!(length(&[Head(200, &[("content-length", "3")], false), Data(1, false), Data(2, true)], GET), Ok(3));
    assert_eq!(
        length(&[Head(200, &[("content-length", "3"), ("content-length", "03")], false), Data(3, true)], GET),
        Ok(3)
    );
    assert_eq!(length(&[Head(200, &[("content-length", "3")], true)], HEAD), Ok(0));
    assert_eq!(length(&[Head(304, &[("content-length", "3")], true)], GET), Ok(0));
    let trailers = Trailers(&[("grpc-status", "0")], true);
    assert_eq!(length(&[Head(200, &[], false), Data(5, false), trailers], GET), Ok(5));
    assert_eq!(length(&[Head(200, &[("content-length", "5")], false), Data(5, false), trailers], GET), Ok(5));
    assert_eq!(length(&[Head(200, &[], false), trailers], GET), Ok(0));
    assert_eq!(length(&[Head(200, &[], false), Data(0, false), Data(0, true)], GET), Ok(0));
}

#[test]
fn malformed_answers_are_errors_of_their_stream() {
    use Part::{Data, Head, Trailers};
    let ok = Head(200, &[], false);
    for (at, (parts, opening)) in [
        (&[Data(1, false)][..], GET),
        (&[Data(0, true)], GET),
        (&[Trailers(&[("a", "b")], true)], GET),
        (&[Head(101, &[], false)], GET),
        (&[Head(103, &[], true)], GET),
        (&[Trailers(&[(":status", "abc")], true)], GET),
        (&[Trailers(&[(":status", "99")], true)], GET),
        (&[Trailers(&[(":status", "1000")], true)], GET),
        (&[Head(200, &[(":status", "200")], true)], GET),
        (&[Head(200, &[(":path", "/")], true)], GET),
        (&[Head(200, &[("X", "")], true)], GET),
        (&[Head(200, &[("a", "\0")], true)], GET),
        (&[Head(200, &[("connection", "close")], true)], GET),
        (&[Head(200, &[("content-length", "1")], true)], GET),
        (&[Head(200, &[("content-length", "x")], false)], GET),
        (&[Head(200, &[("content-length", "")], false)], GET),
        (&[Head(200, &[("content-length", "1, 1")], false)], GET),
        (&[Head(200, &[("content-length", "1"), ("content-length", "2")], false)], GET),
        (&[Head(200, &[("content-length", "1")], false), Data(2, true)], GET),
        (&[Head(200, &[("content-length", "3")], false), Data(2, true)], GET),
        (&[Head(200, &[("content-length", "3")], false), Data(2, false), Trailers(&[], true)], GET),
        (&[Head(204, &[], false), Data(1, true)], GET),
        (&[Head(200, &[], false), Data(1, true)], HEAD),
        (&[ok, Trailers(&[("a", "b")], false)], GET),
        (&[ok, Head(200, &[], true)], GET),
        (&[ok, Trailers(&[("content-length", "5")], true)], GET),
        (&[ok, Trailers(&[("X", "b")], true)], GET),
    ]
    .into_iter()
    .enumerate()
    {
        let mut state = settled(&[]);
        let place = open(&mut state, opening);
        state.out.clear();
        answer(&mut state, 1, parts);
        assert_eq!(outcome(&mut state, place), Err(StreamFailure::Protocol), "malformed {at}");
        assert_eq!(resets(&mut state), [ErrorCode::PROTOCOL_ERROR], "malformed {at}");
        // The next is read by the same tables.
        let place = open(&mut state, GET);
        answer(&mut state, 3, &[Head(200, &[("content-length", "2")], false), Data(2, true)]);
        assert_eq!(outcome(&mut state, place), Ok(2), "after malformed {at}");
    }
}

#[test]
fn what_comes_after_the_end_is_an_error_and_the_answer_is_whole() {
    for late in [Part::Data(1, false), Part::Head(200, &[], true)] {
        let mut state = settled(&[]);
        let at = open(&mut state, POST);
        state.out.clear();
        answer(&mut state, 1, &[Part::Head(200, &[], false), Part::Data(2, true), late]);
        assert_eq!(resets(&mut state), [ErrorCode::STREAM_CLOSED]);
        assert_eq!(outcome(&mut state, at), Ok(2));
    }
}

#[test]
fn faults_of_the_connection_end_it() {
    type Write = fn(&mut Buffer);
    let faults: [(Write, ErrorCode); 12] = [
        (|out| frame::data(out, 3, false, b"idle"), ErrorCode::PROTOCOL_ERROR),
        (|out| frame::data(out, 2, false, b"of a push"), ErrorCode::PROTOCOL_ERROR),
        (|out| frame::header_frames(out, 5, true, &head(200, &[]), 100), ErrorCode::PROTOCOL_ERROR),
        (|out| frame::reset(out, 3, ErrorCode::CANCEL), ErrorCode::PROTOCOL_ERROR),
        (|out| frame::window_update(out, 3, 1), ErrorCode::PROTOCOL_ERROR),
        (|out| frame::window_update(out, 0, frame::LARGEST_WINDOW), ErrorCode::FLOW_CONTROL_ERROR),
        (|out| frame::header_frames(out, 1, true, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], 100), ErrorCode::COMPRESSION_ERROR),
        // A block that goes on, with something between.
        (
            |out| {
                let mut block = Buffer::default();
                frame::header_frames(&mut block, 1, true, &head(200, &[("a", "b")]), 3);
                out.push(&block.data()[..FrameHead::SIZE + 3]);
                frame::ping(out, false, &[0; 8]);
            },
            ErrorCode::PROTOCOL_ERROR,
        ),
        (|out| out.push(&[0, 0, 4, 9, 4, 0, 0, 0, 1, 0, 0, 0, 0]), ErrorCode::PROTOCOL_ERROR),
        (|out| out.push(&[0, 0, 4, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2]), ErrorCode::PROTOCOL_ERROR),
        (|out| out.push(&[0, 0, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), ErrorCode::FRAME_SIZE_ERROR),
        // A section that is far longer than any that is passed on: it is not read to its end.
        (|out| frame::header_frames(out, 1, true, &vec![0; 300 * 1024], 16_384), ErrorCode::ENHANCE_YOUR_CALM),
    ];
    for (at, (write, code)) in faults.into_iter().enumerate() {
        let mut state = settled(&[]);
        open(&mut state, GET);
        assert_eq!(came(&mut state, write), Err(code), "fault {at}");
    }
    let mut state = State::new(Arc::default());
    assert_eq!(came(&mut state, frame::settings_ack), Err(ErrorCode::PROTOCOL_ERROR), "SETTINGS come first");
}

#[test]
fn windows_may_fall_below_nothing_and_nothing_is_sent_until_they_are_above() {
    let mut state = settled(&[(setting::INITIAL_WINDOW_SIZE, 1_000)]);
    let at = open(&mut state, POST);
    assert_eq!(send(&mut state, at, &[1; 800], false), Some(800));
    came(&mut state, |out| frame::settings(out, &[(setting::INITIAL_WINDOW_SIZE, 300)])).unwrap();
    assert_eq!(send(&mut state, at, b"x", false), None, "700 less is -500");
    came(&mut state, |out| frame::window_update(out, 1, 500)).unwrap();
    assert_eq!(send(&mut state, at, b"x", false), None);
    assert_eq!(send(&mut state, at, b"", true), Some(0), "an end needs no window");
    let at = open(&mut state, POST);
    assert_eq!(send(&mut state, at, &[1; 800], true), Some(300), "the new one's");
    came(&mut state, |out| frame::window_update(out, 3, 10_000)).unwrap();
    assert_eq!(send(&mut state, at, &[1; 500], true), Some(500));
    // A window above the largest is the stream's error by WINDOW_UPDATE, and all of them's by SETTINGS.
    let at = open(&mut state, POST);
    said(&mut state);
    came(&mut state, |out| frame::window_update(out, 5, frame::LARGEST_WINDOW)).unwrap();
    assert_eq!(next(&mut state, at), Some(Err(StreamFailure::Protocol)));
    assert_eq!(resets(&mut state), [ErrorCode::FLOW_CONTROL_ERROR]);
    open(&mut state, POST);
    came(&mut state, |out| frame::window_update(out, 7, frame::LARGEST_WINDOW - 300)).unwrap();
    let larger = came(&mut state, |out| frame::settings(out, &[(setting::INITIAL_WINDOW_SIZE, 301)]));
    assert_eq!(larger, Err(ErrorCode::FLOW_CONTROL_ERROR));
}

#[test]
fn an_endpoint_that_sends_more_than_it_may_is_stopped() {
    let mut state = settled(&[]);
    let at = open(&mut state, GET);
    state.out.clear();
    // One that does not look at our SETTINGS is forgiven.
    answer(&mut state, 1, &[Part::Head(200, &[], false), Part::Data(DEFAULT_WINDOW as usize, false)]);
    assert_eq!(resets(&mut state), []);
    answer(&mut state, 1, &[Part::Data(1, false)]);
    assert_eq!(resets(&mut state), [ErrorCode::FLOW_CONTROL_ERROR]);
    assert_eq!(outcome(&mut state, at), Err(StreamFailure::Protocol));
    // Of a stream that is over, bytes count for the connection only, which gives them back.
    for _ in 0..2 * CONNECTION_WINDOW as usize / 16_384 {
        answer(&mut state, 1, &[Part::Data(16_384, false)]);
    }
    let back: u32 = said(&mut state).iter().filter(|(head, _)| head.stream == 0).map(|(_, bytes)| bytes).sum();
    assert!(back > CONNECTION_WINDOW, "{back}");
}

#[test]
fn output_is_bounded_and_bodies_wait_in_turn() {
    let mut state = settled(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
    came(&mut state, |out| frame::window_update(out, 0, 1 << 30)).unwrap();
    let (one, other) = (open(&mut state, POST), open(&mut state, POST));
    let taken = send(&mut state, one, &vec![1; 1 << 20], true).unwrap();
    assert!((OUTPUT - 100..=OUTPUT).contains(&taken), "{taken}");
    assert!(state.out.len() < OUTPUT + 100);
    assert_eq!(send(&mut state, other, b"x", true), None);
    state.out.clear();
    state.wake_blocked();
    assert_eq!(send(&mut state, other, b"x", true), Some(1));
}

#[test]
fn floods_end_the_connection_and_sound_use_does_not() {
    type Write = fn(&mut Buffer, u32);
    let floods: [(&str, Write); 11] = [
        ("ping", |out, _| frame::ping(out, false, &[0; 8])),
        ("settings", |out, _| frame::settings(out, &[])),
        ("empty data", |out, _| frame::data(out, 1, false, b"")),
        ("window updates", |out, _| frame::window_update(out, 0, 1)),
        ("window updates of a stream", |out, _| frame::window_update(out, 1, 1)),
        ("resets of what is over", |out, _| frame::reset(out, 3, ErrorCode::CANCEL)),
        ("informational heads", |out, _| frame::header_frames(out, 1, false, &head(103, &[("link", "a")]), 100)),
        ("pieces of heads", |out, _| frame::header_frames(out, 3, true, &head(200, &[("a", "b"), ("c", "d")]), 1)),
        ("heads of what is over", |out, _| frame::header_frames(out, 3, true, &head(200, &[]), 100)),
        ("priority", |out, _| out.push(&[0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0])),
        ("unknown", |out, at| out.push(&[0, 0, 4, 0x42, 0, 0, 0, 0, 1, 0, 0, 0, at.to_le_bytes()[0]])),
    ];
    for (name, write) in floods {
        let mut state = settled(&[]);
        let (one, other) = (open(&mut state, GET), open(&mut state, GET));
        if name == "empty data" {
            answer(&mut state, 1, &[Part::Head(200, &[], false)]);
        }
        state.close(other);
        let ended = (0..20_000).find_map(|at| {
            state.out.clear();
            came(&mut state, |out| write(out, at)).err()
        });
        assert_eq!(ended, Some(ErrorCode::ENHANCE_YOUR_CALM), "{name}");
        // What waits for a client is bounded all the while.
        let waiting = std::iter::from_fn(|| next(&mut state, one)).count();
        assert!(waiting < 20, "{name}: {waiting}");
    }
    // A day of small messages, with the PINGs and updates of a sound server.
    let mut state = settled(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
    let at = open(&mut state, POST);
    answer(&mut state, 1, &[Part::Head(200, &[], false)]);
    for _ in 0..100_000 {
        assert_eq!(send(&mut state, at, b"up", false), Some(2));
        answer(&mut state, 1, &[Part::Data(4, false), Part::Data(0, false)]);
        came(&mut state, |out| {
            frame::window_update(out, 0, 2);
            frame::window_update(out, 1, 2);
            frame::ping(out, false, &[1; 8]);
        })
        .unwrap();
        assert_eq!(next(&mut state, at).and_then(Result::ok).filter(|event| *event == Event::Informational), None);
        read(&mut state, at);
        state.out.clear();
    }
}

#[test]
fn a_place_is_given_as_often_as_the_endpoint_allows() {
    let mut state = State::new(Arc::<Sharing>::default());
    assert!(state.reserve() && !state.reserve(), "nothing is known yet");
    came(&mut state, |out| frame::settings(out, &[(setting::MAX_CONCURRENT_STREAMS, 3)])).unwrap();
    assert!(state.reserve() && state.reserve() && !state.reserve());
    state.leave();
    assert!(state.reserve());
    came(&mut state, |out| frame::settings(out, &[(setting::MAX_CONCURRENT_STREAMS, u32::MAX)])).unwrap();
    assert_eq!((0..1_000).filter(|_| state.reserve()).count(), 97, "a hundred at most");
}

#[test]
fn what_was_never_written_was_not_processed() {
    let mut state = settled(&[]);
    let sent = open(&mut state, GET);
    let length = state.out.len();
    state.out.consume(length);
    state.written += length as u64;
    let unsent = open(&mut state, GET);
    state.end(StreamFailure::Broken);
    assert_eq!(next(&mut state, sent), Some(Err(StreamFailure::Broken)));
    assert_eq!(next(&mut state, unsent), Some(Err(StreamFailure::Unprocessed)));
    assert!(!state.reserve());
    // One that never said that it speaks HTTP/2 is to blame all the same.
    let mut state = State::new(Arc::<Sharing>::default());
    let unsent = open(&mut state, GET);
    state.end(StreamFailure::Broken);
    assert_eq!(next(&mut state, unsent), Some(Err(StreamFailure::Broken)));
}

#[test]
fn an_end_alone_waits_for_nothing() {
    let mut state = settled(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
    let (one, other) = (open(&mut state, POST), open(&mut state, POST));
    assert!(send(&mut state, one, &vec![1; 1 << 20], false).is_some());
    state.out.clear();
    while send(&mut state, one, &[1; 1 << 14], false).is_some() {
        state.out.clear();
    }
    assert_eq!(send(&mut state, other, b"x", true), None, "the connection's window is used up");
    assert_eq!(send(&mut state, other, b"", true), Some(0));
}

/// What an endpoint and a client do.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// DATA with padding on one of two streams.
    Data { second: bool, bytes: usize, padding: usize },
    /// The client of one takes so much.
    Read { second: bool, bytes: usize },
    /// The client of one leaves.
    Leave { second: bool },
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0_usize..16_000, 0_usize..255)
            .prop_map(|(second, bytes, padding)| Step::Data { second, bytes, padding }),
        8 => (any::<bool>(), 0_usize..40_000).prop_map(|(second, bytes)| Step::Read { second, bytes }),
        1 => any::<bool>().prop_map(|second| Step::Leave { second }),
    ]
}

proptest! {
    /// A model of the endpoint: it sends only what it may, is never stopped, and what it got back is what was used.
    #[test]
    fn every_byte_of_the_windows_is_given_back_once(steps in prop::collection::vec(steps(), 1..300)) {
        let mut state = settled(&[]);
        let places = [open(&mut state, GET), open(&mut state, GET)];
        let mut alive = [true, true];
        for stream in [1, 3] {
            answer(&mut state, stream, &[Part::Head(200, &[], false)]);
        }
        let (mut connection, mut windows) = (i64::from(CONNECTION_WINDOW), [i64::from(STREAM_WINDOW); 2]);
        let mut waiting = [0_usize; 2];
        for place in places {
            next(&mut state, place);
        }
        for step in steps {
            match step {
                Step::Data { second, bytes, padding } => {
                    let (at, stream) = (usize::from(second), if second { 3 } else { 1 });
                    let length = 1 + bytes + padding;
                    if length as i64 > windows[at].min(connection) {
                        continue;
                    }
                    windows[at] -= length as i64;
                    connection -= length as i64;
                    if alive[at] {
                        waiting[at] += bytes;
                    }
                    let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
                    let padded = [&[a, b, c, 0, 8, 0, 0, 0, stream, u8::try_from(padding).unwrap()][..], &vec![0; bytes + padding]];
                    came(&mut state, |out| out.push(&padded.concat())).unwrap();
                }
                Step::Read { second, bytes } => {
                    let at = usize::from(second);
                    let (used, _) = state.read(places[at], |here| (bytes.min(here.len()), LARGEST_WINDOW));
                    prop_assert_eq!(used, bytes.min(waiting[at]));
                    waiting[at] -= used;
                }
                Step::Leave { second } => {
                    let at = usize::from(second);
                    if std::mem::replace(&mut alive[at], false) {
                        state.close(places[at]);
                        waiting[at] = 0;
                    }
                }
            }
            for (head, number) in said(&mut state) {
                match (head.kind, head.stream) {
                    (frame::kind::WINDOW_UPDATE, 0) => connection += i64::from(number),
                    (frame::kind::WINDOW_UPDATE, stream) => windows[usize::from(stream == 3)] += i64::from(number),
                    (frame::kind::RST_STREAM, _) => prop_assert_eq!(ErrorCode(number), ErrorCode::CANCEL),
                    _ => {}
                }
            }
            prop_assert_eq!(state.receive.open(), connection, "both sides count alike");
            // The connection's window never falls to less than half, whoever reads or leaves.
            prop_assert!(connection > i64::from(CONNECTION_WINDOW / 2) && connection <= i64::from(CONNECTION_WINDOW));
            for at in [0, 1] {
                if alive[at] {
                    let held = windows[at] + i64::try_from(waiting[at]).unwrap();
                    prop_assert!(held <= i64::from(LARGEST_WINDOW), "{held}");
                    prop_assert!(held > i64::from(STREAM_WINDOW / 2), "{held}: bytes were lost");
                }
            }
        }
    }
}

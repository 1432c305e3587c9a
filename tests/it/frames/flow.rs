//! RFC 9113 §5.2 and §6.9: windows of streams and of the connection, both ways.

use super::table::{Bed, Case, Step, Wanted};
use crate::harness::frame::{
    CANCEL, DATA, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE, INITIAL_WINDOW_SIZE, LARGEST, PADDED, WINDOW, data,
    frame, get, post, reset, settings, window_update,
};
use crate::harness::{Frames, express_lane};

/// The client's first window for each stream.
fn initial(window: u32) -> Vec<u8> {
    settings(&[(INITIAL_WINDOW_SIZE, window)])
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_9_responses_keep_within_the_clients_windows() {
    let all = WINDOW as usize;
    Bed::start()
        .await
        .check(vec![
            Case::new(
                "9113/6.9.2 a window of 0 lets heads through and no body",
                vec![
                    Step::Send([initial(0), get(1, "/bytes/10", &[])].concat()),
                    Step::Head(1),
                    Step::Body(1, 0),
                    Step::Send(window_update(1, 4)),
                    Step::Body(1, 4),
                    Step::Send(window_update(1, 6)),
                ],
                Wanted::Body(1, 200, 10),
            ),
            Case::new(
                "9113/6.9.2 a window of 1",
                vec![
                    Step::Send([initial(1), get(1, "/bytes/3", &[])].concat()),
                    Step::Body(1, 1),
                    Step::Send(window_update(1, 1)),
                    Step::Body(1, 2),
                    Step::Send(window_update(1, 1)),
                ],
                Wanted::Body(1, 200, 3),
            ),
            Case::new(
                "9113/6.9.2 an empty body needs no window",
                vec![initial(0), get(1, "/bytes/0", &[])],
                Wanted::Body(1, 200, 0),
            ),
            Case::new(
                "9113/6.9.1 a body as long as its window ends",
                vec![initial(10), get(1, "/bytes/10", &[])],
                Wanted::Body(1, 200, 10),
            ),
            Case::new(
                "9113/6.9.1 trailers need no window",
                vec![Step::Send([initial(7), get(1, "/trailers", &[])].concat())],
                Wanted::Any(vec![Wanted::Body(1, 200, 7)]),
            ),
            Case::new(
                "9113/6.9.2 a window that SETTINGS raise",
                vec![
                    Step::Send([initial(0), get(1, "/bytes/20", &[])].concat()),
                    Step::Body(1, 0),
                    Step::Send(initial(15)),
                    Step::Body(1, 15),
                    Step::Send(initial(20)),
                ],
                Wanted::Body(1, 200, 20),
            ),
            Case::new(
                "9113/6.9.2 a window that SETTINGS make negative",
                vec![
                    Step::Send([initial(100), get(1, "/bytes/1000", &[])].concat()),
                    Step::Body(1, 100),
                    // 100 were sent of 40: the window is -60.
                    Step::Send(initial(40)),
                    Step::Acknowledged(3),
                    Step::Send(window_update(1, 60)),
                    Step::Body(1, 100),
                    Step::Send(window_update(1, 10)),
                    Step::Body(1, 110),
                    Step::Send(window_update(1, 890)),
                ],
                Wanted::Body(1, 200, 1_000),
            ),
            Case::new(
                "9113/6.9.1 the connection's window is that of all streams",
                vec![
                    Step::Send([initial(LARGEST), get(1, "/bytes/60000", &[])].concat()),
                    Step::End(1),
                    Step::Send(get(3, "/bytes/60000", &[])),
                    Step::Body(3, all - 60_000),
                    Step::Send(window_update(0, 100_000)),
                ],
                Wanted::Body(3, 200, 60_000),
            ),
            Case::new(
                "9113/6.9.1 a stream that waits for the connection holds up no head",
                vec![
                    Step::Send([initial(LARGEST), get(1, "/bytes/100000", &[])].concat()),
                    Step::Body(1, all),
                    Step::Send(get(3, "/status/204", &[])),
                    Step::End(3),
                    Step::Send(window_update(0, 100_000)),
                ],
                Wanted::Body(1, 200, 100_000),
            ),
            Case::new(
                "9113/6.9.1 a stream that is reset gives the connection's window to others",
                vec![
                    Step::Send([initial(10), get(1, "/bytes/1000", &[])].concat()),
                    Step::Body(1, 10),
                    Step::Send([reset(1, CANCEL), initial(LARGEST), get(3, "/bytes/65525", &[])].concat()),
                ],
                Wanted::Body(3, 200, all - 10),
            ),
            Case::new(
                "9113/6.9.1 windows that rise again and again",
                [
                    vec![Step::Send([initial(0), get(1, "/bytes/200", &[])].concat()), Step::Head(1)],
                    (0..200).map(|_| Step::Send(window_update(1, 1))).collect(),
                ]
                .concat(),
                Wanted::Body(1, 200, 200),
            ),
        ])
        .await;
}

/// What the server allows a stream, and all of them together.
fn allowed(frames: &Frames) -> (u64, u64) {
    let seen = frames.seen();
    let stream = seen.setting(INITIAL_WINDOW_SIZE).unwrap_or(WINDOW);
    (u64::from(stream), u64::from(WINDOW) + seen.window)
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_9_uploads_above_the_servers_window_are_an_error() {
    let bed = Bed::start().await;
    let mut frames = Frames::connect(&bed.clear).await;
    let (stream, connection) = allowed(&frames);
    // Nobody takes it: the endpoint answers when the story says so.
    frames.send(&post(1, "/hold", &[])).await;
    let most = stream.min(connection) + 1_000_000;
    let piece = data(1, 0, &[b'a'; FRAME_SIZE]);
    let over = |seen: &crate::harness::client::Seen| {
        seen.on(1).reset == Some(FLOW_CONTROL_ERROR)
            || seen.goaways.iter().any(|goaway| goaway.code == FLOW_CONTROL_ERROR)
    };
    let mut sent = 0;
    // As a window rises, so does what may be sent.
    while sent <= most + frames.seen().on(1).window && !over(frames.seen()) && frames.seen().ended.is_none() {
        frames.send(&piece).await;
        sent += FRAME_SIZE as u64;
        assert!(sent < 1 << 30, "the server takes what nobody reads without end");
    }
    frames.until("the client hears of it", over).await.unwrap();
    bed.weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_9_1_padding_counts_for_the_window_and_comes_back() {
    let bed = Bed::start().await;
    let mut frames = Frames::connect(&bed.clear).await;
    let (stream, connection) = allowed(&frames);
    frames.send(&post(1, "/sink", &[])).await;
    // One byte of body in each 256 that are counted, several windows of them.
    let padded = frame(DATA, PADDED, 1, &[&[254, b'a'][..], &[0; 254]].concat());
    let total = 3 * stream.max(connection).min(1 << 20);
    let mut sent = 0;
    while sent < total {
        let (own, all) = (stream + frames.seen().on(1).window, u64::from(WINDOW) + frames.seen().window);
        if sent + 256 > own.min(all) {
            let before = (frames.seen().on(1).window, frames.seen().window);
            let rises = |seen: &crate::harness::client::Seen| (seen.on(1).window, seen.window) != before;
            frames.until("a window rises", rises).await.unwrap();
            continue;
        }
        frames.send(&padded).await;
        sent += 256;
    }
    frames.send(&data(1, END_STREAM, b"")).await;
    frames.until("an answer", |seen| seen.on(1).ended).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&frames.seen().on(1).body).unwrap();
    assert_eq!(told["length"], sent / 256);
    bed.weir.stop().await;
}

/// RFC 9113 §6.9.1: padding counts where nothing else is in a frame, and nobody else gives it back.
#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_9_1_padding_alone_comes_back() {
    if !express_lane() {
        // To the engine that many frames without a body are a flood.
        return;
    }
    let bed = Bed::start().await;
    let mut frames = Frames::connect(&bed.clear).await;
    let (stream, _) = allowed(&frames);
    frames.send(&post(1, "/sink", &[])).await;
    let padding = frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat());
    frames.send(&padding.repeat(usize::try_from(stream / 256).unwrap())).await;
    frames.until("the window rises", |seen| seen.on(1).window > 0).await.unwrap();
    frames.send(&data(1, END_STREAM, b"body")).await;
    frames.until("an answer", |seen| seen.on(1).ended).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&frames.seen().on(1).body).unwrap();
    assert_eq!(told["length"], 4);
    bed.weir.stop().await;
}

/// RFC 9113 §6.9: windows come back in large pieces, not for every frame.
#[tokio::test(flavor = "multi_thread")]
async fn rfc_9113_6_9_uploads_larger_than_all_windows_arrive_whole() {
    let bed = Bed::start().await;
    for target in [&bed.clear] {
        let mut frames = Frames::connect(target).await;
        let (stream, _) = allowed(&frames);
        let streams = [1, 3, 5];
        let each = 2 * stream.min(2 << 20);
        for id in streams {
            frames.send(&post(id, "/sink", &[("content-length", each.to_string().as_bytes())])).await;
        }
        let mut sent = [0_u64; 3];
        while sent.iter().any(|sent| *sent < each) {
            let mut stuck = true;
            for (at, id) in streams.into_iter().enumerate() {
                let seen = frames.seen();
                let all: u64 = sent.iter().sum();
                let room = (stream + seen.on(id).window - sent[at]).min(u64::from(WINDOW) + seen.window - all);
                let piece = room.min(each - sent[at]).min(FRAME_SIZE as u64);
                if piece > 0 {
                    let ends = if sent[at] + piece == each { END_STREAM } else { 0 };
                    frames.send(&data(id, ends, &vec![b'x'; usize::try_from(piece).unwrap()])).await;
                    sent[at] += piece;
                    stuck = false;
                }
            }
            if stuck {
                let before = windows(&frames, &streams);
                frames.until("a window rises", |seen| before != windows_of(seen, &streams)).await.unwrap();
            }
        }
        for id in streams {
            frames.until("an answer", |seen| seen.on(id).ended).await.unwrap();
            let told: serde_json::Value = serde_json::from_slice(&frames.seen().on(id).body).unwrap();
            assert_eq!(told["length"], each);
        }
    }
    bed.weir.stop().await;
}

fn windows(frames: &Frames, streams: &[u32]) -> Vec<u64> {
    windows_of(frames.seen(), streams)
}

fn windows_of(seen: &crate::harness::client::Seen, streams: &[u32]) -> Vec<u64> {
    streams.iter().map(|id| seen.on(*id).window).chain([seen.window]).collect()
}

//! One HTTP/2 connection, frame by frame: a story sends what bytes it likes, and sees each frame that comes back.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tap::GoAway;
use crate::harness::eventually::patience;
use crate::harness::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame, preface, status,
};
use crate::harness::socket::{Stream, Target};

/// A connection.
pub(crate) struct Frames {
    stream: Stream,
    read: BytesMut,
    seen: Seen,
}

/// All that came so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Streams by their id.
    pub(crate) streams: BTreeMap<u32, Answer>,
    /// The server's settings, as they were sent.
    pub(crate) settings: Vec<(u16, u32)>,
    /// SETTINGS that the server acknowledged.
    pub(crate) acknowledged: usize,
    /// What acknowledged PINGs said.
    pub(crate) pongs: Vec<Vec<u8>>,
    pub(crate) goaways: Vec<GoAway>,
    /// What the connection's window was raised by.
    pub(crate) window: u64,
    /// How the connection ended.
    pub(crate) ended: Option<String>,
    /// The stream of a header block that is not whole yet, and whether it ends its stream.
    open_block: Option<(u32, bool)>,
}

/// What came on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status of each response, interim ones too; one of the static table, or with that name.
    pub(crate) statuses: Vec<u16>,
    /// The header blocks, as they came.
    pub(crate) blocks: Vec<Vec<u8>>,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// The code of RST_STREAM.
    pub(crate) reset: Option<u32>,
    /// Whether END_STREAM came.
    pub(crate) ended: bool,
    /// What the stream's window was raised by.
    pub(crate) window: u64,
}

impl Answer {
    /// The status of the response, without interim ones.
    pub(crate) fn status(&self) -> Option<u16> {
        self.statuses.iter().copied().find(|status| *status >= 200)
    }

    /// Whether nothing more comes.
    pub(crate) fn over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

impl Seen {
    /// What came on a stream; nothing, if nothing came.
    pub(crate) fn on(&self, stream: u32) -> Answer {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// The server's last value of a setting.
    pub(crate) fn setting(&self, name: u16) -> Option<u32> {
        self.settings.iter().rfind(|(own, _)| *own == name).map(|(_, value)| *value)
    }
}

impl Frames {
    /// Connects and says nothing.
    pub(crate) async fn open(target: &Target) -> Self {
        let stream = super::h1::connect(target, &[b"h2"]).await.unwrap_or_else(|failure| panic!("{failure}"));
        Self { stream, read: BytesMut::new(), seen: Seen::default() }
    }

    /// Connects, and waits until both sides have told their settings.
    pub(crate) async fn connect(target: &Target) -> Self {
        let mut frames = Self::open(target).await;
        frames.send(&preface()).await;
        frames
            .until("SETTINGS of the server", |seen| seen.acknowledged > 0 && !seen.settings.is_empty())
            .await
            .unwrap();
        frames.send(&frame(SETTINGS, ACK, 0, &[])).await;
        frames
    }

    /// Sends bytes, and reads what comes meanwhile. A server that has heard enough may take no more.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.seen.ended.is_none() {
            let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
            let outcome = tokio::select! {
                written = writer.write(bytes) => match written {
                    Ok(written) => {
                        bytes = &bytes[written..];
                        continue;
                    }
                    // What ended it, the reading side tells.
                    Err(_) => return,
                },
                read = reader.read_buf(&mut self.read) => read,
            };
            self.took(outcome);
        }
        // Below TLS there may be a record that is not written yet.
        let _ = self.stream.flush().await;
    }

    /// All that came so far.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Reads until `holds`.
    ///
    /// # Errors
    /// What came instead, when the connection or patience ends.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Seen) -> bool) -> Result<(), String> {
        while !holds(&self.seen) {
            if let Some(ending) = &self.seen.ended {
                return Err(format!("{what}: the connection ended ({ending}): {}", self.told()));
            }
            match timeout(patience(), self.stream.read_buf(&mut self.read)).await {
                Ok(outcome) => self.took(outcome),
                Err(_) => return Err(format!("{what}: nothing after {:?}: {}", patience(), self.told())),
            }
        }
        Ok(())
    }

    /// What a failure is told with.
    fn told(&self) -> String {
        let streams = self.seen.streams.iter().map(|(id, got)| {
            format!("{id}: {:?} {} B reset {:?} ended {}", got.statuses, got.body.len(), got.reset, got.ended)
        });
        format!("{:?} {:?}", self.seen.goaways, streams.collect::<Vec<_>>())
    }

    fn took(&mut self, outcome: io::Result<usize>) {
        match outcome {
            Ok(0) => self.seen.ended = Some("in good order".to_owned()),
            Ok(_) => while self.frame() {},
            Err(error) => self.seen.ended = Some(error.to_string()),
        }
    }

    /// Takes a frame, if a whole one is there.
    fn frame(&mut self) -> bool {
        let Some(&[a, b, c, kind, flags, s1, s2, s3, s4]) = self.read.first_chunk::<9>() else { return false };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if self.read.len() < 9 + length {
            return false;
        }
        self.read.advance(9);
        let payload = self.read.split_to(length);
        self.seen.take(kind, flags, u32::from_be_bytes([s1, s2, s3, s4]), &payload);
        true
    }
}

impl Seen {
    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        assert!(
            self.open_block.is_none_or(|(open, _)| kind == CONTINUATION && stream == open),
            "a frame of type {kind} inside the header block of another"
        );
        match kind {
            SETTINGS if flags & ACK != 0 => self.acknowledged += 1,
            SETTINGS => {
                let entry = |entry: &[u8]| {
                    (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes(entry[2..].try_into().unwrap()))
                };
                self.settings.extend(payload.chunks(6).map(entry));
            }
            PING if flags & ACK != 0 => self.pongs.push(payload.to_vec()),
            GOAWAY => self.goaways.push(GoAway { last_stream: word(0), code: word(4) }),
            WINDOW_UPDATE if stream == 0 => self.window += u64::from(word(0)),
            _ if stream == 0 => {}
            _ => self.on_stream(kind, flags, stream, payload),
        }
    }

    fn on_stream(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let got = self.streams.entry(stream).or_default();
        assert!(!got.over() || kind != DATA && kind != HEADERS, "stream {stream} goes on after its end: {kind}");
        match kind {
            DATA => {
                got.body.extend_from_slice(payload);
                got.ended |= flags & END_STREAM != 0;
            }
            HEADERS => {
                got.blocks.push(payload.to_vec());
                self.open_block = Some((stream, flags & END_STREAM != 0));
            }
            CONTINUATION => got.blocks.last_mut().unwrap().extend_from_slice(payload),
            RST_STREAM => got.reset = Some(u32::from_be_bytes(payload.try_into().unwrap())),
            WINDOW_UPDATE => got.window += u64::from(u32::from_be_bytes(payload.try_into().unwrap())),
            _ => {}
        }
        if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
            got.statuses.extend(status(got.blocks.last().unwrap()));
            got.ended |= self.open_block.take().is_some_and(|(_, ends)| ends);
        }
    }
}

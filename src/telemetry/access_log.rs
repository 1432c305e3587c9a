//! The access log: one line of JSON for each request, written by a thread of its own.
//!
//! Requests hand their line over and go on. When the output does not take lines as fast as they come, lines are
//! dropped and counted: a blocked pipe never blocks a request. Queries are not logged, because they carry
//! secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::recorder::Recorder;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Off,
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// One request. Absent values are left out of the line.
#[derive(Debug, Default, Serialize)]
pub struct Line {
    /// When the request came, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// The request's id.
    pub request_id: String,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The method.
    pub method: String,
    /// The host.
    pub host: String,
    /// The path, without query.
    pub path: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why that version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Which lane carried it.
    pub lane: &'static str,
    /// The status, or `client_closed`.
    pub status: String,
    /// The cause of an answer of Weir's own, or of a broken response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// `websocket`, `sse`, `grpc` or `upgrade`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<&'static str>,
    /// Whether it was cut at a deadline.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the request's head to the end, in milliseconds.
    pub duration_ms: f64,
    /// From the start of the last attempt to the endpoint's first byte, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<f64>,
    /// Attempts that were repeated.
    pub retries: u8,
}

/// A handle on the access log; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Option<SyncSender<Message>>,
    recorder: Arc<Recorder>,
}

#[derive(Debug)]
enum Message {
    Line(Box<Line>),
    Reopen,
    Flush(SyncSender<()>),
}

/// Lines that may wait: a second of a busy machine.
const QUEUE: usize = 16 * 1024;
/// Lines wait in the writer for company at most this long.
const LINGER: Duration = Duration::from_millis(200);

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread not be started.
    pub fn start(output: Output, recorder: &Arc<Recorder>) -> io::Result<Self> {
        let recorder = Arc::clone(recorder);
        if output == Output::Off {
            return Ok(Self { queue: None, recorder });
        }
        let sink = Sink::open(&output)?;
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new().name("weir-access-log".to_owned()).spawn(move || write(&lines, output, sink))?;
        Ok(Self { queue: Some(queue), recorder })
    }

    /// Whether lines are wanted; making one would be in vain otherwise.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands a line over, or drops it when too many wait.
    pub fn log(&self, line: Line) {
        if let Some(queue) = &self.queue
            && queue.try_send(Message::Line(Box::new(line))).is_err()
        {
            self.recorder.log_dropped(1);
        }
    }

    /// Opens the file again by its name, after it was rotated.
    pub fn reopen(&self) {
        if let Some(queue) = &self.queue {
            // A full queue means that the output is stuck; opening it again later is as good.
            let _ = queue.try_send(Message::Reopen);
        }
    }

    /// Waits until lines handed over so far are written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let Some(queue) = &self.queue else { return };
        let (done, written) = sync_channel(1);
        if queue.try_send(Message::Flush(done)).is_ok() {
            // Who does not take the lines in time does not get them.
            let _ = written.recv_timeout(limit);
        }
    }
}

enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(BufWriter<File>),
}

impl Sink {
    fn open(output: &Output) -> io::Result<Self> {
        Ok(match output {
            Output::Off | Output::Stderr => Self::Stderr(io::stderr()),
            Output::Stdout => Self::Stdout(io::stdout()),
            Output::File(path) => {
                Self::File(BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?))
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(out) => out,
            Self::Stderr(out) => out,
            Self::File(out) => out,
        }
    }
}

fn write(lines: &Receiver<Message>, output: Output, mut sink: Sink) {
    let mut batch = Vec::with_capacity(64 * 1024);
    loop {
        let message = match lines.recv_timeout(LINGER) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => {
                put(&mut sink, &mut batch);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match message {
            Message::Line(line) => {
                if serde_json::to_writer(&mut batch, &line).is_ok() {
                    batch.push(b'\n');
                }
                if batch.len() >= 32 * 1024 {
                    put(&mut sink, &mut batch);
                }
            }
            Message::Reopen => {
                put(&mut sink, &mut batch);
                match Sink::open(&output) {
                    Ok(fresh) => sink = fresh,
                    Err(error) => tracing::error!(%error, "the access log could not be opened again"),
                }
            }
            Message::Flush(done) => {
                put(&mut sink, &mut batch);
                // Nobody may wait any more.
                let _ = done.try_send(());
            }
        }
    }
    put(&mut sink, &mut batch);
}

fn put(sink: &mut Sink, batch: &mut Vec<u8>) {
    if !batch.is_empty() {
        let writer = sink.writer();
        if let Err(error) = writer.write_all(batch).and_then(|()| writer.flush()) {
            tracing::error!(%error, "access log lines could not be written");
        }
        batch.clear();
    }
}

/// A moment as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

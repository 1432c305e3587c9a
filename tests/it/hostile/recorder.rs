//! An HTTP/1.1 endpoint that reads strictly and writes down every byte: what it cannot read as a request or a body is
//! a fault, and faults are what these stories look for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::express_lane;

/// What arrived on one connection, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Which connection, from 0.
    pub(super) connection: usize,
    /// The head, to its empty line.
    pub(super) head: String,
    /// The body as it was framed.
    pub(super) framed: Vec<u8>,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Recorded {
    /// The request's target.
    pub(super) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(this, _)| this.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

#[derive(Default)]
struct Record {
    requests: Vec<Recorded>,
    /// Requests whose head is here and whose body may not be, with their connections.
    begun: Vec<(String, usize)>,
    faults: Vec<String>,
    connections: usize,
    /// Answers that nobody asked for.
    unasked: usize,
}

/// The endpoint. Its answer names the target that it answers.
///
/// | path | what it does |
/// |---|---|
/// | `/early…` | answers when it has the head |
/// | `/unasked…` | answers, and sends another answer when the connection is idle |
/// | `/continue…` | sends 100 when it has the head |
/// | `/late/MS` | answers so long after the end of the body |
/// | any other | answers when it has all |
pub(super) struct Recorder {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    accepting: JoinHandle<()>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::<Mutex<Record>>::default();
        let shared = Arc::clone(&record);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let connection = {
                    let mut record = shared.lock().unwrap();
                    record.connections += 1;
                    record.connections - 1
                };
                let record = Arc::clone(&shared);
                // It ends with the connection.
                tokio::spawn(async move {
                    let mut conversation = Conversation { socket, read: Vec::new(), connection, record };
                    if let Err(fault) = conversation.serve().await {
                        conversation.record.lock().unwrap().faults.push(fault);
                    }
                });
            }
        });
        Self { address, record, accepting }
    }

    /// The configuration of a service `shop` whose one endpoint this is.
    pub(super) fn shop(&self) -> String {
        format!(
            "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
telemetry: {{ address: \"127.0.0.1:0\" }}
admin: {{ address: \"{{admin}}\" }}
runtime: {{ threads: 1, express_lane: {} }}
shutdown: {{ deadline: 5s }}
state: {{ directory: \"{{dir}}/state\" }}
services:
  shop:
    versions: {{ v1: {{ endpoints: [\"{}\"] }} }}
routes:
  - service: shop
",
            express_lane(),
            self.address
        )
    }

    /// The requests that are complete.
    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.record.lock().unwrap().requests.clone()
    }

    /// The targets of all requests whose head is here.
    pub(super) fn begun(&self) -> Vec<String> {
        self.record.lock().unwrap().begun.iter().map(|(target, _)| target.clone()).collect()
    }

    /// The connection on which the head of a request for this target came.
    pub(super) fn connection(&self, target: &str) -> usize {
        let record = self.record.lock().unwrap();
        record.begun.iter().find(|(known, _)| known == target).unwrap_or_else(|| panic!("no {target}")).1
    }

    /// The request for this target; ends the story if there is not one.
    pub(super) fn request(&self, target: &str) -> Recorded {
        let found: Vec<Recorded> = {
            let record = self.record.lock().unwrap();
            record.requests.iter().filter(|request| request.target() == target).cloned().collect()
        };
        let [request] = found.as_slice() else { panic!("{target}: {found:?}; {:?}", self.faults()) };
        request.clone()
    }

    /// Answers that nobody asked for.
    pub(super) fn unasked(&self) -> usize {
        self.record.lock().unwrap().unasked
    }

    /// What could not be read.
    pub(super) fn faults(&self) -> Vec<String> {
        self.record.lock().unwrap().faults.clone()
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.record.lock().unwrap().connections
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Conversation {
    socket: TcpStream,
    read: Vec<u8>,
    connection: usize,
    record: Arc<Mutex<Record>>,
}

impl Conversation {
    /// Reads and answers requests until the other side ends the connection between two of them.
    async fn serve(&mut self) -> Result<(), String> {
        loop {
            let Some(head) = self.head().await? else { return Ok(()) };
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            self.record.lock().unwrap().begun.push((target.clone(), self.connection));
            if target.starts_with("/early") {
                self.answer(&target).await;
            }
            if target.starts_with("/continue") {
                self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok();
            }
            let (framed, body) = self.body(&head).await.map_err(|fault| format!("{target}: {fault}"))?;
            let request = Recorded { connection: self.connection, head, framed, body };
            self.record.lock().unwrap().requests.push(request);
            if let Some(pause) = target.strip_prefix("/late/") {
                tokio::time::sleep(Duration::from_millis(pause.parse().unwrap())).await;
            }
            if !target.starts_with("/early") {
                self.answer(&target).await;
            }
            if target.starts_with("/unasked") {
                // Long enough for the answer before to be with the client, and the connection in the pool.
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.answer("/nobody-asked").await;
                let mut record = self.record.lock().unwrap();
                record.unasked += 1;
            }
        }
    }

    async fn answer(&mut self, target: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len());
        // Who does not want it any more will not be told.
        self.socket.write_all(answer.as_bytes()).await.ok();
    }

    async fn fill(&mut self) -> Result<(), String> {
        match self.socket.read_buf(&mut self.read).await {
            Ok(1..) => Ok(()),
            ended => Err(format!("the connection ended ({ended:?}) after {:?}", self.read.escape_ascii().to_string())),
        }
    }

    /// None at the end of the connection.
    async fn head(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                let head = String::from_utf8(head).map_err(|error| format!("no text: {error}"))?;
                let line: Vec<&str> = head.lines().next().unwrap_or_default().split(' ').collect();
                let is_request = matches!(*line.as_slice(), [method, target, "HTTP/1.1"]
                    if method.bytes().all(|byte| byte.is_ascii_uppercase()) && target.starts_with('/'));
                return if is_request { Ok(Some(head)) } else { Err(format!("no request: {head:?}")) };
            }
            // A request line begins with a letter; what else is there is not waited for.
            if self.read.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
                return Err(format!("no request: {:?}", self.read.escape_ascii().to_string()));
            }
            match self.socket.read_buf(&mut self.read).await {
                Ok(1..) => {}
                _ if self.read.is_empty() => return Ok(None),
                _ => return Err(format!("part of a head: {:?}", self.read.escape_ascii().to_string())),
            }
        }
    }

    /// The body, as it was framed and as it is.
    async fn body(&mut self, head: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
        let request = Recorded { connection: 0, head: head.to_owned(), framed: Vec::new(), body: Vec::new() };
        match (request.all("transfer-encoding").as_slice(), request.all("content-length").as_slice()) {
            ([], []) => Ok((Vec::new(), Vec::new())),
            ([], [length]) => {
                let length = length.parse().map_err(|_| format!("content-length: {length}"))?;
                let body = self.exactly(length).await?;
                Ok((body.clone(), body))
            }
            (["chunked"], []) => self.chunks().await,
            other => Err(format!("framing: {other:?}")),
        }
    }

    async fn chunks(&mut self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (mut framed, mut body) = (Vec::new(), Vec::new());
        loop {
            let line = self.line().await?;
            let digits = std::str::from_utf8(&line[..line.len() - 2]).unwrap_or("no text");
            let size = usize::from_str_radix(digits, 16).map_err(|_| format!("chunk size {digits:?}"))?;
            if size == 0 {
                framed.extend([line, self.trailers().await?].concat());
                return Ok((framed, body));
            }
            let chunk = self.exactly(size + 2).await?;
            if !chunk.ends_with(b"\r\n") {
                return Err(format!("a chunk without its end: {:?}", chunk.escape_ascii().to_string()));
            }
            body.extend_from_slice(&chunk[..size]);
            framed.extend([line, chunk].concat());
        }
    }

    /// What comes behind the last chunk, with the empty line that ends it. The stories send one field there.
    async fn trailers(&mut self) -> Result<Vec<u8>, String> {
        let line = self.line().await?;
        match line.as_slice() {
            b"\r\n" => Ok(line),
            [b'x', b'-', ..] if self.line().await? == b"\r\n" => Ok([line, b"\r\n".to_vec()].concat()),
            _ => Err(format!("no end of the chunks: {:?}", line.escape_ascii().to_string())),
        }
    }

    /// A line, with its end.
    async fn line(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                return self.exactly(end + 2).await;
            }
            self.fill().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.read.len() < length {
            self.fill().await?;
        }
        Ok(self.read.drain(..length).collect())
    }
}

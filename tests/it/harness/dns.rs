//! A DNS server that answers as the story says, over UDP and TCP of one port (RFC 1035).
//!
//! What it is not told of does not exist. A name that has records of another kind only is there, and empty.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// A server on a free port of 127.0.0.1. It ends when it is dropped.
pub(crate) struct Dns {
    shared: Arc<Shared>,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    mood: Mutex<Mood>,
    zone: Mutex<HashMap<(String, Kind), Set>>,
    asked: Mutex<Vec<Asked>>,
}

/// Records of one name and kind.
#[derive(Clone, Debug, Default)]
struct Set {
    ttl: u32,
    data: Vec<Vec<u8>>,
}

/// A question that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) tcp: bool,
    pub(crate) at: Instant,
}

/// How it answers, whatever the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// With what it knows.
    #[default]
    Well,
    /// With what it knows, but over UDP only that there is more than fits.
    Truncates,
    /// That it cannot: SERVFAIL.
    Fails,
    /// Not at all.
    Silent,
}

/// A kind of record, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    A = 1,
    Aaaa = 28,
    Srv = 33,
    Other = 0,
}

impl Dns {
    /// Starts one that knows nothing.
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let shared: Arc<Shared> = Arc::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve_udp(Arc::clone(&shared), udp));
        serving.spawn(serve_tcp(Arc::clone(&shared), tcp));
        Self { shared, address, _serving: serving }
    }

    /// The section of the configuration that has this server asked, with more `keys`.
    pub(crate) fn section(&self, keys: &str) -> String {
        format!("dns: {{ servers: [\"{}\"], min_ttl: 100ms{keys} }}\n", self.address)
    }

    /// A name has these addresses, and no others.
    pub(crate) fn addresses(&self, name: &str, ips: &[&str], ttl: u32) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ip in ips {
            match ip.parse().unwrap() {
                IpAddr::V4(ip) => v4.push(ip.octets().to_vec()),
                IpAddr::V6(ip) => v6.push(ip.octets().to_vec()),
            }
        }
        self.set(name, Kind::A, ttl, v4);
        self.set(name, Kind::Aaaa, ttl, v6);
    }

    /// A name has these SRV records: priority, weight, port and target.
    pub(crate) fn services(&self, name: &str, services: &[(u16, u16, u16, &str)], ttl: u32) {
        let data = services.iter().map(|(priority, weight, port, target)| {
            let numbers = [*priority, *weight, *port].map(u16::to_be_bytes);
            [numbers.concat(), labels(target)].concat()
        });
        self.set(name, Kind::Srv, ttl, data.collect());
    }

    fn set(&self, name: &str, kind: Kind, ttl: u32, data: Vec<Vec<u8>>) {
        self.shared.zone.lock().unwrap().insert((name.to_owned(), kind), Set { ttl, data });
    }

    /// A name does not exist any more.
    pub(crate) fn remove(&self, name: &str) {
        self.shared.zone.lock().unwrap().retain(|(known, _), _| known != name);
    }

    /// From now on it answers so.
    pub(crate) fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// The questions so far about a name.
    pub(crate) fn asked(&self, name: &str) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().iter().filter(|asked| asked.name == name).cloned().collect()
    }
}

/// A UDP and a TCP socket of one free port.
async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) {
    let mut query = [0; 1_500];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut query).await else { continue };
        if let Some(answer) = shared.answer(&query[..length], false) {
            drop(socket.send_to(&answer, from).await);
        }
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move { while_open(&shared, stream).await });
    }
}

/// Answers what comes on a connection until the client closes it.
async fn while_open(shared: &Shared, mut stream: TcpStream) -> Option<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut query).await.ok()?;
        if let Some(answer) = shared.answer(&query, true) {
            stream.write_u16(answer.len().try_into().unwrap()).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
    }
}

impl Shared {
    fn answer(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, kind, question_end) = question(query)?;
        self.asked.lock().unwrap().push(Asked { name: name.clone(), kind, tcp, at: Instant::now() });
        let mood = *self.mood.lock().unwrap();
        let zone = self.zone.lock().unwrap();
        let exists = zone.keys().any(|(known, _)| *known == name);
        let set = zone.get(&(name, kind)).cloned().unwrap_or_default();
        let (code, truncated, set) = match mood {
            Mood::Silent => return None,
            Mood::Fails => (SERVFAIL, false, Set::default()),
            Mood::Truncates if !tcp => (NOERROR, true, Set::default()),
            Mood::Well | Mood::Truncates if exists => (NOERROR, false, set),
            Mood::Well | Mood::Truncates => (NXDOMAIN, false, Set::default()),
        };
        let answers = u16::try_from(set.data.len()).unwrap();
        // A response, recursion available; the identifier and the question are the client's.
        let flags = [0x81 | if truncated { 0x02 } else { 0 }, 0x80 | code];
        let mut out = [&query[..2], &flags, &[0, 1], &answers.to_be_bytes(), &[0; 4]].concat();
        out.extend(&query[HEADER..question_end]);
        for data in &set.data {
            // The name is a pointer to the question's.
            out.extend([0xc0, 12, 0, kind as u8, 0, 1]);
            out.extend(set.ttl.to_be_bytes());
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(data);
        }
        Some(out)
    }
}

const HEADER: usize = 12;
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// The name and kind that are asked for, and where the question ends.
fn question(query: &[u8]) -> Option<(String, Kind, usize)> {
    let (mut at, mut name) = (HEADER, String::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        name += &String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase();
        name.push('.');
        at += length;
    }
    let kind = match query.get(at..at + 2)? {
        [0, 1] => Kind::A,
        [0, 28] => Kind::Aaaa,
        [0, 33] => Kind::Srv,
        _ => Kind::Other,
    };
    Some((name, kind, at + 4))
}

/// An absolute name as labels.
fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

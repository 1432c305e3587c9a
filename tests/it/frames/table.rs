//! A row of the table: what a client sends frame by frame, and what has to come back.

use crate::harness::client::Seen;
use crate::harness::eventually::patience;
use crate::harness::frame::{PROTOCOL_ERROR, get, ping};
use crate::harness::{Authority, Fixture as _, Frames, Origin, Target, Tls, Weir, express_lane, shop};

/// What a client does, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// It sends these bytes.
    Send(Vec<u8>),
    /// It sends them one at a time.
    Trickle(Vec<u8>),
    /// It waits for the head of a response that is not an interim one.
    Head(u32),
    /// It waits for the end of a stream.
    End(u32),
    /// It waits until the body of a stream has so many bytes, and is sure that no more come.
    Body(u32, usize),
    /// It waits until so many of its SETTINGS are acknowledged, those of its preface included.
    Acknowledged(usize),
    /// It waits until the origin holds so many requests.
    Held(usize),
    /// The origin answers what it holds.
    Release,
}

/// What has to come back. Errors of a stream leave its connection as it was: a request afterwards is served.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// Nothing in particular.
    Serves,
    /// A whole response with this status.
    Status(u32, u16),
    /// Responses with these statuses, interim ones included.
    Statuses(u32, Vec<u16>),
    /// A whole response with this status, whose body has so many bytes.
    Body(u32, u16, usize),
    /// The answer 400, so that who wrote the request learns why, and RST_STREAM, as RFC 9113 §8.1.1 has it.
    Refused(u32),
    /// RST_STREAM with this code.
    Reset(u32, u32),
    /// GOAWAY with this code, and the end of the connection.
    Goaway(u32),
    /// The end of the connection, said or not.
    Ends,
    /// PINGs are answered with these.
    Pongs(Vec<[u8; 8]>),
    /// One of these.
    Any(Vec<Self>),
}

/// A row.
pub(super) struct Case {
    /// The section that it is about, and what is sent.
    name: &'static str,
    connects: bool,
    steps: Vec<Step>,
    wanted: Wanted,
    /// What the engine does instead.
    general: Option<Wanted>,
    /// Whether the engine does not do it at all.
    express_only: bool,
    /// Whether it does not matter what becomes of the connection.
    last: bool,
    /// What the origin gets: a field of the request, and its values joined by `|`.
    reaches: Vec<(&'static str, Option<&'static str>)>,
}

impl Case {
    /// Both sides have told their settings, then this is sent.
    pub(super) fn new(name: &'static str, sent: impl Into<Sent>, wanted: Wanted) -> Self {
        let Sent(steps) = sent.into();
        Self {
            name,
            connects: true,
            steps,
            wanted,
            general: None,
            express_only: false,
            last: false,
            reaches: Vec::new(),
        }
    }

    /// This is the first that is sent.
    pub(super) fn first(name: &'static str, sent: impl Into<Sent>, wanted: Wanted) -> Self {
        Self { connects: false, ..Self::new(name, sent, wanted) }
    }

    /// On the general lane it is this instead: the engine's way, or its fault.
    pub(super) fn general(self, wanted: Wanted) -> Self {
        Self { general: Some(wanted), ..self }
    }

    /// A malformed request (RFC 9113 §8.1.1). The engine's lane answers it and resets nothing.
    pub(super) fn malformed(name: &'static str, sent: impl Into<Sent>) -> Self {
        Self::new(name, sent, Wanted::Refused(1)).general(Wanted::Status(1, 400))
    }

    /// On the express lane only.
    pub(super) fn express_only(self) -> Self {
        Self { express_only: true, ..self }
    }

    /// No stream can be opened afterwards, and the connection may end.
    pub(super) fn last(self) -> Self {
        Self { last: true, ..self }
    }

    /// The origin gets this field with the request whose `x-nonce` is the row's name, or none.
    pub(super) fn reaches(mut self, name: &'static str, value: Option<&'static str>) -> Self {
        self.reaches.push((name, value));
        self
    }
}

/// What is sent: bytes, pieces of them, or steps.
pub(super) struct Sent(Vec<Step>);

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self(vec![Step::Send(bytes)])
    }
}

impl From<Vec<Vec<u8>>> for Sent {
    fn from(pieces: Vec<Vec<u8>>) -> Self {
        pieces.concat().into()
    }
}

impl From<Vec<Step>> for Sent {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

/// What the rows are sent to: a clear port, and one that speaks TLS.
pub(super) struct Bed {
    pub(super) origin: Origin,
    pub(super) weir: Weir,
    pub(super) clear: Target,
    tls: Target,
}

impl Bed {
    pub(super) async fn start() -> Self {
        let origin = Origin::start("v1").await;
        let authority = Authority::new("weir test");
        let plain = "address: \"127.0.0.1:0\" }\ntelemetry";
        let tls = "address: \"127.0.0.1:0\" }\n  - { name: tls, address: \"127.0.0.1:0\", tls: { cert: \"{dir}/tls.crt\", key: \"{dir}/tls.key\" } }\ntelemetry";
        let plan = Weir::plan(&shop(&[(&origin, 100.0)]).changed(plain, tls));
        authority.server(&["shop.test"]).write(plan.dir(), "tls");
        let weir = plan.start().await;
        let clear = Target::from(weir.address("web").await);
        let tls = Target::from(weir.address("tls").await).tls(&Tls::trusting(&authority, "shop.test"));
        Self { origin, weir, clear, tls }
    }

    /// Sends all rows, over both ports; ends the story with a list of those that came back otherwise.
    pub(super) async fn check(self, rows: Vec<Case>) {
        let mut failures = Vec::new();
        let mut told = 0;
        for case in &rows {
            if case.express_only && !express_lane() {
                eprintln!("skipped on the general lane: {}", case.name);
                continue;
            }
            told += 1;
            for (port, target) in [("clear", &self.clear), ("tls", &self.tls)] {
                if let Err(why) = self.send(case, target).await {
                    failures.push(format!("{} ({port}): {why}", case.name));
                }
            }
        }
        let lane = if express_lane() { "the express lane" } else { "the general lane" };
        eprintln!("{told} of {} rows on {lane}", rows.len());
        assert!(failures.is_empty(), "{} of {told} rows on {lane}:\n{}", failures.len(), failures.join("\n"));
        self.weir.stop().await;
    }

    async fn send(&self, case: &Case, target: &Target) -> Result<(), String> {
        let mut frames = if case.connects { Frames::connect(target).await } else { Frames::open(target).await };
        let wanted = case.general.as_ref().filter(|_| !express_lane()).unwrap_or(&case.wanted);
        for step in &case.steps {
            self.take(step, &mut frames).await?;
        }
        came(&mut frames, wanted, case.last).await?;
        let entry = self.origin.entry(case.name);
        for (name, value) in &case.reaches {
            let entry = entry.as_ref().ok_or("the origin has not seen it")?;
            let got = entry.headers.all(name);
            let got = (!got.is_empty()).then(|| got.join("|"));
            if got.as_deref() != *value {
                return Err(format!("the origin gets {name}: {got:?}, not {value:?}"));
            }
        }
        Ok(())
    }

    async fn take(&self, step: &Step, frames: &mut Frames) -> Result<(), String> {
        match step {
            Step::Send(bytes) => frames.send(bytes).await,
            Step::Trickle(bytes) => {
                for byte in bytes {
                    frames.send(&[*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            Step::Head(stream) => frames.until("a head", |seen| seen.on(*stream).status().is_some()).await?,
            Step::End(stream) => frames.until("the end of a stream", |seen| seen.on(*stream).over()).await?,
            Step::Body(stream, bytes) => exactly(frames, *stream, *bytes).await?,
            Step::Acknowledged(count) => {
                frames.until("SETTINGS are acknowledged", |seen| seen.acknowledged >= *count).await?;
            }
            Step::Held(count) => self.held(*count).await?,
            Step::Release => {
                self.origin.release();
            }
        }
        Ok(())
    }

    async fn held(&self, count: usize) -> Result<(), String> {
        let start = tokio::time::Instant::now();
        while self.origin.held() != count {
            if start.elapsed() > patience() {
                return Err(format!("the origin holds {} requests, not {count}", self.origin.held()));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

/// So many bytes came, and a PING that is answered afterwards brings no more.
async fn exactly(frames: &mut Frames, stream: u32, bytes: usize) -> Result<(), String> {
    frames.until("bytes of the body", |seen| seen.on(stream).body.len() >= bytes).await?;
    for _ in 0..3 {
        asks(frames).await?;
    }
    let came = frames.seen().on(stream).body.len();
    if came == bytes { Ok(()) } else { Err(format!("{came} bytes of a body where {bytes} are allowed")) }
}

/// A PING comes back.
async fn asks(frames: &mut Frames) -> Result<(), String> {
    let before = frames.seen().pongs.len();
    frames.send(&ping(*b"are you?")).await;
    frames.until("a PING is answered", |seen| seen.pongs.len() > before).await
}

/// Waits for what is wanted.
async fn came(frames: &mut Frames, wanted: &Wanted, last: bool) -> Result<(), String> {
    frames
        .until(&format!("{wanted:?}"), |seen| came_by_now(wanted, seen).is_some())
        .await
        .or_else(|why| if ends(wanted) { Ok(()) } else { Err(why) })?;
    match came_by_now(wanted, frames.seen()) {
        Some(End::Connection) => {
            frames.until("the end of the connection", |seen| seen.ended.is_some()).await?;
            // Something may have come before the end.
            came_by_now(wanted, frames.seen()).map(drop).ok_or_else(|| format!("{:?}", frames.seen().goaways))
        }
        Some(End::Stream) if last => Ok(()),
        Some(End::Stream) => goes_on(frames, wanted).await,
        None => Err(format!("{wanted:?}: {:?} {:?}", frames.seen().goaways, frames.seen().ended)),
    }
}

/// How much what came has ended.
#[derive(PartialEq)]
enum End {
    Stream,
    Connection,
}

/// Whether waiting for it can be waiting for the end.
fn ends(wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Ends => true,
        Wanted::Any(several) => several.iter().any(ends),
        _ => false,
    }
}

fn came_by_now(wanted: &Wanted, seen: &Seen) -> Option<End> {
    let stream = |came: bool| came.then_some(End::Stream);
    match wanted {
        Wanted::Serves => Some(End::Stream),
        Wanted::Status(id, status) => stream(seen.on(*id).over() && seen.on(*id).status() == Some(*status)),
        Wanted::Statuses(id, statuses) => stream(seen.on(*id).ended && seen.on(*id).statuses == *statuses),
        Wanted::Body(id, status, bytes) => {
            let got = seen.on(*id);
            stream(got.ended && got.status() == Some(*status) && got.body.len() == *bytes)
        }
        Wanted::Refused(id) => {
            let got = seen.on(*id);
            stream(got.status() == Some(400) && got.reset == Some(PROTOCOL_ERROR))
        }
        Wanted::Reset(id, code) => stream(seen.on(*id).reset == Some(*code)),
        Wanted::Goaway(code) => seen.goaways.iter().any(|goaway| goaway.code == *code).then_some(End::Connection),
        Wanted::Ends => seen.ended.is_some().then_some(End::Connection),
        Wanted::Pongs(pongs) => stream(seen.pongs.iter().map(Vec::as_slice).eq(pongs.iter().map(<[u8; 8]>::as_slice))),
        Wanted::Any(several) => {
            // One that is always so counts last.
            let certain = |wanted: &&Wanted| **wanted != Wanted::Serves;
            let found = several.iter().filter(certain).find_map(|wanted| came_by_now(wanted, seen));
            found.or_else(|| several.contains(&Wanted::Serves).then_some(End::Stream))
        }
    }
}

/// The connection is as good as before: a PING comes back, and a request is served.
async fn goes_on(frames: &mut Frames, wanted: &Wanted) -> Result<(), String> {
    let served = async {
        asks(frames).await?;
        // No body: there may be no window for one.
        frames.send(&get(AFTER, "/status/204", &[])).await;
        frames.until("a request afterwards", |seen| seen.on(AFTER).ended).await?;
        let status = frames.seen().on(AFTER).status();
        if status != Some(204) {
            return Err(format!("a request afterwards gets {status:?}"));
        }
        let faults: Vec<_> = frames.seen().goaways.iter().filter(|goaway| goaway.code != 0).collect();
        if faults.is_empty() { Ok(()) } else { Err(format!("{faults:?}")) }
    };
    match served.await {
        // It may be that the end of the connection would have been right too, and came later.
        Err(_) if came_by_now(wanted, frames.seen()) == Some(End::Connection) => Ok(()),
        other => other,
    }
}

/// The stream of the request afterwards.
const AFTER: u32 = 9_999;

//! The contenders, and the origin behind them: started, ready, and what they have used.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::configs::{self, Facts, Shape};
use crate::process::{Running, Usage, signal};
use crate::tls::Identity;
use crate::{Failure, HOST, Options};

/// From the start of a program until it must answer.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// The floor.
    Relay,
    Weir,
    /// Weir with its express lane off: HTTP/1 over the general lane.
    WeirGeneral,
    Haproxy,
    Nginx,
    Envoy,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Relay, Self::Weir, Self::WeirGeneral, Self::Haproxy, Self::Nginx, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Weir => "weir",
            Self::WeirGeneral => "weir-general",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What all contenders of a run share.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) folder: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
}

/// The origin server and what reached it.
pub(crate) struct Origin {
    pub(crate) ports: (u16, u16),
    _running: Running,
}

/// What reached both versions: requests, connections, requests with X-Forwarded-For.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) v1: [u64; 3],
    pub(crate) v2: [u64; 3],
}

impl Counts {
    pub(crate) fn requests(&self) -> u64 {
        self.v1[0] + self.v2[0]
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let less = |now: [u64; 3], then: [u64; 3]| [now[0] - then[0], now[1] - then[1], now[2] - then[2]];
        Self { v1: less(self.v1, before.v1), v2: less(self.v2, before.v2) }
    }
}

impl Origin {
    pub(crate) fn start(cpu: u32) -> Result<Self, Failure> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut running = Running::start(cpu, Command::new(own).arg("origin"))?;
        let output = running.child().stdout.take().ok_or("the origin says nothing")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(|error| format!("origin: {error}"))?;
        let mut ports = line.split_whitespace().filter_map(|port| port.parse().ok());
        let (Some(v1), Some(v2)) = (ports.next(), ports.next()) else {
            return Err(format!("the origin did not start: `{line}`"));
        };
        Ok(Self { ports: (v1, v2), _running: running })
    }

    pub(crate) async fn counts(&self) -> Result<Counts, Failure> {
        Ok(Counts { v1: counts(self.ports.0).await?, v2: counts(self.ports.1).await? })
    }
}

async fn counts(port: u16) -> Result<[u64; 3], Failure> {
    let answer = get(port, "origin", "/__counts").await?;
    let mut numbers = answer.split_whitespace().rev().take(3).filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(forwarded), Some(connections), Some(requests)) => Ok([requests, connections, forwarded]),
        _ => Err(format!("the origin's counts are `{answer}`")),
    }
}

/// One request on a connection of its own; the whole answer as text.
pub(crate) async fn get(port: u16, host: &str, path: &str) -> Result<String, Failure> {
    let asked = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("127.0.0.1:{port}{path}: {error}")),
        Err(_late) => Err(format!("127.0.0.1:{port}{path}: no answer within 5 s")),
    }
}

/// A contender that runs.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// Its configuration.
    file: PathBuf,
    ports: Ports,
    running: Running,
    folder: PathBuf,
}

/// The ports of a contender.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) tls: u16,
    pub(crate) stats: u16,
}

impl Ports {
    /// Three that are free now.
    fn free() -> Result<Self, Failure> {
        let bind = || TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string());
        let held = [bind()?, bind()?, bind()?];
        let port = |one: &TcpListener| one.local_addr().map(|it| it.port()).map_err(|error| error.to_string());
        Ok(Self { plain: port(&held[0])?, tls: port(&held[1])?, stats: port(&held[2])? })
    }

    pub(crate) fn facts<'a>(&self, stage: &'a Stage, folder: &'a Path) -> Facts<'a> {
        let Self { plain, tls, stats } = *self;
        Facts { folder, identity: &stage.identity, plain, tls, stats, origins: stage.origin.ports }
    }
}

impl Stage {
    /// Starts a contender in a new folder and waits until it answers.
    pub(crate) async fn start(&self, kind: Kind, shape: &Shape) -> Result<Contender, Failure> {
        let folder = self.folder.join(kind.name());
        // The folder of the last round has its sockets and state.
        let _none = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let ports = Ports::free()?;
        let file = folder.join("peers.conf").with_extension(if kind == Kind::Envoy { "yaml" } else { "conf" });
        let facts = ports.facts(self, &folder);
        let text = match kind {
            Kind::Relay => String::new(),
            Kind::Weir => configs::weir(&facts, "", shape),
            Kind::WeirGeneral => configs::weir(&facts, EXPRESS_OFF, shape),
            Kind::Haproxy => configs::haproxy(&facts, shape),
            Kind::Nginx => configs::nginx(&facts),
            Kind::Envoy => configs::envoy(&facts),
        };
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let log = fs::File::create(folder.join("output.log")).map_err(|error| error.to_string())?;
        let program = self.program(kind, &file, ports.plain)?;
        let running = Running::start_logged(self.options.proxy_cpu, &program, log)?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (plain, tls) = (address(ports.plain), address(ports.tls));
        let mut contender = Contender { kind, plain, tls, file, ports, running, folder };
        contender.ready().await?;
        Ok(contender)
    }

    fn program(&self, kind: Kind, file: &Path, plain: u16) -> Result<Command, Failure> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = match kind {
            Kind::Relay => Command::new(own),
            Kind::Weir | Kind::WeirGeneral => Command::new(&self.options.weir),
            Kind::Haproxy => Command::new("haproxy"),
            Kind::Nginx => Command::new("nginx"),
            Kind::Envoy => Command::new(&self.options.envoy),
        };
        match kind {
            Kind::Relay => {
                command.args(["relay", &format!("127.0.0.1:{plain}")]);
                command.arg(format!("127.0.0.1:{}", self.origin.ports.0))
            }
            Kind::Weir | Kind::WeirGeneral => command.args(["run", "-c"]).arg(file),
            Kind::Haproxy => command.args(["-db", "-f"]).arg(file),
            Kind::Nginx => command.arg("-c").arg(file),
            Kind::Envoy => command.arg("-c").arg(file).args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "error",
            ]),
        };
        Ok(command)
    }

    /// Whether this Weir has an express lane that can be switched off.
    pub(crate) fn has_two_lanes(&self) -> Result<bool, Failure> {
        let ports = Ports::free()?;
        let file = self.folder.join("two-lanes.yaml");
        let text = configs::weir(&ports.facts(self, &self.folder), EXPRESS_OFF, &Shape::default());
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let check = Command::new(&self.options.weir).args(["check", "--offline", "-c"]).arg(&file).output();
        Ok(check.map_err(|error| format!("{}: {error}", self.options.weir.display()))?.status.success())
    }
}

/// What turns Weir's express lane off, in its `runtime`.
const EXPRESS_OFF: &str = ", express_lane: false";

impl Contender {
    async fn ready(&mut self) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + READY_WITHIN;
        loop {
            let answer = get(self.plain.port(), HOST, "/").await;
            if answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            if self.running.ended() || tokio::time::Instant::now() > until {
                return Err(format!("{} did not become ready; it said:\n{}", self.kind, self.said()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of what it wrote.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(self.folder.join("output.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    pub(crate) fn usage(&self) -> Usage {
        self.running.usage()
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has its configuration replaced at once by the file `prepared`, and tells it. Writes nothing, so that the load,
    /// which runs on the same CPU, is not kept waiting.
    pub(crate) fn reload(&self, prepared: &Path) -> Result<(), Failure> {
        let next = self.folder.join("next");
        let replaced = fs::hard_link(prepared, &next).and_then(|()| fs::rename(&next, &self.file));
        replaced.map_err(|error| format!("{}: {error}", self.file.display()))?;
        signal(self.running.pid(), Signal::HUP);
        Ok(())
    }
}

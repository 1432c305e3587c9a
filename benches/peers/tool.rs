//! wrk and h2load as closed loops, and whether what they say is good.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Running;
use crate::{Failure, HOST};

/// A load program that runs for a given time.
pub(crate) struct Tool {
    name: &'static str,
    running: Running,
    until: tokio::time::Instant,
}

/// What h2load does.
pub(crate) struct Calls<'a> {
    pub(crate) connections: usize,
    /// At once on each.
    pub(crate) streams: usize,
    pub(crate) path: &'a str,
    /// The file with the body of each request; none sends none.
    pub(crate) body: Option<&'a Path>,
    pub(crate) grpc: bool,
}

impl Tool {
    /// HTTP/1 on so many connections.
    pub(crate) fn wrk(
        cpu: u32,
        address: SocketAddr,
        tls: bool,
        connections: usize,
        seconds: u64,
    ) -> Result<Self, Failure> {
        let scheme = if tls { "https" } else { "http" };
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-H", &format!("Host: {HOST}")]);
        command.arg(format!("{scheme}://{address}/"));
        Self::start("wrk", cpu, &mut command, seconds)
    }

    /// HTTP/2, over TLS or by prior knowledge.
    pub(crate) fn h2load(
        cpu: u32,
        address: SocketAddr,
        tls: bool,
        calls: &Calls<'_>,
        seconds: u64,
    ) -> Result<Self, Failure> {
        let scheme = if tls { "https" } else { "http" };
        let mut command = Command::new("h2load");
        command.args(["-t1", &format!("-c{}", calls.connections), &format!("-m{}", calls.streams)]);
        command.args([&format!("-D{seconds}"), &format!("--connect-to={address}")]);
        if let Some(body) = calls.body {
            command.arg("-d").arg(body);
        }
        if calls.grpc {
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        }
        command.arg(format!("{scheme}://{HOST}{}", calls.path));
        Self::start("h2load", cpu, &mut command, seconds)
    }

    fn start(name: &'static str, cpu: u32, command: &mut Command, seconds: u64) -> Result<Self, Failure> {
        let running = Running::start(cpu, command)?;
        Ok(Self { name, running, until: tokio::time::Instant::now() + Duration::from_secs(seconds + 10) })
    }

    /// Waits for its end and reads its verdict.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        // It says less than a pipe holds, so that waiting first cannot block it.
        while !self.running.ended() {
            if tokio::time::Instant::now() > self.until {
                return Err(format!("{} did not end", self.name));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let child = self.running.child();
        let mut said = String::new();
        let (output, error) = (child.stdout.take(), child.stderr.take());
        if let Some(output) = output {
            read(output, &mut said)?;
        }
        if let Some(error) = error {
            read(error, &mut said)?;
        }
        verdict(self.name, &said)
    }
}

fn read(mut from: impl Read, to: &mut String) -> Result<(), Failure> {
    from.read_to_string(to).map(|_| ()).map_err(|error| error.to_string())
}

fn verdict(name: &str, said: &str) -> Result<(), Failure> {
    let good = match name {
        "wrk" => said.contains("Requests/sec:") && !said.contains("Non-2xx") && !said.contains("Socket errors"),
        _ => {
            let requests = said.lines().find(|line| line.starts_with("requests:")).unwrap_or_default();
            let statuses = said.lines().find(|line| line.starts_with("status codes:")).unwrap_or_default();
            requests.contains(" 0 failed, 0 errored, 0 timeout")
                && statuses.contains(" 0 3xx, 0 4xx, 0 5xx")
                && said.contains("Application protocol: h2")
        }
    };
    if good { Ok(()) } else { Err(format!("{name} reports failures:\n{said}")) }
}

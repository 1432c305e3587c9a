//! The proxy of the demo: this program again, as a child with its log in a file.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::cli::failure::{Exit, Failure};

/// How long the child may take to end: the deadline in the demo's file, and a little more.
const END_TIMEOUT: Duration = Duration::from_secs(7);
/// How often it is checked meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of its log that are shown when it fails.
const TAIL: usize = 10;

/// The child; it is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts the proxy with this file.
    pub(super) fn start(config: impl AsRef<Path>, log: PathBuf) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io("this program's own path", &error))?;
        let out = File::create(&log).map_err(|error| Failure::io(log.display(), &error))?;
        let errors = out.try_clone().map_err(|error| Failure::io(log.display(), &error))?;
        let process = Command::new(&program)
            .arg("run")
            .arg("--config")
            .arg(config.as_ref())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            // Ctrl-C goes to the whole group of the terminal; the child is to hear from the demo only.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::io(program.display(), &error))?;
        Ok(Self { process, log })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails once the child has ended.
    pub(super) fn alive(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failure(&format!("the proxy ended ({status})"))),
            Err(error) => Err(Failure::io("the proxy", &error)),
        }
    }

    /// `what`, with the end of the log.
    pub(super) fn failure(&self, what: &str) -> Failure {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n  ");
        let tail = anstream::adapter::strip_str(&tail).to_string();
        Failure::new(Exit::FAILURE, format!("{what}; its log ends with\n  {tail}"))
            .help(format!("the whole log is in {}", self.log.display()))
    }

    /// Tells the child to end and waits for it; when it takes too long it is killed.
    pub(super) async fn stop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // It may have ended by itself in between, which is as good.
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

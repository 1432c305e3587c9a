//! Children that end with their owner, and what a process and its children have used.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// `utime` and `stime` of /proc/PID/stat are in these, on every architecture that Weir is built for.
const TICKS_PER_SECOND: f64 = 100.0;
/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);

/// So that a child of this program does not outlive it, however it ends.
pub(crate) fn die_with_parent() {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("peers: this child may outlive its parent: {error}");
    }
}

/// A running program, with all that it starts. Dropping it ends them, by id.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts a program on one CPU.
    pub(crate) fn start(cpu: u32, program: &mut Command) -> Result<Self, Failure> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "-c", &cpu.to_string()]).arg(program.get_program());
        command.args(program.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child })
    }

    /// The same with its output in a file, for programs that run long.
    pub(crate) fn start_logged(cpu: u32, program: &Command, log: fs::File) -> Result<Self, Failure> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "-c", &cpu.to_string()]).arg(program.get_program());
        command.args(program.get_args());
        let error = log.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(log).stderr(error);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child })
    }

    /// The program's own id: what starts it replaces itself by it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, to read what it says.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it and all its children have used until now.
    pub(crate) fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for pid in family(self.pid()) {
            if let Some(one) = Usage::of(pid) {
                sum.user += one.user;
                sum.system += one.system;
                sum.resident += one.resident;
            }
        }
        sum
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = family(self.pid());
        if self.ended() {
            return;
        }
        signal(self.pid(), Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && !self.ended() {
            wait_a_little();
        }
        if self.ended() {
            return;
        }
        family.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        let _reaped = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "dropping cannot await, and nothing is measured meanwhile")]
fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Sends a signal; a process that is gone already is no failure.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

/// CPU seconds and resident bytes.
#[derive(Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) resident: u64,
}

impl Usage {
    fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        let ticks = |at: usize| stat.get(at).and_then(|field| field.parse::<f64>().ok());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self { user: ticks(11)? / TICKS_PER_SECOND, system: ticks(12)? / TICKS_PER_SECOND, resident: kib * 1024 })
    }
}

/// The fields of /proc/PID/stat from the state on (the third field is at 0); the name before may contain anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A process and all below it.
fn family(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let parent = stat(pid).and_then(|stat| stat.get(1)?.parse::<u32>().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        let below = children.remove(pid).unwrap_or_default();
        found.extend(below);
        at += 1;
    }
    found
}

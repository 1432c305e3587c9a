//! The child process: started, signalled, waited for, and ended without leaving anything behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

use super::FAREWELL;

/// A signal to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Stop in good order.
    Term,
    /// Reload.
    Hup,
    /// Ctrl-C.
    Int,
    /// Hand over to a successor.
    Quit,
    /// Open log files anew.
    Usr1,
    /// Nothing that Weir knows.
    Usr2,
    /// Nothing that Weir knows, either.
    Alarm,
    /// Stand still.
    Stop,
    /// Go on.
    Continue,
    /// End now: nothing can be done about it.
    Kill,
}

/// How the process ended; set by the thread that waits for it.
type Exit = Arc<(Mutex<Option<ExitStatus>>, Condvar)>;

pub(super) struct Process {
    pid: Pid,
    exit: Exit,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts the command with its output in files in `dir`.
    pub(super) fn spawn(command: Command, dir: &Path) -> Self {
        Self::spawn_into(command, dir, (None, None))
    }

    /// Starts the command with its standard output and standard error there, or else in files in `dir`.
    pub(super) fn spawn_into(mut command: Command, dir: &Path, output: (Option<Stdio>, Option<Stdio>)) -> Self {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        command.stdout(output.0.unwrap_or_else(|| File::create(&stdout).unwrap().into()));
        command.stderr(output.1.unwrap_or_else(|| File::create(&stderr).unwrap().into()));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = Pid::from_child(&child);
        let exit = Exit::default();
        let told = exit.clone();
        // A thread of its own, because a drop must be able to wait where no runtime runs any more. The status is
        // taken and told under one lock, so that no signal can go to a process id that was given away again.
        std::thread::spawn(move || {
            let waited = rustix::process::waitid(
                rustix::process::WaitId::Pid(pid),
                rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
            );
            waited.unwrap();
            let mut exit = told.0.lock().unwrap();
            *exit = Some(child.wait().unwrap());
            told.1.notify_all();
        });
        Self { pid, exit, stdout, stderr }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn exited(&self) -> Option<ExitStatus> {
        *self.exit.0.lock().unwrap()
    }

    /// Sends a signal, unless the process has ended.
    pub(super) fn signal(&self, signal: Signal) {
        let exit = self.exit.0.lock().unwrap();
        if exit.is_none() {
            kill_process(self.pid, signal.into()).unwrap();
        }
    }

    pub(super) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub(super) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn wait(&self, up_to: Duration) -> Option<ExitStatus> {
        let exit = self.exit.0.lock().unwrap();
        *self.exit.1.wait_timeout_while(exit, up_to, |exit| exit.is_none()).unwrap().0
    }

    /// Ends the process: politely, then less so.
    fn end(&self) -> ExitStatus {
        for signal in [Signal::Term, Signal::Term, Signal::Kill] {
            self.signal(signal);
            if let Some(status) = self.wait(FAREWELL) {
                return status;
            }
        }
        panic!("process {} survives SIGKILL", self.pid());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let status = self.end();
        let stderr = self.stderr();
        let panicked = stderr.contains("panicked at") || status.code() == Some(101);
        let crashed = status.core_dumped() || matches!(status.signal(), Some(4 | 6 | 7 | 8 | 11));
        if std::thread::panicking() || panicked || crashed {
            eprintln!("---- weir ended with {status}; the end of its standard output:\n{}", tail(&self.stdout()));
            eprintln!("---- and of its standard error:\n{}", tail(&stderr));
        }
        if (panicked || crashed) && !std::thread::panicking() {
            panic!("weir panicked or crashed: {status}");
        }
    }
}

impl From<Signal> for rustix::process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Term => Self::TERM,
            Signal::Hup => Self::HUP,
            Signal::Int => Self::INT,
            Signal::Quit => Self::QUIT,
            Signal::Usr1 => Self::USR1,
            Signal::Usr2 => Self::USR2,
            Signal::Alarm => Self::ALARM,
            Signal::Stop => Self::STOP,
            Signal::Continue => Self::CONT,
            Signal::Kill => Self::KILL,
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Lines of a log that tell what happened last.
const LINES: usize = 60;

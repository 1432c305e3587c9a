//! `weir demo`: everything that is needed to see a split move, on one machine and with one command.
//!
//! ```text
//! load ─ 50 requests a second ─► weir run (a child process) ─► origin v1
//!                                        ▲ weir-demo.yaml   └─► origin v2, a little slower
//! screen ◄─ status, counts               └ edited by whoever watches
//! ```
//!
//! The proxy is this same program as a child, so what is shown is what will run elsewhere: its file, its
//! signals, its control API. Origins, load and screen share one thread here.
//!
//! Invariant: however the demo ends, the child ends with it, and its file and log stay.

mod child;
mod files;
mod load;
mod origin;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::child::Child;
use self::files::{Files, Ports};
use self::load::Load;
use super::arguments::DemoArguments;
use super::client::{Client, Server};
use super::failure::{Exit, Failure};
use super::screen::Screen;
use super::{print, status, table, told_to_stop};
use crate::admin::wire::Status;

/// How long the child may take until it answers.
const START: Duration = Duration::from_secs(10);
/// How often it is looked at while it starts.
const LOOK: Duration = Duration::from_millis(50);
/// How often the table is shown to a person, and to a file.
const REDRAW: Duration = Duration::from_secs(1);
const REPRINT: Duration = Duration::from_secs(2);
/// Starts with other ports, when somebody took one between its choice and its use.
const ATTEMPTS: u32 = 3;

/// `weir demo`.
pub(super) async fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let files = Files::prepare(&arguments.dir)?;
    let v1 = origin::start("v1", Duration::from_millis(2)).await?;
    let v2 = origin::start("v2", Duration::from_millis(8)).await?;
    let mut demo = tokio::select! {
        started = start(&files, arguments.port_base, [v1, v2]) => started?,
        () = told_to_stop() => return Ok(()),
    };
    let load = Arc::new(Load::default());
    let workers = load.start(demo.web.clone());
    let over = async {
        match arguments.length {
            Some(length) => sleep(length).await,
            None => std::future::pending().await,
        }
    };
    let shown = tokio::select! {
        shown = demo.show(&files, &load) => shown,
        () = told_to_stop() => Ok(()),
        () = over => Ok(()),
    };
    drop(workers);
    demo.child.stop().await;
    shown?;
    let (answered, failed) = load.totals();
    print(&format!(
        "\n{answered} requests answered, {failed} failed; the file and the log stay in {}\n",
        files.directory()
    ))
}

/// The running parts.
struct Demo {
    child: Child,
    client: Client,
    admin: Server,
    web: Server,
}

async fn start(files: &Files, port_base: Option<u16>, origins: [u16; 2]) -> Result<Demo, Failure> {
    let mut attempt = 1;
    loop {
        let ports = match (port_base, attempt) {
            (Some(first), _) => Ports::from_base(first),
            (None, 1) => Ports::usual_or_free()?,
            (None, _) => Ports::free()?,
        };
        files.write_config(ports, origins)?;
        let child = Child::start(files.config(), files.log())?;
        let local = |port: u16| Server::Tcp { authority: format!("127.0.0.1:{port}") };
        let (admin, web) = (local(ports.admin), local(ports.web));
        let mut demo = Demo { child, client: Client::plain(admin.clone()), admin, web };
        match demo.ready().await {
            Ok(()) => return Ok(demo),
            Err(failure) if attempt == ATTEMPTS || port_base.is_some() => return Err(failure),
            Err(_) => attempt += 1,
        }
    }
}

impl Demo {
    /// Waits until the child serves, as long as it lives. It must be the child that answers, not another Weir.
    async fn ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        loop {
            self.child.alive()?;
            if let Ok(status) = self.client.get::<Status>(STATUS).await
                && status.pid == self.child.id()
                && status.state == "ready"
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.child.failure("the proxy did not become ready within 10 s"));
            }
            sleep(LOOK).await;
        }
    }

    /// Shows the status until something breaks or nobody looks any more.
    async fn show(&mut self, files: &Files, load: &Load) -> Result<(), Failure> {
        let mut screen = Screen::open()?;
        let mut every = interval(if screen.is_terminal() { REDRAW } else { REPRINT });
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.child.alive()?;
            let looks = match self.client.get::<Status>(STATUS).await {
                Ok(status) => screen.show(&self.page(&status, files, load))?,
                Err(failure) => screen.complain(&failure)?,
            };
            if !looks {
                return Ok(());
            }
        }
    }

    fn page(&self, status: &Status, files: &Files, load: &Load) -> String {
        let split = files::split_of(status);
        let (answered, failed) = load.totals();
        let shares =
            load.recent().map_or_else(String::new, |(v1, v2)| format!("; of the last 5 s: v1 {v1:.0}%, v2 {v2:.0}%"));
        format!(
            "Weir splits the traffic of `shop` between two versions. Ctrl-C ends it.\n\n\
             \x20 edit {file}: change the split (now {split}) and watch the share move\n\
             \x20      sed -i 's/split:.*/split: {{ v1: 50, v2: 50 }}/' {file}\n\
             \x20 or shift it at run time, and back with --reset:\n\
             \x20      {weir} weight shop v1=50 v2=50 --admin {admin}\n\
             \x20 ask it yourself: curl {web}/\n\n\
             load: {rate} requests a second, {answered} answered, {failed} failed{shares}\n\n{table}",
            file = files.shown_config(),
            weir = program(),
            admin = self.admin,
            web = self.web,
            rate = load::RATE,
            table = table::render(status, status::now()),
        )
    }
}

const STATUS: &str = "/api/v1/status";

/// How this program is called from here.
fn program() -> String {
    let shown = |path: &Path| {
        let here = std::env::current_dir().ok();
        let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
        relative.unwrap_or_else(|| path.to_owned()).display().to_string()
    };
    std::env::current_exe().map_or_else(|_| "weir".to_owned(), |path| shown(&path))
}

/// A failure of the demo itself.
fn broken(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::FAILURE, format!("{what}: {error}"))
}

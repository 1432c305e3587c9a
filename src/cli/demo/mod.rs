//! `weir demo`: everything that is needed to see rollouts go forward and back, on one machine and with one command.
//!
//! ```text
//! load ─ 50 requests a second ─► weir run (a child process) ─┬─► origins v1, v2: well
//!                                        ▲ weir-demo.yaml    ├─► origin v3: errors
//! screen ◄─ rollout, status, counts      │                   └─► origin v4: slow
//!                                        └ `release` is edited by the play, then by whoever watches
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
mod play;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::child::Child;
use self::files::{Files, Ports};
use self::load::Load;
use self::play::DemoScene;
use super::arguments::DemoArguments;
use super::control_api::ControlApi;
use super::failure::Failure;
use super::screen::Screen;
use super::{interrupted, print, rollout, status, table};
use crate::admin::wire::{Rollout, RolloutList, Status};
use crate::http_client::Server;

/// How long the child may take until it answers.
const START: Duration = Duration::from_secs(10);
/// How often it is checked while it starts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often the table is shown to a person, and to a file.
const REDRAW: Duration = Duration::from_secs(1);
const REPRINT: Duration = Duration::from_secs(2);
/// Starts with other ports, when somebody took one between its choice and its use.
const ATTEMPTS: u32 = 3;

/// `weir demo`.
pub(super) async fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let files = Files::prepare(&arguments.dir)?;
    let mut origins = [0; 4];
    for (port, character) in origins.iter_mut().zip(play::CAST) {
        *port = origin::start(character).await?;
    }
    let mut demo = tokio::select! {
        started = start(&files, arguments.port_base, origins) => started?,
        () = interrupted() => return Ok(()),
    };
    let load = Arc::new(Load::default());
    let workers = load.start(&demo.web);
    let over = async {
        match arguments.length {
            Some(length) => sleep(length).await,
            None => std::future::pending().await,
        }
    };
    let stage = DemoScene::default();
    let player = ControlApi::without_token(demo.admin.clone());
    let shown = tokio::select! {
        shown = demo.show(&files, &load, &stage) => shown,
        failure = stage.play(&files, &player) => Err(failure),
        () = interrupted() => Ok(()),
        () = over => Ok(()),
    };
    drop(workers);
    demo.child.stop().await;
    shown?;
    let (answered, errors, lost) = load.totals();
    print(&format!(
        "\n{answered} requests answered, {errors} of them with an error of v3, {lost} lost; the file and the log stay in {}\n",
        files.directory()
    ))
}

/// The running parts.
struct Demo {
    child: Child,
    client: ControlApi,
    admin: Server,
    /// Host and port of the proxy's listener.
    web: String,
}

async fn start(files: &Files, port_base: Option<u16>, origins: [u16; 4]) -> Result<Demo, Failure> {
    let mut attempt = 1;
    loop {
        let ports = match (port_base, attempt) {
            (Some(first), _) => Ports::from_base(first),
            (None, 1) => Ports::usual_or_free()?,
            (None, _) => Ports::free()?,
        };
        files.write_config(ports, origins)?;
        let child = Child::start(files.config(), files.log())?;
        let local = |port: u16| format!("127.0.0.1:{port}");
        let (admin, web) = (Server::Http(local(ports.admin)), local(ports.web));
        let mut demo = Demo { child, client: ControlApi::without_token(admin.clone()), admin, web };
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
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Shows the status until something breaks or nobody looks any more.
    async fn show(&mut self, files: &Files, load: &Load, stage: &DemoScene) -> Result<(), Failure> {
        let mut screen = Screen::open()?;
        let mut every = interval(if screen.is_terminal() { REDRAW } else { REPRINT });
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.child.alive()?;
            let seen = async { Ok((self.client.get(STATUS).await?, self.client.get(ROLLOUTS).await?)) };
            let looks = match seen.await {
                Ok((status, rollouts)) => screen.show(&self.page(&status, &rollouts, files, load, stage))?,
                Err(failure) => screen.complain(&failure)?,
            };
            if !looks {
                return Ok(());
            }
        }
    }

    fn page(&self, status: &Status, rollouts: &RolloutList, files: &Files, load: &Load, stage: &DemoScene) -> String {
        let (answered, errors, lost) = load.totals();
        let shares = load.recent().into_iter().map(|(version, share)| format!("{version} {share:.0}%"));
        let shares = shares.collect::<Vec<_>>().join(", ");
        let shop = rollouts.rollouts.first().map_or_else(String::new, |shop| {
            let newest = shop.entries.len().saturating_sub(EVENTS);
            rollout::render(&Rollout {
                entries: shop.entries.get(newest..).unwrap_or_default().to_vec(),
                ..shop.clone()
            })
        });
        format!(
            "Weir rolls `shop` out from version to version. Ctrl-C ends it.\n\n{act}\n\
             load: {rate} requests a second, {answered} answered, {errors} of them errors, {lost} lost; \
             of the last 5 s: {shares}\n\n{shop}\n{table}",
            act = stage.text(&files.shown_config(), &program(), &self.admin.to_string(), &self.web),
            rate = load::RATE,
            table = table::render(status, status::now()),
        )
    }
}

/// Events of the rollout that are shown.
const EVENTS: usize = 4;

const STATUS: &str = "/api/v1/status";
const ROLLOUTS: &str = "/api/v1/rollouts";

/// How this program is called from here.
fn program() -> String {
    let shown = |path: &Path| {
        let here = std::env::current_dir().ok();
        let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
        relative.unwrap_or_else(|| path.to_owned()).display().to_string()
    };
    std::env::current_exe().map_or_else(|_| "weir".to_owned(), |path| shown(&path))
}

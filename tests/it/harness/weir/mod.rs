//! The program under test: the real binary in a directory of its own, spoken to only as users can.
//!
//! ```text
//! DIR/conf/weir.yaml   the configuration; replaced in every way that people and machines do it (see `rewrite`)
//! DIR/admin.sock       the control API
//! DIR/stdout, stderr   what it printed
//! ```
//!
//! Listeners say port 0; the status tells the real addresses. Dropping a [`Weir`] ends the process; a panic in its
//! log, or a crash, fails the story even if nobody looked.

mod metrics;
mod process;
mod rewrite;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use weir::admin::wire::{Rollout, RolloutList, Status};
use weir::model::Address;

pub(crate) use metrics::Metrics;
pub(crate) use process::Signal;
pub(crate) use rewrite::{Rewrite, Torn};

use super::client::{Failure, H1, Request};
use super::eventually::{eventually, patience};
use super::origin::Origin;
use process::Process;

/// A running Weir.
pub(crate) struct Weir {
    dir: TempDir,
    program: PathBuf,
    process: Process,
}

/// How a [`Weir`] shall be started; [`Weir::plan`] begins one.
pub(crate) struct Plan {
    dir: TempDir,
    program: PathBuf,
    arguments: Option<Vec<String>>,
    environment: Vec<(String, String)>,
    layout: Layout,
    template: String,
    output: (Option<Stdio>, Option<Stdio>),
}

/// How the configuration lies in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A plain file.
    File,
    /// As Kubernetes mounts a ConfigMap: a symlink through `..data`.
    ConfigMap,
}

/// The configuration of one service `shop`, whose versions bear the names of these origins and have these weights.
///
/// One listener `web` for any host and path, telemetry, admin, short deadlines. More keys for the service go in by
/// `.changed("split:", "drain: { requests: 1s }\n    split:")`, or write the YAML out.
pub(crate) fn shop(versions: &[(&Origin, f64)]) -> String {
    let named = |what: fn(&Origin, f64) -> String| {
        let lines: Vec<String> = versions.iter().map(|(origin, weight)| what(origin, *weight)).collect();
        lines.join(", ")
    };
    let endpoints = named(|origin, _| format!("{}: {{ endpoints: [\"{}\"] }}", origin.name(), origin.address()));
    let split = named(|origin, weight| format!("{}: {weight}", origin.name()));
    format!(
        "version: 1
listeners:
  - {{ name: web, address: \"127.0.0.1:0\" }}
telemetry: {{ address: \"127.0.0.1:0\" }}
admin: {{ address: \"{{admin}}\" }}
shutdown: {{ deadline: 5s }}
state: {{ directory: \"{{dir}}/state\" }}
services:
  shop:
    versions: {{ {endpoints} }}
    split: {{ {split} }}
routes:
  - match: {{ path: / }}
    service: shop
"
    )
}

impl Plan {
    /// With this environment variable; nothing of the test's own environment reaches the process.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the configuration mounted as Kubernetes mounts a ConfigMap.
    pub(crate) fn config_map(self) -> Self {
        Self { layout: Layout::ConfigMap, ..self }
    }

    /// With other arguments than `run -c FILE`.
    pub(crate) fn arguments(self, arguments: &[&str]) -> Self {
        Self { arguments: Some(arguments.iter().map(|argument| (*argument).to_owned()).collect()), ..self }
    }

    /// With its standard output there, instead of in a file that [`Weir::stdout`] reads.
    pub(crate) fn stdout_to(mut self, output: impl Into<Stdio>) -> Self {
        self.output.0 = Some(output.into());
        self
    }

    /// With its standard error there, instead of in a file that [`Weir::stderr`] reads.
    pub(crate) fn stderr_to(mut self, output: impl Into<Stdio>) -> Self {
        self.output.1 = Some(output.into());
        self
    }

    /// With another program in the place of `weir`.
    pub(crate) fn program(self, program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..self }
    }

    /// The directory that the process will own, to put certificates into before it starts; `{dir}` in the
    /// configuration.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file that holds the configuration.
    pub(crate) fn config(&self) -> PathBuf {
        config(self.dir())
    }

    /// Replaces the template, which may need to name files in [`Self::dir`].
    pub(crate) fn template(self, template: &str) -> Self {
        Self { template: template.to_owned(), ..self }
    }

    /// Starts the process and waits until it is ready.
    pub(crate) async fn start(self) -> Weir {
        let mut weir = self.spawn();
        weir.wait_ready().await;
        weir
    }

    /// Starts the process and does not wait: for what shall refuse to start.
    pub(crate) fn spawn(self) -> Weir {
        rewrite::lay_out(self.dir(), self.layout, &fill(&self.template, self.dir()));
        let arguments = self.arguments.clone().unwrap_or_else(|| {
            vec!["run".to_owned(), "-c".to_owned(), self.config().to_str().expect("a UTF-8 path").to_owned()]
        });
        let mut command = clean(Command::new(&self.program), self.dir());
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn_into(command, self.dir.path(), self.output);
        Weir { dir: self.dir, program: self.program, process }
    }
}

impl Weir {
    /// Starts the binary with this configuration and waits until it is ready.
    ///
    /// `{admin}` stands for the admin socket's address, `{dir}` for the process's own directory.
    pub(crate) async fn start(template: &str) -> Self {
        Self::plan(template).start().await
    }

    /// Begins a plan for one that starts otherwise.
    pub(crate) fn plan(template: &str) -> Plan {
        Plan {
            dir: TempDir::with_prefix("weir-it-").unwrap(),
            program: env!("CARGO_BIN_EXE_weir").into(),
            arguments: None,
            environment: Vec::new(),
            layout: Layout::File,
            template: template.to_owned(),
            output: (None, None),
        }
    }

    /// Waits until the status says `ready`; ends the story if the process ends instead.
    pub(crate) async fn wait_ready(&mut self) {
        let ready = async || {
            if let Some(status) = self.process.exited() {
                panic!("weir ended with {status} before it was ready");
            }
            match self.try_status().await {
                Ok(status) if status.state == "ready" => Ok(()),
                Ok(status) => Err(status.state),
                Err(why) => Err(why),
            }
        };
        eventually("weir is ready", ready).await;
    }

    /// The directory that the process owns.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file that holds the configuration.
    pub(crate) fn config(&self) -> PathBuf {
        config(self.dir())
    }

    /// The admin socket.
    pub(crate) fn admin(&self) -> Address {
        Address::Unix(self.dir().join(ADMIN))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The status.
    pub(crate) async fn status(&self) -> Status {
        self.try_status().await.unwrap_or_else(|why| panic!("no status: {why}"))
    }

    async fn try_status(&self) -> Result<Status, String> {
        let (status, body) =
            self.try_api("GET", "/api/v1/status", None).await.map_err(|failure| failure.to_string())?;
        if status != 200 {
            return Err(format!("{status} {body}"));
        }
        serde_json::from_value(body.clone()).map_err(|error| format!("{error} in {body}"))
    }

    /// Waits until the status is as `holds` says.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let probe = async || {
            let status = self.status().await;
            if holds(&status) { Ok(status) } else { Err(status) }
        };
        eventually(what, probe).await
    }

    /// Where this listener really listens.
    pub(crate) async fn address(&self, listener: &str) -> Address {
        let status = self.status().await;
        let found = status.listeners.iter().find(|found| found.name == listener);
        let found = found.unwrap_or_else(|| panic!("no listener `{listener}` in {:?}", status.listeners));
        found.address.parse().unwrap()
    }

    /// Where `/metrics`, `/livez` and `/readyz` really are.
    pub(crate) async fn telemetry(&self) -> Address {
        self.status().await.telemetry.expect("telemetry is configured").parse().unwrap()
    }

    /// Asks the control API; gives the status and the JSON of the answer (null without a body).
    pub(crate) async fn api(
        &self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> (u16, serde_json::Value) {
        self.try_api(method, path, body).await.unwrap_or_else(|failure| panic!("{method} {path}: {failure}"))
    }

    async fn try_api(
        &self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<(u16, serde_json::Value), Failure> {
        let request = match body {
            None => Request::new(method, path),
            Some(body) => {
                let request = Request::post(path, body.to_string()).header("content-type", "application/json");
                request.method(method)
            }
        };
        let request = request.host("localhost").header("connection", "close");
        let response = H1::try_connect(self.admin()).await?.try_send(&request).await?;
        let json = if response.body.is_empty() { serde_json::Value::Null } else { response.json() };
        Ok((response.status, json))
    }

    /// The metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        let mut telemetry = H1::connect(self.telemetry().await).await;
        Metrics::parse(telemetry.get("/metrics").await.expect(200).text())
    }

    /// Asks the telemetry listener (`/livez`, `/readyz`) and gives the status.
    pub(crate) async fn probe(&self, path: &str) -> u16 {
        H1::connect(self.telemetry().await).await.get(path).await.status
    }

    /// Writes a new configuration in this way; placeholders are filled.
    pub(crate) fn rewrite(&self, how: Rewrite, template: &str) {
        rewrite::rewrite(self.dir(), how, &fill(template, self.dir()));
    }

    /// What a template is as this one's configuration.
    pub(crate) fn filled(&self, template: &str) -> String {
        fill(template, self.dir())
    }

    /// Begins to write a new configuration in place and stops in the middle; [`Torn::finish`] writes the rest.
    pub(crate) fn tear(&self, template: &str) -> Torn {
        Torn::begin(self.dir(), &fill(template, self.dir()))
    }

    /// Reloads through the API; ends the story if the file is refused.
    pub(crate) async fn reload_and_wait(&self) -> serde_json::Value {
        let (status, body) = self.api("POST", "/api/v1/reload", None).await;
        assert_eq!(status, 200, "the reload is refused: {body:#}");
        body
    }

    /// Writes a new configuration and reloads it.
    pub(crate) async fn reconfigure(&self, template: &str) {
        self.rewrite(Rewrite::Rename, template);
        self.reload_and_wait().await;
    }

    /// Runs the same binary as a command that talks to this one: `cli(&["weight", "shop", "v2=50"])`.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = clean(Command::new(&self.program), self.dir());
        command.args(arguments).arg("--admin").arg(self.admin().to_string());
        run(command).await
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Starts the program again after it ended, over the same files.
    pub(crate) async fn start_again(&mut self) {
        self.wait_exit().await;
        self.spawn_again();
        self.wait_ready().await;
    }

    /// Starts the program again after it ended, and does not wait: for what shall refuse to start.
    pub(crate) fn spawn_again(&mut self) {
        let mut command = clean(Command::new(&self.program), self.dir());
        command.args(["run", "-c"]).arg(self.config());
        assert!(!self.stderr().contains("panicked at"), "{}", self.stderr());
        self.process = Process::spawn(command, self.dir());
    }

    /// Where the rollout of a service is.
    pub(crate) async fn rollout(&self, service: &str) -> Rollout {
        let (status, body) = self.api("GET", &format!("/api/v1/rollouts/{service}"), None).await;
        assert_eq!(status, 200, "{body}");
        let rollouts: RolloutList = serde_json::from_value(body).unwrap();
        rollouts.rollouts.into_iter().next().unwrap()
    }

    /// Waits until the rollout is as `holds` says.
    pub(crate) async fn rolls(&self, service: &str, what: &str, holds: impl Fn(&Rollout) -> bool) -> Rollout {
        let probe = async || {
            let rollout = self.rollout(service).await;
            if holds(&rollout) { Ok(rollout) } else { Err(rollout) }
        };
        eventually(what, probe).await
    }

    /// Waits until the rollout is in this phase.
    pub(crate) async fn until_phase(&self, service: &str, phase: &str) -> Rollout {
        self.rolls(service, &format!("{service} is {phase}"), |rollout| rollout.phase == phase).await
    }

    /// Waits for the process to end.
    pub(crate) async fn wait_exit(&self) -> ExitStatus {
        eventually("weir ends", async || self.process.exited()).await
    }

    /// Sends SIGTERM and waits for the process to end.
    pub(crate) async fn stop(&self) -> ExitStatus {
        self.signal(Signal::Term);
        self.wait_exit().await
    }

    /// How the process ended, if it did.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Resident memory, in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Open file descriptors.
    pub(crate) fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Threads.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count()
    }

    /// What it printed to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it printed to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }
}

/// Runs `weir` with these arguments in an empty directory, without a running one: `check`, `schema`, usage errors.
pub(crate) async fn run_weir(arguments: &[&str]) -> Output {
    let dir = TempDir::with_prefix("weir-it-").unwrap();
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_weir")), dir.path());
    command.args(arguments);
    run(command).await
}

async fn run(mut command: Command) -> Output {
    let what = format!("{command:?}");
    let output = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(patience(), output)
        .await
        .unwrap_or_else(|_| panic!("{what}: not done after {:?}", patience()))
        .unwrap()
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// A command that inherits nothing of the test's environment but what instruments it.
fn clean(mut command: Command, dir: &Path) -> Command {
    command.env_clear().current_dir(dir).env("HOME", dir).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    for kept in ["LLVM_PROFILE_FILE", "PATH"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

fn config(dir: &Path) -> PathBuf {
    dir.join(rewrite::CONF).join(rewrite::FILE)
}

fn fill(template: &str, dir: &Path) -> String {
    let dir = dir.to_str().expect("a UTF-8 path");
    let filled = template.replace("{admin}", &format!("unix:{dir}/{ADMIN}")).replace("{dir}", dir);
    if express_lane() || filled.contains("runtime:") || !filled.contains("\nservices:") {
        return filled;
    }
    filled.replacen("\nservices:", "\nruntime: { express_lane: false }\nservices:", 1)
}

/// Whether plain HTTP/1.1 takes the express lane, as it does unless `WEIR_TEST_LANE=general`: every story is told
/// over both lanes.
pub(crate) fn express_lane() -> bool {
    match std::env::var("WEIR_TEST_LANE").as_deref() {
        Ok("general") => false,
        Ok("express") | Err(_) => true,
        Ok(other) => panic!("WEIR_TEST_LANE is `{other}`; it can be `express` or `general`"),
    }
}

const ADMIN: &str = "admin.sock";
/// How long a dropped process may take to stop before it is told again.
const FAREWELL: Duration = Duration::from_secs(1);

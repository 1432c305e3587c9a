//! Commands about rollouts, and about what surrounds them: `weir rollout …`, `weir removable`, `weir drill`.

mod replay;
mod view;

use std::fmt;
use std::time::{Duration, SystemTime};

use hyper::Method;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::arguments::rollout::{
    DrillArguments, HistoryArguments, RemovableArguments, RolloutCommand, RolloutStatusArguments, StartArguments,
    WordArguments,
};
use super::arguments::{AdminArguments, ByArguments, Output};
use super::control_api::{ControlApi, segment};
use super::failure::{Exit, Failure};
use super::operate::{ask_reload, report, who};
use super::screen::Screen;
use super::{interrupted, notify, print};
use crate::admin::wire::{Changed, CommandRollout, History, InjectFault, Removable, Rollout, RolloutList, Status};

pub(super) use self::view::render;

/// How often a watch asks again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// How often a wait asks again.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// `weir rollout …`.
pub(super) async fn run(command: &RolloutCommand) -> Result<(), Failure> {
    match command {
        RolloutCommand::Start(arguments) => start(arguments).await,
        RolloutCommand::Status(arguments) if arguments.wait => wait(arguments).await,
        RolloutCommand::Status(arguments) => status(arguments).await,
        RolloutCommand::Pause(arguments) => send(arguments, "pause").await,
        RolloutCommand::Resume(arguments) => send(arguments, "resume").await,
        RolloutCommand::Promote(arguments) => send(arguments, "promote").await,
        RolloutCommand::Abort(arguments) => send(arguments, "abort").await,
        RolloutCommand::Approve(arguments) => send(arguments, "approve").await,
        RolloutCommand::Reject(arguments) => send(arguments, "reject").await,
        RolloutCommand::Retry(arguments) => send(arguments, "retry").await,
        RolloutCommand::Undo(arguments) => send(arguments, "undo").await,
        RolloutCommand::History(arguments) => history(arguments).await,
        RolloutCommand::Replay(arguments) => replay::run(arguments).await,
    }
}

async fn start(arguments: &StartArguments) -> Result<(), Failure> {
    let StartArguments { service, version, by, admin } = arguments;
    propose(admin, service, "start", version.clone(), by).await
}

async fn send(arguments: &WordArguments, verb: &str) -> Result<(), Failure> {
    propose(&arguments.admin, &arguments.service, verb, None, &arguments.by).await
}

async fn propose(
    admin: &AdminArguments,
    service: &str,
    verb: &str,
    version: Option<String>,
    by: &ByArguments,
) -> Result<(), Failure> {
    let (author, reason) = who(by);
    let body = CommandRollout { verb: verb.to_owned(), version, author: Some(author), reason };
    let changed: Changed = ControlApi::new(admin)?.call(Method::POST, &path(service), Some(&body)).await?;
    report(&changed, "nothing changed")
}

fn path(service: &str) -> String {
    format!("/api/v1/rollouts/{}", segment(service))
}

/// A target's service and version.
fn parts(target: &str) -> (&str, Option<&str>) {
    target.split_once('/').map_or((target, None), |(service, version)| (service, Some(version)))
}

async fn status(arguments: &RolloutStatusArguments) -> Result<(), Failure> {
    let client = ControlApi::new(&arguments.admin)?;
    let path = arguments.target.as_deref().map_or("/api/v1/rollouts".to_owned(), |target| path(parts(target).0));
    let first = shown(&client.get(&path).await?, arguments.output)?;
    if !arguments.watch {
        return print(&first);
    }
    tokio::select! {
        ended = watch(&client, &path, &first, arguments.output) => ended,
        () = interrupted() => Ok(()),
    }
}

async fn watch(client: &ControlApi, path: &str, first: &str, output: Output) -> Result<(), Failure> {
    let mut screen = Screen::open()?;
    let mut every = interval(REFRESH_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.tick().await;
    let mut watched = screen.show(first)?;
    while watched {
        every.tick().await;
        watched = match client.get(path).await {
            Ok(rollouts) => screen.show(&shown(&rollouts, output)?)?,
            Err(failure) => screen.complain(&failure)?,
        };
    }
    Ok(())
}

fn shown(rollouts: &RolloutList, output: Output) -> Result<String, Failure> {
    match output {
        Output::Table if rollouts.rollouts.is_empty() => Ok("no service has a rollout\n".to_owned()),
        Output::Table => Ok(rollouts.rollouts.iter().map(render).collect::<Vec<_>>().join("\n")),
        Output::Json => json(rollouts),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::new(Exit::FAILURE, error.to_string()))
}

/// The change whose rollout is waited for: what was before it is none of its result.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AwaitedChange {
    /// Whatever is in effect.
    None,
    /// A snapshot, or the file that it is of, should Weir be replaced meanwhile.
    Revision(u64, Option<String>),
    /// A file.
    Hash(String),
}

impl AwaitedChange {
    /// What the arguments say; with `--reload`, what the reload led to.
    async fn of(arguments: &RolloutStatusArguments, client: &ControlApi) -> Result<Self, Failure> {
        if arguments.reload {
            let changed = ask_reload(client, false).await?;
            let lines = changed.warnings.iter().chain(&changed.changes);
            lines.for_each(|line| notify(&super::table::clean(line)));
            return Ok(Self::Revision(changed.revision, changed.hash));
        }
        let hash = arguments.file_hash.clone().map(Self::Hash);
        let revision = arguments.revision.map(|revision| Self::Revision(revision, None));
        Ok(hash.or(revision).unwrap_or(Self::None))
    }

    /// Whether it is in effect, as of these.
    fn is_in(&self, found: &RolloutList) -> bool {
        match self {
            Self::None => true,
            Self::Revision(revision, hash) => {
                found.revision >= *revision || hash.as_ref().is_some_and(|hash| *hash == found.hash)
            }
            Self::Hash(hash) => *hash == found.hash,
        }
    }

    /// Waits until it is in effect.
    async fn wait(&self, client: &ControlApi, deadline: Instant) -> Result<(), Failure> {
        if *self == Self::None {
            return Ok(());
        }
        loop {
            // The service may come with it, so all are looked at.
            match client.get::<RolloutList>("/api/v1/rollouts").await {
                Ok(found) if self.is_in(&found) => return Ok(()),
                Ok(_) => {}
                Err(failure) if failure.exit == Exit::UNREACHABLE && Instant::now() < deadline => {}
                Err(failure) => return Err(failure),
            }
            if Instant::now() >= deadline {
                let failure = Failure::new(Exit::TIMED_OUT, format!("{self} is not in effect"));
                return Err(failure.help("`weir status` says what is, and why the file is not if it was refused"));
            }
            sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }
}

impl fmt::Display for AwaitedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Revision(revision, _) => write!(f, "revision {revision}"),
            Self::Hash(hash) => write!(f, "the file with the hash {hash}"),
        }
    }
}

/// Waits until a rollout is over. What happens meanwhile goes to stderr, the end to stdout.
async fn wait(arguments: &RolloutStatusArguments) -> Result<(), Failure> {
    let client = ControlApi::new(&arguments.admin)?;
    let (service, version) = parts(arguments.target.as_deref().unwrap_or_default());
    let (path, deadline) = (path(service), Instant::now() + arguments.timeout);
    let awaited = AwaitedChange::of(arguments, &client).await?;
    awaited.wait(&client, deadline).await?;
    // Without a change that is waited for, the version may still come with the file.
    let mut unchecked = version.filter(|_| awaited != AwaitedChange::None);
    let (mut last, mut goes_on) = (String::new(), false);
    loop {
        // A Weir that is being replaced is away for a moment.
        let found = match client.get::<RolloutList>(&path).await {
            Ok(found) => found.rollouts.into_iter().next(),
            Err(failure) if failure.exit == Exit::UNREACHABLE && !last.is_empty() => None,
            Err(failure) => return Err(failure),
        };
        if let Some(rollout) = found {
            let line = view::line(&rollout);
            if let (None, Some(version)) = (end(&rollout, version), unchecked.take()) {
                check_version(&client, service, version).await?;
            }
            goes_on = view::is_under_way(&rollout) && version.is_none_or(|v| rollout.canary.as_deref() == Some(v));
            match end(&rollout, version) {
                Some(true) => return print(&format!("{line}\n")),
                Some(false) => {
                    let failure = Failure::new(Exit::ROLLED_BACK, line);
                    return Err(match &rollout.hint {
                        Some(hint) => failure.help(super::table::clean(hint)),
                        None => failure,
                    });
                }
                None if line != last => {
                    notify(&line);
                    last = line;
                }
                None => {}
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(Exit::TIMED_OUT, timed_out(arguments, version, &last, goes_on))
                .help(if goes_on { "it goes on; `weir rollout status` shows it" } else { NOT_BEGUN }));
        }
        sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// Refuses a version that the service does not have: its rollout would be waited for in vain.
async fn check_version(client: &ControlApi, service: &str, version: &str) -> Result<(), Failure> {
    let status: Status = client.get(&format!("/api/v1/status?service={}", segment(service))).await?;
    let versions = status.services.iter().filter(|found| found.name == service).flat_map(|found| &found.versions);
    let names: Vec<String> = versions.map(|found| super::table::clean(&found.name)).collect();
    if names.is_empty() || names.iter().any(|name| name == version) {
        return Ok(());
    }
    let [service, version] = [service, version].map(super::table::clean);
    let failure = Failure::new(Exit::FAILURE, format!("service `{service}` has no version `{version}`"));
    Err(failure.help(format!("the file in effect has {}", names.join(", "))))
}

/// What can be done where the rollout that is waited for never began.
const NOT_BEGUN: &str =
    "a rollout begins where the file in effect has the version as `release`, or by `weir rollout start`";

/// What was not seen in time: the end of the rollout, or already its beginning.
fn timed_out(arguments: &RolloutStatusArguments, version: Option<&str>, last: &str, goes_on: bool) -> String {
    let timeout = humantime::format_duration(arguments.timeout);
    match version {
        Some(version) if !goes_on => {
            format!("no rollout of {} is under way after {timeout}: {last}", super::table::clean(version))
        }
        _ => format!("not over after {timeout}: {last}"),
    }
}

/// Whether the rollout is over, and if so, whether it succeeded. Where a version is named, its rollout counts: one of
/// another version is not its end.
fn end(rollout: &Rollout, version: Option<&str>) -> Option<bool> {
    let is = |found: &Option<String>| version.is_none_or(|version| found.as_deref() == Some(version));
    match &*rollout.phase {
        "succeeded" | "idle" if is(&rollout.stable) => Some(true),
        "rolled_back" | "aborted" if is(&rollout.canary) => Some(false),
        // It failed before, and something else was rolled out since.
        _ if version.is_some_and(|version| rollout.given_up.iter().any(|given| given.version == version))
            && !is(&rollout.canary) =>
        {
            Some(false)
        }
        _ => None,
    }
}

async fn history(arguments: &HistoryArguments) -> Result<(), Failure> {
    let HistoryArguments { service, limit, decisions, .. } = arguments;
    let since = arguments.since.map_or(0, |since| since.unix_ms(SystemTime::now()));
    let mut path = format!("{}/history?limit={limit}", path(service));
    // An older Weir refuses what it does not know.
    if *decisions {
        path.push_str("&decisions=true");
    }
    if since > 0 {
        path.push_str(&format!("&since_ms={since}"));
    }
    let history: History = ControlApi::new(&arguments.admin)?.get(&path).await?;
    match arguments.output {
        Output::Table if history.entries.is_empty() && (*decisions || since > 0) => {
            print(&format!("{}: nothing of that kind is known\n", super::table::clean(service)))
        }
        Output::Table => print(&view::history(&history)),
        Output::Json => print(&json(&history)?),
    }
}

/// `weir removable`.
pub(super) async fn removable(arguments: &RemovableArguments) -> Result<(), Failure> {
    let target = &arguments.target;
    let (service, version) = (segment(&target.service), segment(&target.version));
    let path = format!("/api/v1/removable/{service}/{version}?idle={}", arguments.idle.as_secs());
    let found: Removable = ControlApi::new(&arguments.admin)?.get(&path).await?;
    let sentence = super::table::clean(&found.sentence);
    if found.removable { print(&format!("{sentence}\n")) } else { Err(Failure::new(Exit::REFUSED, sentence)) }
}

/// `weir drill`.
pub(super) async fn drill(arguments: &DrillArguments) -> Result<(), Failure> {
    let (author, reason) = who(&arguments.by);
    let errors = arguments.errors.map_or(0.0, |errors| f64::from(errors.0.basis_points()) / 100.0);
    let delay = arguments.delay.unwrap_or_default();
    let body = InjectFault {
        service: arguments.service.clone(),
        version: arguments.version.clone(),
        errors,
        delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        seconds: arguments.lasting.map_or(0, |lasting| lasting.as_secs()),
        author: Some(author),
        reason,
    };
    let changed: Changed = ControlApi::new(&arguments.admin)?.call(Method::POST, "/api/v1/drills", Some(&body)).await?;
    report(&changed, "nothing changed: no drill goes on there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(phase: &str, stable: &str, canary: Option<&str>) -> Rollout {
        Rollout {
            phase: phase.to_owned(),
            stable: Some(stable.to_owned()),
            canary: canary.map(str::to_owned),
            ..Rollout::default()
        }
    }

    #[test]
    fn a_wait_ends_with_the_rollout_that_it_is_about() {
        let succeeded = rollout("succeeded", "v2", None);
        assert_eq!((end(&succeeded, None), end(&succeeded, Some("v2"))), (Some(true), Some(true)));
        assert_eq!(end(&succeeded, Some("v3")), None, "v3 has not begun yet");
        let back = rollout("rolled_back", "v1", Some("v2"));
        assert_eq!(
            (end(&back, None), end(&back, Some("v2")), end(&back, Some("v3"))),
            (Some(false), Some(false), None)
        );
        for phase in ["waiting", "progressing", "baking", "promoting", "rolling_back", "paused"] {
            assert_eq!(end(&rollout(phase, "v1", Some("v2")), None), None, "{phase}");
        }
        let mut later = rollout("progressing", "v1", Some("v3"));
        later.given_up.push(crate::admin::wire::FailedVersion { version: "v2".to_owned(), ..Default::default() });
        assert_eq!((end(&later, Some("v2")), end(&later, Some("v3"))), (Some(false), None));
    }

    #[test]
    fn a_change_is_waited_for_by_its_revision_or_its_file() {
        let found = |revision, hash: &str| RolloutList { revision, hash: hash.to_owned(), ..RolloutList::default() };
        let (after, file) = (AwaitedChange::Revision(7, Some("b".to_owned())), AwaitedChange::Hash("b".to_owned()));
        for (at, revision, hash) in
            [(found(6, "a"), false, false), (found(7, "b"), true, true), (found(9, "c"), true, false)]
        {
            assert_eq!((after.is_in(&at), file.is_in(&at)), (revision, hash), "{at:?}");
        }
        assert!(after.is_in(&found(1, "b")), "Weir was replaced");
        assert!(!AwaitedChange::Revision(7, None).is_in(&found(1, "b")) && AwaitedChange::None.is_in(&found(0, "")));
    }

    #[test]
    fn a_target_is_a_service_and_maybe_a_version() {
        assert_eq!(parts("shop"), ("shop", None));
        assert_eq!(parts("shop/v2"), ("shop", Some("v2")));
    }
}

//! `weir status`: once, or again each second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{MissedTickBehavior, interval};

use super::arguments::{Output, StatusArguments};
use super::control_api::{ControlApi, segment};
use super::failure::{Exit, Failure};
use super::screen::Screen;
use super::{interrupted, print, table};
use crate::admin::wire::Status;

/// How often a watch asks again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// `weir status`.
pub(super) async fn run(arguments: &StatusArguments) -> Result<(), Failure> {
    let client = ControlApi::new(&arguments.admin)?;
    let path = match &arguments.service {
        Some(service) => format!("/api/v1/status?service={}", segment(service)),
        None => "/api/v1/status".to_owned(),
    };
    let first = render(&client.get(&path).await?, arguments.output)?;
    if arguments.watch {
        tokio::select! {
            ended = watch(&client, &path, first, arguments) => ended,
            () = interrupted() => Ok(()),
        }
    } else {
        print(&first)
    }
}

async fn watch(client: &ControlApi, path: &str, first: String, arguments: &StatusArguments) -> Result<(), Failure> {
    let mut screen = Screen::open()?;
    let mut every = interval(REFRESH_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.tick().await;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut looks = screen.show(&first)?;
    loop {
        left -= 1;
        if left == 0 || !looks {
            return Ok(());
        }
        every.tick().await;
        // A Weir that is being replaced is away for a moment; who watches wants to see it come back.
        looks = match client.get(path).await {
            Ok(status) => screen.show(&render(&status, arguments.output)?)?,
            Err(failure) => screen.complain(&failure)?,
        };
    }
}

fn render(status: &Status, output: Output) -> Result<String, Failure> {
    match output {
        Output::Table => Ok(table::render(status, now())),
        Output::Json => serde_json::to_string_pretty(status)
            .map(|text| text + "\n")
            .map_err(|error| Failure::new(Exit::FAILURE, error.to_string())),
    }
}

/// Seconds since the Unix epoch, to say how long ago something was.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

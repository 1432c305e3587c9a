//! The play of the demo: a healthy release, one with errors, a slow one; then whoever watches goes on.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::files::Files;
use super::origin::Character;
use crate::admin::wire::RolloutList;
use crate::cli::control_api::ControlApi;
use crate::cli::failure::Failure;

/// The versions: two that are well, one that fails, one that is slow.
pub(super) const CAST: [Character; 4] = [
    Character { version: "v1", delay: Duration::from_millis(2), fails: 0 },
    Character { version: "v2", delay: Duration::from_millis(3), fails: 0 },
    Character { version: "v3", delay: Duration::from_millis(3), fails: 4 },
    Character { version: "v4", delay: Duration::from_millis(250), fails: 0 },
];

/// Between two acts, to read what happened.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long an act may take before the next begins all the same.
const ACT: Duration = Duration::from_secs(40);
/// How often it is checked whether an act is over.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One act: what is released, what is said meanwhile, and in which phase it is over.
struct Act {
    release: &'static str,
    text: &'static str,
    ends: &'static str,
}

const ACTS: [Act; 3] = [
    Act {
        release: "v2",
        text: "1/3  `release: v2` is saved. v2 is well: it takes its steps and becomes stable.",
        ends: "succeeded",
    },
    Act {
        release: "v3",
        text: "2/3  `release: v3` is saved. v3 answers every fourth request with 500: it goes back.",
        ends: "rolled_back",
    },
    Act { release: "v4", text: "3/3  `release: v4` is saved. v4 takes 250 ms: it goes back.", ends: "rolled_back" },
];

/// Where the play is.
#[derive(Debug, Default)]
pub(super) struct DemoScene {
    /// How many acts have begun.
    begun: Cell<usize>,
    over: Cell<bool>,
}

impl DemoScene {
    /// Plays, and then waits for ever; ends only when it cannot go on.
    pub(super) async fn play(&self, files: &Files, client: &ControlApi) -> Failure {
        for act in &ACTS {
            sleep(INTERVAL).await;
            self.begun.set(self.begun.get() + 1);
            if let Err(failure) = files.release(act.release) {
                return failure;
            }
            let deadline = Instant::now() + ACT;
            while Instant::now() < deadline && !over(client, act).await {
                sleep(POLL_INTERVAL).await;
            }
        }
        sleep(INTERVAL).await;
        self.over.set(true);
        std::future::pending().await
    }

    /// What is said now, in lines.
    pub(super) fn text(&self, file: &str, program: &str, admin: &str, web: &str) -> String {
        let begun = self.begun.get();
        if !self.over.get() {
            let act = begun.checked_sub(1).and_then(|at| ACTS.get(at));
            let text = act.map_or("0/3  v1 serves. In a moment the file asks for v2.", |act| act.text);
            return format!("  {text}\n");
        }
        format!(
            "  The play is over, and it goes on as you like: change `release` in {file} (v1 is well, too)\n\
             \x20      sed -i 's/release:.*/release: v1/' {file}\n\
             \x20 or say it: {program} rollout start shop v1 --admin {admin}\n\
             \x20 ask it yourself: curl http://{web}/\n"
        )
    }
}

/// Whether the act is over: what it released was tried, and it is in its last phase.
async fn over(client: &ControlApi, act: &Act) -> bool {
    let Ok(found) = client.get::<RolloutList>("/api/v1/rollouts").await else { return false };
    found.rollouts.first().is_some_and(|shop| {
        let released = [&shop.stable, &shop.canary].into_iter().flatten().any(|version| version == act.release);
        released && shop.phase == act.ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_says_what_is_released_and_the_end_says_how_to_go_on() {
        let stage = DemoScene::default();
        let text = || stage.text("weir-demo/weir-demo.yaml", "weir", "http://127.0.0.1:9901", "127.0.0.1:8080");
        assert!(text().contains("v1 serves"));
        for (at, act) in ACTS.iter().enumerate() {
            stage.begun.set(at + 1);
            assert!(text().contains(&format!("release: {}", act.release)));
        }
        stage.over.set(true);
        assert!(text().contains("rollout start shop v1 --admin http://127.0.0.1:9901"));
    }
}

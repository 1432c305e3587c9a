//! What `weir check` says of a plan, with the requests that a running Weir sees.

use super::{PLAN, command, served};
use crate::harness::{Fixture as _, run_weir};

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_the_running_weir_how_many_requests_a_plan_has() {
    let plan = PLAN.changed("min_requests: 10\n", "min_requests: 1000000\n");
    let (_v1, _v2, weir, load) = served(&plan).await;
    load.wait_more(200).await;
    let file = weir.config().to_str().unwrap().to_owned();
    let unasked = run_weir(&["check", "-c", &file]).await;
    let said = String::from_utf8_lossy(&unasked.stdout).into_owned();
    assert!(said.contains("judged by errors; needs 10,000,000 requests/s for 10 %"), "{said}");
    assert!(unasked.stderr.is_empty(), "nothing is warned of where no rate is known");

    let (code, text) = command(&weir, &["check", "-c", &file, "--observed"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("warning: step 10 %: 1,000,000 requests take "), "{text}");
    assert!(text.contains("requests/s; the rollout pauses after 60 s (`max_hold`); 2 more steps wait too"), "{text}");

    load.stop().await;
    weir.stop().await;
    let (code, text) = command(&weir, &["check", "-c", &file, "--observed"]).await;
    assert_eq!(code, 4, "{text}");
}

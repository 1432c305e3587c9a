//! The handling of the process under test, with a stand-in for it.

use super::stand_in;
use crate::harness::weir::{Metrics, run_weir};
use crate::harness::{Origin, Rewrite, Signal, Weir, eventually, shop, within};

#[tokio::test]
async fn a_process_is_started_asked_signalled_and_stopped() {
    let weir = stand_in::plan("one").environment("EXTRA", "1").start().await;
    let status = weir.status().await;
    assert_eq!((status.pid, status.state.as_str()), (weir.pid(), "ready"));
    assert_eq!(status.config.path, weir.config().display().to_string());
    assert_eq!(weir.address("web").await.to_string(), "127.0.0.1:1");
    assert!(weir.rss_bytes() > 100_000 && weir.fds() > 3 && weir.threads() >= 1);
    weir.signal(Signal::Hup);
    weir.until("SIGHUP arrived", |status| status.revision == 2).await;
    weir.signal(Signal::Quit);
    weir.until("SIGQUIT arrived", |status| status.revision == 12).await;
    assert_eq!(weir.reload_and_wait().await["revision"], 13);
    assert_eq!(weir.probe("/readyz").await, 503);
    assert_eq!(weir.metrics().await.value("weir_requests_total", &[("service", "shop")]), 7.0);
    assert!(weir.stop().await.success());
    weir.signal(Signal::Int);
    assert!(weir.exited().is_some() && weir.stdout().contains("running 1 test") && weir.stderr().is_empty());
}

#[tokio::test]
async fn the_file_is_replaced_in_every_way() {
    for plan in [stand_in::plan("first"), stand_in::plan("first").config_map()] {
        let weir = plan.start().await;
        for how in Rewrite::ALL.iter().chain(&Rewrite::ALL) {
            weir.rewrite(*how, &stand_in::template(&format!("{how:?}")));
            assert_eq!(weir.status().await.config.hash, format!("{how:?}"));
        }
        let torn = weir.tear(&stand_in::template("torn"));
        let half = std::fs::read_to_string(weir.config()).unwrap();
        assert!(!half.is_empty() && !half.ends_with('\n'));
        torn.finish();
        assert_eq!(weir.status().await.config.hash, "torn");
        weir.reconfigure(&stand_in::template("last")).await;
        assert_eq!(weir.status().await.config.hash, "last");
        assert_eq!(weir.config().parent().unwrap().parent(), Some(weir.dir()));
    }
}

#[tokio::test]
async fn a_process_that_does_not_listen_is_ended_all_the_same() {
    let weir = stand_in::plan("stubborn").start().await;
    let pid = weir.pid();
    tokio::task::spawn_blocking(move || drop(weir)).await.unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_crash_fails_the_story_even_if_nobody_looked() {
    let weir = stand_in::plan("refuse").spawn();
    let status = weir.wait_exit().await;
    assert_eq!(status.code(), Some(101));
    assert!(weir.stderr().contains("a configuration that is refused"));
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(weir)));
    assert!(dropped.is_err());
    let interrupted = stand_in::plan("one").start().await;
    interrupted.signal(Signal::Int);
    assert!(within("it ends", interrupted.wait_exit()).await.success());
    let killed = stand_in::plan("one").start().await;
    killed.signal(Signal::Kill);
    assert!(!killed.wait_exit().await.success());
}

#[tokio::test]
#[should_panic(expected = "before it was ready")]
async fn a_weir_that_ends_instead_of_getting_ready_fails_the_story_at_once() {
    Weir::start("no: [configuration").await;
}

#[tokio::test]
async fn a_refused_reload_is_an_answer_like_any_other() {
    let weir = stand_in::plan("one").start().await;
    weir.rewrite(Rewrite::InPlace, &stand_in::template("invalid"));
    let (status, body) = weir.api("POST", "/api/v1/reload", Some(serde_json::json!({}))).await;
    assert_eq!((status, &body["title"]), (422, &serde_json::json!("invalid")));
    assert_eq!(weir.api("GET", "/nothing", None).await, (200, serde_json::Value::Null));
    // The stand-in's command line is that of a test binary: it says that it does not know the option.
    let output = weir.cli(&["status"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("admin"), "{output:?}");
}

#[tokio::test]
async fn the_binary_under_test_runs_as_a_command() {
    let output = run_weir(&["--help"]).await;
    assert!(output.status.code().is_some(), "{output:?}");
}

#[tokio::test]
async fn the_ready_made_configuration_names_the_origins() {
    let (v1, v2) = (Origin::plan("v1").down(), Origin::plan("v2").down());
    let text = shop(&[(&v1, 90.0), (&v2, 10.0)]);
    assert!(text.contains(&format!("v1: {{ endpoints: [\"{}\"] }}", v1.address())), "{text}");
    assert!(text.contains("split: { v1: 90, v2: 10 }"), "{text}");
    let plan = Weir::plan("").template(&text);
    assert!(plan.dir().is_dir());
}

#[test]
fn metrics_are_read_as_prometheus_reads_them() {
    let text = "a_total{x=\"1\",y=\"p,\\\"q\\\"\"} 2\na_total{x=\"2\"} 3 170\nb +Inf\n# TYPE c gauge\nc NaN\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.value("a_total", &[]), 5.0);
    assert_eq!(metrics.value("a_total", &[("y", "p,\"q\"")]), 2.0);
    assert_eq!(metrics.value("b", &[]), f64::INFINITY);
    assert!(metrics.has("c", &[]) && !metrics.has("a_total", &[("x", "3")]));
    assert_eq!(metrics.samples("a_total", &[("x", "2")]).len(), 1);
}

#[tokio::test]
#[should_panic(expected = "a wonder: not so after")]
async fn what_never_becomes_true_fails_with_the_last_state() {
    // Patience is the environment's; the clock of this test is not.
    tokio::time::pause();
    eventually("a wonder", async || Err::<(), _>("no wonder")).await;
}

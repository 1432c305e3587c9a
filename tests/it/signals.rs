//! Signals: those that other programs know by other names end nothing without a drain.

use std::fs;
use std::process::Command;

use crate::harness::Fixture as _;
use crate::harness::{Client, H1, Origin, Protocol, Request, Signal, Target, Weir, eventually, over_both, shop};

over_both!(sigquit_ends_as_gently_as_sigterm);

async fn sigquit_ends_as_gently_as_sigterm(protocol: Protocol) {
    let v1 = Origin::start("v1").await;
    for signal in [Signal::Quit, Signal::Term, Signal::Int] {
        let weir = Weir::start(&shop(&[(&v1, 100.0)]).changed("deadline: 5s", "deadline: 15s, delay: 100ms")).await;
        let mut client = Client::connect(protocol, &Target::from(weir.address("web").await)).await;
        let held = v1.held();
        let (response, ()) = tokio::join!(client.get("/hold"), async {
            v1.wait_held(held + 1).await;
            weir.signal(signal);
            weir.until("draining", |status| status.state == "draining").await;
            v1.release();
        });
        assert!(response.expect(200).announced_close, "{signal:?}");
        assert!(weir.wait_exit().await.success(), "{signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_means_nothing_ends_nothing_at_any_time() {
    let v1 = Origin::start("v1").await;
    let strangers = [Signal::Usr1, Signal::Usr2, Signal::Alarm];
    let mut weir = Weir::plan(&shop(&[(&v1, 100.0)]).changed("deadline: 5s", "deadline: 15s, delay: 100ms")).spawn();
    eventually("signals are taken over", async || {
        let status = fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        let caught = u64::from_str_radix(caught, 16).unwrap();
        // Bit n - 1 for signal n.
        let missing: Vec<i32> = ending().filter(|signal| caught >> (signal - 1) & 1 == 0).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
    send_unnamed(&weir);
    for signal in strangers.into_iter().chain([Signal::Hup]) {
        weir.signal(signal);
    }
    weir.wait_ready().await;
    let mut h1 = H1::connect(&Target::from(weir.address("web").await)).await;
    let (response, ()) = tokio::join!(h1.get("/hold"), async {
        v1.wait_held(1).await;
        strangers.into_iter().for_each(|signal| weir.signal(signal));
        says(&weir, "SIGALRM means nothing to weir").await;
        send_unnamed(&weir);
        says(&weir, "SIGSTKFLT means nothing to weir").await;
        for number in REAL_TIME {
            says(&weir, &format!("signal {number} means nothing to weir")).await;
        }
        weir.signal(Signal::Quit);
        weir.until("draining", |status| status.state == "draining").await;
        strangers.into_iter().chain([Signal::Hup]).for_each(|signal| weir.signal(signal));
        says(&weir, "SIGUSR2 is ignored: the process stops").await;
        assert_eq!(weir.exited(), None);
        v1.release();
    });
    response.expect(200);
    assert!(weir.wait_exit().await.success());
}

/// Every signal that ends a process by default and can be caught, but for those that tell of a fault of the program, and
/// SIGPIPE, which Rust's programs ignore.
fn ending() -> impl Iterator<Item = i32> {
    [1, 2, 3, 10, 12, 14, 15, STKFLT, 24, 25, 26, 27, 29, 30].into_iter().chain(REAL_TIME)
}

const STKFLT: i32 = 16;
/// Those that the C library does not keep for itself.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Sends those that have no name of their own in most places.
fn send_unnamed(weir: &Weir) {
    let kills: String = REAL_TIME.chain([STKFLT]).map(|number| format!("kill -{number} {} && ", weir.pid())).collect();
    assert!(Command::new("sh").args(["-c", &(kills + "true")]).status().unwrap().success());
}

async fn says(weir: &Weir, words: &str) {
    let said = async || if weir.stderr().contains(words) { Ok(()) } else { Err(weir.stderr()) };
    eventually("the log tells of a signal", said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigusr1_opens_the_access_log_anew() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&(shop(&[(&v1, 100.0)]) + "access_log: { output: \"{dir}/access.log\" }\n")).await;
    let (log, moved) = (weir.dir().join("access.log"), weir.dir().join("access.log.1"));
    fs::rename(&log, &moved).unwrap();
    weir.signal(Signal::Usr1);
    eventually("the log is there again", async || fs::metadata(&log)).await;
    let web = Target::from(weir.address("web").await);
    H1::connect(&web).await.send(&Request::get("/later").header("connection", "close")).await.expect(200);
    assert!(weir.stop().await.success());
    assert!(fs::read_to_string(&log).unwrap().contains("\"/later\""));
    assert!(!fs::read_to_string(&moved).unwrap().contains("\"/later\""));
}

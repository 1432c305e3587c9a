//! Commits in flight: whom they make wait, what becomes of those that hang, and what is stored in the end.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;

use super::*;
use crate::rollout::engine::{Phase, Verb};
use crate::store::Transaction;

/// Two services that are rolled out, each at its first step, and one that is not.
fn file() -> String {
    FILE.changed("services:\n", &format!("services:\n{}{}", rolled_out("a"), rolled_out("b")))
        + "alerts: { team: { slack: { url: \"http://127.0.0.1:1/\" } } }\n"
}

/// A service that is rolled out.
fn rolled_out(name: &str) -> String {
    let plan = "interval: 1h, steps: [{ weight: 10, hold: 9h }, { weight: 100 }], alerts: [team], \
                checks: [{ name: success, success_rate: { min: 99 } }], rollback_when: [{ errors: 2, in_a_row: true }]";
    let listens = listens();
    format!(
        "  {name}:\n    versions:\n      v1: {{ endpoints: [\"127.0.0.1:1\"] }}\n      \
         v2: {{ endpoints: [\"{listens}\"] }}\n    release: v2\n    stable: v1\n    rollout: {{ {plan} }}\n"
    )
}

/// Where canaries accept connections, as they must before they get weight.
fn listens() -> SocketAddr {
    static LISTENS: OnceLock<SocketAddr> = OnceLock::new();
    *LISTENS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        address
    })
}

/// How long a commit may take where none is meant to be given up.
const LONG: Duration = Duration::from_secs(600);

struct World {
    disk: Arc<MemoryJournal>,
    control: Control,
    current: Current,
    directory: tempfile::TempDir,
}

impl World {
    async fn new(timeout: Duration) -> Self {
        let (disk, directory) = (Arc::new(MemoryJournal::default()), tempfile::tempdir().unwrap());
        let (control, current) = owner_of(&disk, directory.path(), &file(), timeout).await;
        let world = Self { disk, control, current, directory };
        // The first look at the file is over.
        soon(world.control.reload(false)).await.unwrap();
        until("both have their first step", || (world.share("a"), world.share("b")) == (1_000, 1_000)).await;
        world
    }

    /// The share of v2 in effect.
    fn share(&self, service: &str) -> u16 {
        let snapshot = self.current.load();
        snapshot.service(service).unwrap().chooser.effective()[1].basis_points()
    }

    fn command(&self, service: &str, verb: Verb) -> impl Future<Output = ProposalResult> + use<> {
        let (control, service) = (self.control.clone(), service.to_owned());
        async move { control.command(service, Command { verb, version: None }, by()).await }
    }

    /// Proposes something, and comes back when its commit hangs or it waits.
    async fn begin(&self, service: &str, verb: Verb) -> tokio::task::JoinHandle<ProposalResult> {
        let asked = tokio::spawn(self.command(service, verb));
        // Another proposal that is served after it: the owner has seen both.
        tokio::task::yield_now().await;
        soon(self.control.history("a".to_owned(), 1)).await.unwrap();
        asked
    }

    fn unwritable(&self, service: &str) -> Option<String> {
        self.control.status().rollouts[service].unwritable.clone()
    }

    fn phase(&self, service: &str) -> Phase {
        self.control.status().rollouts[service].state.phase()
    }

    /// The transactions that wrote the state of a service.
    fn stored(&self, service: &str) -> Vec<Transaction> {
        let key = format!("rollout/{service}/state");
        let all = self.disk.committed().into_iter();
        all.filter(|transaction| transaction.writes.iter().any(|write| write.key == key)).collect()
    }

    /// What a process finds that starts now.
    async fn restarted(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(MemoryJournal::default());
        self.disk.content().iter().for_each(|(key, value)| disk.overwrite(key, value));
        let (control, current) = owner_of(&disk, directory.path(), &file(), LONG).await;
        Self { disk, control, current, directory }
    }
}

/// What comes without anything being waited for that hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it waits for something that hangs")
}

/// Waits for something that the owner does by itself.
async fn until(what: &str, is: impl Fn() -> bool) {
    let come = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), come).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_commit_that_hangs_makes_nobody_else_wait() {
    let world = World::new(LONG).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let promoted = world.begin("a", Verb::Promote).await;
    assert_eq!(world.disk.hanging(), 1);

    let ack = soon(world.command("b", Verb::Promote)).await.unwrap();
    assert_eq!((ack.durable, world.share("b")), (true, 10_000), "another rollout");
    soon(shift(&world.control, 2_500)).await.unwrap();
    assert_eq!(world.share("shop"), 2_500, "another service's weights");
    let state = StateTarget { service: "b".to_owned(), version: Some("v1".to_owned()), endpoint: None };
    let change = StateChange { target: state, state: EndpointState::Drain, force: false };
    soon(world.control.set_state(change, by())).await.unwrap();
    for service in ["a", "shop"] {
        let (errors, lasting) = (Weight::FULL, Duration::from_secs(60));
        let (service, version) = (service.to_owned(), "v2".to_owned());
        let order = FaultRequest { service, version, errors, delay: Duration::ZERO, lasting };
        soon(world.control.drill(order, by())).await.unwrap();
    }
    assert!(world.current.load().service("a").unwrap().versions[1].faults.is_some(), "a drill of the same service");
    assert!(!promoted.is_finished());
    assert_eq!((world.share("a"), world.stored("a").len()), (1_000, 2), "not stored, not in effect");

    world.disk.release();
    let ack = soon(promoted).await.unwrap().unwrap();
    assert_eq!((ack.durable, ack.warnings, world.share("a")), (true, Vec::new(), 10_000));
    assert_eq!(world.stored("a").len(), 3, "stored once");
    assert_eq!((world.unwritable("a"), world.unwritable("b")), (None, None));
}

#[tokio::test]
async fn what_waits_for_a_service_is_done_in_its_order_and_is_bounded() {
    let world = World::new(LONG).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let mut asked = vec![world.begin("a", Verb::Pause).await];
    for turn in 0..16 {
        asked.push(world.begin("a", if turn % 2 == 0 { Verb::Resume } else { Verb::Pause }).await);
    }
    let refused = soon(world.command("a", Verb::Abort)).await.unwrap_err();
    assert!(matches!(&refused, Rejection::ServiceBusy(service) if service == "a"), "{refused}");
    assert_eq!(refused.to_string(), "too many changes of service `a` wait for the store; try again");
    soon(world.command("b", Verb::Pause)).await.unwrap();
    assert!(asked.iter().all(|asked| !asked.is_finished()));

    world.disk.release();
    for asked in asked {
        // In another order each would be refused: what is paused is not paused again.
        assert!(soon(asked).await.unwrap().unwrap().durable);
    }
    assert_eq!(world.phase("a"), Phase::Paused);
    soon(world.command("a", Verb::Abort)).await.unwrap();
}

#[tokio::test]
async fn a_service_whose_commit_hangs_is_held_alone_and_goes_back_all_the_same() {
    let world = World::new(TIMEOUT).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let promoted = world.begin("a", Verb::Promote).await;
    let aborted = world.begin("a", Verb::Abort).await;
    let refused = soon(promoted).await.unwrap().unwrap_err();
    assert!(
        matches!(&refused, Rejection::Refused(refused) if refused.reason.contains("cannot be written")),
        "{refused}"
    );
    let ack = soon(aborted).await.unwrap().unwrap();
    assert!(!ack.durable && ack.warnings[0].contains("lost with a restart"), "{ack:?}");
    assert_eq!((world.share("a"), world.phase("a")), (0, Phase::Aborted));
    assert!(world.unwritable("a").unwrap().contains("has not been answered"));

    assert_eq!(world.unwritable("b"), None, "the other is not held");
    assert!(soon(world.command("b", Verb::Promote)).await.unwrap().durable);
    assert_eq!(world.share("b"), 10_000);
    assert_eq!(world.stored("a").len(), 2, "nothing is written while it is open what became of the commit before");

    // It is carried out at last, and what is in effect is written after it.
    world.disk.release();
    until("it is written again", || world.unwritable("a").is_none()).await;
    let after = world.restarted().await;
    assert_eq!((after.share("a"), after.phase("a"), after.share("b")), (0, Phase::Aborted, 10_000));
    let history = |world: &World| {
        let control = world.control.clone();
        async move { soon(control.history("a".to_owned(), 500)).await.unwrap() }
    };
    let (numbers, whys): (Vec<u64>, Vec<String>) =
        history(&after).await.iter().map(|line| (line.number, line.entry.why.clone())).unzip();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert_eq!(whys.iter().filter(|why| why.contains("abort")).count(), 1, "{whys:?}");
    assert!(soon(world.command("a", Verb::Retry)).await.unwrap().durable);
}

#[tokio::test]
async fn a_reload_waits_for_what_is_in_flight_and_is_overtaken_at_most_so_often() {
    let world = World::new(LONG).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let paused = world.begin("a", Verb::Pause).await;
    let text = file().changed(
        "v1: { endpoints: [\"127.0.0.1:1\"] }\n      v2: { endpoints: [\"127.0.0.1:2\"] }\n    split",
        "v1: { endpoints: [\"127.0.0.1:9\"] }\n      v2: { endpoints: [\"127.0.0.1:2\"] }\n    split",
    );
    std::fs::write(world.directory.path().join("weir.yaml"), text).unwrap();
    let reload = |world: &World| {
        let control = world.control.clone();
        tokio::spawn(async move { control.reload(false).await })
    };
    let reloads = [reload(&world), reload(&world)];
    let resumed = world.begin("a", Verb::Resume).await;
    let drill = FaultRequest {
        service: "b".to_owned(),
        version: "v2".to_owned(),
        errors: Weight::FULL,
        delay: Duration::ZERO,
        lasting: Duration::from_secs(60),
    };
    soon(world.control.drill(drill, by())).await.unwrap();
    assert!(reloads.iter().all(|reload| !reload.is_finished()) && !resumed.is_finished());
    // Others may overtake it, and not for ever.
    for _ in 0..32 {
        soon(world.command("b", Verb::Pause)).await.unwrap();
        soon(world.command("b", Verb::Resume)).await.unwrap();
    }
    let overtaking = world.begin("b", Verb::Pause).await;
    assert!(!overtaking.is_finished());

    world.disk.release();
    assert!(soon(paused).await.unwrap().unwrap().durable);
    for reload in reloads {
        let ack = soon(reload).await.unwrap().unwrap();
        assert!(ack.changes.iter().any(|line| line.contains("shop/v1: endpoints")), "one for both: {ack:?}");
    }
    assert!(soon(resumed).await.unwrap().unwrap().durable, "after the reload, which kept the pause");
    assert!(soon(overtaking).await.unwrap().unwrap().durable);
    assert!(world.current.load().service("b").unwrap().versions[1].faults.is_some(), "the drill goes on");
}

#[tokio::test]
async fn a_reload_that_begins_a_rollout_gives_its_canary_nothing_before_that_is_written() {
    for aborted in [true, false] {
        let world = World::new(TIMEOUT).await;
        if aborted {
            soon(world.command("a", Verb::Abort)).await.unwrap();
        }
        let text = asks_for_third(&file()).replace("interval: 1h", "interval: 1s");
        std::fs::write(world.directory.path().join("weir.yaml"), text).unwrap();
        world.disk.script("rollout/a/", Fault::Hanging);
        assert!(!soon(world.control.reload(false)).await.unwrap().durable);
        let shares = || world.current.load().service("a").unwrap().chooser.effective().to_vec();
        assert_eq!(shares()[1..], [Weight::ZERO, Weight::ZERO]);
        assert_eq!((world.phase("a"), world.unwritable("a").is_some()), (Phase::Waiting, true));
        world.disk.release();
        until("it goes on", || shares()[2].basis_points() == 1_000).await;
        assert_eq!(world.unwritable("a"), None);
    }
}

#[tokio::test]
async fn a_breaker_that_opens_while_a_commit_is_in_flight_cuts_at_once_and_is_made_lasting_after_it() {
    let world = World::new(LONG).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let promoted = world.begin("a", Verb::Promote).await;
    let breaker = world.current.load().service("a").unwrap().versions[1].breaker.clone().unwrap();
    assert!((0..2).any(|_| breaker.failed(None, 1, Instant::now())));
    assert_eq!(world.share("a"), 0, "at once");
    world.disk.release();
    soon(promoted).await.unwrap().unwrap();
    until("it went back", || world.phase("a") == Phase::RolledBack).await;
    assert_eq!((world.share("a"), world.restarted().await.phase("a")), (0, Phase::RolledBack));
}

#[tokio::test]
async fn a_breaker_that_opens_while_another_plan_is_written_stays_open() {
    let world = World::new(LONG).await;
    let text = file().replacen("errors: 2, in_a_row", "errors: 3, in_a_row", 1);
    assert_ne!(text, file());
    world.disk.script("rollout/a/", Fault::Hanging);
    std::fs::write(world.directory.path().join("weir.yaml"), text).unwrap();
    let control = world.control.clone();
    let reload = tokio::spawn(async move { control.reload(false).await });
    until("its commit hangs", || world.disk.hanging() == 1).await;
    let breaker = world.current.load().service("a").unwrap().versions[1].breaker.clone().unwrap();
    assert!((0..2).any(|_| breaker.failed(None, 1, Instant::now())));
    world.disk.release();
    soon(reload).await.unwrap().unwrap();
    assert_eq!(world.share("a"), 0, "as before");
    until("it went back", || world.phase("a") == Phase::RolledBack).await;
}

#[tokio::test]
async fn a_revision_grows_where_a_drill_begins_and_ends_while_a_reload_is_written() {
    let world = World::new(LONG).await;
    let text = file().replacen("errors: 2, in_a_row", "errors: 3, in_a_row", 1);
    world.disk.script("rollout/a/", Fault::Hanging);
    std::fs::write(world.directory.path().join("weir.yaml"), text).unwrap();
    let control = world.control.clone();
    let reload = tokio::spawn(async move { control.reload(false).await });
    until("its commit hangs", || world.disk.hanging() == 1).await;
    let mut last = 0;
    for errors in [Weight::FULL, Weight::ZERO] {
        let (service, version) = ("b".to_owned(), "v2".to_owned());
        let lasting = Duration::from_secs(60);
        let order = FaultRequest { service, version, errors, delay: Duration::ZERO, lasting };
        last = soon(world.control.drill(order, by())).await.unwrap().revision;
    }
    world.disk.release();
    assert!(soon(reload).await.unwrap().unwrap().revision > last);
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_is_waited_for_and_nothing_begins() {
    let world = World::new(LONG).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let paused = world.begin("a", Verb::Pause).await;
    let resumed = world.begin("a", Verb::Resume).await;
    let control = world.control.clone();
    let stopped = tokio::spawn(async move { control.stop().await });
    assert!(matches!(soon(resumed).await.unwrap(), Err(Rejection::Busy)));
    assert!(!stopped.is_finished() && !paused.is_finished());
    world.disk.release();
    assert!(soon(paused).await.unwrap().unwrap().durable);
    soon(stopped).await.unwrap();
    assert!(matches!(soon(world.command("b", Verb::Pause)).await, Err(Rejection::Busy)));
    // And within its bound where it never comes.
    let world = World::new(TIMEOUT).await;
    world.disk.script("rollout/a/", Fault::Hanging);
    let aborted = world.begin("a", Verb::Abort).await;
    soon(world.control.stop()).await;
    assert!(!soon(aborted).await.unwrap().unwrap().durable);
}

#[tokio::test]
async fn a_decision_is_stored_with_its_history_and_its_alert() {
    let world = World::new(LONG).await;
    soon(world.command("a", Verb::Abort)).await.unwrap();
    let stored = world.stored("a").pop().unwrap();
    let has = |prefix: &str| stored.writes.iter().any(|write| write.key.starts_with(prefix) && write.value.is_some());
    assert!(has("rollout/a/state") && has("rollout/a/history/") && has("alerts/weir-a-"), "{stored:?}");
    assert!(world.disk.content().keys().any(|key| key.starts_with("alerts/weir-a-")), "the receiver is not there");
}

#[tokio::test]
async fn what_is_given_up_and_carried_out_all_the_same_leaves_nothing_in_the_history() {
    let world = World::new(TIMEOUT).await;
    let history = async |world: &World| -> Vec<(u64, String)> {
        let lines = soon(world.control.history("a".to_owned(), 500)).await.unwrap();
        lines.iter().map(|line| (line.number, line.entry.why.clone())).collect()
    };
    world.disk.script("rollout/a/", Fault::Hanging);
    let refused = soon(world.command("a", Verb::Promote)).await.unwrap_err();
    assert!(matches!(refused, Rejection::Refused(_)), "{refused}");
    let known = history(&world).await;
    world.disk.release();
    until("it is written again", || world.unwritable("a").is_none()).await;
    let after = world.restarted().await;
    let mut read = history(&after).await;
    assert!(read.pop().unwrap().1.contains("restarted"), "{read:?}");
    assert_eq!((after.share("a"), read), (1_000, known));
}

/// What the file says of a service that is rolled out, and that asks for another version.
fn asks_for_third(text: &str) -> String {
    let second = format!("v2: {{ endpoints: [\"{}\"] }}\n    ", listens());
    let third = format!("{second}  v3: {{ endpoints: [\"{}\"] }}\n    release: v3", listens());
    let asking = text.replacen(&format!("{second}release: v2"), &third, 1);
    assert_ne!(asking, text);
    asking
}

#[tokio::test]
async fn a_service_that_gets_its_rollout_gives_its_canary_nothing_before_it_is_written() {
    let world = World::new(TIMEOUT).await;
    let third = rolled_out("c").changed("interval: 1h", "interval: 1s");
    let more = file().changed("services:\n", &format!("services:\n{third}"));
    std::fs::write(world.directory.path().join("weir.yaml"), more).unwrap();
    world.disk.always(Some(Fault::Failing));
    // It begins, and waits for the disk.
    assert!(!soon(world.control.reload(false)).await.unwrap().durable);
    assert_eq!((world.share("c"), world.phase("c")), (0, Phase::Waiting));
    world.disk.always(None);
    until("it goes on", || world.share("c") == 1_000).await;
}

#[tokio::test]
async fn a_process_that_starts_where_nothing_can_be_written_gives_a_canary_no_more_than_is_stored() {
    let world = World::new(LONG).await;
    let (disk, directory) = (Arc::new(MemoryJournal::default()), tempfile::tempdir().unwrap());
    world.disk.content().iter().for_each(|(key, value)| disk.overwrite(key, value));
    disk.always(Some(Fault::Failing));
    let text = asks_for_third(&file()).changed("interval: 1h", "interval: 1s");
    let (control, current) = owner_of(&disk, directory.path(), &text, LONG).await;
    let after = World { disk, control, current, directory };
    let third = |world: &World| world.current.load().service("a").unwrap().chooser.effective()[2].basis_points();
    assert_eq!((third(&after), after.phase("a"), after.share("b")), (0, Phase::Waiting, 1_000));
    assert!(after.unwritable("a").is_some() && after.unwritable("b").is_some());
    after.disk.always(None);
    until("it goes on", || third(&after) == 1_000).await;
}

//! Delivery over time: order, repetition, loss and restart. The clock is simulated and the receivers are functions;
//! one test at the end is on real sockets.

use crate::rollout::alerts::Secret;
use std::collections::BTreeMap;

use rustls::RootCertStore;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::*;
use crate::http_client::stub::{Reply, Stub};
use crate::outbound::alert::queue::QUEUE_CAPACITY;
use crate::outbound::alert::tests::{alert, receiver};
use crate::outbound::alert::{Kind, Transition};

const ON: [Transition; 2] = [Transition::Paused, Transition::RolledBack];

/// Some receivers, and what is reported of them.
struct Scene {
    alerts: Alerts,
    worker: Option<DeliveryWorker>,
    reports: Arc<Mutex<Vec<Report>>>,
    names: Vec<Name>,
}

impl Scene {
    fn new(names: &[&str]) -> Self {
        let webhook = Kind::Webhook { url: Secret::Text("http://nowhere".into()), secret: None };
        Self::with(names.iter().map(|name| receiver(name, webhook.clone(), &ON)).collect())
    }

    fn with(receivers: Vec<Receiver>) -> Self {
        let names = receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect();
        let reports = Arc::<Mutex<Vec<Report>>>::default();
        let seen = Arc::clone(&reports);
        let (alerts, worker) = Alerts::new(receivers, Arc::new(move |report| seen.lock().unwrap().push(report)));
        Self { alerts, worker: Some(worker), reports, names }
    }

    fn raise(&self, id: impl fmt::Display) {
        self.alerts.raise(&self.names, &alert(&id.to_string(), Transition::Paused));
    }

    /// Delivers for a time.
    async fn run_for(&mut self, time: Duration, send: impl AsyncFn(&Receiver, &Alert) -> Sent) {
        self.worker.take().unwrap().run_with(&send, sleep(time)).await;
    }

    fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    fn delivered_to(&self, name: &str) -> Vec<String> {
        let of = |report: &Report| &*report.receiver == name && report.status == DeliveryStatus::Delivered;
        self.reports().into_iter().filter(of).map(|report| report.alert).collect()
    }

    fn pending(&self) -> Vec<String> {
        self.alerts.pending().into_iter().map(|pending| format!("{}:{}", pending.receiver, pending.alert.id)).collect()
    }
}

/// Tests say what becomes of an attempt.
impl<F: AsyncFn(&Receiver, &Alert) -> Sent> Transport for F {
    async fn send(&self, receiver: &Receiver, alert: &Alert) -> Sent {
        self(receiver, alert).await
    }
}

fn again() -> Sent {
    Sent::Retry("busy".to_owned())
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn each_receiver_is_told_in_order() {
    let mut scene = Scene::new(&["a", "b"]);
    for id in 0..5 {
        scene.raise(id);
    }
    scene.run_for(SECOND, async |_, _| Sent::Delivered).await;
    for name in ["a", "b"] {
        assert_eq!(scene.delivered_to(name), ["0", "1", "2", "3", "4"]);
    }
    assert_eq!(scene.pending(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_raised_while_it_runs_is_delivered_at_once() {
    let mut scene = Scene::new(&["a"]);
    let (alerts, names) = (scene.alerts.clone(), scene.names.clone());
    let raise = tokio::spawn(async move {
        sleep(SECOND).await;
        alerts.raise(&names, &alert("late", Transition::Paused));
    });
    let began = Instant::now();
    let at = Mutex::new(None);
    scene
        .run_for(HOUR, async |_, _| {
            *at.lock().unwrap() = Some(began.elapsed());
            Sent::Delivered
        })
        .await;
    raise.await.unwrap();
    assert!(at.lock().unwrap().is_some_and(|at| at < SECOND + Duration::from_millis(10)), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_slows_nobody() {
    let mut scene = Scene::new(&["dead", "slow", "well"]);
    for id in 0..3 {
        scene.raise(id);
    }
    scene
        .run_for(SECOND, async |receiver, _| match &*receiver.name {
            "dead" => again(),
            "slow" => pending().await,
            _ => Sent::Delivered,
        })
        .await;
    assert_eq!(scene.delivered_to("well"), ["0", "1", "2"]);
    assert_eq!(scene.pending(), ["dead:0", "dead:1", "dead:2", "slow:0", "slow:1", "slow:2"]);
}

#[tokio::test(start_paused = true)]
async fn tries_are_repeated_with_growing_pauses() {
    let mut scene = Scene::new(&["a"]);
    scene.raise("x");
    scene.raise("y");
    let attempts = Mutex::new(Vec::new());
    scene
        .run_for(HOUR, async |_, alert| {
            let mut attempts = attempts.lock().unwrap();
            attempts.push((alert.id.clone(), Instant::now()));
            if attempts.len() <= 9 { again() } else { Sent::Delivered }
        })
        .await;
    let attempts = attempts.into_inner().unwrap();
    assert_eq!(attempts.len(), 11);
    assert!(attempts[..10].iter().all(|(id, _)| id == "x") && attempts[10].0 == "y", "the order stays: {attempts:?}");
    for (failed, pair) in attempts[..10].windows(2).enumerate() {
        let full = Duration::from_secs(1 << failed).min(Duration::from_secs(60));
        let waited = pair[1].1 - pair[0].1;
        let slack = Duration::from_millis(2);
        assert!(waited + slack >= full / 2 && waited <= full + slack, "after failure {}: {waited:?}", failed + 1);
    }
    assert_eq!(attempts[9].1, attempts[10].1, "one who answers again is told the rest at once");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_answers_is_given_up() {
    let mut scene = Scene::new(&["a"]);
    scene.raise("x");
    scene.run_for(24 * HOUR, async |_, _| again()).await;
    let reports = scene.reports();
    assert_eq!(reports.len(), MAX_ATTEMPTS as usize);
    assert_eq!(reports[0].status, DeliveryStatus::Delayed { why: "busy".to_owned(), attempts: 1 });
    assert_eq!(reports.last().unwrap().status, DeliveryStatus::Dropped(DropReason::GivenUp("busy".to_owned())));
    assert!(scene.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_receiver_refuses_makes_way() {
    let mut scene = Scene::new(&["a"]);
    scene.raise("bad");
    scene.raise("good");
    let refuse = async |_: &Receiver, alert: &Alert| match alert.id.as_str() {
        "bad" => Sent::Refused("no".to_owned()),
        _ => Sent::Delivered,
    };
    scene.run_for(SECOND, refuse).await;
    let statuses: Vec<DeliveryStatus> = scene.reports().into_iter().map(|report| report.status).collect();
    assert_eq!(statuses, [DeliveryStatus::Dropped(DropReason::Refused("no".to_owned())), DeliveryStatus::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_loses_the_oldest_but_not_the_one_on_its_way() {
    let mut scene = Scene::new(&["a"]);
    for id in 0..QUEUE_CAPACITY {
        scene.raise(id);
    }
    let (alerts, names) = (scene.alerts.clone(), scene.names.clone());
    scene
        .run_for(SECOND, async |_, first| {
            assert_eq!(first.id, "0");
            alerts.raise(&names, &alert("new", Transition::Paused));
            pending().await
        })
        .await;
    let lost =
        Report { receiver: "a".into(), alert: "1".to_owned(), status: DeliveryStatus::Dropped(DropReason::Overflow) };
    assert_eq!(scene.reports(), [lost]);
    assert_eq!(scene.pending().len(), QUEUE_CAPACITY);

    scene.raise("newer");
    assert_eq!(scene.reports().len(), 2);
    assert!(scene.pending().contains(&"a:newer".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_wanted_and_only_once() {
    let scene = Scene::new(&["a"]);
    scene.alerts.raise(&scene.names, &alert("x", Transition::Started));
    scene.raise("y");
    scene.raise("y");
    assert_eq!(scene.pending(), ["a:y"]);
    scene.alerts.raise(&["ghost".into()], &alert("z", Transition::Paused));
    let lost = Report {
        receiver: "ghost".into(),
        alert: "z".to_owned(),
        status: DeliveryStatus::Dropped(DropReason::NoReceiver),
    };
    assert_eq!(scene.reports(), [lost]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_nothing() {
    let mut before = Scene::new(&["a", "gone"]);
    before.raise("x");
    before.raise("y");
    // The stop comes in the middle of the third try.
    let attempts = Mutex::new(0);
    before
        .run_for(4 * SECOND, async |_, _| {
            *attempts.lock().unwrap() += 1;
            if *attempts.lock().unwrap() < 5 { again() } else { pending().await }
        })
        .await;
    let stored = serde_json::to_vec(&before.alerts.pending()).unwrap();

    let mut after = Scene::new(&["a"]);
    let restored: Vec<Pending> = serde_json::from_slice(&stored).unwrap();
    assert!(restored[0].attempts >= 1, "{restored:?}");
    after.alerts.restore(restored.clone());
    assert_eq!(after.alerts.pending(), restored[..2], "attempts are counted on");
    after.raise("z");
    after.raise("x");
    after.run_for(SECOND, async |_, _| Sent::Delivered).await;
    assert_eq!(after.delivered_to("a"), ["x", "y", "z"]);
    let lost: Vec<_> = after.reports().into_iter().filter(|report| &*report.receiver == "gone").collect();
    assert!(
        lost.len() == 2 && lost.iter().all(|it| it.status == DeliveryStatus::Dropped(DropReason::NoReceiver)),
        "{lost:?}"
    );
}

/// Random receivers, random raises: nothing is lost unseen, nothing is out of order.
#[tokio::test(start_paused = true)]
async fn every_alert_is_delivered_or_reported_or_pending() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = move |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for _ in 0..30 {
        let mut scene = Scene::new(&["a", "b"]);
        let raised = below(200);
        let moods: Vec<u64> = (0..2_000).map(|_| below(10)).collect();
        let (alerts, names) = (scene.alerts.clone(), scene.names.clone());
        let pauses: Vec<u64> = (0..raised).map(|_| below(3_000)).collect();
        let raising = tokio::spawn(async move {
            for (id, pause) in pauses.into_iter().enumerate() {
                sleep(Duration::from_millis(pause)).await;
                alerts.raise(&names, &alert(&format!("{id:03}"), Transition::Paused));
            }
        });
        let turn = Mutex::new(0);
        let time = Duration::from_secs(below(400));
        scene
            .run_for(time, async |_, _| {
                let mood = {
                    let mut turn = turn.lock().unwrap();
                    *turn += 1;
                    moods[*turn % moods.len()]
                };
                sleep(Duration::from_millis(mood * 100)).await;
                match mood {
                    0 => Sent::Refused("no".to_owned()),
                    1..=6 => again(),
                    _ => Sent::Delivered,
                }
            })
            .await;
        raising.await.unwrap();

        let mut ends = BTreeMap::<(Name, String), u32>::new();
        for report in scene.reports().into_iter().filter(|it| !matches!(it.status, DeliveryStatus::Delayed { .. })) {
            *ends.entry((report.receiver, report.alert)).or_default() += 1;
        }
        for waiting in scene.alerts.pending() {
            *ends.entry((waiting.receiver.into(), waiting.alert.id)).or_default() += 1;
        }
        assert!(ends.values().all(|count| *count == 1), "an alert has one end: {ends:?}");
        assert_eq!(ends.len() as u64, raised * 2, "every alert has an end");
        for name in ["a", "b"] {
            assert!(scene.delivered_to(name).is_sorted(), "out of order: {:?}", scene.delivered_to(name));
        }
    }
}

#[tokio::test]
async fn on_real_sockets() {
    let stub = Stub::start([Reply::Answer(503, String::new()), Reply::Answer(200, String::new())]).await;
    let kind = Kind::Webhook { url: Secret::Text(stub.url("/").into()), secret: None };
    let (arrived, delivered) = oneshot::channel();
    let arrived = Mutex::new(Some(arrived));
    let report = move |report: Report| {
        if report.status == DeliveryStatus::Delivered {
            arrived.lock().unwrap().take().unwrap().send(report).unwrap();
        }
    };
    let (alerts, worker) = Alerts::new([receiver("a", kind, &ON)], Arc::new(report));
    let (stop, stopped) = oneshot::channel::<()>();
    let client = Client::trusting(RootCertStore::empty()).unwrap();
    let running = tokio::spawn(worker.run(client, async { drop(stopped.await) }));
    alerts.raise(&["a".into()], &alert("x", Transition::RolledBack));
    let report = timeout(10 * SECOND, delivered).await.expect("a second try follows the first").unwrap();
    assert_eq!(report.alert, "x");
    stop.send(()).unwrap();
    running.await.unwrap();
    let [first, second] = stub.received().try_into().unwrap();
    assert_eq!(first.body, second.body);
    assert!(alerts.pending().is_empty());
}

//! What operators are answered, and what is in effect, when the store fails.

mod commits;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{self, ProcessEnvironment};
use crate::drain::Notifier;
use crate::model::fixture::Fixture as _;
use crate::snapshot::Current;
use crate::store::memory::{Fault, MemoryJournal};
use crate::store::{Journal, JournalWriter};
use crate::telemetry::{Recorder, RecorderOptions};

const FILE: &str = "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\nservices:\n  shop:\n    versions:\n      \
    v1: { endpoints: [\"127.0.0.1:1\"] }\n      v2: { endpoints: [\"127.0.0.1:2\"] }\n    split: { v1: 100 }\n\
    routes: [{ match: { path: / }, service: shop }]\n";
const TIMEOUT: Duration = Duration::from_millis(50);

async fn owner(disk: &Arc<MemoryJournal>, directory: &Path) -> (Control, Current) {
    owner_of(disk, directory, FILE, TIMEOUT).await
}

/// With this file, and commits that take so long at most.
async fn owner_of(disk: &Arc<MemoryJournal>, directory: &Path, file: &str, timeout: Duration) -> (Control, Current) {
    let path = directory.join("weir.yaml");
    std::fs::write(&path, file).unwrap();
    let journal = Arc::clone(disk) as Arc<dyn Journal>;
    let options = RecorderOptions { threads: 1, version: "0", revision: "test", started: Instant::now() };
    let parts = Parts {
        config: config::load(&path, &ProcessEnvironment).unwrap(),
        path,
        environment: Box::new(ProcessEnvironment),
        recorder: Recorder::new(options),
        journal: JournalWriter::with_timeout(journal, None, None, timeout).unwrap(),
        notifier: Notifier::default(),
    };
    let (owner, control, current) = Owner::new(parts).await.unwrap();
    tokio::spawn(owner.run());
    (control, current)
}

fn by() -> Attribution {
    Attribution { author: "ann".to_owned(), reason: String::new() }
}

/// The share of v2 in effect.
fn share(current: &Current) -> Weight {
    let snapshot = current.load();
    let shop = snapshot.service("shop").unwrap();
    let v2 = shop.versions.iter().position(|version| &*version.name == "v2").unwrap();
    shop.chooser.effective()[v2]
}

async fn shift(control: &Control, v2: u16) -> ProposalResult {
    let weight = |share: u16| Weight::from_basis_points(share).unwrap();
    let weights = vec![("v1".to_owned(), weight(10_000 - v2)), ("v2".to_owned(), weight(v2))];
    control.set_weights("shop".to_owned(), None, weights, by()).await
}

fn drain() -> StateChange {
    let target = StateTarget { service: "shop".to_owned(), version: Some("v1".to_owned()), endpoint: None };
    StateChange { target, state: EndpointState::Drain, force: false }
}

#[tokio::test]
async fn a_drill_on_the_canary_needs_a_rollout_under_way() {
    let (disk, directory) = (Arc::new(MemoryJournal::default()), tempfile::tempdir().unwrap());
    let (control, _) = owner(&disk, directory.path()).await;
    let drill = |version: &str| FaultRequest {
        service: "shop".to_owned(),
        version: version.to_owned(),
        errors: Weight::FULL,
        delay: Duration::ZERO,
        lasting: Duration::from_secs(60),
    };
    assert!(
        matches!(control.drill(drill("canary"), by()).await, Err(Rejection::NoCanary(service)) if service == "shop")
    );
    assert!(matches!(control.drill(drill("v3"), by()).await, Err(Rejection::Unknown { .. })));
    control.drill(drill("v2"), by()).await.unwrap();
}

#[tokio::test]
async fn a_weight_that_cannot_be_written_is_refused_and_what_leads_back_says_that_it_may_be_lost() {
    for fault in [
        Fault::Failing,
        Fault::Conflicting,
        Fault::Lost { written: false },
        Fault::Lost { written: true },
        Fault::Hanging,
    ] {
        let (disk, directory) = (Arc::new(MemoryJournal::default()), tempfile::tempdir().unwrap());
        let (control, current) = owner(&disk, directory.path()).await;
        shift(&control, 1_000).await.unwrap();
        let before = share(&current);
        disk.always(Some(fault));
        assert!(matches!(shift(&control, 5_000).await, Err(Rejection::Store(_))), "{fault:?}");
        assert_eq!(share(&current), before, "{fault:?}");
        let drained = control.set_state(drain(), by()).await.unwrap();
        assert_eq!(drained.warnings.len(), 1, "{fault:?}");
        for again in [false, true] {
            let reset = control.reset_weights("shop".to_owned(), None, by()).await.unwrap();
            // Who asks again learns that it was written, where the first answer was lost.
            let durable = again && fault == Fault::Lost { written: true };
            let seen = (reset.warnings.is_empty(), reset.durable, share(&current));
            assert_eq!(seen, (durable, durable, Weight::ZERO), "{fault:?}, again: {again}");
        }

        // As soon as the store takes it, it holds what is in effect, whatever was written late.
        disk.always(None);
        disk.release();
        let written = async {
            while disk.get("shift/shop").is_some() || disk.get("state/shop/v1").is_none() {
                tokio::time::sleep(TIMEOUT).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.unwrap_or_else(|_| panic!("{fault:?}"));
        assert_eq!(shift(&control, 5_000).await.unwrap().warnings, Vec::<String>::new(), "{fault:?}");
    }
}

//! What every journal must do, and what the writer makes of one that does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::{Fault, MemoryJournal};
use super::redb::{RedbJournal, Store};
use super::*;

fn put(key: &str, value: &str) -> Write {
    Write { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
}

fn remove(key: &str) -> Write {
    Write { key: key.to_owned(), value: None }
}

fn when(conditions: &[(&str, Option<Revision>)], writes: Vec<Write>) -> Transaction {
    Transaction {
        conditions: conditions.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect(),
        writes,
    }
}

async fn content(journal: &dyn Journal, prefix: &str) -> Vec<(String, String, Revision)> {
    let facts = journal.read(prefix).await.unwrap();
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    facts.into_iter().map(|(key, fact)| (key.to_string(), text(&fact.value), fact.revision)).collect()
}

/// What whoever uses a journal relies on.
async fn conforms(journal: &dyn Journal) {
    assert!(journal.read("").await.unwrap().is_empty());
    let first = journal.commit(when(&[("a/1", None), ("a/2", None)], vec![put("a/1", "x"), put("a/2", "y")])).await;
    let first = first.unwrap();
    let both = vec![("a/1".to_owned(), "x".to_owned(), first), ("a/2".to_owned(), "y".to_owned(), first)];
    assert_eq!(content(journal, "a/").await, both, "keys of one commit have one revision");

    // One condition that does not hold, and nothing of it is written.
    for (key, expected, found) in
        [("a/1", None, Some(first)), ("a/1", Some(first.next()), Some(first)), ("b", Some(first), None)]
    {
        let conflict = journal.commit(when(&[("a/2", Some(first)), (key, expected)], vec![put("a/2", "z")])).await;
        assert_eq!(conflict, Err(JournalError::Conflict(Conflict { key: key.to_owned(), expected, found })));
    }
    assert_eq!(content(journal, "").await, both);

    // Without a condition, and over what is there; a removed key can be put as a new one.
    let second = journal.commit(when(&[], vec![put("a/1", "w"), put("b", "")])).await.unwrap();
    let third = journal.commit(when(&[("b", Some(second))], vec![remove("b"), remove("none")])).await.unwrap();
    assert!(first < second && second < third);
    assert_eq!(content(journal, "b").await, []);
    assert_eq!(journal.commit(when(&[], vec![remove("b")])).await, Ok(third), "nothing to remove is no commit");
    journal.commit(when(&[("b", None)], vec![put("b", "again")])).await.unwrap();

    // In the order in which they were asked for, whoever is waited for first.
    let [one, two] = ["1", "2"].map(|value| journal.commit(when(&[], vec![put("order", value)])));
    assert!(two.await.unwrap() > one.await.unwrap());
    assert_eq!(content(journal, "order").await[0].1, "2");

    watches(journal, first).await;
    leases(journal).await;
}

async fn watches(journal: &dyn Journal, first: Revision) {
    let mut changes = journal.watch("a/", first).await.unwrap();
    let missed = changes.recv().await.unwrap();
    assert_eq!((&*missed.key, missed.value.as_deref()), ("a/1", Some(&b"w"[..])), "what came after it, first");
    let revision =
        journal.commit(when(&[], vec![remove("a/2"), put("c", "elsewhere"), put("a/3", "v")])).await.unwrap();
    let removed = Change { key: "a/2".into(), value: None, revision };
    assert_eq!(changes.recv().await, Some(removed));
    assert_eq!(changes.recv().await.unwrap().key, "a/3".into());
    // One who does not read is no memory without end.
    for _ in 0..=MAX_WATCH_BACKLOG {
        journal.commit(when(&[], vec![put("a/3", "v")])).await.unwrap();
    }
    let mut behind = 0;
    while changes.recv().await.is_some() {
        behind += 1;
    }
    assert_eq!(behind, MAX_WATCH_BACKLOG);
}

async fn leases(journal: &dyn Journal) {
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(60));
    let mine = journal.lease("leader", "one", long).await.unwrap();
    let conflict = journal.lease("leader", "two", long).await;
    assert!(
        matches!(conflict, Err(JournalError::Conflict(Conflict { found: Some(found), .. })) if found == mine.revision)
    );
    assert!(journal.lease("other", "two", long).await.is_ok(), "another lease");
    let renewed = journal.lease("leader", "one", short).await.unwrap();
    assert!(renewed.revision > mine.revision);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let taken = journal.lease("leader", "two", long).await.unwrap();
    assert!(taken.revision > renewed.revision && taken.holder == "two" && taken.until > renewed.until);
}

fn redb(directory: &std::path::Path) -> RedbJournal {
    RedbJournal::start(Store::open(directory).unwrap()).unwrap()
}

#[tokio::test]
async fn each_journal_does_what_is_relied_on() {
    conforms(&MemoryJournal::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let journal = redb(directory.path());
    conforms(&journal).await;
    let before = content(&journal, "").await;
    drop(journal);
    assert_eq!(content(&redb(directory.path()), "").await, before, "after a restart");
}

const SHORT: Duration = Duration::from_millis(300);

fn writer(journal: &Arc<MemoryJournal>) -> JournalWriter {
    JournalWriter::with_timeout(Arc::clone(journal) as Arc<dyn Journal>, None, None, SHORT).unwrap()
}

fn stored(journal: &MemoryJournal) -> Option<String> {
    journal.get("k").map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn after_a_fault_the_next_write_stands() {
    for (fault, answered, written) in [
        (Fault::Slow(SHORT / 100), true, "2"),
        (Fault::Failing, false, "1"),
        (Fault::Conflicting, false, "1"),
        (Fault::Lost { written: false }, false, "1"),
        (Fault::Lost { written: true }, false, "2"),
    ] {
        let journal = Arc::new(MemoryJournal::default());
        let writer = writer(&journal);
        writer.put("k", b"1").unwrap();
        journal.script("k", fault);
        assert_eq!(writer.put("k", b"2").is_ok(), answered, "{fault:?}");
        assert_eq!(writer.last_error().is_none(), answered, "{fault:?}");
        assert_eq!(stored(&journal).as_deref(), Some(written), "{fault:?}");
        writer.put("k", b"3").unwrap();
        assert_eq!((stored(&journal).as_deref(), writer.last_error()), (Some("3"), None), "{fault:?}");
        writer.commit(vec![remove("k")]).unwrap();
        assert_eq!((stored(&journal), writer.list("").len()), (None, 0), "{fault:?}");
    }
}

#[test]
fn a_write_that_hangs_is_waited_for_once_and_overwrites_nothing_later() {
    let journal = Arc::new(MemoryJournal::default());
    let writer = writer(&journal);
    writer.put("k", b"1").unwrap();
    journal.script("k", Fault::Hanging);
    let began = Instant::now();
    assert!(matches!(writer.put("k", b"2"), Err(JournalError::Unavailable(_))));
    assert!(began.elapsed() >= SHORT);
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(matches!(writer.put("k", b"1"), Err(JournalError::Unavailable(_))));
    }
    assert!(began.elapsed() < 20 * SHORT, "the time is not waited for again and again");
    assert_eq!(writer.list("k")[0].1.as_ref(), b"1", "what is not acknowledged is not known");
    assert!(writer.is_open("k"));
    writer.put("other", b"1").unwrap();
    assert!(!writer.is_open("other"), "other keys do not wait for it");
    // It is carried out at last, and the next write comes after it.
    journal.release();
    assert_eq!(stored(&journal).as_deref(), Some("2"));
    writer.put("k", b"3").unwrap();
    assert_eq!((stored(&journal).as_deref(), writer.last_error()), (Some("3"), None));
}

#[test]
fn without_a_journal_nothing_is_written_and_nothing_has_to_be_removed() {
    let writer = JournalWriter::unavailable("no directory".to_owned(), None);
    assert_eq!(writer.put("k", b""), Err(JournalError::Unavailable("no directory".to_owned())));
    assert_eq!(writer.commit(vec![remove("k")]), Ok(()));
    assert!(writer.list("").is_empty() && writer.write_copy(b"").is_err());
}

#[tokio::test]
async fn writes_of_different_keys_do_not_wait_for_each_other() {
    let journal = Arc::new(MemoryJournal::default());
    let writer = writer(&journal);
    journal.script("a", Fault::Hanging);
    let (a, again) = (writer.submit(vec![put("a", "1")]), writer.submit(vec![put("a", "2"), put("b", "2")]));
    assert_eq!(writer.submit(vec![put("b", "1")]).await, Ok(()));
    assert!(matches!(again.await, Err(JournalError::Unavailable(_))), "one key that is on its way, and nothing of it");
    assert_eq!((journal.hanging(), journal.get("b").as_deref()), (1, Some(&b"1"[..])));
    journal.release();
    assert_eq!((a.await, journal.get("a").as_deref()), (Ok(()), Some(&b"1"[..])));
    // Who asked and went away leaves the key to its commit.
    journal.script("a", Fault::Hanging);
    drop(writer.submit(vec![put("a", "3")]));
    assert!(writer.is_open("a") && writer.submit(vec![remove("a")]).await.is_err());
    journal.release();
    assert!(!writer.is_open("a"));
    assert_eq!((writer.submit(vec![remove("a")]).await, journal.get("a")), (Ok(()), None));
}

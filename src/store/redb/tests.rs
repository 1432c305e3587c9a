use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, StorageBackend, TableDefinition};
use tempfile::TempDir;

use super::database::*;
use super::disk::Disk;
use super::folder::Folder;
use super::*;
use crate::store::{Conflict, MAX_KEY_BYTES, MAX_TOTAL_BYTES, MAX_VALUE_BYTES, Write};

impl Store {
    fn put(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        self.commit(&Transaction { writes: vec![write(key, Some(value))], ..Transaction::default() })
    }

    fn put_if(&self, key: &str, value: &[u8], expected: Option<Revision>) -> Result<Revision, StoreError> {
        let conditions = vec![(key.to_owned(), expected)];
        self.commit(&Transaction { conditions, writes: vec![write(key, Some(value))] })
    }

    fn delete(&self, key: &str) -> Result<Option<Fact>, StoreError> {
        let removed = self.get(key);
        self.commit(&Transaction { writes: vec![write(key, None)], ..Transaction::default() })?;
        Ok(removed)
    }
}

fn write(key: &str, value: Option<&[u8]>) -> Write {
    Write { key: key.to_owned(), value: value.map(<[u8]>::to_vec) }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn value(store: &Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).map(|fact| fact.value.to_vec())
}

fn keys(store: &Store, prefix: &str) -> Vec<String> {
    store.list(prefix).into_iter().map(|(key, _)| key.to_string()).collect()
}

/// What the store has, for comparison.
fn content(store: &Store) -> BTreeMap<String, Vec<u8>> {
    store.list("").into_iter().map(|(key, fact)| (key.to_string(), fact.value.to_vec())).collect()
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    let first = store.put("shift/shop", b"90/10").unwrap();
    let second = store.put("shift/cart", b"50/50").unwrap();
    assert!(first < second);
    assert_eq!(store.delete("shift/cart").unwrap().unwrap().revision, second);
    let last = store.revision();
    assert!(last > second, "a deletion is a write as well");
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.get("shift/shop"), Some(Fact { value: b"90/10".as_slice().into(), revision: first }));
    assert_eq!(store.get("shift/cart"), None);
    assert!(store.put("x", b"").unwrap() > last, "revisions do not begin anew");
}

#[test]
fn a_list_has_the_keys_of_its_prefix_in_order() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    for key in ["b/2", "a/1", "b", "b/1", "bb/1", "c"] {
        store.put(key, key.as_bytes()).unwrap();
    }
    assert_eq!(keys(&store, "b/"), ["b/1", "b/2"]);
    assert_eq!(keys(&store, "b"), ["b", "b/1", "b/2", "bb/1"]);
    assert_eq!(keys(&store, "").len(), 6);
    assert!(keys(&store, "d").is_empty());
}

#[test]
fn a_write_that_expects_another_revision_changes_nothing() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    let first = store.put_if("k", b"1", None).unwrap();
    let second = store.put_if("k", b"2", Some(first)).unwrap();
    for expected in [None, Some(first)] {
        let conflict = store.put_if("k", b"3", expected).unwrap_err();
        assert_eq!(conflict, StoreError::Conflict(Conflict { key: "k".into(), expected, found: Some(second) }));
    }
    assert!(matches!(store.put_if("none", b"", Some(first)), Err(StoreError::Conflict(Conflict { found: None, .. }))));
    assert_eq!(value(&store, "k"), Some(b"2".to_vec()));
    assert_eq!(store.revision(), second);
    assert_eq!(store.last_error(), None, "a conflict is not a trouble of the store");
}

#[test]
fn deleting_what_is_not_there_is_no_write() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    let before = store.put("k", b"").unwrap();
    assert_eq!(store.delete("other").unwrap(), None);
    assert_eq!(store.revision(), before);
}

#[test]
fn bounds_are_kept_and_said() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    let refused = |key: &str, value: &[u8]| matches!(store.put(key, value), Err(StoreError::TooLarge { .. }));
    assert!(refused(&"k".repeat(MAX_KEY_BYTES + 1), b""));
    assert!(refused("k", &vec![0; MAX_VALUE_BYTES + 1]));
    let large = vec![7; MAX_VALUE_BYTES];
    for n in 0..MAX_TOTAL_BYTES / MAX_VALUE_BYTES - 1 {
        store.put(&n.to_string(), &large).unwrap();
    }
    assert!(refused("one more", &vec![0; MAX_VALUE_BYTES - 7]));
    store.put("0", &large).unwrap();
    assert_eq!(store.list("").len(), 7, "replacing does not count twice");
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Locked { .. })));
    assert!(matches!(Store::quarantine(dir.path()), Err(StoreError::Locked { .. })));
    store.put("k", b"v").unwrap();
    drop(store);
    assert_eq!(value(&Store::open(dir.path()).unwrap(), "k"), Some(b"v".to_vec()));
}

#[test]
fn only_this_user_can_look_into_a_new_store() {
    let dir = folder();
    let below = dir.path().join("var/weir");
    drop(Store::open(&below).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&below), 0o700);
    assert_eq!(mode(&below.join("weir.redb")), 0o600);
}

/// The files of a process that was killed are what is on the disk at that moment, without any closing.
#[test]
fn a_killed_process_has_lost_nothing_that_was_acknowledged() {
    let (dir, image) = (folder(), folder());
    let store = Store::open(dir.path()).unwrap();
    for n in 0..20_u8 {
        store.put(&format!("k{n}"), &vec![n; 1000 * usize::from(n)]).unwrap();
        if n % 3 == 0 {
            store.delete(&format!("k{}", n / 2)).unwrap();
        }
        fs::copy(dir.path().join("weir.redb"), image.path().join("weir.redb")).unwrap();
        let after = Store::open(image.path()).unwrap();
        assert_eq!(content(&after), content(&store));
        assert_eq!(after.revision(), store.revision());
    }
}

#[test]
fn a_process_killed_while_it_made_the_store_leaves_none() {
    let dir = folder();
    fs::write(dir.path().join("weir.redb.new"), b"half").unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put("k", b"v").unwrap();
    assert!(!dir.path().join("weir.redb.new").exists());
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let dir = folder();
    drop(Store::open(dir.path()).unwrap());
    let path = dir.path().join("weir.redb");
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
        transaction.commit().unwrap();
    }
    let newer = StoreError::Newer { path: path.clone(), found: 2, known: 1 };
    assert_eq!(Store::open(dir.path()).unwrap_err(), newer);
    assert_eq!(Store::quarantine(dir.path()).unwrap_err(), newer);
    assert!(path.exists());
}

#[test]
fn a_directory_that_cannot_be_is_unavailable() {
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(Store::open(&file), Err(StoreError::Unavailable { .. })));
    assert!(matches!(Store::open(&file.join("below")), Err(StoreError::Unavailable { .. })));
    fs::create_dir_all(dir.path().join("s/weir.redb")).unwrap();
    let error = Store::open(&dir.path().join("s")).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn what_is_not_a_store_is_corrupt() {
    for garbage in [b"".as_slice(), b"x", b"SQLite format 3\0", &[0; 8192]] {
        let dir = folder();
        fs::write(dir.path().join("weir.redb"), garbage).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Corrupt { .. })), "{} bytes", garbage.len());
    }
}

#[test]
fn a_damaged_store_is_set_aside_and_the_last_three_are_kept() {
    let dir = folder();
    let path = dir.path().join("weir.redb");
    let mut aside = Vec::new();
    for round in 1..=5 {
        fs::write(&path, format!("damaged {round}")).unwrap();
        let (store, quarantine) = Store::quarantine(dir.path()).unwrap();
        assert!(content(&store).is_empty());
        store.put("k", b"v").unwrap();
        aside.push(quarantine.unwrap().to);
    }
    let (store, none) = Store::quarantine(dir.path()).unwrap();
    assert_eq!(none, None, "an intact store is opened as it is");
    assert_eq!(value(&store, "k"), Some(b"v".to_vec()));
    let exist: Vec<_> = aside.iter().map(|path| path.exists()).collect();
    assert_eq!(exist, [false, false, true, true, true]);
    assert_eq!(fs::read(&aside[4]).unwrap(), b"damaged 5");
}

/// A disk that fails on command: 0 works, 1 is full, 2 is read-only from the start.
#[derive(Debug)]
struct Failing {
    file: FileBackend,
    mode: Arc<AtomicU8>,
}

const FULL: u8 = 1;
const READ_ONLY: u8 = 2;

impl Failing {
    fn disk(mode: &Arc<AtomicU8>) -> Disk {
        let mode = Arc::clone(mode);
        Disk::new(Box::new(move |file: File| {
            let mode = Arc::clone(&mode);
            if mode.load(Ordering::Relaxed) == READ_ONLY {
                return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into());
            }
            let mut builder = Builder::new();
            builder.set_cache_size(1 << 20).set_check_integrity_on_open(true);
            builder.create_with_backend(Self { file: FileBackend::new(file)?, mode })
        }))
    }

    fn admit(&self) -> io::Result<()> {
        match self.mode.load(Ordering::Relaxed) {
            FULL => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.admit()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.admit()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.admit()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[test]
fn with_a_full_disk_reads_go_on_and_writes_come_back_with_the_space() {
    let dir = folder();
    let mode = Arc::new(AtomicU8::new(0));
    let store = Store::open_on(dir.path(), Failing::disk(&mode)).unwrap();
    store.put("old", b"1").unwrap();
    mode.store(FULL, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(matches!(store.put("new", &[9; 100_000]), Err(StoreError::Unavailable { .. })));
        assert!(matches!(store.delete("old"), Err(StoreError::Unavailable { .. })));
        assert_eq!(value(&store, "old"), Some(b"1".to_vec()));
        assert!(matches!(store.last_error(), Some(StoreError::Unavailable { .. })));
    }
    mode.store(0, Ordering::Relaxed);
    store.put("new", b"2").unwrap();
    assert_eq!(store.last_error(), None);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(value(&store, "old"), Some(b"1".to_vec()));
    assert_eq!(value(&store, "new"), Some(b"2".to_vec()));
}

#[test]
fn a_store_that_cannot_be_written_is_opened_for_reading_and_says_so() {
    let dir = folder();
    let mode = Arc::new(AtomicU8::new(READ_ONLY));
    assert!(matches!(Store::open_on(dir.path(), Failing::disk(&mode)), Err(StoreError::Unavailable { .. })));
    Store::open(dir.path()).unwrap().put("k", b"v").unwrap();
    let store = Store::open_on(dir.path(), Failing::disk(&mode)).unwrap();
    assert_eq!(value(&store, "k"), Some(b"v".to_vec()));
    assert!(matches!(store.last_error(), Some(StoreError::Unavailable { .. })));
    assert!(matches!(store.put("k", b"w"), Err(StoreError::Unavailable { .. })));
    mode.store(0, Ordering::Relaxed);
    store.put("k", b"w").unwrap();
    assert_eq!(value(&store, "k"), Some(b"w".to_vec()));
}

/// Ends without closing what it had open, as a process that is killed does.
#[test]
fn a_store_that_nobody_closed_is_read_where_it_cannot_be_repaired() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    for number in 0..20_u32 {
        store.put(&format!("k{number}"), &number.to_be_bytes()).unwrap();
    }
    let mode = Arc::new(AtomicU8::new(READ_ONLY));
    let copied = folder();
    fs::copy(dir.path().join("weir.redb"), copied.path().join("weir.redb")).unwrap();
    let before = fs::read(copied.path().join("weir.redb")).unwrap();
    let read = Store::open_on(copied.path(), Failing::disk(&mode)).unwrap();
    assert_eq!(content(&read), content(&store));
    assert_eq!(fs::read(copied.path().join("weir.redb")).unwrap(), before, "and is not changed");
    // The file of a process that has it open is not read under its hands.
    let folder = Folder::open(dir.path()).unwrap();
    assert!(matches!(Disk::default().read(&folder), Err(StoreError::Locked { .. })));
    drop(store);
    assert_eq!(Disk::default().read(&folder).unwrap().by_key.len(), 20);
}

#[test]
fn a_directory_without_permission_to_write_is_opened_for_reading() {
    if rustix::process::geteuid().is_root() {
        return; // permissions do not bind this user; the test above stands for it
    }
    let dir = folder();
    Store::open(dir.path()).unwrap().put("k", b"v").unwrap();
    let permit = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for name in ["weir.redb", "weir.lock"] {
        permit(&dir.path().join(name), 0o400);
    }
    permit(dir.path(), 0o500);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(value(&store, "k"), Some(b"v".to_vec()));
    assert!(matches!(store.put("k", b"w"), Err(StoreError::Unavailable { .. })));
    permit(dir.path(), 0o700);
}

#[test]
fn a_store_that_vanishes_is_not_replaced_by_an_empty_one() {
    let dir = folder();
    let mode = Arc::new(AtomicU8::new(0));
    let store = Store::open_on(dir.path(), Failing::disk(&mode)).unwrap();
    store.put("k", b"v").unwrap();
    mode.store(FULL, Ordering::Relaxed);
    store.put("k", b"w").unwrap_err();
    mode.store(0, Ordering::Relaxed);
    fs::remove_file(dir.path().join("weir.redb")).unwrap();
    assert!(matches!(store.put("k", b"w"), Err(StoreError::Unavailable { .. })));
    assert_eq!(value(&store, "k"), Some(b"v".to_vec()));
    fs::write(dir.path().join("weir.redb"), b"").unwrap();
    assert!(matches!(store.put("k", b"w"), Err(StoreError::Corrupt { .. })));
    assert_eq!(value(&store, "k"), Some(b"v".to_vec()));
}

#[test]
fn an_engine_that_panics_is_contained() {
    let dir = folder();
    Store::open(dir.path()).unwrap().put("k", b"v").unwrap();
    let error = Store::open_on(dir.path(), Disk::new(Box::new(|_| panic!("page 7 is upside down")))).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { reason, .. } if reason.contains("upside down")), "{error}");
    assert_eq!(value(&Store::open(dir.path()).unwrap(), "k"), Some(b"v".to_vec()), "and holds no lock");
}

/// Every content that the store ever had, oldest first.
fn history(dir: &Path) -> Vec<BTreeMap<String, Vec<u8>>> {
    let store = Store::open(dir).unwrap();
    let mut all = vec![content(&store)];
    for n in 0..6_u8 {
        store.put(&format!("shift/{n}"), &vec![n; 700 * usize::from(n)]).unwrap();
        all.push(content(&store));
    }
    all
}

/// Damage is an error or is harmless, and never a panic or a fact that nobody wrote.
#[test]
fn damage_at_any_position_is_found_and_never_believed() {
    let dir = folder();
    let history = history(dir.path());
    let path = dir.path().join("weir.redb");
    let intact = fs::read(&path).unwrap();
    let used = intact.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let damaged = folder();
    let (mut corrupt, mut harmless) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for round in 0..160_usize {
        let mut bytes = intact.clone();
        // Header and roots lie in front: half of the rounds aim there.
        let span = if round % 2 == 0 { 4096.min(used) } else { used };
        let (at, flip, run) = (0..span, 1_u8..=255, 1_usize..64).new_tree(&mut runner).unwrap().current();
        for byte in bytes.iter_mut().skip(at).take(run) {
            *byte ^= flip;
        }
        if round % 10 == 9 {
            bytes.truncate(at);
        }
        fs::write(damaged.path().join("weir.redb"), &bytes).unwrap();
        match Store::open(damaged.path()) {
            Ok(store) => {
                harmless += 1;
                assert!(history.contains(&content(&store)), "round {round}: facts that nobody wrote, damage at {at}");
                store.put("after", b"damage").unwrap();
            }
            Err(StoreError::Corrupt { .. }) => {
                corrupt += 1;
                let (store, aside) = Store::quarantine(damaged.path()).unwrap();
                assert!(aside.is_some() && content(&store).is_empty());
            }
            Err(other) => panic!("round {round}: {other} for damage at {at}"),
        }
    }
    assert!(corrupt > 10 && harmless > 0, "{corrupt} corrupt, {harmless} harmless");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>),
    Delete(u8),
    Reopen,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_map_that_survives(steps in prop::collection::vec(prop_oneof![
        5 => (0..6_u8, prop::collection::vec(any::<u8>(), 0..2000)).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0..6_u8).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ], 1..24)) {
        let dir = folder();
        let mut store = Some(Store::open(dir.path()).unwrap());
        let mut model = BTreeMap::new();
        let mut last = Revision::default();
        for step in steps {
            let open = store.as_ref().unwrap();
            match step {
                Step::Put(key, value) => {
                    let revision = open.put(&key.to_string(), &value).unwrap();
                    prop_assert!(revision > last);
                    last = revision;
                    model.insert(key.to_string(), value);
                }
                Step::Delete(key) => {
                    let removed = open.delete(&key.to_string()).unwrap();
                    prop_assert_eq!(removed.map(|fact| fact.value.to_vec()), model.remove(&key.to_string()));
                    prop_assert!(open.revision() >= last);
                    last = open.revision();
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(Store::open(dir.path()).unwrap());
                }
            }
            prop_assert_eq!(&content(store.as_ref().unwrap()), &model);
            prop_assert_eq!(store.as_ref().unwrap().revision(), last);
        }
    }
}

//! Each test waits for what must happen with much patience, and for what must not by counting looks.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use notify::{RecursiveMode, Watcher};
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(3600);

/// Quick, by both ways.
fn both() -> WatchOptions {
    let quiet = Duration::from_millis(20);
    WatchOptions { quiet, longest: quiet * 5, poll: Duration::from_millis(40), events: Events::Listen }
}

fn only_events() -> WatchOptions {
    WatchOptions { poll: NEVER, ..both() }
}

fn only_poll() -> WatchOptions {
    WatchOptions { events: Events::Ignore, ..both() }
}

struct Site {
    dir: TempDir,
    watch: Watch,
    changes: mpsc::Receiver<FilesChanged>,
}

impl Site {
    /// Watches `weir.yaml` in a directory that `prepare` has filled.
    fn new(options: WatchOptions, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (watch, changes) = Watch::start(vec![dir.path().join("weir.yaml")], options).unwrap();
        Self { dir, watch, changes }
    }

    fn with_file(options: WatchOptions) -> Self {
        Self::new(options, |dir| fs::write(dir.join("weir.yaml"), "old").unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn told(&mut self) {
        tokio::time::timeout(PATIENCE, self.changes.recv()).await.expect("the change is told").expect("watching");
    }

    /// Three more looks by the poll, long enough for anything pending to be told.
    async fn looks(&self) {
        let enough = self.watch.polls() + 3;
        tokio::time::timeout(PATIENCE, async {
            while self.watch.polls() < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the poll goes on");
    }

    /// What has been told until nothing more comes.
    async fn count(&mut self) -> usize {
        let mut count = 0;
        loop {
            self.looks().await;
            if self.changes.try_recv().is_err() {
                return count;
            }
            count += 1;
        }
    }
}

type Replacement = (&'static str, fn(&Path));

const REPLACEMENTS: [Replacement; 9] = [
    ("written in place", |dir| fs::write(dir.join("weir.yaml"), "new content").unwrap()),
    ("written in place with the same size", |dir| fs::write(dir.join("weir.yaml"), "wen").unwrap()),
    ("renamed over", |dir| {
        fs::write(dir.join(".weir.yaml.swp"), "new").unwrap();
        fs::rename(dir.join(".weir.yaml.swp"), dir.join("weir.yaml")).unwrap();
    }),
    ("renamed away and written anew, as vim does", |dir| {
        fs::rename(dir.join("weir.yaml"), dir.join("weir.yaml~")).unwrap();
        fs::write(dir.join("weir.yaml"), "new").unwrap();
        fs::remove_file(dir.join("weir.yaml~")).unwrap();
    }),
    ("deleted and created", |dir| {
        fs::remove_file(dir.join("weir.yaml")).unwrap();
        fs::write(dir.join("weir.yaml"), "new").unwrap();
    }),
    ("deleted", |dir| fs::remove_file(dir.join("weir.yaml")).unwrap()),
    ("torn", |dir| {
        fs::write(dir.join("weir.yaml"), "").unwrap();
        fs::write(dir.join("weir.yaml"), "the whole").unwrap();
    }),
    ("made a link", |dir| {
        fs::write(dir.join("other"), "new").unwrap();
        fs::remove_file(dir.join("weir.yaml")).unwrap();
        symlink("other", dir.join("weir.yaml")).unwrap();
    }),
    ("made readable", |dir| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir.join("weir.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    }),
];

#[tokio::test]
async fn every_kind_of_replacement_is_told_by_events_alone() {
    for (kind, replace) in REPLACEMENTS {
        let mut site = Site::with_file(only_events());
        replace(site.dir.path());
        let told = tokio::time::timeout(PATIENCE, site.changes.recv()).await;
        assert_eq!(told, Ok(Some(FilesChanged)), "{kind}");
    }
}

#[tokio::test]
async fn every_kind_of_replacement_is_told_by_the_poll_alone() {
    for (kind, replace) in REPLACEMENTS {
        let mut site = Site::with_file(only_poll());
        replace(site.dir.path());
        let told = tokio::time::timeout(PATIENCE, site.changes.recv()).await;
        assert_eq!(told, Ok(Some(FilesChanged)), "{kind}");
    }
}

#[tokio::test]
async fn a_replacement_is_told_at_most_once_for_each_of_its_steps_and_then_there_is_quiet() {
    for (kind, replace) in REPLACEMENTS {
        let mut site = Site::with_file(both());
        replace(site.dir.path());
        site.told().await;
        assert!(site.count().await < 4, "{kind}");
    }
}

#[tokio::test]
async fn many_changes_in_a_row_are_told_as_few() {
    let mut site = Site::with_file(both());
    for round in 0..1000 {
        fs::write(site.at("weir.yaml"), round.to_string()).unwrap();
    }
    site.told().await;
    let more = site.count().await;
    assert!(more < 500, "{more}");
}

/// Whoever reads after being told has the last content, however the writes fell.
#[tokio::test]
async fn the_last_content_is_always_followed_by_word_of_it() {
    for options in [both(), only_poll(), only_events()] {
        let mut site = Site::with_file(options);
        let (path, last) = (site.at("weir.yaml"), "round 199");
        let writer = tokio::task::spawn_blocking(move || {
            for round in 0..200 {
                fs::write(&path, format!("round {round}")).unwrap();
            }
        });
        let mut read = String::new();
        while read != last {
            site.told().await;
            read = fs::read_to_string(site.at("weir.yaml")).unwrap();
        }
        writer.await.unwrap();
    }
}

/// `weir.yaml` → `..data/weir.yaml`, `..data` → `..1`.
fn volume(dir: &Path) {
    fs::create_dir(dir.join("..1")).unwrap();
    fs::write(dir.join("..1/weir.yaml"), "old").unwrap();
    symlink("..1", dir.join("..data")).unwrap();
    symlink("..data/weir.yaml", dir.join("weir.yaml")).unwrap();
}

/// As the kubelet does it: a new directory, a new link, renamed over the old one, and the old directory removed.
fn swap(dir: &Path, round: usize) {
    let (old, new) = (format!("..{round}"), format!("..{}", round + 1));
    fs::create_dir(dir.join(&new)).unwrap();
    fs::write(dir.join(&new).join("weir.yaml"), "new").unwrap();
    symlink(&new, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    fs::remove_dir_all(dir.join(old)).unwrap();
}

#[tokio::test]
async fn swaps_of_a_kubernetes_volume_are_told_each_time() {
    for options in [only_events(), only_poll()] {
        let mut site = Site::new(options, volume);
        for round in 1..=5 {
            swap(site.dir.path(), round);
            site.told().await;
            let target = fs::canonicalize(site.at("weir.yaml")).unwrap();
            if options.events == Events::Listen {
                continue;
            }
            assert!(target.ends_with(format!("..{}/weir.yaml", round + 1)));
        }
    }
}

#[tokio::test]
async fn a_write_behind_the_links_is_told() {
    for options in [only_events(), only_poll()] {
        let mut site = Site::new(options, volume);
        fs::write(site.at("..1/weir.yaml"), "new").unwrap();
        site.told().await;
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_told_when_it_comes_directories_included() {
    for options in [only_events(), only_poll()] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/weir.yaml");
        let (_watch, mut changes) = Watch::start(vec![path.clone()], options).unwrap();
        for step in ["a", "a/b"] {
            fs::create_dir(dir.path().join(step)).unwrap();
            assert_eq!(tokio::time::timeout(PATIENCE, changes.recv()).await, Ok(Some(FilesChanged)));
        }
        fs::write(&path, "new").unwrap();
        assert_eq!(tokio::time::timeout(PATIENCE, changes.recv()).await, Ok(Some(FilesChanged)));
    }
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_watched_again() {
    let mut site = Site::new(both(), |dir| {
        fs::create_dir(dir.join("etc")).unwrap();
        fs::write(dir.join("etc/weir.yaml"), "old").unwrap();
    });
    site.watch.set_paths(vec![site.at("etc/weir.yaml")]);
    site.told().await;
    for way in 0..4 {
        let etc = site.at("etc");
        if way % 2 == 0 {
            fs::remove_dir_all(&etc).unwrap();
        } else {
            fs::rename(&etc, site.at(&format!("old {way}"))).unwrap();
        }
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("weir.yaml"), "new").unwrap();
        site.told().await;
        site.count().await;
        fs::write(etc.join("weir.yaml"), "newer").unwrap();
        site.told().await;
        site.count().await;
    }
}

#[tokio::test]
async fn reading_and_the_neighbours_are_no_change() {
    let mut site = Site::with_file(both());
    for round in 0..200 {
        fs::read(site.at("weir.yaml")).unwrap();
        fs::write(site.at("weir.log"), round.to_string()).unwrap();
        fs::write(site.at("weir.yaml.bak"), round.to_string()).unwrap();
    }
    assert_eq!(site.count().await, 0);
}

/// An access log beside the configuration is written all the time.
#[tokio::test]
async fn events_of_the_neighbours_wake_nobody() {
    let shared = Arc::new(WatchState::default());
    let mut handler = InotifyHandler(Arc::clone(&shared));
    shared.lock().entries.insert("/etc/weir/weir.yaml".into());
    let written = EventKind::Modify(notify::event::ModifyKind::Data(notify::event::DataChange::Any));
    for _ in 0..1_000 {
        handler.handle_event(Ok(Event::new(written).add_path("/etc/weir/access.log".into())));
    }
    assert!(shared.lock().unreported.is_none());
    handler.handle_event(Ok(Event::new(written).add_path("/etc/weir/weir.yaml".into())));
    assert!(shared.lock().unreported.is_some());
}

#[tokio::test]
async fn the_paths_can_be_replaced() {
    let mut site = Site::with_file(both());
    fs::write(site.at("tls.crt"), "a certificate").unwrap();
    site.watch.set_paths(vec![site.at("weir.yaml"), site.at("tls.crt")]);
    site.told().await;
    assert_eq!(site.count().await, 0, "a new path is told once");
    fs::write(site.at("tls.crt"), "another").unwrap();
    site.told().await;
    site.count().await;
    site.watch.set_paths(vec![site.at("weir.yaml")]);
    assert_eq!(site.count().await, 0, "a path less is no change");
    fs::write(site.at("tls.crt"), "a third").unwrap();
    assert_eq!(site.count().await, 0, "and it is not watched any more");
    fs::write(site.at("weir.yaml"), "new").unwrap();
    site.told().await;
}

#[tokio::test]
async fn a_change_just_after_the_paths_were_replaced_is_not_lost() {
    let mut site = Site::with_file(only_poll());
    for round in 0..20 {
        site.watch.set_paths(vec![site.at("weir.yaml")]);
        fs::write(site.at("weir.yaml"), format!("round {round}")).unwrap();
        site.told().await;
    }
}

#[tokio::test]
async fn a_fifo_a_directory_and_a_circle_of_links_do_not_block() {
    let mut site = Site::new(both(), |dir| {
        let fifo = dir.join("weir.yaml");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::create_dir(dir.join("directory")).unwrap();
        symlink("round", dir.join("about")).unwrap();
        symlink("about", dir.join("round")).unwrap();
    });
    site.watch.set_paths(
        ["weir.yaml", "directory", "round", "weir.yaml/below", "../..", "/"].map(|name| site.at(name)).into(),
    );
    site.told().await;
    assert_eq!(site.count().await, 0);
    fs::remove_file(site.at("weir.yaml")).unwrap();
    site.told().await;
}

#[tokio::test]
async fn dropping_the_watch_ends_it() {
    let Site { dir, watch, mut changes } = Site::with_file(both());
    drop(watch);
    assert_eq!(tokio::time::timeout(PATIENCE, changes.recv()).await, Ok(None));
    drop(dir);
}

/// A kernel that has no watches left, or a library whose thread has died.
#[derive(Debug)]
struct Blind {
    asked: Arc<AtomicUsize>,
    dead: bool,
}

impl Watcher for Blind {
    fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        Err(notify::Error::generic("not made this way"))
    }
    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(!self.dead, "the event loop is gone");
        Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch))
    }
    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }
    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::NullWatcher
    }
}

#[tokio::test]
async fn without_watches_the_poll_finds_the_change_and_watching_is_tried_again() {
    for dead in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.yaml");
        let asked = Arc::new(AtomicUsize::new(0));
        let blind = Blind { asked: Arc::clone(&asked), dead };
        let (watch, changes) =
            Watch::start_with(vec![path.clone()], both(), |_| InotifyWatcher::on(Some(Box::new(blind)))).unwrap();
        let mut site = Site { dir, watch, changes };
        fs::write(&path, "new").unwrap();
        site.told().await;
        site.looks().await;
        assert!(asked.load(Ordering::Relaxed) > 1);
    }
}

#[tokio::test]
async fn lost_events_are_made_up_for_by_a_look() {
    let shared = Arc::new(WatchState::default());
    let mut handler = InotifyHandler(Arc::clone(&shared));
    handler.handle_event(Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
    let pending = std::mem::take(&mut *shared.lock());
    assert!(pending.unreported.is_some() && pending.overflowed.is_some());
    handler.handle_event(Err(notify::Error::generic("gone")));
    assert!(shared.lock().unreported.is_some());
}

#[test]
fn a_saved_file_is_told_within_a_second_and_a_half_even_without_events() {
    let WatchOptions { quiet, longest, poll, .. } = WatchOptions::default();
    assert!(poll + quiet < Duration::from_millis(1500) && quiet < longest && longest < Duration::from_secs(1));
}

#[test]
fn changes_that_go_on_are_told_at_the_latest_after_the_longest_time() {
    let options = WatchOptions::default();
    let first = Instant::now();
    let due = |last: u64| Unreported { first, last: first + Duration::from_millis(last) }.due(&options) - first;
    assert_eq!(due(0), Duration::from_millis(100));
    assert_eq!(due(399), Duration::from_millis(499));
    assert_eq!(due(450), Duration::from_millis(500));
    assert_eq!(due(9000), Duration::from_millis(500));
}

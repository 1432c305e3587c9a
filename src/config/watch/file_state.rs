//! The state of the files at the paths, found without opening anything; two of them tell whether something has changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The entries on the way to each path: the links, and what they end at.
#[derive(Debug, Default)]
pub(super) struct FileState(BTreeMap<PathBuf, Stamp>);

/// What tells one state of an entry from another. The time of access is not in it.
#[derive(Debug, PartialEq, Eq)]
enum Stamp {
    There { device: u64, inode: u64, mode: u32, size: u64, modified: (i64, i64), changed: (i64, i64) },
    Not(ErrorKind),
}

impl FileState {
    /// The state at these absolute paths.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut state = Self::default();
        for path in paths {
            state.walk(path);
        }
        state
    }

    /// Whether an entry is other than in `earlier`, or was not in it. An entry that is missing now needs no
    /// attention: either its path is no longer watched, or a link before it has changed.
    pub(super) fn differs_from(&self, earlier: &Self) -> bool {
        self.0.iter().any(|(entry, stamp)| earlier.0.get(entry) != Some(stamp))
    }

    /// The entries, each in a directory whose path has no links.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// The directories of the entries.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        self.0.keys().filter_map(|entry| entry.parent()).map(Path::to_owned).collect()
    }

    /// Follows the path from the root as the kernel does, one name after the other, and notes each link and the end.
    fn walk(&mut self, path: &Path) {
        let mut here = PathBuf::from("/");
        let mut rest = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let entry = here.join(name);
            match fs::symlink_metadata(&entry) {
                Ok(metadata) if metadata.is_symlink() => {
                    let target = fs::read_link(&entry);
                    self.0.insert(entry, Stamp::of(&metadata));
                    links += 1;
                    let Some(target) = target.ok().filter(|_| links <= MAX_LINKS) else {
                        return;
                    };
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    let mut way = names(&target);
                    way.append(&mut rest);
                    rest = way;
                }
                Ok(metadata) => {
                    if rest.is_empty() {
                        self.0.insert(entry, Stamp::of(&metadata));
                        return;
                    }
                    here = entry;
                }
                Err(error) => {
                    self.0.insert(entry, Stamp::Not(error.kind()));
                    return;
                }
            }
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self::There {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// As many as Linux follows before it says that they go round in circles.
const MAX_LINKS: usize = 40;

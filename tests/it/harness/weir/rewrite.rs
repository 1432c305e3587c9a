//! The ways in which people and machines replace a configuration file.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Layout, config};

/// A way to replace the file. [`super::Weir::tear`] is one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// Truncates the file and writes it anew, as `cp` and simple editors do.
    InPlace,
    /// Writes another file and renames it over, as most editors and deployment tools do.
    Rename,
    /// Moves a directory's symlink, as Kubernetes does when a ConfigMap changes.
    Symlink,
    /// Deletes the file, then creates it.
    Recreate,
}

impl Rewrite {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::InPlace, Self::Rename, Self::Symlink, Self::Recreate];
}

/// A file written by half.
#[must_use]
pub(crate) struct Torn {
    file: File,
    rest: Vec<u8>,
}

impl Torn {
    pub(super) fn begin(dir: &Path, text: &str) -> Self {
        let (half, rest) = text.as_bytes().split_at(text.len() / 2);
        let mut file = File::create(config(dir)).unwrap();
        file.write_all(half).unwrap();
        file.sync_all().unwrap();
        Self { file, rest: rest.to_vec() }
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self) {
        self.file.write_all(&self.rest).unwrap();
    }
}

/// Writes the first configuration.
pub(super) fn lay_out(dir: &Path, layout: Layout, text: &str) {
    fs::create_dir_all(dir.join(CONF)).unwrap();
    match layout {
        Layout::File => fs::write(config(dir), text).unwrap(),
        Layout::ConfigMap => swap(dir, text),
    }
}

/// Replaces the configuration.
pub(super) fn rewrite(dir: &Path, how: Rewrite, text: &str) {
    let file = config(dir);
    match how {
        Rewrite::InPlace => fs::write(file, text).unwrap(),
        Rewrite::Symlink => swap(dir, text),
        Rewrite::Rename => {
            let new = dir.join(CONF).join(".weir.yaml.new");
            fs::write(&new, text).unwrap();
            fs::rename(new, file).unwrap();
        }
        Rewrite::Recreate => {
            fs::remove_file(&file).unwrap();
            fs::write(file, text).unwrap();
        }
    }
}

/// What the kubelet does: a new directory, a new link to it, the link renamed over `..data`, the old one removed.
fn swap(dir: &Path, text: &str) {
    let conf = dir.join(CONF);
    let data = conf.join(DATA);
    let old = fs::read_link(&data).ok();
    let new = tempfile::Builder::new().prefix("..2026_11_01_").tempdir_in(&conf).unwrap().keep();
    fs::write(new.join(FILE), text).unwrap();
    let link = conf.join("..data_tmp");
    symlink(new.file_name().unwrap(), &link).unwrap();
    fs::rename(&link, &data).unwrap();
    if !config(dir).is_symlink() {
        symlink(Path::new(DATA).join(FILE), &link).unwrap();
        fs::rename(&link, config(dir)).unwrap();
    }
    if let Some(old) = old {
        fs::remove_dir_all(conf.join(old)).unwrap();
    }
}

/// The directory that is watched.
pub(super) const CONF: &str = "conf";
/// The file in it.
pub(super) const FILE: &str = "weir.yaml";
const DATA: &str = "..data";

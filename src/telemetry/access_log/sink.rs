//! Where the lines of the access log go: stdout, stderr or a file that can be opened anew.
//!
//! Written without a buffer of the standard library, so that a failed write says how much of it arrived.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where lines go.
pub(super) trait Sink: Send + 'static {
    /// Writes some of `bytes` and says how many. It may block.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Goes on in whatever now has the file's name. What cannot be opened anew does nothing.
    fn reopen(&mut self) -> io::Result<()>;
}

/// A stream of the process or a file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: Option<PathBuf>,
}

impl LogFile {
    pub(super) fn stdout() -> io::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, path: None })
    }

    pub(super) fn stderr() -> io::Result<Self> {
        let file = io::stderr().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, path: None })
    }

    pub(super) fn file(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: open(&path)?, path: Some(path) })
    }
}

impl Sink for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = open(path)?;
        }
        Ok(())
    }
}

/// Appending, so that rotation by copy and truncate works as well. Not readable by others: addresses of
/// clients are personal data. A named pipe is opened for reading too, for else opening waits until it has a reader.
fn open(path: &Path) -> io::Result<File> {
    let pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    OpenOptions::new().read(pipe).append(true).create(!pipe).mode(0o640).open(path)
}

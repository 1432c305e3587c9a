//! Weir under callgrind: started, counted in between, ended.
//!
//! ```text
//! valgrind --tool=callgrind weir run     vgdb dump ─► out.1-01 … out.1-NN   one file per thread; its counters begin anew
//!                                        vgdb dump ─► out.2-01 … out.2-NN
//! ```
//!
//! A dump holds what was executed since the one before, so a phase of requests between two dumps is counted alone:
//! start-up, warm-up and shutdown are not in it. The program under test knows nothing of this.
//!
//! Pinned: valgrind shows the program a processor of its own, not the machine's; `GLIBC_TUNABLES` picks the string
//! functions that every x86-64 has; the environment is empty otherwise. What remains and moves the figures: the
//! compiler, libc (its allocator above all), and, on processors without AVX2 and AES, other paths of `memchr` and
//! `ring`. So figures are compared where [`super::kept::environment`] is the same, and only shown where it is not.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// glibc's own choice among the variants of `memcpy` and the like. Names that a version does not know are ignored.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-ERMS,-FSRM,-FMA,-FMA_Usable,-AVX_Fast_Unaligned_Load";

/// Functions that hand out memory, without the prefix that other allocators than libc's give them.
const ALLOCATORS: [&str; 12] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "zalloc",
    "malloc_aligned",
    "zalloc_aligned",
    "realloc_aligned",
    "mallocx",
    "rallocx",
    "memalign",
];

/// A running Weir whose instructions are counted.
pub(crate) struct Weir {
    valgrind: Child,
    folder: PathBuf,
    dumps: u32,
}

/// What was executed between two dumps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Instructions of the workers.
    pub(crate) instructions: u64,
    /// Calls of the workers that ask an allocator for memory.
    pub(crate) allocations: u64,
    /// Instructions of the busiest worker.
    pub(crate) busiest: u64,
    /// Instructions of all other threads.
    pub(crate) others: u64,
}

impl Weir {
    /// Starts Weir with the configuration `weir.yaml` of this folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let log = fs::File::create(folder.join("log")).expect("a log file");
        let valgrind = Command::new("valgrind")
            .args(["--tool=callgrind", "--separate-threads=yes", "--dump-line=no", "--fair-sched=try"])
            .arg(format!("--callgrind-out-file={}", folder.join("out").display()))
            .arg(format!("--vgdb-prefix={}", folder.join("vgdb").display()))
            .arg(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "-c", "weir.yaml"])
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GLIBC_TUNABLES", TUNABLES)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("valgrind starts (.ci/valgrind installs it)");
        Self { valgrind, folder: folder.to_owned(), dumps: 0 }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.valgrind.id()
    }

    /// What was executed since the last call, or since the start, by the `workers` busiest threads and beside them.
    ///
    /// The others work by the clock (timers, the look at the configuration file, windows), so what they did in a
    /// phase depends on how long it took, and a busy machine would show as dearer requests.
    pub(crate) fn count(&mut self, workers: usize) -> Count {
        self.dumps += 1;
        let told = Command::new("vgdb")
            .arg(format!("--vgdb-prefix={}", self.folder.join("vgdb").display()))
            .args([format!("--pid={}", self.id()), "dump".to_owned()])
            .stdin(Stdio::null())
            .output()
            .expect("vgdb comes with valgrind");
        let error = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "no dump: {error}\n{}", self.log());
        let mut threads = Vec::new();
        let prefix = format!("out.{}-", self.dumps);
        for entry in fs::read_dir(&self.folder).expect("the folder is there") {
            let path = entry.expect("the folder is there").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
                threads.push(read(&fs::read_to_string(&path).expect("a dump")));
                fs::remove_file(&path).expect("a dump is removed");
            }
        }
        threads.sort_by_key(|(instructions, _)| std::cmp::Reverse(*instructions));
        assert!(threads.len() >= workers, "no dump was written: {error}\n{}", self.log());
        let (busy, others) = threads.split_at(workers);
        Count {
            instructions: busy.iter().map(|(instructions, _)| instructions).sum(),
            allocations: busy.iter().map(|(_, allocations)| allocations).sum(),
            busiest: busy[0].0,
            others: others.iter().map(|(instructions, _)| instructions).sum(),
        }
    }

    /// What Weir and valgrind said.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Weir {
    /// Ends it at once: its folder goes with it, and nobody reads its last profile.
    fn drop(&mut self) {
        drop(self.valgrind.kill());
        drop(self.valgrind.wait());
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// The instructions of one thread, and its calls of allocators from outside of them.
///
/// Format: <https://valgrind.org/docs/manual/cl-format.html>. Names are given once, `(7) malloc`, then by number.
fn read(dump: &str) -> (u64, u64) {
    let mut names: HashMap<&str, bool> = HashMap::new();
    let (mut instructions, mut allocations) = (0, 0);
    let (mut inside, mut called) = (false, false);
    for line in dump.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            inside = is_allocator(&mut names, function);
        } else if let Some(function) = line.strip_prefix("cfn=") {
            called = is_allocator(&mut names, function);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            if called && !inside {
                allocations += calls.split(' ').next().and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0);
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.trim().parse().expect("a number of instructions");
        }
    }
    (instructions, allocations)
}

/// Whether the function `(7) malloc`, or `(7)` once that was read, is an allocator's.
fn is_allocator<'d>(names: &mut HashMap<&'d str, bool>, function: &'d str) -> bool {
    match function.split_once(' ') {
        Some((number, name)) => {
            let bare = name.strip_prefix("mi_").or_else(|| name.strip_prefix("_rjem_")).unwrap_or(name);
            let allocator = ALLOCATORS.contains(&bare);
            names.insert(number, allocator);
            allocator
        }
        None => names.get(function).copied().unwrap_or(false),
    }
}

//! The `weir` program: runs what the command line asks for and exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::run()
}

/// Chosen by measurement, see ARCHITECTURE.md. The express lane allocates nothing for a request; the engine's lanes
/// and TLS do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

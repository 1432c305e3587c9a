//! The `weir` program: runs what the command line asks for and exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::run()
}

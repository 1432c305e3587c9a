//! The `weir` program: runs what the command line asks for and exits with its code.

fn main() {}

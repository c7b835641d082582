//! The `weir` binary: reads the command line and runs one verb.

use std::process::ExitCode;

/// Requests are many small allocations of one thread: what mimalloc is best at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}

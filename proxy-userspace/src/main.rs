//! The `weir` binary: reads the command line and runs one verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}

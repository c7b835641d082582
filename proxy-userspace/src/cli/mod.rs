//! The command line: one file a verb.

use std::process::ExitCode;

/// Runs the verb named on the command line.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}

//! `weir schema`: the JSON Schema of a config, for editors and other tools.

use crate::config;
use clap::Args;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Prints the JSON Schema (draft 2020-12) of a config.
#[derive(Args, Debug)]
pub struct SchemaArgs {}

/// Prints the schema. A reader that has seen enough and closed the pipe is no error.
pub fn run(_args: &SchemaArgs) -> ExitCode {
    match writeln!(io::stdout(), "{:#}", config::schema()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("weir: cannot write the schema: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

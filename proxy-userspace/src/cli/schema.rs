//! `weir schema`: the JSON Schema of a config and the admin API's OpenAPI document, for editors and other tools.

use crate::{admin, config};
use clap::Args;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Prints the JSON Schema (draft 2020-12) of a config, or the OpenAPI document of the admin API.
#[derive(Args, Debug)]
pub struct SchemaArgs {
    /// Print the admin API's OpenAPI document (3.1), which `GET /openapi.json` answers too.
    #[arg(long)]
    openapi: bool,
}

/// Prints the schema. A reader that has seen enough and closed the pipe is no error.
pub fn run(args: &SchemaArgs) -> ExitCode {
    let schema = if args.openapi {
        admin::openapi()
    } else {
        config::schema()
    };
    match writeln!(io::stdout(), "{schema:#}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("weir: cannot write the schema: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

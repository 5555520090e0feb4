//! `lstore`: parse, dispatch, exit.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use lstore_cli::env::Environment;
use lstore_cli::exit::Exit;
use lstore_cli::lstore::args::Lstore;
use lstore_cli::lstore::context::PROGRAM;
use lstore_cli::{lstore, report};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let colours = Environment::of_process().colours(stdout.is_terminal());
    match report::parse::<Lstore>(&words, Exit::USAGE, colours, &mut stdout, &mut stderr) {
        Ok(parsed) => report::finish(PROGRAM, lstore::run(parsed), &mut stderr).into(),
        Err(exit) => exit.into(),
    }
}

//! `lrun`: parse, dispatch, exit.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use lstore_cli::env::Environment;
use lstore_cli::exit::Exit;
use lstore_cli::lrun::PROGRAM;
use lstore_cli::lrun::args::{Lrun, parse_run, with_command};
use lstore_cli::{lrun, report};

fn main() -> ExitCode {
    let words = with_command(std::env::args_os());
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    if let Some(parsed) = parse_run(&words) {
        return report::finish(PROGRAM, lrun::run(parsed), &mut stderr).into();
    }
    let colours = Environment::of_process().colours(stdout.is_terminal());
    match report::parse::<Lrun>(&words, Exit::RUNNER, colours, &mut stdout, &mut stderr) {
        Ok(parsed) => report::finish(PROGRAM, lrun::run(parsed), &mut stderr).into(),
        Err(exit) => exit.into(),
    }
}

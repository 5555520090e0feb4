//! `lstore`: parse, dispatch, exit.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use lstore_cli::env::Environment;
use lstore_cli::exit::Exit;
use lstore_cli::face::Face;
use lstore_cli::lstore::args::{Lstore, LstoreCommand};
use lstore_cli::lstore::context::PROGRAM;
use lstore_cli::{lstore, report};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Run by `lrun` in the place of another program, it leaves as that would.
    let face = Face::of(words.first());
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let colours = Environment::of_process().colours(stdout.is_terminal());
    match report::parse::<Lstore>(&words, face.store_exit(Exit::USAGE, false), colours, &mut stdout, &mut stderr) {
        Ok(parsed) => {
            let is_rmi = matches!(parsed.command, LstoreCommand::Rmi(_));
            face.store_exit(report::finish(PROGRAM, lstore::run(parsed), &mut stderr), is_rmi).into()
        }
        Err(exit) => exit.into(),
    }
}

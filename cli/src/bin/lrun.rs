//! `lrun`: parse, dispatch, exit.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use lstore_cli::env::Environment;
use lstore_cli::exit::Exit;
use lstore_cli::face::{Face, Order};
use lstore_cli::lrun::PROGRAM;
use lstore_cli::lrun::args::{Lrun, parse_run};
use lstore_cli::oci::args::Oci;
use lstore_cli::report::Failure;
use lstore_cli::{lrun, oci, report};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let face = Face::of(words.first());
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let name = words.first().cloned();
    let words = match face.order(words, rustix::process::geteuid().is_root()) {
        Ok(Order::Run(words)) => words,
        Ok(Order::Store(words)) => {
            let failure = lrun::become_store(name, &words);
            return report::finish(PROGRAM, Err(failed(face, failure)), &mut stderr).into();
        }
        Ok(Order::Runtime(words)) => return runtime(&words).into(),
        Ok(Order::Version) => {
            let told = writeln!(stdout, "{}", face.version()).map(|()| Exit::SUCCESS);
            return report::finish(PROGRAM, told.map_err(Failure::from), &mut stderr).into();
        }
        Err(error) => {
            return report::finish(PROGRAM, Err(Failure::new(face.usage(), error)), &mut stderr).into();
        }
    };
    let parsed = if let Some(parsed) = parse_run(&words) {
        parsed
    } else {
        let colours = Environment::of_process().colours(stdout.is_terminal());
        match report::parse::<Lrun>(&words, face.usage(), colours, &mut stdout, &mut stderr) {
            Ok(parsed) => parsed,
            Err(exit) => return exit.into(),
        }
    };
    let passes_status = parsed.command.passes_status();
    let outcome = lrun::run(parsed);
    let outcome = outcome.map(|exit| if passes_status { exit } else { face.failure(exit) });
    report::finish(PROGRAM, outcome.map_err(|failure| failed(face, failure)), &mut stderr).into()
}

/// The runtime of the OCI, whose failures all have one exit code.
fn runtime(words: &[OsString]) -> Exit {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let colours = Environment::of_process().colours(stdout.is_terminal());
    match report::parse::<Oci>(words, Exit::FAILURE, colours, &mut stdout, &mut stderr) {
        Ok(parsed) => report::finish(oci::FAILED, oci::run(&parsed), &mut stderr),
        Err(exit) => exit,
    }
}

/// A failure with the exit code of the program that is stood in for.
fn failed(face: Face, failure: Failure) -> Failure {
    Failure { exit: face.failure(failure.exit), ..failure }
}

//! The command `lrun`.

pub mod account;
pub mod args;
pub mod device;
pub mod etc;
pub mod security;

mod detach;
mod exec;
mod folder;
mod info;
mod run;
mod state;
mod stop;

use clap::CommandFactory;

use crate::exit::Exit;
use crate::manual;
use crate::report::Failure;
use args::{Lrun, LrunCommand};

/// The name under which failures and warnings are told.
pub const PROGRAM: &str = "lrun";

/// Runs a parsed command line. The process must have a single thread.
///
/// # Errors
/// What went wrong before the container's command ran, with the exit code that says so.
pub fn run(lrun: Lrun) -> Result<Exit, Failure> {
    match lrun.command {
        LrunCommand::Run(arguments) => run::run(&lrun.global, &arguments),
        LrunCommand::Exec(arguments) => exec::run(&lrun.global, &arguments),
        LrunCommand::Stop(arguments) => stop::stop(&lrun.global, &arguments),
        LrunCommand::Rm(arguments) => stop::remove(&lrun.global, &arguments),
        LrunCommand::Info(arguments) => info::run(&arguments),
        LrunCommand::Completions(arguments) => {
            manual::completions(Lrun::command(), arguments.shell, &mut std::io::stdout())?;
            Ok(Exit::SUCCESS)
        }
        LrunCommand::Man(arguments) => {
            match arguments.directory {
                Some(directory) => manual::pages(Lrun::command(), &directory)?,
                None => manual::page(Lrun::command(), &mut std::io::stdout())?,
            }
            Ok(Exit::SUCCESS)
        }
    }
}

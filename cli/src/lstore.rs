//! The command `lstore`: a file for each subcommand, from its arguments to what it prints.

pub mod args;
pub mod change;
pub mod commit;
pub mod context;

mod checkout;
mod du;
mod export;
mod fsck;
mod gc;
mod images;
mod import;
mod info;
pub(crate) mod inspect;
mod prepare;
mod pull;
mod rmi;
mod tag;
mod unshare;

use std::io::Write;

use clap::CommandFactory;

use crate::exit::Exit;
use crate::manual;
use crate::report::Failure;
use args::{Lstore, LstoreCommand};
use context::Context;

/// Runs a parsed command line. Must be called before the process has a second thread: the store works within a user
/// namespace that only a single-threaded process can enter.
///
/// # Errors
/// What the command says went wrong, with its exit code.
pub fn run(lstore: Lstore) -> Result<Exit, Failure> {
    let command = match lstore.command {
        LstoreCommand::Completions(arguments) => {
            manual::completions(Lstore::command(), arguments.shell, &mut std::io::stdout())?;
            return Ok(Exit::SUCCESS);
        }
        LstoreCommand::Man(arguments) => {
            match arguments.directory {
                Some(directory) => manual::pages(Lstore::command(), &directory)?,
                None => manual::page(Lstore::command(), &mut std::io::stdout())?,
            }
            return Ok(Exit::SUCCESS);
        }
        command => command,
    };
    if let LstoreCommand::Rmi(arguments) = &command {
        rmi::remove_containers(&lstore.global, arguments)?;
    }
    let context = Context::enter(lstore.global)?;
    let exit = match command {
        LstoreCommand::Pull(arguments) => pull::run(&context, &arguments)?,
        LstoreCommand::Commit(arguments) => commit::run(&context, &arguments)?,
        LstoreCommand::Prepare(arguments) => prepare::run(&context, &arguments)?,
        LstoreCommand::Images(arguments) => images::run(&context, &arguments)?,
        LstoreCommand::Inspect(arguments) => inspect::run(&context, &arguments)?,
        LstoreCommand::Tag(arguments) => tag::run(&context, &arguments)?,
        LstoreCommand::Rmi(arguments) => rmi::run(&context, &arguments)?,
        LstoreCommand::Gc(arguments) => gc::run(&context, &arguments)?,
        LstoreCommand::Fsck(arguments) => fsck::run(&context, &arguments)?,
        LstoreCommand::Du(arguments) => du::run(&context, &arguments)?,
        LstoreCommand::Info(arguments) => info::run(&context, &arguments)?,
        LstoreCommand::Import(arguments) => import::run(&context, &arguments)?,
        LstoreCommand::Export(arguments) => export::run(&context, &arguments)?,
        LstoreCommand::Checkout(arguments) => checkout::run(&context, &arguments)?,
        LstoreCommand::Unshare(arguments) => unshare::run(&context, &arguments)?,
        LstoreCommand::Completions(_) | LstoreCommand::Man(_) => Exit::SUCCESS,
    };
    std::io::stdout().flush()?;
    Ok(exit)
}

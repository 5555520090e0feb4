//! `lstore unshare`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::args::UnshareArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &UnshareArguments) -> Result<Exit, Failure> {
    let shell = [context.environment.shell().to_owned()];
    let words = if arguments.command.is_empty() { &shell[..] } else { &arguments.command };
    let (program, rest) = words.split_first().ok_or("no command")?;
    // The process becomes the command: it is in the namespace already.
    let error = Command::new(program).args(rest).exec();
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::NOT_FOUND,
        _ => Exit::NOT_EXECUTABLE,
    };
    Err(Failure::new(exit, format!("cannot run {}: {error}", program.display())))
}

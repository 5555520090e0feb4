//! `lrun export`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use lrun::archive::export;

use super::args::ContainerExportArguments;
use super::select::containers;
use super::visit::visit;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &ContainerExportArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    // Before the file is made: a mistyped name leaves no empty archive behind.
    let found = containers(&store).find(&arguments.container)?;
    let out = match &arguments.output {
        Some(path) => File::create(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?,
        None if std::io::stdout().is_terminal() => {
            return Err("an archive is not for a terminal; give -o FILE, or a pipe".into());
        }
        None => File::from(std::io::stdout().as_fd().try_clone_to_owned()?),
    };
    visit(global, &store, &found, false, |container| Ok(export(container, &out)?))?;
    Ok(Exit::SUCCESS)
}

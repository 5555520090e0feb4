//! `lrun rename`.

use super::args::RenameArguments;
use super::select::containers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &RenameArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let containers = containers(&store);
    let found = containers.find(&arguments.container)?;
    // The folder's name is the name: whoever runs it knows the folder by its descriptor.
    // Who looks which containers there are misses none that is moved meanwhile.
    let _unmoved = lstore::RootsLock::shared(&store)?;
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    let (from, to) = (&found.path, containers.folder(&arguments.name));
    match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, &to, flags) {
        Ok(()) => Ok(Exit::SUCCESS),
        Err(rustix::io::Errno::EXIST) => {
            Err(format!("the name {} is in use by another container; choose another one", arguments.name).into())
        }
        Err(error) => Err(format!("{}: cannot be renamed: {error}", found.name).into()),
    }
}

//! `lrun wait` and `lrun exists`.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use lrun::Session;
use lrun::state::{Found, StateError};

use super::args::{ExistsArguments, WaitArguments, Which};
use super::select::containers;
use super::stop;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &WaitArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let which = Which { all: false, latest: arguments.latest, containers: arguments.containers.clone() };
    for (_, found) in which.select(&containers(&store))? {
        match found {
            Err(StateError::NotFound(_)) if arguments.ignore => writeln!(std::io::stdout(), "-1")?,
            found => writeln!(std::io::stdout(), "{}", until_end(&found?)?)?,
        }
    }
    Ok(Exit::SUCCESS)
}

/// Waits for a container's end; its exit status.
fn until_end(found: &Found) -> Result<u8, Failure> {
    // Of one that is removed when it ends, only the monitor can tell.
    let folder = File::open(&found.path)?;
    let session = Session::open(folder.as_fd()).ok();
    let Some((_, pidfd)) = stop::process(found) else {
        return found.again()?.record.exit().ok_or_else(|| format!("{}: it was never started", found.name).into());
    };
    if let Some(status) = session.and_then(|session| session.wait()) {
        return Ok(status);
    }
    while !stop::wait(&pidfd, Duration::from_hours(1))? {}
    Ok(found.again()?.record.exit().unwrap_or_default())
}

pub(super) fn exists(global: &Global, arguments: &ExistsArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    match containers(&store).find(&arguments.container) {
        Err(StateError::NotFound(_)) => Ok(Exit::FAILURE),
        // One that cannot be read is there all the same.
        Ok(_) | Err(_) => Ok(Exit::SUCCESS),
    }
}

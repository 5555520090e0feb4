//! `lrun wait` and `lrun exists`.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use lrun::Session;
use lrun::health::Health;
use lrun::state::{Found, StateError, Status};

use super::args::{ExistsArguments, WaitArguments, Which};
use super::select::containers;
use super::stop;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &WaitArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let which = Which { latest: arguments.latest, containers: arguments.containers.clone(), ..Which::default() };
    for (_, found) in which.select(&containers(&store))? {
        match found {
            Err(StateError::NotFound(_)) if arguments.ignore => writeln!(std::io::stdout(), "-1")?,
            found if arguments.condition.is_empty() => {
                writeln!(std::io::stdout(), "{}", until_end(&found?)?)?;
            }
            found => writeln!(std::io::stdout(), "{}", until(found?, arguments)?)?,
        }
    }
    Ok(Exit::SUCCESS)
}

/// Waits until a container is in one of some states; its exit status, -1 for none, as podman has it.
fn until(mut found: Found, arguments: &WaitArguments) -> Result<i32, Failure> {
    let holds = |found: &Found, condition: &str| {
        let status = found.record.status();
        match condition {
            "stopped" | "exited" => status == Status::Exited,
            "healthy" | "unhealthy" => {
                found.record.health.is_some()
                    && status == Status::Running
                    && Health::read(&found.path).status.name() == condition
            }
            state => status.name() == state,
        }
    };
    while !arguments.condition.iter().any(|condition| holds(&found, condition)) {
        std::thread::sleep(arguments.interval);
        found = found.again()?;
    }
    Ok(found.record.exit().map_or(-1, i32::from))
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

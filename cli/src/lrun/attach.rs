//! `lrun attach`.

use std::fs::File;
use std::os::fd::AsFd;

use lrun::Session;
use lrun::session::{Ended, Manner};
use lrun::state::Found;

use super::args::{AttachArguments, SessionArguments};
use super::select::containers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &AttachArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let found = arguments.one.select(&containers(&store))?;
    if found.record.running().is_none() {
        return Err(
            format!("{}: only a running container can be attached to; `lrun start -a` starts it", found.name).into()
        );
    }
    let session = open(&found)?;
    let input = !arguments.no_stdin && found.record.spec.interactive;
    match session.follow(&Manner { input, ..manner(&found, &arguments.session) })? {
        Ended::Exit(status) => Ok(Exit::code(status)),
        Ended::Detached => Ok(Exit::SUCCESS),
        Ended::Lost => Err(lost(&found)),
    }
}

/// A session with the monitor of a container that runs.
pub(super) fn open(found: &Found) -> Result<Session, Failure> {
    let folder = File::open(&found.path)?;
    let is_foreground = found.record.run.as_ref().is_some_and(|run| !run.has_monitor);
    if is_foreground {
        return Err(format!("{}: it runs in the foreground of another terminal, and has no monitor", found.name).into());
    }
    let session =
        Session::open(folder.as_fd()).map_err(|error| format!("{}: cannot reach its monitor: {error}", found.name))?;
    session.watch()?;
    Ok(session)
}

pub(super) fn manner(found: &Found, arguments: &SessionArguments) -> Manner {
    Manner {
        input: false,
        terminal: found.record.spec.terminal,
        signals: arguments.sig_proxy,
        detach: arguments.detach_keys.0.clone(),
    }
}

pub(super) fn lost(found: &Found) -> Failure {
    format!("{}: its monitor was killed, and the container with it", found.name).into()
}

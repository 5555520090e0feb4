//! `lrun stop`, `lrun kill` and `lrun rm`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lrun::FirstProcess;
use lrun::state::{Found, StateError, Status};
use lrun::sys::process::{self, Fork};
use lrun::userns;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::PROGRAM;
use super::args::{KillArguments, RemoveArguments, StopArguments, Which};
use super::control;
use super::folder::Folder;
use super::monitor::mark_stopped;
use super::select::{Selected, containers, each};
use super::signal;
use super::volumes::{discard, named_by};
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::{self, Failure};

/// How long a killed container may take to be gone.
const GONE: Duration = Duration::from_secs(10);

pub(super) fn stop(global: &Global, arguments: &StopArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let mut selected = arguments.which.select(&containers(&store))?;
    if arguments.ignore {
        selected.retain(|(_, found)| !matches!(found, Err(StateError::NotFound(_))));
    }
    if arguments.which.all {
        selected.retain(|(_, found)| found.as_ref().is_ok_and(|found| found.record.status() != Status::Paused));
    }
    each(selected, |found| {
        if found.record.status() == Status::Paused {
            return Err(
                format!("can only stop created or running containers; {} is in state paused", found.name).into()
            );
        }
        stop_one(&found, arguments.time)
    })
}

/// Ends a container as it wants to be ended, and returns when that is noted. One that has ended is left as it is.
pub(super) fn stop_one(found: &Found, time: Option<u64>) -> Result<(), Failure> {
    let patience = Duration::from_secs(time.unwrap_or(found.record.stop_timeout));
    let name = found.record.stop_signal.as_deref().unwrap_or("TERM");
    let number = signal::number(name).ok_or_else(|| format!("the image's stop signal {name} does not exist"))?;
    finish(found, number, patience)
}

/// Ends a container as it wants to be ended, and tells its monitor nothing.
pub(super) fn end_one(found: &Found, pidfd: &OwnedFd) -> Result<(), Failure> {
    let name = found.record.stop_signal.as_deref().unwrap_or("TERM");
    let number = signal::number(name).ok_or_else(|| format!("the image's stop signal {name} does not exist"))?;
    end(pidfd, number, Duration::from_secs(found.record.stop_timeout), &found.name)
}

fn finish(found: &Found, signal: i32, patience: Duration) -> Result<(), Failure> {
    let Ok(folder) = File::open(&found.path) else { return Ok(()) };
    let restarts = found.record.restarts();
    if restarts {
        mark_stopped(folder.as_fd())?;
    }
    let mut first = found.record.running();
    loop {
        if let Some(pidfd) = first.and_then(|first| first.open()) {
            end(&pidfd, signal, patience, &found.name)?;
        }
        // Whoever answers for it lets go when all is noted, or its folder removed. A monitor that was about to start it
        // again may have done so just before the mark.
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if restarts => {
                std::thread::sleep(Duration::from_millis(20));
                first = found.again().ok().and_then(|found| found.record.running());
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(flock(&folder, FlockOperation::LockExclusive)?),
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn kill(global: &Global, arguments: &KillArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let mut selected = arguments.which.select(&containers(&store))?;
    if arguments.which.all {
        selected.retain(|(_, found)| found.as_ref().is_ok_and(|found| found.record.running().is_some()));
    }
    let number = signal::number(&arguments.signal).ok_or_else(|| format!("there is no signal {}", arguments.signal))?;
    each(selected, |found| {
        let running = found.record.running().filter(|_| found.record.status() == Status::Running);
        let pidfd = running.and_then(|first| first.open()).ok_or_else(|| {
            let status = found.record.status().name();
            format!("can only kill running containers; {} is in state {status}", found.name)
        })?;
        send(&pidfd, number)?;
        if number == Signal::KILL.as_raw() && !found.record.restarts() && wait(&pidfd, GONE)? {
            settle(&found.path);
        }
        Ok(())
    })
}

/// Removes the container that has a name, if there is one, for another to have it.
///
/// # Errors
/// It does not end, or its files cannot be removed; that is told.
pub(super) fn displace(store: &Path, name: &str) -> Result<(), Failure> {
    if !Folder::place(store, name).exists() {
        return Ok(());
    }
    let refused = || format!("--replace: the container {name} could not be removed");
    remove_by_another(store, vec![name.to_owned()])?.then_some(()).ok_or_else(|| refused().into())
}

/// Removes containers, running ones too.
///
/// # Errors
/// One of them does not end, or its files cannot be removed; that is told.
pub fn displace_all(store: &Path, containers: Vec<String>) -> Result<(), Failure> {
    let refused = || "not all containers of the image could be removed".to_owned();
    remove_by_another(store, containers)?.then_some(()).ok_or_else(|| refused().into())
}

/// Removes containers by another process, which enters a user namespace of its own, as this one is not to; whether all went.
fn remove_by_another(store: &Path, containers: Vec<String>) -> Result<bool, Failure> {
    let Fork::Parent(id) = process::fork()? else {
        let which = Which { containers, ..Which::default() };
        let arguments = RemoveArguments { force: true, ignore: true, time: None, volumes: false, which };
        let is_quiet = process::detach_output().is_ok();
        let removed = remove_from(store, &arguments);
        process::exit_now(i32::from(!is_quiet || !removed.is_ok_and(|exit| exit == Exit::SUCCESS)))
    };
    Ok(matches!(process::wait_for(id)?, nix::sys::wait::WaitStatus::Exited(_, 0)))
}

/// What is to be removed.
struct Doomed {
    wanted: String,
    path: PathBuf,
    /// Its id, where that is known.
    id: Option<String>,
    /// Volumes that go with it, if they were made for it.
    volumes: Vec<String>,
}

pub(super) fn remove(global: &Global, arguments: &RemoveArguments) -> Result<Exit, Failure> {
    remove_from(&Environment::of_process().store(global)?, arguments)
}

pub(super) fn remove_from(store: &Path, arguments: &RemoveArguments) -> Result<Exit, Failure> {
    let containers = containers(store);
    let selected = arguments.which.select(&containers)?;
    let (mut doomed, mut exit) = (Vec::new(), Exit::SUCCESS);
    let mut fail = |failure: Failure, code: u8| {
        let _ = writeln!(io::stderr(), "{}", report::line(PROGRAM, failure.error.as_ref()));
        // podman's codes: 1 if all that is wrong is that some were not there, 2 if some run, 125 for the rest.
        exit = match (exit.get(), code) {
            (0 | 1, code) => Exit::code(code),
            (earlier, 1) => Exit::code(earlier),
            (earlier, code) => Exit::code(earlier.max(code)),
        };
    };
    for (wanted, found) in selected {
        match condemn((wanted, found), arguments, |name| containers.folder(name)) {
            Ok(Some(one)) => doomed.push(one),
            Ok(None) => {}
            Err((failure, code)) => fail(failure, code),
        }
    }
    if !doomed.is_empty() {
        // Files of a container belong to ids that exist in a namespace of the user's alone.
        userns::enter()?;
    }
    for Doomed { wanted, path, id, volumes } in doomed {
        let removed = match lock(&path) {
            Ok(_lock) => {
                control::sweep(&path);
                lstore::remove_tree(&path).map_err(Failure::from)
            }
            // Its monitor was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        };
        // The root last: for as long as there is a container it can be started.
        let removed = removed.and_then(|()| Ok(id.map_or(Ok(()), |id| bridge::roots::release(store, &id))?));
        match removed.and_then(|()| discard(store, &volumes)) {
            Ok(()) => writeln!(io::stdout(), "{wanted}")?,
            Err(failure) => fail(failure, 125),
        }
    }
    Ok(exit)
}

/// Brings a container to where it can be removed; `None` for one that need not be there.
fn condemn(
    (wanted, found): Selected,
    arguments: &RemoveArguments,
    folder: impl Fn(&str) -> PathBuf,
) -> Result<Option<Doomed>, (Failure, u8)> {
    let found = match found {
        Ok(found) => found,
        Err(StateError::NotFound(_)) if arguments.force || arguments.ignore => return Ok(None),
        Err(error @ (StateError::NotFound(_) | StateError::Ambiguous(_))) => return Err((error.into(), 1)),
        // What cannot be read can be removed.
        Err(StateError::InTheMaking(name) | StateError::Form(name) | StateError::Read { name, .. }) => {
            let path = folder(&name);
            return Ok(Some(Doomed { wanted, path, id: None, volumes: Vec::new() }));
        }
    };
    let running = found.record.running();
    if running.is_some() && !arguments.force {
        let (what, way) = match found.record.status() {
            Status::Paused => ("paused", "unpause"),
            _ => ("running", "stop"),
        };
        let text = format!("{wanted}: the container is {what}; `lrun {way} {wanted}` first, or use --force");
        return Err((text.into(), 2));
    }
    if running.is_some() || found.record.restarts() && lrun::state::is_locked(&found.path) {
        let ended = match arguments.time {
            Some(time) => stop_one(&found, Some(time)),
            None => finish(&found, Signal::KILL.as_raw(), GONE),
        };
        ended.map_err(|failure| (failure, 125))?;
    }
    let is_whole = arguments.volumes || found.record.spec.ephemeral;
    let volumes = if is_whole { named_by(&found.record) } else { Vec::new() };
    Ok(Some(Doomed { wanted, path: found.path, id: Some(found.record.id), volumes }))
}

/// Asks with a signal, waits, and kills.
fn end(pidfd: &OwnedFd, signal: i32, patience: Duration, name: &str) -> Result<(), Failure> {
    // One that has just ended needs no signal any more.
    let _ = send(pidfd, signal);
    if wait(pidfd, patience)? {
        return Ok(());
    }
    let _ = send(pidfd, Signal::KILL.as_raw());
    if wait(pidfd, GONE)? { Ok(()) } else { Err(format!("{name}: does not end, though it was killed").into()) }
}

fn send(pidfd: &OwnedFd, signal: i32) -> Result<(), Failure> {
    Ok(lrun::sys::process::signal(pidfd.as_fd(), signal)?)
}

pub(super) fn wait(pidfd: &OwnedFd, patience: Duration) -> Result<bool, Failure> {
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    Ok(rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout))? > 0)
}

/// Takes the lock of a container's folder, which its runner and keeper hold as long as it runs; waits for them to let go.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::open(folder)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// Waits until runner and keeper have let go: then the status is written, or the folder removed.
pub(super) fn settle(folder: &Path) {
    // A folder that has gone meanwhile is settled too.
    drop(lock(folder));
}

/// The first process of a container that runs.
pub(super) fn process(found: &Found) -> Option<(FirstProcess, OwnedFd)> {
    let first = found.record.running()?;
    Some((first, first.open()?))
}

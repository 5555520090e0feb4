//! `lrun stop` and `lrun rm`.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use lrun::userns;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::PROGRAM;
use super::args::{RemoveArguments, StopArguments};
use super::state::{State, lock};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::{self, Failure};

/// How long a killed container may take to be gone.
const GONE: Duration = Duration::from_secs(10);

pub(super) fn stop(global: &Global, arguments: &StopArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    each(&arguments.containers, |name| {
        let (folder, state) = State::read(&store, name)?;
        let Some(pidfd) = state.running().and_then(|first| first.open()) else { return Ok(()) };
        end(&pidfd, signal(&state)?, Duration::from_secs(arguments.time), name)?;
        settle(&folder);
        Ok(())
    })
}

pub(super) fn remove(global: &Global, arguments: &RemoveArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let folder = |name: &str| store.join("containers").join(name);
    let names: Vec<String> =
        arguments.containers.iter().filter(|name| !arguments.force || folder(name).exists()).cloned().collect();
    for name in &names {
        let pidfd =
            State::read(&store, name).ok().and_then(|(_, state)| state.running()).and_then(|first| first.open());
        match pidfd {
            Some(pidfd) if arguments.force => end(&pidfd, Signal::SIGKILL, Duration::ZERO, name)?,
            Some(_) => {
                return Err(
                    format!("{name}: the container is running; `lrun stop {name}` first, or use --force").into()
                );
            }
            None if !folder(name).exists() => return Err(format!("{name}: no such container").into()),
            None => {}
        }
    }
    // Files of a container belong to ids that exist in a namespace of the user's alone.
    userns::enter()?;
    each(&names, |name| {
        let folder = folder(name);
        let Ok(_lock) = lock(&folder) else { return Ok(()) };
        Ok(lstore::remove_tree(&folder)?)
    })
}

/// Does something with each container, telling its name when done; the first failure is the result, after all were tried.
fn each(names: &[String], mut work: impl FnMut(&str) -> Result<(), Failure>) -> Result<Exit, Failure> {
    let mut failed = None;
    for name in names {
        match work(name) {
            Ok(()) => writeln!(std::io::stdout(), "{name}")?,
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    report::warn(PROGRAM, &earlier.error.to_string(), &mut std::io::stderr());
                }
            }
        }
    }
    failed.map_or(Ok(Exit::SUCCESS), Err)
}

/// The signal that asks a container to end.
fn signal(state: &State) -> Result<Signal, Failure> {
    let Some(name) = &state.stop_signal else { return Ok(Signal::SIGTERM) };
    let known = name.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    let long = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    known.or_else(|| long.parse().ok()).ok_or_else(|| format!("the image's stop signal {name} does not exist").into())
}

/// Asks with a signal, waits, and kills.
fn end(pidfd: &OwnedFd, signal: Signal, patience: Duration, name: &str) -> Result<(), Failure> {
    let send = |signal: Signal| {
        let signal = rustix::process::Signal::from_named_raw(signal as i32).unwrap_or(rustix::process::Signal::KILL);
        // One that has just ended needs no signal any more.
        let _ = rustix::process::pidfd_send_signal(pidfd, signal);
    };
    send(signal);
    if wait(pidfd, patience)? {
        return Ok(());
    }
    send(Signal::SIGKILL);
    if wait(pidfd, GONE)? { Ok(()) } else { Err(format!("{name}: does not end, though it was killed").into()) }
}

fn wait(pidfd: &OwnedFd, patience: Duration) -> Result<bool, Failure> {
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    Ok(rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout))? > 0)
}

/// Waits until runner and keeper have let go: then the status is written, or the folder removed.
fn settle(folder: &Path) {
    // A folder that has gone meanwhile is settled too.
    drop(lock(folder));
}

//! What is done beside each start of a container: before it, the containers that it requires; after it, its record, the files
//! with numbers of processes, the word to systemd, the end after a time, and its health checks.

use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lrun::attendance::Attendance;
use lrun::state::Record;
use lrun::sys::process::{self, Fork};
use lrun::sys::title;
use rustix::process::Signal;

use super::args::{CreateArguments, LogDriver};
use super::folder::Folder;
use super::health;
use super::select::containers;
use super::stop;
use crate::env::Environment;
use crate::report::Failure;

/// Where systemd listens (`sd_notify(3)`).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// What a command line asks for.
///
/// # Errors
/// A container that is not there.
pub(super) fn wanted(arguments: &CreateArguments, store: &Path) -> Result<Attendance, Failure> {
    let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
    let mut requires = Vec::new();
    for name in &arguments.requires {
        let found = containers(store).find(name).map_err(|error| format!("--requires: {error}"))?;
        requires.push(found.record.id);
    }
    Ok(Attendance {
        pidfile: absolute(&arguments.pidfile)?,
        runner_pidfile: absolute(&arguments.conmon_pidfile)?,
        timeout: (arguments.timeout > 0).then(|| Duration::from_secs(arguments.timeout)),
        notifies: arguments.sdnotify,
        requires,
        unlogged: arguments.log_driver == LogDriver::None,
    })
}

/// Notes that a container's command runs, and does what is to be done then. One that has ended already needs no note of its
/// start.
pub(super) fn begun(
    store: &Path,
    folder: &Folder,
    record: &mut Record,
    container: &lrun::Container,
    has_monitor: bool,
    environment: &Environment,
) -> Result<(), Failure> {
    if record.begin(container.id(), has_monitor).is_err() {
        return Ok(());
    }
    record.write(folder.lock())?;
    if !record.attendance.is_none() {
        attend(&record.attendance, container, environment)?;
    }
    health::watch(store, folder, record, container, environment.runtime_folder().as_deref())
}

fn attend(wanted: &Attendance, container: &lrun::Container, environment: &Environment) -> Result<(), Failure> {
    let own = process::own_id();
    for (file, number) in [(&wanted.pidfile, container.id()), (&wanted.runner_pidfile, own)] {
        if let Some(file) = file {
            std::fs::write(file, number.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    if wanted.notifies {
        notify(environment, own)?;
    }
    if let Some(timeout) = wanted.timeout {
        end_after(timeout, container)?;
    }
    Ok(())
}

/// Tells systemd, if it asks, that all is ready and which process is to be watched.
fn notify(environment: &Environment, main: i32) -> Result<(), Failure> {
    let Some(socket) = environment.get(NOTIFY_SOCKET).filter(|socket| !socket.is_empty()) else { return Ok(()) };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    };
    let text = format!("MAINPID={main}\nREADY=1");
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    told.map_err(|error| format!("--sdnotify: {}: {error}", socket.display()))?;
    Ok(())
}

/// Leaves a process behind that kills the container after a time, and ends with it.
fn end_after(timeout: Duration, container: &lrun::Container) -> Result<(), Failure> {
    let pidfd: OwnedFd = container.pidfd().try_clone_to_owned()?;
    if let Fork::Parent(_) = process::fork()? {
        return Ok(());
    }
    title::set("timeout");
    if nix::unistd::setsid().is_ok() && process::detach_stdio().is_ok() {
        process::close_all_but([pidfd.as_fd()].into_iter());
        if matches!(stop::wait(&pidfd, timeout), Ok(false)) {
            // One that has just ended needs no end.
            let _ = process::signal(pidfd.as_fd(), Signal::KILL.as_raw());
        }
    }
    process::exit_now(0)
}

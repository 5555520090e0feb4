//! `delete`: what is left of a container goes.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Signal, pidfd_send_signal};

use super::cgroup::Made;
use super::hooks;
use super::signal::{freeze, kill};
use super::state::{Containers, Found, Status};
use crate::error::{Action, Error};
use crate::launch::poll;

/// Between two looks at processes that were killed, and how often.
const PATIENCE: (Duration, u32) = (Duration::from_millis(5), 1_000);

/// Deletes a container; with `force` one that runs is killed, and one that does not exist is none that is left. `warn` hears
/// of hooks that failed.
///
/// # Errors
/// [`Error::Refused`] for one that runs.
pub fn delete(containers: &Containers, id: &str, force: bool, warn: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let container = match containers.find(id) {
        Err(error) => {
            if force && let Some(left) = containers.left(id) {
                return fs::remove_dir_all(left).action("remove the container's folder");
            }
            return if force { Ok(()) } else { Err(error) };
        }
        Ok(container) => container,
    };
    let status = container.status();
    match status {
        // One that waits has no command yet whose work could be lost.
        Status::Stopped | Status::Created | Status::Creating => {}
        Status::Running | Status::Paused if force => {}
        Status::Running | Status::Paused => {
            return Err(Error::Refused(format!(
                "container {id:?} is {}; stop it first, or give --force",
                status.name()
            )));
        }
    }
    end(&container)?;
    if let Some(made) = &container.record.cgroup {
        remove(made)?;
    }
    let config = container.config()?;
    fs::remove_dir_all(&container.folder).action("remove the container's folder")?;
    let state = container.record.state(Status::Stopped).to_string();
    hooks::run_all(&config.hooks.poststop, &state, &container.record.bundle, "poststop", warn);
    Ok(())
}

/// Ends the first process, and all that are among the host's and would outlive it.
fn end(container: &Found) -> Result<(), Error> {
    if container.status() == Status::Paused {
        freeze(container, false)?;
    }
    if let Some(first) = container.record.process.open() {
        // One that has just ended needs no signal.
        let _ = pidfd_send_signal(&first, Signal::KILL);
        wait(first.as_fd()).action("wait for the container to end")?;
    }
    for _ in 0..PATIENCE.1 {
        if container.processes().is_empty() {
            break;
        }
        kill(container, nix::libc::SIGKILL, true)?;
        std::thread::sleep(PATIENCE.0);
    }
    Ok(())
}

fn wait(process: BorrowedFd<'_>) -> std::io::Result<()> {
    poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)])
}

/// Removes a group; what was just killed in it may still be on its way out.
fn remove(made: &Made) -> Result<(), Error> {
    let group = made.group();
    // Since Linux 5.14; before, all that were seen have been killed one by one.
    let _ = group.kill();
    for _ in 0..PATIENCE.1 {
        if group.remove_all().is_ok() {
            break;
        }
        std::thread::sleep(PATIENCE.0);
    }
    made.release();
    group.remove_all().action("remove the container's control group")
}

//! `start`: has a container that waits run its command.

use std::io;

use nix::libc;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::create::{address, failure, open_folder};
use super::delete::delete;
use super::state::{Containers, SOCKET, Status};
use super::{hooks, seccomp, signal};
use crate::channel::{Channel, Heard};
use crate::error::{Action, Error, Stage};

/// Starts one, and returns when its command runs. `warn` hears what went wrong while it was deleted.
///
/// # Errors
/// [`Error::Refused`] for one that does not wait; what went wrong on the way to the command. A hook that fails once it runs
/// ends the container, which is deleted then, as by runc and crun.
pub fn start(containers: &Containers, id: &str, warn: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let container = &containers.find(id)?;
    let status = container.status();
    if status != Status::Created {
        let id = &container.record.id;
        return Err(Error::Refused(format!(
            "container {id:?} is {}, and only one that is created can be started",
            status.name()
        )));
    }
    let config = container.config()?;
    let reach = || -> io::Result<Channel> {
        let folder = open_folder(&container.folder)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &address(std::os::fd::AsFd::as_fd(&folder))?)?;
        Ok(Channel::over(socket))
    };
    let channel = reach().action("reach the container that waits")?;
    channel.release().action("release the container")?;
    loop {
        match channel.hear().action("hear from the container")? {
            // Exec has closed its end.
            Heard::Closed => break,
            Heard::Failed(stage, what, source) => return Err(failure(stage, what, source)),
            Heard::Descriptor(listener) => {
                let state = container.record.state(Status::Creating);
                if let Err(error) = seccomp::send(&config.linux, &listener, &state, container.record.process.id) {
                    // It would wait for an answer without end.
                    signal::kill(container, libc::SIGKILL, false)?;
                    return Err(error);
                }
            }
            Heard::Released | Heard::Weaker(_) => return Err(Error::Died),
        }
    }
    std::fs::remove_file(container.folder.join(SOCKET)).action("note that the container was started")?;
    let state = container.record.state(Status::Running).to_string();
    if let Err(source) = hooks::run(&config.hooks.poststart, &state, Some(&container.record.bundle)) {
        delete(containers, id, true, warn)?;
        return Err(Error::Child { stage: Stage::Hook, what: String::new(), source });
    }
    Ok(())
}

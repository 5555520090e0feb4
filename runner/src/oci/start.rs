//! `start`: has a container that waits run its command.

use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::create::{address, failure, open_folder};
use super::hooks;
use super::state::{Found, SOCKET, Status};
use crate::channel::{Channel, Heard};
use crate::error::{Action, Error};

/// Starts it, and returns when its command runs. `warn` hears of hooks that failed after that.
///
/// # Errors
/// [`Error::Refused`] for one that does not wait; what went wrong on the way to the command.
pub fn start(container: &Found, warn: &mut dyn FnMut(&str)) -> Result<(), Error> {
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
    match channel.hear().action("hear from the container")? {
        // Exec has closed its end.
        Heard::Closed => {}
        Heard::Failed(stage, what, source) => return Err(failure(stage, what, source)),
        Heard::Descriptor(_) | Heard::Released => return Err(Error::Died),
    }
    std::fs::remove_file(container.folder.join(SOCKET)).action("note that the container was started")?;
    let state = container.record.state(Status::Running).to_string();
    hooks::run_all(&config.hooks.poststart, &state, &container.record.bundle, "poststart", warn);
    Ok(())
}

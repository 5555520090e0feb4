//! `linux.seccomp`: the filter of a command, and the listener that calls are left to (`config-linux.md`, "Seccomp"; "The
//! Container Process State").
//!
//! ```text
//! command to be ── fork that shares its descriptors
//!   │ seccomp(2): a descriptor      │ waits until it is there, and gives it to
//!   ▼                               ▼
//!  exec                 the runtime's command outside, which sends it to listenerPath with the state
//! ```
//!
//! By a fork without the filter: the calls that would send it may be among those that wait for the listener.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Signal, pidfd_send_signal};
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::Linux;
use crate::channel::Channel;
use crate::error::Error;
use crate::seccomp::{BpfInstruction, NATIVE, compile, oci};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::{process, seccomp};

/// Between two looks at whether the filter is there, and how often: its making takes no longer.
const PATIENCE: (Duration, u32) = (Duration::from_millis(1), 20_000);

/// The filter of a command.
#[derive(Debug, Default)]
pub(super) struct Filter {
    program: Vec<BpfInstruction>,
    /// Whether it leaves calls to a listener.
    notifies: bool,
}

/// What the object says besides the filter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Listener {
    listener_path: PathBuf,
    listener_metadata: String,
}

impl Filter {
    /// Of a bundle, for a command that keeps these capabilities.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Seccomp`].
    pub(super) fn of(linux: &Linux, kept: u64) -> Result<Self, Error> {
        let Some(profile) = &linux.seccomp else { return Ok(Self::default()) };
        let refused = |reason: String| Error::Refused(format!("linux.seccomp: {reason}"));
        let uname = rustix::system::uname();
        let kernel = uname.release().to_str().ok().and_then(oci::KernelVersion::parse);
        let kernel =
            kernel.ok_or_else(|| refused("the kernel does not tell its version in a known form".to_owned()))?;
        let text = serde_json::to_vec(profile).map_err(|error| refused(error.to_string()))?;
        let parsed = oci::parse_for_listener(&text, NATIVE, kernel).map_err(|error| refused(error.to_string()))?;
        let notifies = parsed.notifies();
        if notifies && !listener(linux).listener_path.is_absolute() {
            return Err(refused("SCMP_ACT_NOTIFY needs a listenerPath, an absolute path".to_owned()));
        }
        Ok(Self { program: compile(&parsed.profile, NATIVE, kept)?, notifies })
    }

    /// Puts this process under it; a listener's descriptor goes over the channel.
    pub(super) fn install(&self, channel: &Channel) -> io::Result<()> {
        if self.program.is_empty() {
            return Ok(());
        }
        if !self.notifies {
            return seccomp::install(&self.program);
        }
        let (told, tells) = Channel::pair()?;
        let Cloned::Parent { id, pidfd } = clone3(libc::CLONE_FILES, None)? else { hand_over(&told, channel) };
        // The lowest that is free is the one that it will have.
        let number = rustix::io::fcntl_dupfd_cloexec(&pidfd, 0)?.as_raw_fd();
        tells.warn(&number.to_string())?;
        match seccomp::install_with_listener(&self.program) {
            Ok(listener) => {
                // The fork closes it, so that calls fail when the listener has gone, and do not wait for this process.
                let _ = listener.into_raw_fd();
                // The listener may refuse the call: then the command finds a child that has ended.
                let _ = process::wait_for(id);
                Ok(())
            }
            Err(error) => {
                pidfd_send_signal(&pidfd, Signal::KILL)?;
                process::wait_for(id)?;
                Err(error)
            }
        }
    }
}

/// What the fork does: its descriptors are those of the process that gets the filter, and stay open when it ends.
fn hand_over(told: &Channel, channel: &Channel) -> ! {
    let number = match told.hear() {
        Ok(crate::channel::Heard::Weaker(number)) => number.parse::<RawFd>().ok(),
        _ => None,
    };
    let Some(number) = number else { process::exit_now(1) };
    for _ in 0..PATIENCE.1 {
        if let Some(listener) = process::take_shared(number) {
            let given = channel.give(&listener);
            drop(listener);
            process::exit_now(i32::from(given.is_err()))
        }
        std::thread::sleep(PATIENCE.0);
    }
    process::exit_now(1)
}

/// Sends a listener's descriptor to where the bundle wants it, with the state of the container and the number of the process
/// that has the filter.
///
/// # Errors
/// [`Error::Parent`]: the command waits for an answer that never comes.
pub(super) fn send(linux: &Linux, descriptor: &OwnedFd, state: &Value, id: i32) -> Result<(), Error> {
    let Listener { listener_path: path, listener_metadata } = listener(linux);
    let text = json!({
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": id,
        "metadata": listener_metadata,
        "state": state,
    })
    .to_string();
    let sent = || -> io::Result<()> {
        let mut socket = UnixStream::connect(&path)?;
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let count = sendmsg(&socket, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        socket.write_all(&text.as_bytes()[count..])
    };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    sent().map_err(|error| Error::Parent { action: "send the seccomp listener to listenerPath", source: named(error) })
}

fn listener(linux: &Linux) -> Listener {
    linux.seccomp.as_ref().and_then(|profile| Listener::deserialize(profile).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Filter, String> {
        let linux = Linux { seccomp: Some(serde_json::from_str(text).unwrap()), ..Linux::default() };
        Filter::of(&linux, 0).map_err(|error| error.to_string())
    }

    #[test]
    fn calls_are_left_to_a_listener_that_there_is() {
        let rules = r#""defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]"#;
        assert!(of(&format!(r#"{{{rules},"listenerPath":"/run/l"}}"#)).unwrap().notifies);
        assert!(of(&format!("{{{rules}}}")).unwrap_err().contains("listenerPath"));
        assert!(of(r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/l"}"#).unwrap_err().contains("by default"));
        assert!(!of(r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/l"}"#).unwrap().notifies);
    }
}

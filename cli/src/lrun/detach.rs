//! `lrun run --detach`: the part that stays behind, and the part that tells how it went.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use lrun::sys::process::{self, Fork};

use crate::exit::Exit;
use crate::report::Failure;

/// Which side this is.
pub(super) enum Side {
    /// The monitor: it starts the container, and ends with it.
    Monitor(Teller),
    /// The caller's process.
    Caller(Listener),
}

/// The monitor's end.
pub(super) struct Teller(PipeWriter);

/// The caller's end.
pub(super) struct Listener(PipeReader);

/// Splits this process. The monitor has a session of its own, what it writes goes to the log, and of the descriptors it has
/// only those in `keep`: the caller's pipes end with the caller.
pub(super) fn split(log: &Path, keep: &[BorrowedFd<'_>]) -> Result<Side, Failure> {
    let (listen, tell) = io::pipe()?;
    let file = std::fs::File::options().create(true).append(true).open(log)?;
    match process::fork()? {
        Fork::Parent(_) => Ok(Side::Caller(Listener(listen))),
        Fork::Child => {
            drop(listen);
            nix::unistd::setsid()?;
            process::detach_stdio()?;
            rustix::stdio::dup2_stdout(&file)?;
            rustix::stdio::dup2_stderr(&file)?;
            drop(file);
            std::env::set_current_dir("/")?;
            let kept = keep.iter().copied().chain([std::os::fd::AsFd::as_fd(&tell)]);
            process::close_all_but(kept);
            Ok(Side::Monitor(Teller(tell)))
        }
    }
}

impl Teller {
    /// Tells that the container runs.
    pub(super) fn runs(mut self) {
        // A caller that has gone does not care.
        let _ = self.0.write_all(&[0]);
    }

    /// Tells why it does not.
    pub(super) fn failed(mut self, failure: &Failure) {
        let message = [&[1, failure.exit.get()], failure.error.to_string().as_bytes()].concat();
        let _ = self.0.write_all(&message);
    }
}

impl Listener {
    /// Waits until the container runs.
    ///
    /// # Errors
    /// What the monitor tells.
    pub(super) fn wait(mut self) -> Result<(), Failure> {
        let mut told = Vec::new();
        self.0.read_to_end(&mut told)?;
        match told.as_slice() {
            [0] => Ok(()),
            [1, code, text @ ..] => {
                let text = String::from_utf8_lossy(text).into_owned();
                Err(Failure { exit: Exit::code(*code), ..Failure::from(text) })
            }
            _ => Err("the container's monitor died while it was started".into()),
        }
    }
}

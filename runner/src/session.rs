//! A terminal's, or a script's, connection to a container in the background.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socketpair};
use rustix::termios::tcgetwinsize;

use crate::error::Error;
use crate::launch::{poll, watch_signals};
use crate::monitor::{MOST, address, heard, said, socket};
use crate::pty::Raw;

/// How a session is to be led.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Whether the caller's standard input goes to the container.
    pub input: bool,
    /// Whether the container has a terminal: then the caller's is put in raw mode.
    pub terminal: bool,
    /// Whether signals are for the container.
    pub signals: bool,
    /// Keys that end the session and leave the container; empty for none.
    pub detach: Vec<u8>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With the container, and its exit status.
    Exit(u8),
    /// By the keys for it.
    Detached,
    /// The monitor has gone without a word.
    Lost,
}

/// A connection.
#[derive(Debug)]
pub struct Session(OwnedFd);

impl Session {
    /// Both ends of one: for the caller, and for a monitor to be.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), other))
    }

    /// To the monitor of the container in a folder.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(folder: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = socket()?;
        connect(&socket, &address(folder)?)?;
        Ok(Self(socket))
    }

    /// The caller's end.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Asks to be shown what the container writes. What it wrote before is in the log.
    ///
    /// # Errors
    /// The monitor has gone.
    pub fn watch(&self) -> io::Result<()> {
        self.say(&[said::WATCH])
    }

    /// Waits for the end without a look at what is written; `None` if the monitor has gone.
    pub fn wait(&self) -> Option<u8> {
        loop {
            match self.hear() {
                Ok(message) if message.first() == Some(&heard::EXIT) => return message.get(1).copied(),
                Ok(message) if message.is_empty() => return None,
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Passes everything through until the container ends or the session does.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn follow(&self, manner: &Manner) -> Result<Ended, Error> {
        let signals = watch_signals()?;
        let is_terminal = manner.terminal && rustix::termios::isatty(io::stdin());
        let raw = if manner.terminal && manner.input { Raw::enter().ok() } else { None };
        if manner.terminal {
            self.tell_size();
        }
        let stdin = io::stdin();
        let mut takes_input = manner.input;
        let mut keys = Keys::new(&manner.detach, is_terminal);
        let ended = loop {
            let reads = if takes_input { PollFlags::IN } else { PollFlags::empty() };
            let mut fds = vec![PollFd::new(&self.0, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            if takes_input {
                fds.push(PollFd::new(&stdin, reads));
            }
            poll(&mut fds).map_err(|source| Error::Parent { action: "wait for the container", source })?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[1] {
                self.pass_signals(&signals, manner);
            }
            if ready.get(2) == Some(&true) {
                let mut buffer = [0; MOST];
                match rustix::io::read(&stdin, &mut buffer) {
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    Ok(0) | Err(_) => {
                        takes_input = false;
                        let _ = self.say(&[said::END_OF_INPUT]);
                    }
                    Ok(count) => {
                        let (input, is_over) = keys.take(&buffer[..count]);
                        // A monitor that has gone is noticed where it is heard.
                        if !input.is_empty() {
                            let _ = self.say(&[&[said::INPUT], input.as_slice()].concat());
                        }
                        if is_over {
                            break Ended::Detached;
                        }
                    }
                }
            }
            if ready[0] {
                let message = self.hear().unwrap_or_default();
                match message.split_first() {
                    Some((&heard::OUTPUT, bytes)) => write_all(io::stdout().as_fd(), bytes),
                    Some((&heard::ERRORS, bytes)) => write_all(io::stderr().as_fd(), bytes),
                    Some((&heard::EXIT, &[status])) => break Ended::Exit(status),
                    Some(_) => {}
                    None => break Ended::Lost,
                }
            }
        };
        drop(raw);
        Ok(ended)
    }

    fn pass_signals(&self, signals: &nix::sys::signalfd::SignalFd, manner: &Manner) {
        while let Ok(Some(info)) = signals.read_signal() {
            let Ok(signal) = u8::try_from(info.ssi_signo) else { continue };
            if i32::from(signal) == nix::libc::SIGWINCH {
                if manner.terminal {
                    self.tell_size();
                }
            } else if manner.signals {
                let _ = self.say(&[said::SIGNAL, signal]);
            } else if let Ok(own) = nix::sys::signal::Signal::try_from(i32::from(signal)) {
                // As if it had not been watched for.
                let _ = crate::sys::process::reset_signals();
                let _ = nix::sys::signal::raise(own);
            }
        }
    }

    fn tell_size(&self) {
        // Without a terminal of the caller's there is no size to tell.
        if let Ok(size) = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout())) {
            let ([a, b], [c, d]) = (size.ws_row.to_le_bytes(), size.ws_col.to_le_bytes());
            let _ = self.say(&[said::SIZE, a, b, c, d]);
        }
    }

    fn say(&self, message: &[u8]) -> io::Result<()> {
        send(&self.0, message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn hear(&self) -> io::Result<Vec<u8>> {
        let mut buffer = [MaybeUninit::uninit(); MOST + 1];
        loop {
            match recv(&self.0, &mut buffer, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(((filled, _), _)) => return Ok(filled.to_vec()),
            }
        }
    }
}

/// Writes all, or what a reader that is still there takes.
fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(sink, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(sink, PollFlags::OUT)]);
            }
            Err(_) => return,
        }
    }
}

/// Watches for the keys that end a session, which are kept back until it is clear that they are not these.
#[derive(Debug)]
struct Keys<'a> {
    wanted: &'a [u8],
    seen: usize,
}

impl<'a> Keys<'a> {
    /// They mean something on a terminal only.
    fn new(wanted: &'a [u8], is_terminal: bool) -> Self {
        Self { wanted: if is_terminal { wanted } else { &[] }, seen: 0 }
    }

    /// What is to be passed on of some input, and whether the session is over.
    fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.wanted.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte != self.wanted[self.seen] {
                passed.extend_from_slice(&self.wanted[..self.seen]);
                self.seen = 0;
            }
            if byte == self.wanted[self.seen] {
                self.seen += 1;
                if self.seen == self.wanted.len() {
                    return (passed, true);
                }
            } else {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_end_a_session_and_others_pass() {
        let mut keys = Keys::new(&[16, 17], true);
        assert_eq!(keys.take(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.take(&[16]), (vec![], false));
        assert_eq!(keys.take(b"c"), (vec![16, b'c'], false), "kept back, then passed on");
        assert_eq!(keys.take(&[16, 16]), (vec![16], false));
        assert_eq!(keys.take(&[17, b'd']), (vec![], true));
        assert_eq!(Keys::new(&[16, 17], false).take(&[16, 17]), (vec![16, 17], false), "a script has no keys");
    }
}

//! Terminals: a new pair in the container's own devpts, and the relay between its outer end and the caller's terminal.
//!
//! The container never gets a descriptor of the caller's terminal: what it could push into that as input
//! (TIOCSTI, TIOCLINUX) ends in its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::channel::Channel;
use crate::target::Root;

/// Makes a pair in the container's devpts; gives its outer end to the parent, returns the inner one.
pub(crate) fn make(root: &Root, channel: &Channel) -> io::Result<OwnedFd> {
    let pts = root.directory(Path::new("/dev/pts"))?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = rustix::fs::openat(&pts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&outer)?;
    // By the pair itself (TIOCGPTPEER), not by a path that the image could have prepared.
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    // The streams are the caller's still. By the parent alone it could come after the command has looked.
    copy_size(outer.as_fd());
    channel.give(&outer)?;
    Ok(inner)
}

/// Makes the inner end the controlling terminal and the standard streams of this session leader.
pub(crate) fn take(inner: &OwnedFd, owner: Option<u32>) -> io::Result<()> {
    rustix::process::ioctl_tiocsctty(inner)?;
    if let Some(uid) = owner {
        rustix::fs::fchown(inner, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    }
    rustix::stdio::dup2_stdin(inner)?;
    rustix::stdio::dup2_stdout(inner)?;
    rustix::stdio::dup2_stderr(inner)?;
    Ok(())
}

/// The caller's terminal in raw mode; restored when dropped.
#[derive(Debug)]
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Switches standard input, if it is a terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return Ok(Self(None));
        }
        let saved = tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self(Some(saved)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(saved) = &self.0 {
            // A terminal that has gone needs no restoring.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, saved);
        }
    }
}

/// Gives the container's terminal the size of the caller's.
pub(crate) fn copy_size(outer: BorrowedFd<'_>) {
    // Without a terminal of the caller's there is no size to copy.
    if let Ok(size) = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout())) {
        let _ = tcsetwinsize(outer, size);
    }
}

/// The byte by which a terminal tells its reader that there is no more (`termios(3)`, `VEOF`); none where the reader
/// takes bytes as they are.
pub(crate) fn end_of_input(outer: BorrowedFd<'_>) -> Option<u8> {
    let modes = tcgetattr(outer).ok()?;
    modes.local_modes.contains(LocalModes::ICANON).then(|| modes.special_codes[SpecialCodeIndex::VEOF])
}

/// Bytes that are passed on at once.
const AT_ONCE: usize = 32 * 1024;

/// Bytes on their way in one direction.
#[derive(Debug)]
pub(crate) struct Relay {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the source has ended.
    pub(crate) ended: bool,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, ended: false }
    }

    /// Whether bytes wait to be written.
    pub(crate) fn is_pending(&self) -> bool {
        self.start < self.end
    }

    /// How many bytes wait to be written, when none of those read last has been.
    pub(crate) fn pending(&self) -> usize {
        self.end - self.start
    }

    /// Reads once. The end of a terminal shows as EIO.
    pub(crate) fn read(&mut self, source: impl AsFd) {
        // Not before there is something: most containers have no terminal.
        self.buffer.resize(AT_ONCE, 0);
        match rustix::io::read(source, &mut self.buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => (self.start, self.end) = (0, count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.ended = true,
        }
    }

    /// Adds a byte to a relay that waits for none.
    pub(crate) fn push(&mut self, byte: Option<u8>) {
        if let (Some(byte), false) = (byte, self.is_pending()) {
            self.buffer.clear();
            self.buffer.push(byte);
            (self.start, self.end) = (0, 1);
        }
    }

    /// Writes once; a reader that has gone ends the relay.
    pub(crate) fn write(&mut self, sink: impl AsFd) {
        self.write_at_most(sink, usize::MAX);
    }

    /// As [`Self::write`], of what waits no more than this many bytes.
    pub(crate) fn write_at_most(&mut self, sink: impl AsFd, most: usize) {
        let end = self.end.min(self.start.saturating_add(most));
        match rustix::io::write(sink, &self.buffer[self.start..end]) {
            Ok(count) => self.start += count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => (self.start, self.end, self.ended) = (0, 0, true),
        }
    }
}

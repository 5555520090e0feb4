//! The caller's standard streams, as a container without a terminal of its own gets them.
//!
//! *A file, pipe or socket* is handed on as it is, and costs nothing but the question what it is. A pipe is given to root inside
//! where that is not the caller: who opens `/dev/stdout` anew, as servers do that log there, needs to own it.
//!
//! *A terminal* is not: whoever has it open for writing can read it too, where passwords are typed, set its modes, and open it
//! again. The container gets a pipe instead, and the process that waits for the container passes on what goes through. Where
//! standard output and error are the same terminal they are the same pipe, so that what is written keeps its order.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, fstatfs};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use rustix::termios::isatty;

use crate::pty::Relay;
use crate::userns::Maps;

/// `PIPEFS_MAGIC` of `linux/magic.h`: a pipe with a name is somebody's file, one without is nobody's but those who have it.
const PIPE_FS: i64 = 0x5049_5045;
/// What is written at once to a terminal that cannot be kept from blocking, once it has room: `poll` promises about as much.
const SMALL: usize = 256;
/// How long a terminal may take nothing of what is left after this process was asked to end.
const GRACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// The major number of `/dev/tty`, `/dev/console` and `/dev/ptmx`, each of which is another terminal when it is opened again.
const ALIASES: u32 = 5;

/// Gives the pipes among this process's standard streams to root inside.
pub(crate) fn give(maps: &Maps) {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [input.as_fd(), output.as_fd(), errors.as_fd()] {
        give_one(stream, maps);
    }
}

fn give_one(stream: BorrowedFd<'_>, maps: &Maps) {
    let (Some(uid), Some(gid)) = (maps.users.outside(0, 1), maps.groups.outside(0, 1)) else { return };
    if fstatfs(stream).is_ok_and(|system| system.f_type == PIPE_FS) {
        // One that stays the caller's can still be written to.
        let _ = fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}

/// Refuses a folder of the caller's as a standard stream: by its descriptor a container would be out of its root. `takes_input`:
/// whether standard input goes to the container at all.
///
/// # Errors
/// There is one, named.
pub(crate) fn refuse_folders(takes_input: bool) -> io::Result<()> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let input = takes_input.then(|| ("input", input.as_fd()));
    for (name, stream) in input.into_iter().chain([("output", output.as_fd()), ("error", errors.as_fd())]) {
        // One that is closed is none.
        if fstat(stream).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory) {
            return Err(io::Error::other(format!("standard {name} is a folder of the host's")));
        }
    }
    Ok(())
}

/// A standard stream of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Input,
    Output,
    Errors,
}

impl Stream {
    fn put(self, in_its_place: &OwnedFd) -> io::Result<()> {
        Ok(match self {
            Self::Input => rustix::stdio::dup2_stdin(in_its_place),
            Self::Output => rustix::stdio::dup2_stdout(in_its_place),
            Self::Errors => rustix::stdio::dup2_stderr(in_its_place),
        }?)
    }
}

/// The time in which pipes stand in place of the terminals among this process's standard streams, so that a clone inherits
/// those and never has a terminal as its own. It is over with [`Self::end`], or when this value is dropped.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    saved: Vec<(Stream, OwnedFd)>,
    relays: Relays,
}

impl Apart {
    /// Begins it. `takes_input`: whether standard input goes to the container at all.
    pub(crate) fn begin(takes_input: bool) -> io::Result<Self> {
        refuse_folders(takes_input)?;
        let mut apart = Self::default();
        if takes_input && isatty(io::stdin()) {
            let terminal = fcntl_dupfd_cloexec(io::stdin(), 3)?;
            let (inner, outer) = pipe_with(PipeFlags::CLOEXEC)?;
            apart.relays.0.push(Pump::inward(&terminal, outer)?);
            apart.replace(Stream::Input, terminal, &inner)?;
        }
        let mut shared = None;
        if isatty(io::stdout()) {
            let terminal = fcntl_dupfd_cloexec(io::stdout(), 3)?;
            let number = fstat(&terminal)?.st_rdev;
            let (outer, inner) = pipe_with(PipeFlags::CLOEXEC)?;
            apart.relays.0.push(Pump::outward(outer, &terminal)?);
            apart.replace(Stream::Output, terminal, &inner)?;
            shared = Some((number, inner));
        }
        if isatty(io::stderr()) {
            let terminal = fcntl_dupfd_cloexec(io::stderr(), 3)?;
            let number = fstat(&terminal)?.st_rdev;
            if let Some((_, inner)) = shared.filter(|(shared, _)| *shared == number) {
                apart.replace(Stream::Errors, terminal, &inner)?;
            } else {
                let (outer, inner) = pipe_with(PipeFlags::CLOEXEC)?;
                apart.relays.0.push(Pump::outward(outer, &terminal)?);
                apart.replace(Stream::Errors, terminal, &inner)?;
            }
        }
        Ok(apart)
    }

    fn replace(&mut self, stream: Stream, terminal: OwnedFd, inner: &OwnedFd) -> io::Result<()> {
        stream.put(inner)?;
        self.saved.push((stream, terminal));
        Ok(())
    }

    /// Ends it in the process that waits: it has its terminals back, and relays what it will have to pass on.
    pub(crate) fn end(mut self) -> io::Result<Relays> {
        while let Some((stream, terminal)) = self.saved.pop() {
            stream.put(&terminal)?;
        }
        Ok(std::mem::take(&mut self.relays))
    }

    /// Ends it in the clone, which keeps the pipes and nothing of the terminals.
    pub(crate) fn leave(&mut self) {
        self.saved.clear();
        self.relays.0.clear();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for (stream, terminal) in self.saved.drain(..) {
            // Onto a number that is open: nothing can be wrong with it.
            let _ = stream.put(&terminal);
        }
    }
}

/// What this process passes on between the caller's terminals and a container's pipes.
#[derive(Debug, Default)]
pub(crate) struct Relays(Vec<Pump>);

impl Relays {
    /// Gives the pipes to root inside, as [`give`] does with those that are the caller's.
    pub(crate) fn give(&self, maps: &Maps) {
        self.0.iter().for_each(|pump| give_one(pump.pipe(), maps));
    }

    /// What each of them waits for.
    pub(crate) fn waits(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(Pump::waits)
    }

    /// Moves what can be moved by those that are ready, in the order of [`Self::waits`]. One that is over is closed: the
    /// container reads the end of its input, or hears that nobody reads its output any more, as when a terminal has gone.
    pub(crate) fn step(&mut self, ready: impl Iterator<Item = bool>) {
        let mut ready = ready;
        self.0.retain_mut(|pump| !ready.next().unwrap_or(false) || pump.step());
    }

    /// Passes on what a container that has ended left in its pipes; not what others who have the pipes open write from now on.
    /// A terminal that takes nothing is waited for, until a signal asks this process to end; if one `was_asked` already, not at all.
    pub(crate) fn finish(&mut self, signals: &SignalFd, was_asked: bool) -> io::Result<()> {
        for mut pump in std::mem::take(&mut self.0) {
            if pump.is_input {
                continue;
            }
            let mut left = rustix::io::ioctl_fionread(&pump.from)?;
            while pump.relay.is_pending() || left > 0 {
                if pump.relay.is_pending() {
                    let mut fds = [pump.waits(), PollFd::new(signals, PollFlags::IN)];
                    let patience = was_asked.then_some(GRACE);
                    match rustix::event::poll(&mut fds, patience.as_ref()) {
                        Ok(0) => return Ok(()),
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                    let [is_ready, is_signalled] = fds.map(|fd| !fd.revents().is_empty());
                    if is_signalled && asks_to_end(signals)? {
                        return Ok(());
                    }
                    if is_ready {
                        pump.write();
                    }
                    continue;
                }
                pump.relay.read(&pump.from);
                match pump.relay.pending() {
                    0 => break,
                    count => left = left.saturating_sub(count as u64),
                }
            }
        }
        Ok(())
    }
}

/// Whether one of the signals that have come would have ended this process.
fn asks_to_end(signals: &SignalFd) -> io::Result<bool> {
    let mut asked = false;
    while let Some(info) = signals.read_signal()? {
        asked |= i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw).is_some_and(ends);
    }
    Ok(asked)
}

/// Whether a signal asks a program to end.
pub(crate) fn ends(signal: Signal) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&signal)
}

/// One direction: a pipe and a terminal.
#[derive(Debug)]
struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    is_input: bool,
    /// Whether a write may block though there is room for some bytes.
    may_block: bool,
    relay: Relay,
}

impl Pump {
    fn inward(terminal: &OwnedFd, pipe: OwnedFd) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let (from, _) = reopened(terminal, OFlags::RDONLY)?;
        Ok(Self { from, to: pipe, is_input: true, may_block: false, relay: Relay::new() })
    }

    fn outward(pipe: OwnedFd, terminal: &OwnedFd) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let (to, may_block) = reopened(terminal, OFlags::WRONLY)?;
        Ok(Self { from: pipe, to, is_input: false, may_block, relay: Relay::new() })
    }

    fn pipe(&self) -> BorrowedFd<'_> {
        if self.is_input { self.to.as_fd() } else { self.from.as_fd() }
    }

    fn waits(&self) -> PollFd<'_> {
        if self.relay.is_pending() {
            PollFd::new(&self.to, PollFlags::OUT)
        } else {
            PollFd::new(&self.from, PollFlags::IN)
        }
    }

    /// Moves once; whether it can go on.
    fn step(&mut self) -> bool {
        if self.relay.is_pending() {
            self.write();
        } else {
            self.read();
        }
        !self.relay.ended || self.relay.is_pending()
    }

    fn read(&mut self) {
        self.relay.read(&self.from);
        if self.relay.is_pending() && !self.may_block {
            self.write();
        }
    }

    fn write(&mut self) {
        let most = if self.may_block { SMALL } else { usize::MAX };
        self.relay.write_at_most(&self.to, most);
    }
}

/// A terminal opened once more, so that it can be made never to block: what others have open, the caller's shell for one, stays
/// as it is. Where it cannot be, as after `su` to somebody whose it is not, the same description; then a write may block.
fn reopened(terminal: &OwnedFd, access: OFlags) -> io::Result<(OwnedFd, bool)> {
    if rustix::fs::major(fstat(terminal)?.st_rdev) != ALIASES {
        let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(own) = rustix::fs::open(path, flags, Mode::empty()) {
            return Ok((own, false));
        }
    }
    Ok((fcntl_dupfd_cloexec(terminal, 3)?, true))
}

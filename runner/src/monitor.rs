//! The process that answers for a container in the background: it keeps what the container writes in the log, lets others
//! attach, and learns how it ended.
//!
//! Who attaches speaks over a socket in the container's folder, in messages of which the first byte tells the kind. A
//! client that reads too slowly slows the container down, as a terminal does; none may be another user's.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, recv,
    send, socket_with, sockopt,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::container::{Container, ExitStatus};
use crate::error::{Action, Error};
use crate::launch::poll;
use crate::logs::{Stream, Writer};
use crate::pty::end_of_input;
use crate::sys::process;

/// File name of the socket.
pub(crate) const SOCKET: &str = "attach";
/// Most bytes that a message carries.
pub(crate) const MOST: usize = 8 * 1024;
/// What a client says.
pub(crate) mod said {
    /// Input follows.
    pub(crate) const INPUT: u8 = b'i';
    /// There is no more input.
    pub(crate) const END_OF_INPUT: u8 = b'e';
    /// Rows and columns of its terminal follow, two bytes each.
    pub(crate) const SIZE: u8 = b's';
    /// It wants to see what the container writes.
    pub(crate) const WATCH: u8 = b'w';
    /// The number of a signal for the container follows.
    pub(crate) const SIGNAL: u8 = b'k';
}
/// What a client hears.
pub(crate) mod heard {
    /// Output follows.
    pub(crate) const OUTPUT: u8 = b'o';
    /// What was written to standard error follows.
    pub(crate) const ERRORS: u8 = b'e';
    /// The exit status follows, one byte.
    pub(crate) const EXIT: u8 = b'x';
}

/// The outer ends of a container's standard streams.
#[derive(Debug, Default)]
pub struct Streams {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
}

impl Streams {
    /// Makes pipes and puts their inner ends in place of this process's standard streams, which a container inherits.
    pub fn put_in_place(takes_input: bool) -> io::Result<Self> {
        let (output, inner) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::stdio::dup2_stdout(inner)?;
        let (errors, inner) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::stdio::dup2_stderr(inner)?;
        let mut input = None;
        if takes_input {
            let (inner, outer) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::stdio::dup2_stdin(inner)?;
            input = Some(outer);
        }
        for end in [Some(&output), Some(&errors), input.as_ref()].into_iter().flatten() {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(Self { input, output: Some(output), errors: Some(errors) })
    }
}

/// Whoever is attached.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// Whether it wants to see what the container writes.
    watches: bool,
    /// A message that did not fit.
    unsent: Vec<u8>,
}

/// What a ready descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    End,
    Signals,
    Output,
    Errors,
    Terminal,
    Input,
    Listener,
    Client(usize),
}

/// See above.
#[derive(Debug)]
pub struct Monitor {
    log: Writer,
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    streams: Streams,
    /// Input on its way to the container.
    pending: Vec<u8>,
    input_ends: bool,
}

impl Monitor {
    /// Listens in the container's folder. `first` is attached from the beginning.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn new(folder: BorrowedFd<'_>, log: Writer, first: Option<OwnedFd>) -> io::Result<Self> {
        match rustix::fs::unlinkat(folder, SOCKET, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let listener = socket()?;
        bind(&listener, &address(folder)?)?;
        listen(&listener, 8)?;
        let clients = first.into_iter().map(Client::new).collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            log,
            listener: Some(listener),
            clients,
            streams: Streams::default(),
            pending: Vec::new(),
            input_ends: false,
        })
    }

    /// Serves a container whose streams these are until it has ended.
    ///
    /// # Errors
    /// Those of the kernel; the container is then killed with its value.
    pub fn serve(&mut self, container: &mut Container, streams: Streams) -> Result<ExitStatus, Error> {
        self.streams = streams;
        (self.pending, self.input_ends) = (Vec::new(), false);
        self.relay(container).action("serve the container")?;
        container.settle();
        ExitStatus::of(process::wait_for(container.id()).action("wait for the container")?).ok_or(Error::Died)
    }

    /// Tells those who are attached how it ended, and lets them go.
    pub fn announce(&mut self, status: ExitStatus) {
        for client in std::mem::take(&mut self.clients) {
            client.tell_at_last(heard::EXIT, &[status.code()]);
        }
    }

    fn relay(&mut self, container: &Container) -> io::Result<()> {
        loop {
            let ready = self.ready(container)?;
            let mut ended = false;
            for (source, flags) in ready {
                match source {
                    Source::End => ended = true,
                    Source::Signals => drop(container.pass_signals()?),
                    Source::Output | Source::Errors => {
                        self.read(source);
                    }
                    Source::Terminal => {
                        let terminal = container.terminal();
                        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                            && !self.read_terminal(terminal)
                        {
                            // Nothing has it open at this moment, which the kernel tells again and again; the command may
                            // open it anew.
                            std::thread::sleep(std::time::Duration::from_millis(50));
                        }
                        if flags.contains(PollFlags::OUT) {
                            self.write_input(terminal);
                        }
                    }
                    Source::Input => self.write_input(container.terminal()),
                    Source::Listener => self.accept(),
                    Source::Client(number) => self.attend(number, flags, container),
                }
            }
            self.clients.retain(|client| !client.is_gone());
            if ended {
                // All that could write has ended with the first process: what is there is all there will be.
                while self.read(Source::Output) || self.read(Source::Errors) || self.read_terminal(container.terminal())
                {
                }
                return Ok(());
            }
        }
    }

    fn ready(&self, container: &Container) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::End, container.pidfd(), PollFlags::IN),
            (Source::Signals, container.signals(), PollFlags::IN),
        ];
        // Before the streams: who has asked to see what is written sees all that was not read by then.
        for (number, client) in self.clients.iter().enumerate() {
            let reads = if self.pending.is_empty() { PollFlags::IN } else { PollFlags::empty() };
            let writes = if client.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            sources.push((Source::Client(number), client.socket.as_fd(), reads | writes));
        }
        let is_behind = self.clients.iter().any(|client| !client.unsent.is_empty());
        for (source, pipe) in [(Source::Output, &self.streams.output), (Source::Errors, &self.streams.errors)] {
            if let (Some(pipe), false) = (pipe, is_behind) {
                sources.push((source, pipe.as_fd(), PollFlags::IN));
            }
        }
        if let Some(terminal) = container.terminal() {
            let reads = if is_behind { PollFlags::empty() } else { PollFlags::IN };
            let writes = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            if !(reads | writes).is_empty() {
                sources.push((Source::Terminal, terminal, reads | writes));
            }
        } else if let (Some(input), false) = (&self.streams.input, self.pending.is_empty()) {
            sources.push((Source::Input, input.as_fd(), PollFlags::OUT));
        }
        if let Some(listener) = &self.listener {
            sources.push((Source::Listener, listener.as_fd(), PollFlags::IN));
        }
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        poll(&mut fds)?;
        let found = sources.iter().zip(&fds).map(|((source, ..), fd)| (*source, fd.revents()));
        Ok(found.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// Reads once from a pipe; whether there was anything.
    fn read(&mut self, source: Source) -> bool {
        let (pipe, stream) = match source {
            Source::Output => (&mut self.streams.output, Stream::Output),
            _ => (&mut self.streams.errors, Stream::Errors),
        };
        let Some(open) = pipe else { return false };
        let mut buffer = [0; MOST];
        match rustix::io::read(&*open, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Ok(0) | Err(_) => {
                *pipe = None;
                false
            }
            Ok(count) => {
                self.pass_on(stream, &buffer[..count]);
                true
            }
        }
    }

    fn read_terminal(&mut self, terminal: Option<BorrowedFd<'_>>) -> bool {
        let Some(terminal) = terminal else { return false };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(terminal, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&now)).is_err() || !fds[0].revents().contains(PollFlags::IN) {
            return false;
        }
        let mut buffer = [0; MOST];
        let Ok(count @ 1..) = rustix::io::read(terminal, &mut buffer) else { return false };
        self.pass_on(Stream::Output, &buffer[..count]);
        true
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8]) {
        // A full disk costs lines of the log, not the container.
        let _ = self.log.add(stream, bytes);
        let kind = if stream == Stream::Output { heard::OUTPUT } else { heard::ERRORS };
        for client in self.clients.iter_mut().filter(|client| client.watches) {
            client.tell(kind, bytes);
        }
    }

    fn write_input(&mut self, terminal: Option<BorrowedFd<'_>>) {
        let sink = terminal.or_else(|| self.streams.input.as_ref().map(AsFd::as_fd));
        match sink.map(|sink| rustix::io::write(sink, &self.pending)) {
            Some(Ok(count)) => drop(self.pending.drain(..count)),
            Some(Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) => {}
            // Nobody reads it any more.
            Some(Err(_)) | None => self.pending.clear(),
        }
        if self.pending.is_empty() && self.input_ends {
            self.streams.input = None;
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else { return };
        let is_ours = sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == rustix::process::getuid());
        if is_ours && let Ok(client) = Client::new(socket) {
            self.clients.push(client);
        }
    }

    /// Hears a client, or tells it what did not fit before.
    fn attend(&mut self, number: usize, flags: PollFlags, container: &Container) {
        let client = &mut self.clients[number];
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let mut buffer = [MaybeUninit::uninit(); MOST + 1];
        let message = match recv(&client.socket, &mut buffer, RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => &[],
            Ok(((filled, _), _)) => &*filled,
        };
        match *message {
            [] => client.leave(),
            [said::WATCH] => client.watches = true,
            [said::INPUT, ref bytes @ ..] => self.pending = bytes.to_vec(),
            [said::END_OF_INPUT] => {
                if let Some(terminal) = container.terminal() {
                    self.pending = end_of_input(terminal).into_iter().collect();
                } else {
                    self.input_ends = true;
                    self.write_input(None);
                }
            }
            [said::SIZE, a, b, c, d] => {
                let size = Winsize {
                    ws_row: u16::from_le_bytes([a, b]),
                    ws_col: u16::from_le_bytes([c, d]),
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                if let Some(terminal) = container.terminal() {
                    let _ = tcsetwinsize(terminal, size);
                }
            }
            [said::SIGNAL, signal] => {
                // One that has just ended needs no signal any more.
                let _ = process::signal(container.pidfd(), signal.into());
            }
            // What another version says.
            _ => {}
        }
    }
}

impl Client {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, watches: false, unsent: Vec::new() })
    }

    fn tell(&mut self, kind: u8, bytes: &[u8]) {
        let message = [&[kind], bytes].concat();
        if !self.unsent.is_empty() {
            // Both streams were read at once: they wait together.
            let _ = wait_to_write(&self.socket);
            self.flush();
        }
        match send(&self.socket, &message, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::AGAIN) => self.unsent = message,
            Err(_) => self.leave(),
            Ok(_) => {}
        }
    }

    fn flush(&mut self) {
        match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => self.leave(),
            Ok(_) => self.unsent.clear(),
        }
    }

    /// Tells the last word, with patience.
    fn tell_at_last(mut self, kind: u8, bytes: &[u8]) {
        for message in [std::mem::take(&mut self.unsent), [&[kind], bytes].concat()] {
            if !message.is_empty() {
                let _ = wait_to_write(&self.socket);
                let _ = send(&self.socket, &message, SendFlags::NOSIGNAL);
            }
        }
    }

    /// Marks it as gone: its end of the connection is of no more use.
    fn leave(&mut self) {
        self.unsent.clear();
        self.watches = false;
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        self.unsent.shrink_to_fit();
    }

    fn is_gone(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        rustix::event::poll(&mut fds, Some(&now)).is_ok()
            && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
            && !self.has_more()
    }

    /// Whether it has said something before it went.
    fn has_more(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        recv(&self.socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|((_, _), count)| count > 0)
    }
}

/// Waits a second at most.
fn wait_to_write(socket: &OwnedFd) -> rustix::io::Result<usize> {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&second))
}

/// A socket whose messages stay apart.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The socket of a folder that is open: its path may be longer than addresses can be.
pub(crate) fn address(folder: BorrowedFd<'_>) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?)
}

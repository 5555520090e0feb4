//! The way out of a container's network, by `pasta(1)` or `slirp4netns(1)`.
//!
//! The program is a child of the container's keeper, so that it ends with it, whatever that dies of. It is
//! executed outside of the container's user namespace and joins it by itself: by the rules of the kernel, no process in
//! there may look into it. It takes no descriptor along but those that it is told of: nothing to read, and pipes to the
//! keeper, of which one says that all is ready, and another why it is not.
//!
//! The container has the same addresses everywhere, so that its files can name them before anything runs.

mod hostfwd;
mod pasta;
mod slirp4netns;

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::process::{Signal, geteuid};

use self::hostfwd::Entrance;
use self::slirp4netns::Settings;
use crate::error::Error;
use crate::host::find_program;
use crate::launch::poll;
use crate::spec::{Program, Uplink};
use crate::sys::process::{self, Fork};

/// The container's address.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Where what it sends goes.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// What answers for the host's name servers.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// How lines of a program begin that tell nothing about why it failed.
const NOISE: [&str; 6] =
    ["Failed to send ", "sent tapfd=", "received tapfd=", "child failed", "parent failed", "WARNING: Support for "];
/// Most bytes of a program's complaint that are told.
const TOLD: usize = 500;

impl Program {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// The package that it comes in.
    pub fn package(self) -> &'static str {
        match self {
            Self::Pasta => "passt",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Where it is, if it is installed.
    pub fn find(self) -> Option<PathBuf> {
        find_program(self.name())
    }
}

/// The addresses of a container, as far as they are known before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Its own.
    pub own: Option<IpAddr>,
    /// Of what answers for the host's name servers.
    pub resolver: IpAddr,
    /// Of the host's loopback device, where it can be reached.
    pub host: Option<IpAddr>,
}

impl Uplink {
    /// See there.
    pub fn addresses(&self) -> Addresses {
        match self.program {
            Program::Pasta => self.pasta_addresses(),
            Program::Slirp4netns => Settings::of(self).addresses(),
        }
    }

    /// Whether a start needs a [folder](crate::Plan::folder) for it.
    pub fn needs_folder(&self) -> bool {
        self.program == Program::Slirp4netns && !self.ports.is_empty()
    }
}

/// An uplink to be, and the program for it.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    uplink: &'a Uplink,
    path: PathBuf,
    folder: Option<&'a Path>,
}

/// What the program inherits besides its standard descriptors.
struct Inherited {
    wait: PipeReader,
    tell_ready: PipeWriter,
    complain: PipeWriter,
    /// Closed when the keeper ends.
    end: PipeReader,
}

impl<'a> Wish<'a> {
    /// Looks for the program. `folder` is the plan's.
    pub(crate) fn new(uplink: &'a Uplink, folder: Option<&'a Path>) -> Result<Self, Error> {
        let program = uplink.program;
        let path = program.find().ok_or(Error::NoUplink(program))?;
        Ok(Self { uplink, path, folder })
    }

    /// Makes the process in which the program will run, and which waits in the namespaces that this one has now.
    pub(crate) fn prepare(self) -> io::Result<Prepared<'a>> {
        let (wait, go) = io::pipe()?;
        let (ready, tell_ready) = io::pipe()?;
        let (complaints, complain) = io::pipe()?;
        let (end, line) = io::pipe()?;
        // Nobody reads what it says later, and that must not keep it from its work.
        rustix::fs::fcntl_setfl(&complain, OFlags::WRONLY | OFlags::NONBLOCK)?;
        let entrance = if self.uplink.needs_folder() { Some(Entrance::new(self.folder)?) } else { None };
        let keeper = process::own_id();
        match process::fork()? {
            Fork::Child => {
                drop((go, ready, complaints, line));
                let mut inherited = Inherited { wait, tell_ready, complain, end };
                let error = self.become_program(keeper, &mut inherited, entrance.as_ref());
                let _ = (&inherited.complain).write_all(error.to_string().as_bytes());
                process::exit_now(1)
            }
            Fork::Parent(id) => Ok(Prepared { uplink: self.uplink, id, go, ready, complaints, line, entrance }),
        }
    }

    fn become_program(&self, keeper: i32, inherited: &mut Inherited, entrance: Option<&Entrance>) -> io::Error {
        let mut become_it = || -> io::Result<Command> {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            let Inherited { wait, tell_ready, complain, end } = inherited;
            let kept = [wait.as_fd(), tell_ready.as_fd(), complain.as_fd(), end.as_fd()];
            process::close_all_but(kept.into_iter().chain(entrance.map(AsFd::as_fd)));
            process::reset_signals()?;
            let mut word = [0];
            // Closed without a word: there is no namespace to connect.
            wait.read_exact(&mut word)?;
            let has_user_namespace = word == HAS_USER_NAMESPACE;
            let mut command = Command::new(&self.path);
            command.env_clear().current_dir("/");
            command.stdin(File::open("/dev/null")?).stderr(Stdio::from(complain.try_clone()?));
            match self.uplink.program {
                Program::Pasta => {
                    command.args(self.uplink.pasta_arguments(keeper, has_user_namespace, geteuid().is_root()));
                    command.stdout(Stdio::from(tell_ready.try_clone()?));
                }
                Program::Slirp4netns => {
                    if !has_user_namespace {
                        slirp4netns::keep_mounts_apart()?;
                    }
                    let settings = Settings::of(self.uplink);
                    command.args(settings.arguments(keeper, tell_ready.as_fd(), end.as_fd(), entrance)?);
                    command.stdout(Stdio::null());
                }
            }
            Ok(command)
        };
        match become_it() {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }
}

/// What the waiting process is told.
const HAS_USER_NAMESPACE: [u8; 1] = *b"u";
const HAS_NONE: [u8; 1] = *b"-";

/// A process that waits to become the program.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    uplink: &'a Uplink,
    id: i32,
    go: PipeWriter,
    ready: PipeReader,
    complaints: PipeReader,
    line: PipeWriter,
    entrance: Option<Entrance>,
}

impl Prepared<'_> {
    /// The program's name.
    pub(crate) fn name(&self) -> &'static str {
        self.uplink.program.name()
    }

    /// Lets it connect the namespaces that this process is in now, and waits until it has. `end` becomes readable when
    /// nobody wants it any more.
    pub(crate) fn start(mut self, end: &PipeReader, has_user_namespace: bool) -> io::Result<Running> {
        self.go.write_all(if has_user_namespace { &HAS_USER_NAMESPACE } else { &HAS_NONE })?;
        let mut fds = [PollFd::new(&self.ready, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        while fds.iter().all(|fd| fd.revents().is_empty()) {
            poll(&mut fds)?;
        }
        let is_over = !fds[1].revents().is_empty();
        let running = Running { id: self.id, complaints: self.complaints, line: self.line };
        if is_over {
            running.end();
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.ready.read(&mut [0]) {
            Ok(1..) => {}
            _ => return Err(io::Error::other(running.why())),
        }
        match self.entrance.map_or(Ok(()), |entrance| entrance.open(&self.uplink.ports)) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.end();
                Err(error)
            }
        }
    }
}

/// A program at work.
#[derive(Debug)]
pub(crate) struct Running {
    id: i32,
    /// Open for as long as it runs: it would die of a word that nobody could hear.
    complaints: PipeReader,
    /// Nothing is ever written. The kernel forgets the death signal of a program that changes its ids, as it does in a user
    /// namespace whose root is another than the caller; that this is open it still sees.
    line: PipeWriter,
}

impl Running {
    /// What must stay open for as long as it runs.
    pub(crate) fn kept(&self) -> [BorrowedFd<'_>; 2] {
        [self.complaints.as_fd(), self.line.as_fd()]
    }

    /// Ends it. Nothing that it does needs an orderly end, and its ports are free when this returns.
    pub(crate) fn end(self) {
        // A child that was not waited for keeps its number.
        if let Some(pid) = rustix::process::Pid::from_raw(self.id) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let _ = process::wait_for(self.id);
    }

    /// Why it is not ready and never will be.
    fn why(mut self) -> String {
        let status = process::wait_for(self.id);
        let mut text = Vec::new();
        // What it left behind, if anything, must not be waited for.
        let _ = rustix::io::ioctl_fionbio(&self.complaints, true);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.complaints.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        let why = complaint(&String::from_utf8_lossy(&text));
        if why.is_empty() { format!("it ended without a word: {status:?}") } else { why }
    }
}

/// A program's complaint in one line, with the way out of the usual one.
fn complaint(text: &str) -> String {
    // Debian 12's has no log to write to, and says so after each of its lines.
    // slirp4netns tells each of its steps.
    let is_news = |line: &&str| !NOISE.iter().any(|noise| line.starts_with(noise));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).filter(is_news);
    let mut told = lines.collect::<Vec<_>>().join("; ");
    if let Some((cut, _)) = told.char_indices().nth(TOLD) {
        told.truncate(cut);
    }
    if told.contains("/dev/net/tun") {
        told.push_str(
            "; every user must be able to open /dev/net/tun: as root, `modprobe tun` and `chmod 666 /dev/net/tun`",
        );
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_line_with_a_way_out() {
        let text = "Failed to send 51 bytes to syslog\nFailed to open() /dev/net/tun: Permission denied\n";
        let told = complaint(text);
        assert!(told.starts_with("Failed to open() /dev/net/tun: Permission denied; ") && told.contains("chmod 666"));
        assert_eq!(complaint("a\n\nb\n"), "a; b");
    }
}

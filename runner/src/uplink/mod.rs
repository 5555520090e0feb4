//! The way out of a container's network, by `pasta(1)` or `slirp4netns(1)`.
//!
//! The program is a child of the container's keeper, so that it ends with it, whatever that dies of. It is executed outside of the
//! container's user namespace, and stays there where it can: with power over that namespace from outside, pasta enters nothing
//! but the network, and so does slirp4netns for real root. Who has none, without a holder or a subordinate range, lets pasta join
//! the user namespace before the container's command begins; pasta then lets nobody look into it. slirp4netns has its
//! sandbox within the user namespace, and is refused for a container that could see it there.
//!
//! It takes no descriptor along but those that it is told of: the namespaces, and pipes to the keeper, of which one says that all is
//! ready, and another why it is not.
//!
//! The container has the same addresses everywhere, so that its files can name them before anything runs.

mod anchor;
mod hostfwd;
mod pasta;
mod slirp4netns;

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::process::{Signal, geteuid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use self::anchor::Anchor;
use self::hostfwd::Entrance;
use self::slirp4netns::Settings;
use crate::channel::{Channel, Heard};
use crate::enter::Hidden;
use crate::error::{Error, Stage};
use crate::host::find_program;
use crate::launch::poll;
use crate::spec::{Program, Spec, Uplink};
use crate::sys::namespace;
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

/// What a keeper does to connect a container.
pub(crate) struct Connection<'a> {
    pub(crate) wish: Wish<'a>,
    /// Where the network namespace comes from.
    pub(crate) network: Channel,
    /// The container's user namespace, if it has another than this process.
    pub(crate) namespace: Option<BorrowedFd<'a>>,
    /// Who waits for it.
    pub(crate) child: &'a Channel,
}

impl Connection<'_> {
    /// Connects the network as soon as it is there, and tells the child how that went. `end` becomes readable when nobody wants it any
    /// more.
    pub(crate) fn connect(self, end: &PipeReader) -> Option<Running> {
        // The child hears from the network's maker why there is none.
        let Ok(Heard::Descriptor(network)) = self.network.hear() else { return None };
        match self.wish.start(network.as_fd(), self.namespace, end) {
            Ok(running) => {
                // A child that has failed meanwhile waits for nothing.
                let _ = self.child.release();
                Some(running)
            }
            Err(error) => {
                self.child.fail(Stage::Uplink, self.wish.uplink.program.name(), &error);
                None
            }
        }
    }
}

/// How the program comes to the container's network.
enum Way<'a> {
    /// From outside of the container's user namespace, over which this process has power, or which is its own.
    Outside,
    /// The same, once it has entered the user namespace around the container's.
    Around(OwnedFd),
    /// By joining the container's user namespace.
    Joining(BorrowedFd<'a>),
}

impl<'a> Way<'a> {
    fn to(namespace: Option<BorrowedFd<'a>>) -> io::Result<Self> {
        let has = rustix::thread::capabilities(None)?.effective;
        let Some(namespace) = namespace.filter(|_| !has.contains(POWER)) else { return Ok(Self::Outside) };
        let around = namespace::around(&namespace)?;
        let own = File::open("/proc/self/ns/user")?;
        Ok(if namespace::is_same(&around, &own)? { Self::Joining(namespace) } else { Self::Around(around) })
    }
}

/// What it takes to enter a network namespace and to set it up.
const POWER: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::NET_ADMIN);

impl<'a> Wish<'a> {
    /// Looks for the program. `folder` is the plan's.
    pub(crate) fn new(uplink: &'a Uplink, folder: Option<&'a Path>) -> Result<Self, Error> {
        let program = uplink.program;
        let path = program.find().ok_or(Error::NoUplink(program))?;
        Ok(Self { uplink, path, folder })
    }

    /// Refuses what would put the program within the reach of a container's processes.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(crate) fn check(&self, spec: &Spec) -> Result<(), Error> {
        let is_apart = spec.joined.is_empty() && spec.namespaces.pid;
        if self.uplink.program == Program::Slirp4netns && !is_apart && !geteuid().is_root() {
            return Err(Error::Refused(
                "slirp4netns works within the container's user namespace, where a container that sees the host's processes, or \
                 shares that namespace with another, could take it over; use pasta"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Starts the program for a network namespace, and waits until that is connected.
    fn start(
        &self,
        network: BorrowedFd<'_>,
        namespace: Option<BorrowedFd<'_>>,
        end: &PipeReader,
    ) -> io::Result<Running> {
        let way = Way::to(namespace)?;
        let anchor = match (self.uplink.program, &way, namespace) {
            (Program::Slirp4netns, Way::Joining(_) | Way::Around(_), Some(user)) => {
                Some(Anchor::in_namespaces(user, network)?)
            }
            (Program::Slirp4netns, Way::Outside, Some(user)) if !geteuid().is_root() => {
                Some(Anchor::in_namespaces(user, network)?)
            }
            _ => None,
        };
        let (ready, tell_ready) = io::pipe()?;
        let (complaints, complain) = io::pipe()?;
        let (program_end, line) = io::pipe()?;
        // Nobody reads what it says later, and that must not keep it from its work.
        rustix::fs::fcntl_setfl(&complain, OFlags::WRONLY | OFlags::NONBLOCK)?;
        let entrance = if self.uplink.needs_folder() { Some(Entrance::new(self.folder)?) } else { None };
        let id = match process::fork()? {
            Fork::Child => {
                drop((ready, complaints, line));
                let given = Given {
                    network,
                    way: &way,
                    anchor: anchor.as_ref().map(Anchor::id),
                    tell_ready,
                    complain,
                    end: program_end,
                };
                let error = self.become_program(&given, entrance.as_ref());
                let _ = (&given.complain).write_all(error.to_string().as_bytes());
                process::exit_now(1)
            }
            Fork::Parent(id) => id,
        };
        drop((tell_ready, complain, program_end));
        let mut running = Running { id, complaints, line };
        // pasta tells by its number among its complaints, slirp4netns over a pipe of its own.
        let ready = if self.uplink.program == Program::Pasta { None } else { Some(ready) };
        match running.await_ready(ready, end) {
            Ok(None) => {}
            Ok(Some(told)) => return Err(io::Error::other(running.why(told))),
            Err(error) => {
                running.end();
                return Err(error);
            }
        }
        drop(anchor);
        match entrance.map_or(Ok(()), |entrance| entrance.open(&self.uplink.ports)) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.end();
                Err(error)
            }
        }
    }

    fn become_program(&self, given: &Given<'_>, entrance: Option<&Entrance>) -> io::Error {
        match self.command(given, entrance) {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }

    fn command(&self, given: &Given<'_>, entrance: Option<&Entrance>) -> io::Result<Command> {
        let Given { network, way, anchor, tell_ready, complain, end } = given;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let joined = if let Way::Joining(user) = way { Some(*user) } else { None };
        let around = if let Way::Around(around) = way { Some(around.as_fd()) } else { None };
        let kept = [*network, tell_ready.as_fd(), complain.as_fd(), end.as_fd()].into_iter();
        let hidden = Hidden::with(kept.chain(joined).chain(around).chain(entrance.map(AsFd::as_fd)), &[])?;
        process::reset_signals()?;
        if let (Some(around), None) = (around, anchor) {
            hidden.enter(around, CloneFlags::CLONE_NEWUSER)?;
        }
        let mut command = Command::new(&self.path);
        // As standard descriptors: newer versions of pasta close all others before they look at their options.
        command.stdin(Stdio::from(network.try_clone_to_owned()?)).stdout(Stdio::null());
        command.stderr(Stdio::from(complain.try_clone()?)).env_clear().current_dir("/");
        match self.uplink.program {
            Program::Pasta => {
                match joined {
                    Some(user) => drop(command.stdout(Stdio::from(user.try_clone_to_owned()?))),
                    None => keep_power()?,
                }
                command.args(self.uplink.pasta_arguments(joined.is_some(), geteuid().is_root()));
            }
            Program::Slirp4netns => {
                if anchor.is_none() {
                    slirp4netns::keep_mounts_apart()?;
                }
                let settings = Settings::of(self.uplink);
                command.args(settings.arguments(*anchor, tell_ready.as_fd(), end.as_fd(), entrance)?);
            }
        }
        Ok(command)
    }
}

/// Has the program that is executed keep what it takes to set up a network. Root's do.
fn keep_power() -> io::Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let have = rustix::thread::capabilities(None)?;
    let kept = POWER.union(CapabilitySet::SETUID).union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP);
    // No more than it may keep: what would be lost makes the kernel forget the death signal.
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: kept & have.permitted },
    )?;
    for capability in kept.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// What the program's process is given.
struct Given<'a> {
    network: BorrowedFd<'a>,
    way: &'a Way<'a>,
    /// The process that slirp4netns finds the namespaces by.
    anchor: Option<i32>,
    tell_ready: PipeWriter,
    complain: PipeWriter,
    /// Closed when the keeper ends.
    end: PipeReader,
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

    /// Waits until it is ready: a word over `ready`, or without that its number among the complaints. What it said instead if it has
    /// ended; `Interrupted` when nobody wants it any more, which `end` tells.
    fn await_ready(&mut self, mut ready: Option<PipeReader>, end: &PipeReader) -> io::Result<Option<Vec<u8>>> {
        let mut told = Vec::new();
        loop {
            let news = ready.as_ref().map_or(self.complaints.as_fd(), AsFd::as_fd);
            let mut fds = [PollFd::new(&news, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            poll(&mut fds)?;
            if !fds[1].revents().is_empty() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if fds[0].revents().is_empty() {
                continue;
            }
            if let Some(ready) = &mut ready {
                return Ok((ready.read(&mut [0])? == 0).then_some(told));
            }
            let mut buffer = [0; 4096];
            match self.complaints.read(&mut buffer)? {
                0 => return Ok(Some(told)),
                count => told.extend_from_slice(&buffer[..count]),
            }
            let mut lines = told.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
            if lines.any(|line| !line.is_empty() && line.iter().all(u8::is_ascii_digit)) {
                return Ok(None);
            }
        }
    }

    /// Why it is not ready and never will be, with what it `told` already.
    fn why(mut self, told: Vec<u8>) -> String {
        let status = process::wait_for(self.id);
        let mut text = told;
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

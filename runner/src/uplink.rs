//! The way out of a container's network: `pasta(1)` of the package passt.
//!
//! The program is a child of the container's keeper, so that it ends with it, whatever that dies of. It is
//! executed outside of the container's user namespace and joins it by itself: by the rules of the kernel, no process in
//! there may look into it. It takes no descriptor along but three: nothing to read, and two pipes to the keeper, of which
//! one says that all is ready, and the other why it is not.
//!
//! The container has the same addresses everywhere, so that its files can name them before anything runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::process::{Signal, geteuid};

use crate::error::Error;
use crate::host::find_program;
use crate::launch::poll;
use crate::spec::{Port, Program, Protocol, Uplink};
use crate::sys::process::{self, Fork};

/// The container's address.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Where what it sends goes.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// What answers for the host's name servers.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Options of pasta that are set here, and mean how it is run rather than what it does.
const OURS: [&str; 14] = [
    "--foreground",
    "-f",
    "--pid",
    "-P",
    "--netns",
    "--userns",
    "--netns-only",
    "--no-netns-quit",
    "--config-net",
    "--runas",
    "--fd",
    "-F",
    "--stderr",
    "-e",
];
/// Options of pasta by which the caller takes the choice of addresses over.
const ADDRESSES: [&str; 12] = [
    "-a",
    "--address",
    "-n",
    "--netmask",
    "-g",
    "--gateway",
    "-i",
    "--interface",
    "-6",
    "--ipv6-only",
    "--outbound-if4",
    "--no-tap",
];
/// Most bytes of a program's complaint that are told.
const TOLD: usize = 500;

impl Program {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
        }
    }

    /// The package that it comes in.
    pub fn package(self) -> &'static str {
        match self {
            Self::Pasta => "passt",
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
}

impl Uplink {
    /// By pasta, with options of the caller's.
    ///
    /// # Errors
    /// The first option that is not the caller's to set.
    pub fn pasta(options: Vec<String>) -> Result<Self, String> {
        let is_ours = |option: &&String| OURS.contains(&option.split('=').next().unwrap_or_default());
        match options.iter().find(is_ours) {
            Some(option) => Err(option.clone()),
            None => Ok(Self { program: Program::Pasta, options, ports: Vec::new() }),
        }
    }

    /// See there.
    pub fn addresses(&self) -> Addresses {
        let told = |names: &[&str]| self.value(names).and_then(|value| value.split('/').next()?.parse().ok());
        Addresses {
            own: told(&["-a", "--address"]).or_else(|| (!self.has(&ADDRESSES)).then_some(OWN.into())),
            resolver: told(&["--dns-forward"]).unwrap_or(RESOLVER.into()),
        }
    }

    /// The first value of an option that has one of these names, `-a X`, `--address X` or `--address=X`.
    fn value(&self, names: &[&str]) -> Option<&str> {
        self.options.iter().enumerate().find_map(|(at, option)| match option.split_once('=') {
            Some((name, value)) if names.contains(&name) => Some(value),
            None if names.contains(&option.as_str()) => self.options.get(at + 1).map(String::as_str),
            _ => None,
        })
    }

    fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|option| names.contains(&option.split('=').next().unwrap_or_default()))
    }

    /// The words of a command line for the namespaces of a process.
    fn arguments(&self, process: i32, has_user_namespace: bool, is_real_root: bool) -> Vec<String> {
        let user = has_user_namespace.then(|| format!("/proc/{process}/ns/user"));
        let network = format!("/proc/{process}/ns/net");
        let mut words: Vec<String> =
            ["--foreground", "--quiet", "--no-netns-quit", "--config-net"].map(str::to_owned).into();
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        // Its number is written when all is ready, here into the pipe that it was given.
        add("--pid", "/proc/self/fd/1".to_owned());
        if let Some(user) = user {
            add("--userns", user);
        }
        if is_real_root {
            // Which it would leave for nobody, who may join nothing.
            add("--runas", "0:0".to_owned());
        }
        add("--netns", network);
        if !self.has(&ADDRESSES) {
            add("-a", OWN.to_string());
            add("-n", "24".to_owned());
            add("-g", GATEWAY.to_string());
        }
        if !self.has(&["--dns-forward"]) {
            add("--dns-forward", RESOLVER.to_string());
        }
        for (protocol, names, outward) in [
            (Protocol::Tcp, ["-t", "--tcp-ports"], ["-T", "--tcp-ns"]),
            (Protocol::Udp, ["-u", "--udp-ports"], ["-U", "--udp-ns"]),
        ] {
            let ports: Vec<String> =
                self.ports.iter().filter(|port| port.protocol == protocol).map(Port::words).collect();
            if ports.is_empty() && !self.has(&names) {
                add(names[0], "none".to_owned());
            }
            for port in ports {
                add(names[0], port);
            }
            if !self.has(&outward) {
                add(outward[0], "none".to_owned());
            }
        }
        // podman's word for what pasta does unless it is told not to: the gateway's address leads to the host's loopback.
        if !self.has(&["--map-gw", "--no-map-gw", "--map-host-loopback"]) {
            words.push("--no-map-gw".to_owned());
        }
        words.extend(self.options.iter().filter(|option| *option != "--map-gw").cloned());
        words
    }
}

impl Port {
    /// As pasta has it.
    fn words(&self) -> String {
        let range = |first: u16| match self.count {
            0 | 1 => first.to_string(),
            count => format!("{first}-{}", first.saturating_add(count - 1)),
        };
        let address = self.address.map(|address| format!("{address}/")).unwrap_or_default();
        format!("{address}{}:{}", range(self.host), range(self.container))
    }
}

/// An uplink to be, and the program for it.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    uplink: &'a Uplink,
    path: PathBuf,
}

impl<'a> Wish<'a> {
    /// Looks for the program.
    pub(crate) fn new(uplink: &'a Uplink) -> Result<Self, Error> {
        let program = uplink.program;
        let path = program.find().ok_or(Error::NoUplink(program))?;
        Ok(Self { uplink, path })
    }

    /// Makes the process in which the program will run, and which waits in the namespaces that this one has now.
    pub(crate) fn prepare(self) -> io::Result<Prepared> {
        let program = self.uplink.program;
        let (wait, go) = io::pipe()?;
        let (ready, tell_ready) = io::pipe()?;
        let (complaints, complain) = io::pipe()?;
        // Nobody reads what it says later, and that must not keep it from its work.
        rustix::fs::fcntl_setfl(&complain, OFlags::WRONLY | OFlags::NONBLOCK)?;
        let keeper = process::own_id();
        match process::fork()? {
            Fork::Child => {
                drop((go, ready, complaints));
                let error = self.become_program(keeper, wait, &tell_ready, &complain);
                let _ = (&complain).write_all(error.to_string().as_bytes());
                process::exit_now(1)
            }
            Fork::Parent(id) => Ok(Prepared { program, id, go, ready, complaints }),
        }
    }

    fn become_program(
        &self,
        keeper: i32,
        mut wait: PipeReader,
        tell_ready: &PipeWriter,
        complain: &PipeWriter,
    ) -> io::Error {
        let mut become_it = || -> io::Result<Command> {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            process::close_all_but([wait.as_fd(), tell_ready.as_fd(), complain.as_fd()].into_iter());
            process::reset_signals()?;
            let mut word = [0];
            // Closed without a word: there is no namespace to connect.
            wait.read_exact(&mut word)?;
            let mut command = Command::new(&self.path);
            let arguments = self.uplink.arguments(keeper, word == HAS_USER_NAMESPACE, geteuid().is_root());
            command.args(arguments.into_iter().map(OsString::from)).env_clear().current_dir("/");
            command.stdin(File::open("/dev/null")?).stderr(Stdio::from(complain.try_clone()?));
            command.stdout(Stdio::from(tell_ready.try_clone()?));
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
pub(crate) struct Prepared {
    program: Program,
    id: i32,
    go: PipeWriter,
    ready: PipeReader,
    complaints: PipeReader,
}

impl Prepared {
    /// The program's name.
    pub(crate) fn name(&self) -> &'static str {
        self.program.name()
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
        let running = Running { id: self.id, complaints: self.complaints };
        if is_over {
            running.end();
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.ready.read(&mut [0]) {
            Ok(1..) => Ok(running),
            _ => Err(io::Error::other(running.why())),
        }
    }
}

/// A program at work.
#[derive(Debug)]
pub(crate) struct Running {
    id: i32,
    /// Open for as long as it runs: it would die of a word that nobody could hear.
    complaints: PipeReader,
}

impl Running {
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

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.complaints.as_fd()
    }
}

/// A program's complaint in one line, with the way out of the usual one.
fn complaint(text: &str) -> String {
    // Debian 12's has no log to write to, and says so after each of its lines.
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Failed to send "));
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

    fn port(address: Option<&str>, host: u16, container: u16, count: u16, protocol: Protocol) -> Port {
        Port { address: address.map(|address| address.parse().unwrap()), host, container, count, protocol }
    }

    fn pasta(options: &[&str], ports: Vec<Port>) -> Uplink {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Uplink { ports, ..Uplink::pasta(options).unwrap() }
    }

    fn line(uplink: &Uplink) -> String {
        uplink.arguments(7, true, false).join(" ")
    }

    #[test]
    fn nothing_is_forwarded_but_what_was_published() {
        let words = line(&pasta(&[], vec![]));
        assert!(words.contains("--userns /proc/7/ns/user --netns /proc/7/ns/net"), "{words}");
        assert!(words.contains("-t none -T none -u none -U none --no-map-gw"), "{words}");
        let ports = vec![
            port(Some("127.0.0.1"), 8080, 80, 1, Protocol::Tcp),
            port(None, 90, 91, 3, Protocol::Tcp),
            port(Some("::1"), 53, 53, 1, Protocol::Udp),
        ];
        let words = line(&pasta(&[], ports));
        assert!(words.contains("-t 127.0.0.1/8080:80 -t 90-92:91-93 -T none -u ::1/53:53 -U none"), "{words}");
    }

    #[test]
    fn what_the_caller_says_to_pasta_takes_the_place_of_what_is_said_otherwise() {
        let own = pasta(&["--address=192.0.2.7", "-T", "auto", "--map-gw", "--dns-forward", "192.0.2.8"], vec![]);
        let words = line(&own);
        assert!(words.ends_with("--address=192.0.2.7 -T auto --dns-forward 192.0.2.8"), "{words}");
        assert!(!words.contains("10.0.2") && !words.contains("-T none") && !words.contains("map-gw"), "{words}");
        let addresses = own.addresses();
        assert_eq!((addresses.own, addresses.resolver), ("192.0.2.7".parse().ok(), "192.0.2.8".parse().unwrap()));
        assert_eq!(pasta(&["-i", "eth1"], vec![]).addresses().own, None);
        assert_eq!(pasta(&["--mtu", "1500"], vec![]).addresses().own, Some(OWN.into()));
        assert_eq!(Uplink::pasta(vec!["--pid=/x".to_owned()]), Err("--pid=/x".to_owned()));
    }

    #[test]
    fn a_complaint_is_one_line_with_a_way_out() {
        let text = "Failed to send 51 bytes to syslog\nFailed to open() /dev/net/tun: Permission denied\n";
        let told = complaint(text);
        assert!(told.starts_with("Failed to open() /dev/net/tun: Permission denied; ") && told.contains("chmod 666"));
        assert_eq!(complaint("a\n\nb\n"), "a; b");
    }
}

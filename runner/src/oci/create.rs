//! `create`: from a bundle to a container that waits to be started.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::libc;
use nix::unistd::{Gid, Uid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::become_process::Confinement;
pub use super::cgroup::Manager;
use super::cgroup::{self, Made, Place};
use super::child::{self, Orders, Trees};
use super::config::Config;
use super::devices::Devices;
use super::exec::Running;
use super::mounts::{self, Order, id_map};
use super::namespaces::{Baggage, Namespaces};
use super::state::{Containers, Record, SOCKET, Status, keep_config, name_of_mounts};
use super::{check, device_rules, hooks};
use crate::channel::{Channel, Heard};
use crate::container::ExitStatus;
use crate::error::{Action, Error, Stage};
use crate::exec::FirstProcess;
use crate::idmap::Shape;
use crate::launch::watch_signals;
use crate::logs::stamp;
use crate::spec::{Namespaces as Own, Network, Spec};
use crate::streams::Apart;
use crate::sys::clone::Cloned;
use crate::sys::process;
use crate::sysctl;
use crate::userns::{self, Maps};

/// The annotation by which a container keeps the groups of its caller.
const KEEPS_GROUPS: &str = "run.oci.keep_original_groups";

/// A container to be.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Its configuration; relative to the bundle.
    pub config: &'a Path,
    /// The socket that its terminal is sent to.
    pub console: Option<&'a Path>,
    /// A file for the number of its process.
    pub pid_file: Option<&'a Path>,
    /// How many descriptors from 3 on it inherits.
    pub preserved: i32,
    /// Who makes its control group.
    pub manager: Manager,
    /// Whether it keeps the caller's session keyring.
    pub keeps_keyring: bool,
    /// Whether it is left to others: then its terminal has to go to a socket.
    pub leaves: bool,
}

/// A container that waits to be started. It lives on when this value is dropped.
#[derive(Debug)]
pub struct Created {
    running: Running,
    /// What is weaker than was asked for.
    pub warnings: Vec<String>,
}

impl Created {
    /// Passes signals and the terminal through until it ends.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn wait(self) -> Result<ExitStatus, Error> {
        self.running.wait()
    }
}

/// Makes a container.
///
/// # Errors
/// [`Error::Refused`] for what cannot be given; those of the kernel. Nothing is left then.
pub fn create(containers: &Containers, wish: &Wish<'_>) -> Result<Created, Error> {
    let bundle = fs::canonicalize(wish.bundle).action("find the bundle")?;
    let config = Config::read(&bundle.join(wish.config))?;
    check::config(&config)?;
    let process = config.process.as_ref().ok_or_else(|| refused("process is missing"))?;
    if wish.console.is_some() && !process.terminal {
        return Err(refused("--console-socket is given, but process.terminal is false"));
    }
    if wish.leaves && wish.console.is_none() && process.terminal {
        return Err(refused("process.terminal is true and nobody is at it; give --console-socket"));
    }
    let rootfs = config.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
    let rootfs =
        fs::canonicalize(&rootfs).map_err(|error| refused(&format!("root.path {}: {error}", rootfs.display())))?;
    let mut confinement = Confinement::of(process, &config.linux)?;
    let namespaces = Namespaces::of(&config.linux)?;
    if !namespaces.is_own(libc::CLONE_NEWUSER) {
        confinement.compare_with_own();
    }
    let mut orders = mounts::orders(&config, &bundle)?;
    let makes_devices = userns::is_real_root() && !namespaces.is_own(libc::CLONE_NEWUSER);
    let place = Place::of(wish.manager, wish.id, &config.linux.cgroups_path, &config.annotations)?;
    let rules = device_rules::program(&config.linux.resources.devices)?.filter(|_| makes_devices);
    let device_program = rules.as_deref().and_then(|rules| place.device_program(rules));
    // Where no program can watch, no node works but those that are provided.
    let forbids_devices = rules.is_some() && device_program.is_none();
    if forbids_devices {
        orders.iter_mut().for_each(Order::forbid_devices);
    }
    let limits = cgroup::limits(&config.linux.resources)?;
    let devices = Devices::of(&config, makes_devices)?;
    let sysctls = sysctls(&config, &namespaces)?;
    let maps = maps(&config, &namespaces)?;
    let console =
        wish.console.map(|path| UnixStream::connect(path).action("connect to the console socket")).transpose()?;
    // An extension of crun's, by which podman keeps the caller's groups.
    let keeps_groups = config.annotations.get(KEEPS_GROUPS).is_some_and(|value| value == "1");
    let folder = containers.make(wish.id)?;
    let mut making = Making { folder, process: None, group: None, is_done: false };
    keep_config(&making.folder, &config)?;

    let listener = listener(&making.folder)?;
    // In a user namespace of its own the container's process may reach less than the caller does.
    let trees = if is_root() {
        let opened = Trees::open(&rootfs, &orders, &config.linux.rootfs_propagation);
        let mut trees = opened.map_err(|failure| Error::Child {
            stage: failure.stage,
            what: failure.what,
            source: failure.error,
        })?;
        map_ids(&orders, &mut trees)?;
        Some(trees)
    } else if let Some(mount) = orders.iter().find(|mount| mount.ids.is_some()) {
        return Err(refused(&format!("mount {}: only root can map its ids", mount.target.display())));
    } else {
        None
    };
    let mut record = Record {
        oci_version: config.oci_version.clone(),
        id: wish.id.to_owned(),
        process: FirstProcess { id: 0, started: 0 },
        is_made: false,
        bundle: bundle.clone(),
        rootfs: rootfs.clone(),
        created: stamp(SystemTime::now()).replace("+00:00", "Z"),
        owner: Uid::current().as_raw(),
        annotations: config.annotations.clone(),
        cgroup: None,
        mounts: PathBuf::new(),
        owns_pids: namespaces.is_new(libc::CLONE_NEWPID),
    };
    // Before the clone, so that no signal is lost; the child resets its own.
    let signals = watch_signals()?;
    let (parent, to_parent) = Channel::pair().action("make a channel")?;
    // Nobody stays to relay for a container that is left to others: it has the caller's streams as they are.
    let is_apart = !wish.leaves && !process.terminal;
    let apart = if is_apart { Apart::begin(true) } else { Ok(Apart::default()) };
    let apart = apart.action("make pipes in place of the terminal")?;
    let mut kept = vec![to_parent.as_fd(), listener.as_fd()];
    kept.extend(trees.iter().flat_map(child::Trees::descriptors));
    let inherited: Vec<_> = (3..3 + wish.preserved).collect();
    let baggage = Baggage { kept: &kept, inherited: &inherited, score: process.oom_score_adj };
    let Cloned::Parent { id, pidfd } = namespaces.enter(&baggage)? else {
        // Not dropped: they are closed already where this process has joined, and `run` closes them else.
        std::mem::forget((parent, console, apart));
        child::run(Orders {
            config: &config,
            process,
            confinement: &confinement,
            namespaces: &namespaces,
            mounts: &orders,
            trees,
            devices: &devices,
            sysctls,
            rootfs: &rootfs,
            bundle: &bundle,
            channel: to_parent,
            listener,
            preserved: wish.preserved,
            new_keyring: !wish.keeps_keyring,
            may_set_groups: !keeps_groups && maps.may_set_groups(),
            forbids_devices,
            state: record.state(Status::Creating),
        })
    };
    drop((to_parent, listener, trees));
    let relays = apart.end().action("put the terminals back")?;
    making.process = Some((id, pidfd));
    record.process = FirstProcess::of(id).action("look up the container's process")?;
    record.mounts = introduced(&parent)?;
    making.group = place.make(&limits, id, device_program.as_ref())?;
    record.cgroup.clone_from(&making.group);
    maps.write(id)?;
    record.write(&making.folder)?;
    parent.release().action("release the child")?;
    let terminal = converse(&parent, &config, &record)?;
    let terminal = match (terminal, console) {
        (Some(terminal), Some(console)) => {
            Channel::over(console.into()).give(&terminal).action("send the terminal to the console socket")?;
            None
        }
        (terminal, _) => terminal,
    };
    if let Some(file) = wish.pid_file {
        fs::write(file, id.to_string()).action("write the file of the process's number")?;
    }
    record.is_made = true;
    record.write(&making.folder)?;
    let pidfd = making.finish().ok_or(Error::Died)?;
    Ok(Created { running: Running::new(id, pidfd, terminal, signals).relaying(relays), warnings: confinement.warnings })
}

/// The name of the child's mount namespace, of which it sends the descriptor: nobody may be able to look into it.
fn introduced(channel: &Channel) -> Result<PathBuf, Error> {
    match channel.hear().action("hear from the child")? {
        Heard::Descriptor(mounts) => name_of_mounts(&mounts).action("look up the mount namespace"),
        Heard::Failed(stage, what, source) => Err(failure(stage, what, source)),
        Heard::Closed | Heard::Released | Heard::Weaker(_) => Err(Error::Died),
    }
}

/// From the release of the child to where it waits: its terminal, the caller's hooks.
fn converse(channel: &Channel, config: &Config, record: &Record) -> Result<Option<OwnedFd>, Error> {
    let mut terminal = None;
    let mut waits_for_hooks = !config.hooks.prestart.is_empty() || !config.hooks.create_runtime.is_empty();
    loop {
        match channel.hear().action("hear from the child")? {
            Heard::Descriptor(outer) => terminal = Some(outer),
            Heard::Released if waits_for_hooks => {
                waits_for_hooks = false;
                let state = record.state(Status::Creating).to_string();
                for hooks in [&config.hooks.prestart, &config.hooks.create_runtime] {
                    let failed = |source| Error::Child { stage: Stage::Hook, what: String::new(), source };
                    hooks::run(hooks, &state, Some(&record.bundle)).map_err(failed)?;
                }
                channel.release().action("release the child")?;
            }
            Heard::Released => return Ok(terminal),
            Heard::Closed | Heard::Weaker(_) => return Err(Error::Died),
            Heard::Failed(stage, what, source) => return Err(failure(stage, what, source)),
        }
    }
}

/// A failed step of a container's process.
pub(super) fn failure(stage: Stage, what: String, source: io::Error) -> Error {
    match (stage, source.raw_os_error()) {
        (Stage::Exec, Some(libc::ENOENT | libc::ENOTDIR)) => Error::NotFound(what),
        (Stage::Exec, _) => Error::NotExecutable { command: what, source },
        _ => Error::Child { stage, what, source },
    }
}

fn refused(reason: &str) -> Error {
    Error::Refused(reason.to_owned())
}

/// What is undone where a container does not come to be.
struct Making {
    folder: PathBuf,
    process: Option<(i32, OwnedFd)>,
    group: Option<Made>,
    is_done: bool,
}

impl Making {
    /// It has come to be.
    fn finish(mut self) -> Option<OwnedFd> {
        self.is_done = true;
        self.process.take().map(|(_, pidfd)| pidfd)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // None of these can be told besides the failure that led here.
        if let Some((id, pidfd)) = &self.process {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            let _ = process::wait_for(*id);
        }
        if let Some(made) = &self.group {
            let _ = made.group().remove_all();
            made.release();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The socket at which the container waits.
fn listener(folder: &Path) -> Result<OwnedFd, Error> {
    let made = || -> io::Result<OwnedFd> {
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &address(open_folder(folder)?.as_fd())?)?;
        listen(&listener, 1)?;
        Ok(listener)
    };
    made().action("make the socket at which the container waits")
}

pub(super) fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, rustix::fs::Mode::empty())?)
}

/// By the descriptor of the folder, whose path may be longer than addresses can be.
pub(super) fn address(folder: std::os::fd::BorrowedFd<'_>) -> io::Result<SocketAddrUnix> {
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{number}/{SOCKET}"))?)
}

fn is_root() -> bool {
    Uid::effective().is_root()
}

fn sysctls(config: &Config, namespaces: &Namespaces) -> Result<Vec<(PathBuf, String)>, Error> {
    let network = if namespaces.is_own(libc::CLONE_NEWNET) { Network::None } else { Network::Host };
    let own = Own {
        ipc: namespaces.is_own(libc::CLONE_NEWIPC),
        uts: namespaces.is_own(libc::CLONE_NEWUTS),
        ..Own::default()
    };
    let has_name = !config.hostname.is_empty() || !config.domainname.is_empty();
    if has_name && !own.uts {
        return Err(refused("hostname or domainname is given, but no uts namespace of the container's own"));
    }
    let spec = Spec { network, namespaces: own, ..Spec::default() };
    let file = |(name, value): (&String, &String)| Ok((sysctl::file(&spec, name)?, value.clone()));
    config.linux.sysctl.iter().map(file).collect()
}

/// Maps the ids of mounts that want it.
fn map_ids(orders: &[Order], trees: &mut Trees) -> Result<(), Error> {
    for (order, tree) in orders.iter().zip(&trees.sources) {
        let Some(ids) = &order.ids else { continue };
        let Some(tree) = tree else {
            return Err(refused(&format!("mount {}: ids can be mapped for binds", order.target.display())));
        };
        let namespace = userns::sleeping(&ids.maps)?;
        crate::sys::mount::map_ids(tree, namespace, ids.recursive, 0).action("map the ids of a mount")?;
    }
    Ok(())
}

/// How the ids of a container's user namespace are to be written.
enum Mapping {
    /// Not at all.
    None,
    /// By this process, which has power over them.
    Direct(Maps),
    /// The caller's alone.
    Own(Maps),
    /// By the set-id helpers.
    Helpers(Maps),
}

fn maps(config: &Config, namespaces: &Namespaces) -> Result<Mapping, Error> {
    if !namespaces.is_new(libc::CLONE_NEWUSER) {
        if !is_root() && !namespaces.is_own(libc::CLONE_NEWUSER) {
            return Err(refused("who is not root needs a user namespace, {\"type\": \"user\"} with mappings"));
        }
        return Ok(Mapping::None);
    }
    let (users, groups) = (&config.linux.uid_mappings, &config.linux.gid_mappings);
    if users.is_empty() && groups.is_empty() && !is_root() {
        return Ok(Mapping::Helpers(userns::maps_of_caller(Shape::Auto)?));
    }
    if users.is_empty() || groups.is_empty() {
        return Err(refused("a new user namespace needs linux.uidMappings and linux.gidMappings"));
    }
    let maps = Maps { users: id_map(users), groups: id_map(groups) };
    if is_root() {
        return Ok(Mapping::Direct(maps));
    }
    let is_only =
        |map: &[crate::idmap::Extent], own: u32| matches!(map, [extent] if extent.count == 1 && extent.outside == own);
    if is_only(&maps.users.0, Uid::current().as_raw()) && is_only(&maps.groups.0, Gid::current().as_raw()) {
        return Ok(Mapping::Own(maps));
    }
    Ok(Mapping::Helpers(maps))
}

impl Mapping {
    fn may_set_groups(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::None => fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"allow")),
            Self::Direct(_) | Self::Helpers(_) => true,
        }
    }

    fn write(&self, id: i32) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Direct(maps) => userns::write_directly(id, maps),
            Self::Own(maps) => userns::write_own(id, maps),
            Self::Helpers(maps) => userns::write_by_helpers(id, maps),
        }
    }
}

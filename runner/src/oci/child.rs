//! The container's process: from the clone to where it waits to be started, and on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::Signal;

use super::become_process::{Confinement, Places, Way};
use super::config::{Config, Process};
use super::devices::Devices;
use super::hooks;
use super::mounts::Order;
use super::namespaces::Namespaces;
use super::proc_mounts::PROC;
use super::procfs::Procfs;
use crate::attach::{self, Masks, pivot};
use crate::channel::Channel;
use crate::child::{During, Failure, prepare};
use crate::command::Command;
use crate::error::Stage;
use crate::sys::mount::{Attributes, set_attributes};
use crate::sys::{network, process};
use crate::target::{Kind, Root};
use crate::{pty, userns};

/// What the container's process is given.
pub(super) struct Orders<'a> {
    pub(super) config: &'a Config,
    pub(super) process: &'a Process,
    pub(super) confinement: &'a Confinement,
    pub(super) namespaces: &'a Namespaces,
    pub(super) mounts: &'a [Order],
    /// The trees of the root and of the binds, where the caller had to open them.
    pub(super) trees: Option<Trees>,
    pub(super) devices: &'a Devices,
    /// The kernel parameters' files and values.
    pub(super) sysctls: Vec<(PathBuf, String)>,
    pub(super) rootfs: &'a Path,
    pub(super) bundle: &'a Path,
    /// Its end of the channel to the caller.
    pub(super) channel: Channel,
    /// Where it waits to be started.
    pub(super) listener: OwnedFd,
    pub(super) preserved: i32,
    pub(super) new_keyring: bool,
    /// Whether its groups may be chosen.
    pub(super) may_set_groups: bool,
    /// Whether no device nodes are to work but those that are provided.
    pub(super) forbids_devices: bool,
    /// What hooks are told, as far as the caller knows it: without the number of this process.
    pub(super) state: serde_json::Value,
}

/// Trees of mounts that are attached nowhere yet.
#[derive(Debug)]
pub(super) struct Trees {
    /// The root's.
    pub(super) root: OwnedFd,
    /// Those of the binds, in the order of all mounts.
    pub(super) sources: Vec<Option<OwnedFd>>,
}

impl Trees {
    /// All of them.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.root].into_iter().chain(self.sources.iter().flatten()).map(AsFd::as_fd)
    }
}

/// Does all, and never comes back.
pub(super) fn run(orders: Orders<'_>) -> ! {
    let mut orders = orders;
    // Among what the caller has are descriptors that it inherited itself.
    let kept =
        orders.trees.iter().flat_map(Trees::descriptors).chain([orders.channel.as_fd(), orders.listener.as_fd()]);
    process::close_all_but_numbers(kept.map(|fd| fd.as_raw_fd()).chain(3..3 + orders.preserved));
    // Its /proc is the caller's yet.
    let introduced = File::open("/proc/self/ns/mnt").and_then(|mounts| orders.channel.give(mounts));
    if let Err(error) = introduced {
        orders.channel.fail(Stage::Join, "", &error);
        process::exit_now(1);
    }
    if !orders.channel.wait_for_release() {
        process::exit_now(1);
    }
    let way = Way {
        process: orders.process,
        confinement: orders.confinement,
        preserved: orders.preserved,
        may_set_groups: orders.may_set_groups,
        owns_terminal: !orders.namespaces.is_own(libc::CLONE_NEWUSER),
    };
    let command = match become_container(&mut orders, &way) {
        Ok(command) => command,
        Err(failure) => {
            orders.channel.fail(failure.stage, &failure.what, &failure.error);
            process::exit_now(1)
        }
    };
    if orders.channel.release().is_err() {
        process::exit_now(1);
    }
    let Orders { channel, listener, config, state, .. } = orders;
    drop(channel);
    let Ok(starter) = await_start(&listener) else { process::exit_now(1) };
    drop(listener);
    // Run among the container's own programs, they see its environment and not the engine's.
    let mut own = config.hooks.start_container.clone();
    for hook in &mut own {
        hook.env.get_or_insert_with(|| way.process.env.clone());
    }
    let failure = match hooks::run(&own, &state.to_string(), None).during(Stage::Hook, "") {
        Ok(()) => way.end(&command, &starter),
        Err(failure) => failure,
    };
    starter.fail(failure.stage, &failure.what, &failure.error);
    process::exit_now(1)
}

/// Waits for the word, and gives the connection by which it came: exec closes it.
fn await_start(listener: &OwnedFd) -> io::Result<Channel> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => {
                let starter = Channel::over(connection);
                // Without the word it was somebody who has died meanwhile.
                if starter.wait_for_release() {
                    return Ok(starter);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn become_container(orders: &mut Orders<'_>, way: &Way<'_>) -> Result<Command, Failure> {
    let (config, namespaces) = (orders.config, orders.namespaces);
    if !namespaces.are_joined() {
        Procfs::set_score(orders.process.oom_score_adj)?;
    }
    // Before the root changes, and what is mounted in it.
    let label = if orders.confinement.has_label() {
        orders.confinement.open_label(&Procfs::here().during(Stage::Label, "")?)?
    } else {
        None
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).during(Stage::Identity, "")?;
    if orders.channel.is_abandoned() {
        process::exit_now(1);
    }
    if namespaces.is_own(libc::CLONE_NEWUSER) {
        userns::become_root(orders.may_set_groups).during(Stage::Identity, "")?;
    }
    prepare().during(Stage::Identity, "")?;
    if namespaces.is_new(libc::CLONE_NEWCGROUP) {
        nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).during(Stage::Cgroup, "")?;
    }
    // One that cannot be bound could not be copied on the way either: that comes last.
    let travels = match propagation(&config.linux.rootfs_propagation).0 {
        MsFlags::MS_UNBINDABLE => MsFlags::MS_PRIVATE,
        travels => travels,
    };
    mount_flags("/", travels | MsFlags::MS_REC).during(Stage::Propagation, "")?;
    nix::unistd::setsid().during(Stage::Terminal, "")?;
    if orders.new_keyring {
        match process::new_session_keyring() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EDQUOT)) => {}
            made => made.during(Stage::Keyring, "")?,
        }
    }
    let mut masks = Masks::new().during(Stage::Device, "/dev/null")?;
    let trees = match orders.trees.take() {
        Some(trees) => trees,
        None => Trees::open(orders.rootfs, orders.mounts, &config.linux.rootfs_propagation)?,
    };
    let root = mount_all(orders, trees)?;
    let mut terminal = None;
    if orders.process.terminal {
        let inner = pty::make(&root, &orders.channel).during(Stage::Terminal, "")?;
        attach::file(&root, inner.as_fd(), Path::new("/dev/console")).during(Stage::Terminal, "/dev/console")?;
        terminal = Some(inner);
    }
    if !orders.sysctls.is_empty() {
        let procfs = Procfs::of(&root).during(Stage::Sysctl, "")?;
        for (path, value) in &orders.sysctls {
            procfs.write(path.strip_prefix(PROC).unwrap_or(path), value).during(Stage::Sysctl, path)?;
        }
    }
    for path in &config.linux.readonly_paths {
        attach::read_only(&root, path).during(Stage::ReadOnly, path)?;
    }
    for path in &config.linux.masked_paths {
        masks.hide(&root, path).during(Stage::Mask, path)?;
    }
    let workdir = root.ensure(&orders.process.cwd, Kind::Directory).during(Stage::Workdir, &orders.process.cwd)?;
    if config.root.as_ref().is_some_and(|root| root.readonly) {
        attach::read_only_root(&root).during(Stage::ReadOnly, "/")?;
    }
    drop(masks);
    run_hooks(orders)?;
    pivot(&root).during(Stage::Pivot, "")?;
    drop(root);
    let root = Root::own().during(Stage::Pivot, "")?;
    if !config.linux.rootfs_propagation.is_empty() {
        let (flag, recursive) = propagation(&config.linux.rootfs_propagation);
        let recursive = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
        mount_flags("/", flag | recursive).during(Stage::Propagation, "/")?;
    }
    if !config.hostname.is_empty() {
        nix::unistd::sethostname(&config.hostname).during(Stage::Hostname, &config.hostname)?;
    }
    if !config.domainname.is_empty() {
        rustix::system::setdomainname(config.domainname.as_bytes()).during(Stage::Hostname, &config.domainname)?;
    }
    if namespaces.is_new(libc::CLONE_NEWNET) {
        network::loopback_up().during(Stage::Loopback, "")?;
    }
    way.begin(Places { root, workdir, label }, terminal, &[orders.channel.as_fd(), orders.listener.as_fd()])
}

/// The root with all that is mounted in it, attached where it can become the root.
fn mount_all(orders: &Orders<'_>, trees: Trees) -> Result<Root, Failure> {
    let Trees { root: tree, sources } = trees;
    let set = if orders.forbids_devices { libc::MOUNT_ATTR_NODEV } else { 0 };
    // A root that is shared could not become one, and neither could one on a mount that is.
    let root_alone = Attributes { set, propagation: libc::MS_PRIVATE, clear: 0 };
    set_attributes(&tree, root_alone, true).during(Stage::Rootfs, "")?;
    if propagation(&orders.config.linux.rootfs_propagation).0 == MsFlags::MS_SHARED {
        make_private(orders.rootfs).during(Stage::Propagation, orders.rootfs)?;
    }
    let place = Root::open(orders.rootfs).during(Stage::Rootfs, orders.rootfs)?;
    attach::attach(&tree, &place).during(Stage::Rootfs, orders.rootfs)?;
    let root = Root::open(orders.rootfs).during(Stage::Rootfs, orders.rootfs)?;
    for (mount, source) in orders.mounts.iter().zip(sources) {
        mount.mount(&root, source).during(Stage::Mount, &mount.target)?;
    }
    orders.devices.provide(&root)?;
    Ok(root)
}

/// Makes the mount that a folder lies on keep to itself: one that is shared can hold no new root (`pivot_root(2)`).
fn make_private(folder: &Path) -> io::Result<()> {
    for place in folder.ancestors() {
        match mount_flags(place, MsFlags::MS_PRIVATE) {
            // No mount of its own: the next above.
            Err(nix::errno::Errno::EINVAL) => {}
            made => return Ok(made?),
        }
    }
    Ok(())
}

/// Hooks that run before the old root goes: the caller's, then those of the container.
fn run_hooks(orders: &mut Orders<'_>) -> Result<(), Failure> {
    let hooks = &orders.config.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        orders.channel.release().during(Stage::Hook, "")?;
        if !orders.channel.wait_for_release() {
            process::exit_now(1);
        }
    }
    // In a pid namespace of its own it is 1, and what the hooks see is that namespace.
    orders.state["pid"] = process::own_id().into();
    let state = orders.state.to_string();
    hooks::run(&hooks.create_container, &state, Some(orders.bundle)).during(Stage::Hook, "")
}

impl Trees {
    /// Opens them, by a process that may reach them and with the propagation that all mounts have.
    pub(super) fn open(rootfs: &Path, mounts: &[Order], wish: &str) -> Result<Self, Failure> {
        let travels = match propagation(wish).0 {
            MsFlags::MS_SHARED => 0,
            MsFlags::MS_SLAVE => libc::MS_SLAVE,
            _ => libc::MS_PRIVATE,
        };
        let sources = mounts.iter().map(|mount| mount.source(travels).during(Stage::Mount, &mount.target));
        let sources = sources.collect::<Result<_, _>>()?;
        Ok(Self { root: attach::clone_tree(rootfs, true).during(Stage::Rootfs, rootfs)?, sources })
    }
}

/// How mounts of the root travel: privately unless something else is said.
pub(super) fn propagation(wish: &str) -> (MsFlags, bool) {
    let (name, recursive) = wish.strip_prefix('r').map_or((wish, false), |name| (name, true));
    let flag = match name {
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => MsFlags::MS_PRIVATE,
    };
    (flag, recursive)
}

fn mount_flags(place: impl AsRef<Path>, flags: MsFlags) -> nix::Result<()> {
    nix::mount::mount(None::<&str>, place.as_ref(), None::<&str>, flags, None::<&str>)
}

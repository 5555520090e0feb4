//! READ FIRST. Spec and host → ordered steps. Pure: nothing here touches the system, so that what a start will do can be
//! looked at, compared and tested without starting anything.
//!
//! The steps run in a child that is root of fresh namespaces and has mounted the root, in this order: the kernel's file
//! systems, the caller's mounts, masks, the new root, host name, user, then everything that takes power away, and exec.

use std::path::{Path, PathBuf};

use crate::attach::CONTEXT;
use crate::error::Error;
use crate::host::Host;
use crate::idmap::Shape;
use crate::join::Other;
use crate::seccomp::{BpfInstruction, NET_RAW, default_program};
use crate::spec::{Account, Mount, MountKind, Network, Propagation, Seccomp, Spec, UserNamespace};
use crate::sysctl;

/// Devices of the host that every container sees, by node.
pub const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Symbolic links in `/dev`.
pub const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// What tells about, or reaches into, the host.
const MASKED: [&str; 16] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];
/// What could change the host.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Group of terminals, by convention of every distribution.
const TTY_GROUP: u32 = 5;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A session keyring in place of the caller's, whose keys would be the container's to read.
    Keyring,
    /// A file system of the kernel.
    Filesystem {
        /// Its type.
        kind: &'static str,
        /// Options, key and value.
        options: Vec<(String, String)>,
        /// Where.
        target: PathBuf,
        /// `MOUNT_ATTR_*`.
        attributes: Attributes,
        /// What to do where the kernel refuses it.
        refused: Refused,
    },
    /// A folder of the host's at its own place, with all that is mounted below it, if the host has it.
    HostFolder(PathBuf, Attributes),
    /// The nodes and links of `/dev`.
    Devices,
    /// `/dev/shm` of the container whose IPC namespace is joined.
    SharedMemory,
    /// A mount of the caller's.
    Mount(Mount),
    /// The files of ours that lie in file systems in memory.
    Files,
    /// The container's control group, which is given to its root.
    Delegate,
    /// What is mounted there is given to the user.
    Own(PathBuf),
    /// The files of secrets.
    Secrets,
    /// The terminal, as `/dev/console`.
    Console,
    /// A kernel parameter: its file, its value.
    Sysctl(PathBuf, String),
    /// The new root.
    Pivot,
    /// Nothing to see.
    Mask(PathBuf),
    /// Nothing to change.
    ReadOnly(PathBuf),
    /// Give the user lines in the image's passwd and group, if it has none there.
    Account(Account),
    /// The root itself is not to be changed.
    ReadOnlyRoot,
    /// The host name.
    Hostname(String),
    /// The loopback device.
    Loopback,
    /// The network namespace that the keeper makes meanwhile.
    Network,
    /// Its way out, which the keeper makes after it.
    Uplink,
}

/// Attributes of a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Not to be written to.
    pub read_only: bool,
    /// No set-id programs.
    pub nosuid: bool,
    /// No devices.
    pub nodev: bool,
    /// No programs.
    pub noexec: bool,
}

/// What a refused mount means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The start fails.
    Fails,
    /// The host's is bound instead.
    BindHost,
    /// The container does without.
    Skips,
}

/// All that a start does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The wish.
    pub spec: Spec,
    /// The facts.
    pub host: Host,
    /// Shape of the user namespace; `None` for none.
    pub user_namespace: Option<Shape>,
    /// What the child does.
    pub steps: Vec<Step>,
    /// Whether the network namespace is made by the keeper, beside the mounts, and joined by the child.
    pub is_network_apart: bool,
    /// Its filter; empty for none.
    pub seccomp: Vec<BpfInstruction>,
    /// The control group that it is born in; the caller's without.
    pub cgroup: Option<PathBuf>,
    /// A folder of the caller's alone, made where it is missing, for a socket that is there during a start; only some
    /// [uplinks](crate::spec::Uplink::needs_folder) need one.
    pub folder: Option<PathBuf>,
    /// Whether all that comes of the command ends when it is told to, or its caller ends; for a command that joins.
    pub is_guarded: bool,
}

impl Plan {
    /// Plans a start.
    ///
    /// # Errors
    /// [`Error::Refused`] for a spec without a command, [`Error::Seccomp`].
    pub fn new(mut spec: Spec, host: Host) -> Result<Self, Error> {
        if spec.args.is_empty() {
            return Err(Error::Refused("no command: the image has none, so give one after its name".to_owned()));
        }
        let user_namespace = match (spec.user_namespace, host.is_root) {
            (UserNamespace::Own(Shape::KeepId { .. }), true) => {
                return Err(Error::Refused("--userns keep-id is for callers that are not root".to_owned()));
            }
            (UserNamespace::Own(Shape::Range { .. }), false) => {
                return Err(Error::Refused("--userns auto is for root".to_owned()));
            }
            (UserNamespace::Own(shape), _) => Some(shape),
            (UserNamespace::Host, true) => None,
            (UserNamespace::Host, false) => Some(Shape::Auto),
        };
        let has_maps = spec.mapped.iter().any(|mapped| !mapped.users.is_empty() || !mapped.groups.is_empty());
        if user_namespace.is_none() && has_maps {
            let text = "idmap with ids: the container has the host's ids, which are those on disk; leave the ids out, or --userns host";
            return Err(Error::Refused(text.to_owned()));
        }
        // What the kernel does not know cannot be given.
        spec.capabilities &= u64::MAX >> (63 - host.last_capability.min(63));
        spec.granted &= spec.capabilities;
        if spec.network == Network::Joined && spec.joined.network.is_none() {
            return Err(Error::Refused("the network that is to be joined is not named".to_owned()));
        }
        if !spec.namespaces.uts && !spec.hostname.is_empty() {
            return Err(Error::Refused("the host name is the host's with its UTS namespace; leave out one".to_owned()));
        }
        let seccomp = match &spec.seccomp {
            Seccomp::Default => default_program(of_use(&spec))?.into_owned(),
            Seccomp::Unconfined => Vec::new(),
            Seccomp::Program(program) => program.clone(),
        };
        // Beside the holder's way stands the plain one, in which the clone makes all namespaces: each is the other's test.
        // An uplink is always the keeper's to make, and so is the namespace that it is for.
        let is_network_apart = spec.network.uplink().is_some()
            || spec.network == Network::None && user_namespace.is_some() && host.holder.is_some();
        let steps = steps(&spec, is_network_apart)?;
        Ok(Self {
            spec,
            host,
            user_namespace,
            steps,
            is_network_apart,
            seccomp,
            cgroup: None,
            folder: None,
            is_guarded: false,
        })
    }

    /// The same start with the host's ids, which real root alone can have.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub(crate) fn with_host_ids(&self) -> Result<Self, Error> {
        let spec = Spec { user_namespace: UserNamespace::Host, ..self.spec.clone() };
        Ok(Self { cgroup: self.cgroup.clone(), ..Self::new(spec, self.host.clone())? })
    }
}

fn steps(spec: &Spec, is_network_apart: bool) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    // The default program refuses all calls that reach keys, whoever runs. A keyring counts against the caller's quota of
    // 200, and is freed late: not made where nothing could use it.
    if spec.seccomp != Seccomp::Default {
        steps.push(Step::Keyring);
    }
    steps.extend(kernel_filesystems(spec, is_network_apart).into_iter().map(|step| labelled(step, spec)));
    steps.extend(spec.mounts.iter().cloned().map(Step::Mount));
    if spec.systemd {
        steps.push(Step::Files);
        steps.extend(own_groups(spec));
    }
    steps.extend(spec.owned.iter().cloned().map(Step::Own));
    if !spec.secrets.is_empty() {
        steps.push(Step::Secrets);
    }
    if spec.terminal {
        steps.push(Step::Console);
    }
    for (name, value) in &spec.sysctls {
        steps.push(Step::Sysctl(sysctl::file(spec, name)?, value.clone()));
    }
    let all = spec.unmask.iter().any(|path| path == Path::new("ALL"));
    let kept = |path: &&&str| !all && !spec.unmask.iter().any(|unmask| unmask == Path::new(path));
    // What the caller mounts there is the caller's own to show.
    let own = |path: &&&str| !spec.mounts.iter().any(|mount| Path::new(path).starts_with(&mount.target));
    steps.extend(READ_ONLY.iter().filter(kept).filter(own).map(|path| Step::ReadOnly(path.into())));
    steps.extend(MASKED.iter().filter(kept).filter(own).map(|path| Step::Mask(path.into())));
    steps.extend(spec.masks.iter().cloned().map(Step::Mask));
    if let Some(account) = &spec.account {
        steps.push(Step::Account(account.clone()));
    }
    if spec.read_only {
        steps.push(Step::ReadOnlyRoot);
    }
    // Last of the mounts: the null device that hides files is the host's own, and it goes with the old root.
    steps.push(Step::Pivot);
    if !spec.hostname.is_empty() {
        steps.push(Step::Hostname(spec.hostname.clone()));
    }
    if !matches!(spec.network, Network::Host | Network::Joined) && !is_network_apart {
        steps.push(Step::Loopback);
    }
    // The command finds the network ready; until here the program that makes it had time.
    if spec.network.uplink().is_some() {
        steps.push(Step::Uplink);
    }
    Ok(steps)
}

fn kernel_filesystems(spec: &Spec, is_network_apart: bool) -> Vec<Step> {
    let taken = |path: &str| spec.mounts.iter().any(|mount| mount.target == Path::new(path));
    let plain = Attributes { nosuid: true, nodev: true, noexec: true, read_only: false };
    let filesystem = |kind, options, target: &str, attributes, refused| Step::Filesystem {
        kind,
        options,
        target: target.into(),
        attributes,
        refused,
    };
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let sys = Attributes { read_only: !spec.writable_sys, ..plain };
    let mut steps = Vec::new();
    if !taken("/proc") {
        let options: Vec<_> = spec
            .proc_options
            .iter()
            .map(|said| said.split_once('=').unwrap_or((said, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        // Options are promises: the host's would not keep them.
        let refused = if options.is_empty() { Refused::BindHost } else { Refused::Fails };
        steps.push(filesystem("proc", options, "/proc", plain, refused));
    }
    if !taken("/dev") {
        let dev = Attributes { nosuid: true, noexec: true, ..Attributes::default() };
        let options = vec![option("mode", "755"), option("size", "65536k")];
        steps.push(filesystem("tmpfs", options, "/dev", dev, Refused::Fails));
        steps.push(Step::Devices);
        let options = vec![
            option("newinstance", ""),
            option("ptmxmode", "0666"),
            option("mode", "0620"),
            option("gid", &TTY_GROUP.to_string()),
        ];
        let pts = Attributes { nosuid: true, noexec: true, ..Attributes::default() };
        steps.push(filesystem("devpts", options, "/dev/pts", pts, Refused::Fails));
        if !taken("/dev/shm") {
            steps.push(shared_memory(spec, plain));
        }
        let refused = if spec.namespaces.ipc { Refused::Fails } else { Refused::Skips };
        steps.push(filesystem("mqueue", vec![], "/dev/mqueue", plain, refused));
    }
    // Late, for it takes longest to make.
    if is_network_apart {
        steps.push(Step::Network);
    }
    if !taken("/sys") {
        // sysfs shows a network namespace, and only its owner may mount it: the host's is bound with the host's network.
        steps.push(filesystem("sysfs", vec![], "/sys", sys, Refused::BindHost));
        if !spec.systemd {
            steps.push(if spec.namespaces.cgroup || spec.joined.cgroup.is_some() {
                filesystem("cgroup2", vec![], "/sys/fs/cgroup", sys, Refused::Skips)
            } else {
                // The host's groups in the host's view, of whichever version: a new mount may be made only by who owns the view.
                Step::HostFolder("/sys/fs/cgroup".into(), sys)
            });
        }
    }
    steps
}

/// What systemd manages: after the caller's mounts, since the host's /sys may be among them, with the host's groups.
fn own_groups(spec: &Spec) -> Vec<Step> {
    let target = PathBuf::from("/sys/fs/cgroup");
    if spec.mounts.iter().any(|mount| mount.target == target) {
        return Vec::new();
    }
    let attributes = Attributes { nosuid: true, nodev: true, noexec: true, read_only: false };
    let groups = Step::Filesystem { kind: "cgroup2", options: vec![], target, attributes, refused: Refused::Fails };
    vec![groups, Step::Delegate]
}

/// With the label of the container's files, where the file system is one that can have it in a user namespace.
fn labelled(step: Step, spec: &Spec) -> Step {
    match (step, &spec.selinux) {
        (Step::Filesystem { kind, mut options, target, attributes, refused }, Some(labels))
            if matches!(kind, "tmpfs" | "devpts") =>
        {
            options.push((CONTEXT.to_owned(), labels.files.clone()));
            Step::Filesystem { kind, options, target, attributes, refused }
        }
        (step, _) => step,
    }
}

/// `/dev/shm`: part of what an IPC namespace keeps apart.
fn shared_memory(spec: &Spec, attributes: Attributes) -> Step {
    let target = PathBuf::from("/dev/shm");
    if matches!(spec.joined.ipc, Some(Other::Container(_))) {
        return Step::SharedMemory;
    }
    if spec.namespaces.ipc || spec.joined.ipc.is_some() {
        let options =
            vec![("mode".to_owned(), "1777".to_owned()), ("size".to_owned(), format!("{}k", spec.shm_size >> 10))];
        return Step::Filesystem { kind: "tmpfs", options, target, attributes, refused: Refused::Fails };
    }
    let kind =
        MountKind::Bind { source: target.clone(), recursive: false, propagation: Propagation::Private, relabel: None };
    Step::Mount(Mount { kind, target, read_only: false, nosuid: true, nodev: true, noexec: true })
}

impl Mount {
    /// Its attributes.
    pub(crate) fn attributes(&self) -> Attributes {
        let Self { read_only, nosuid, nodev, noexec, .. } = *self;
        Attributes { read_only, nosuid, nodev, noexec }
    }
}

/// The capabilities by which the filter goes. NET_RAW is in the default set, and of no use to a container with nothing but a
/// loopback device; there it opens AF_PACKET, code of the kernel with a history, only to who has asked for it by name.
fn of_use(spec: &Spec) -> u64 {
    let is_alone = spec.network == Network::None && spec.granted & NET_RAW == 0;
    if is_alone { spec.capabilities & !NET_RAW } else { spec.capabilities }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { is_root: false, last_capability: 40, holder: None, others: Vec::new() }
    }

    fn plan(change: impl FnOnce(&mut Spec)) -> Vec<Step> {
        let mut spec = Spec { args: vec!["true".into()], ..Spec::default() };
        change(&mut spec);
        Plan::new(spec, host()).unwrap().steps
    }

    #[test]
    fn masks_come_before_the_old_root_goes() {
        let steps = plan(|_| {});
        let at = |wanted: &Step| steps.iter().position(|step| step == wanted).unwrap();
        assert!(at(&Step::Mask("/proc/kcore".into())) < at(&Step::Pivot));
        assert!(at(&Step::ReadOnly("/proc/sys".into())) < at(&Step::Pivot));
        assert!(steps.contains(&Step::Loopback));
    }

    #[test]
    fn the_host_network_keeps_its_loopback_device() {
        assert!(!plan(|spec| spec.network = Network::Host).contains(&Step::Loopback));
    }

    #[test]
    fn keys_of_the_caller_are_left_behind_where_the_filter_does_not_hide_them() {
        assert!(!plan(|_| {}).contains(&Step::Keyring));
        assert!(plan(|spec| spec.seccomp = Seccomp::Unconfined).contains(&Step::Keyring));
        assert!(plan(|spec| spec.seccomp = Seccomp::Program(Vec::new())).contains(&Step::Keyring));
    }

    #[test]
    fn unmask_takes_one_path_or_all() {
        let one = plan(|spec| spec.unmask = vec!["/proc/kcore".into()]);
        assert!(!one.contains(&Step::Mask("/proc/kcore".into())));
        assert!(one.contains(&Step::Mask("/proc/keys".into())));
        let all = plan(|spec| spec.unmask = vec!["ALL".into()]);
        assert!(!all.iter().any(|step| matches!(step, Step::Mask(_) | Step::ReadOnly(_))));
    }

    #[test]
    fn capabilities_that_the_kernel_lacks_are_left_out() {
        let spec = Spec { args: vec!["true".into()], capabilities: u64::MAX, granted: u64::MAX, ..Spec::default() };
        let plan = Plan::new(spec, Host { last_capability: 37, ..host() }).unwrap();
        assert_eq!((plan.spec.capabilities, plan.spec.granted), ((1 << 38) - 1, (1 << 38) - 1));
    }

    #[test]
    fn control_groups_are_the_hosts_where_the_view_of_them_is() {
        let read_only = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true };
        let wanted = Step::HostFolder("/sys/fs/cgroup".into(), read_only);
        assert!(plan(|spec| spec.namespaces.cgroup = false).contains(&wanted));
        assert!(!plan(|_| {}).contains(&wanted));
    }

    #[test]
    fn systemd_has_its_groups_to_itself_whatever_is_mounted_below() {
        let is_groups = |step: &Step| matches!(step, Step::Filesystem { kind: "cgroup2", .. });
        let of = |systemd: bool| {
            plan(|spec| {
                let kind = MountKind::Bind {
                    source: "/sys".into(),
                    recursive: true,
                    propagation: Propagation::Slave,
                    relabel: None,
                };
                let target = PathBuf::from("/sys");
                spec.mounts =
                    vec![Mount { kind, target, read_only: false, nosuid: false, nodev: false, noexec: false }];
                spec.systemd = systemd;
            })
        };
        assert!(!of(false).iter().any(is_groups));
        let steps = of(true);
        let at = |wanted: &dyn Fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
        let groups = at(&|step| is_groups(step));
        assert!(at(&|step| matches!(step, Step::Mount(_))) < groups && groups < at(&|step| *step == Step::Delegate));
        let Step::Filesystem { attributes, refused, .. } = &steps[groups] else { return };
        assert!(!attributes.read_only && *refused == Refused::Fails);
        assert_eq!(plan(|spec| spec.systemd = true).iter().filter(|step| is_groups(step)).count(), 1);
    }

    #[test]
    fn a_command_is_needed() {
        assert!(matches!(Plan::new(Spec::default(), host()), Err(Error::Refused(_))));
    }

    #[test]
    fn root_has_the_hosts_ids_where_it_asks_for_them() {
        let of = |user_namespace, is_root| {
            let spec = Spec { args: vec!["true".into()], user_namespace, ..Spec::default() };
            Plan::new(spec, Host { is_root, ..host() }).map(|plan| plan.user_namespace)
        };
        let (range, auto) = (Shape::Range { users: 1, groups: 1, size: 1 }, UserNamespace::Own(Shape::Auto));
        assert_eq!(of(auto, true).unwrap(), Some(Shape::Auto));
        assert_eq!(of(UserNamespace::Host, true).unwrap(), None);
        assert_eq!(of(UserNamespace::Own(range), true).unwrap(), Some(range));
        assert_eq!(
            (of(auto, false).unwrap(), of(UserNamespace::Host, false).unwrap()),
            (Some(Shape::Auto), Some(Shape::Auto))
        );
        let keep_id = Shape::KeepId { user: 7, group: 7, size: None };
        assert!(of(UserNamespace::Own(keep_id), true).is_err() && of(UserNamespace::Own(range), false).is_err());
    }
}

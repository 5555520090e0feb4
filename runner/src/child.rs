//! The child: root of fresh namespaces, until it has made itself the container's command.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::attach::Masks;
use crate::channel::{Channel, Heard};
use crate::error::Stage;
use crate::identity::{self, Identity};
use crate::idmap::IdMap;
use crate::idmapped::Trees;
use crate::overlay::Layers;
use crate::own::{self, Mounted, Purpose};
use crate::plan::{Plan, Refused, Step};
use crate::rootfs::Rootfs;
use crate::spec::{LandlockRule, Mount, MountKind, Network, Spec};
use crate::sys::landlock::Ruleset;
use crate::sys::{network, process, seccomp};
use crate::target::{Kind, Root, file_type};
use crate::{attach, guard, init, lsm, owner, pty, refusal, upper, userns};

/// A failed step.
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) what: String,
    pub(crate) error: io::Error,
}

/// Names the step of a failed call.
pub(crate) trait During<T> {
    /// `what` is the step's object; may be empty.
    fn during(self, stage: Stage, what: impl AsRef<OsStr>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, stage: Stage, what: impl AsRef<OsStr>) -> Result<T, Failure> {
        self.map_err(|error| Failure { stage, what: what.as_ref().to_string_lossy().into_owned(), error: error.into() })
    }
}

/// What the child is given.
pub(crate) struct Orders<'a> {
    /// What to do.
    pub(crate) plan: &'a Plan,
    /// Where the root comes from.
    pub(crate) rootfs: &'a Rootfs,
    /// Its files with other ids than on disk, if those are real root's.
    pub(crate) trees: Option<&'a Trees>,
    /// Its end of the channel.
    pub(crate) channel: &'a Channel,
    /// Where its network namespace comes from, if the keeper makes it.
    pub(crate) network: Option<&'a Channel>,
    /// The groups of its user namespace, if that is not the host's.
    pub(crate) groups: Option<&'a Groups>,
    /// `/dev/shm` of the container whose IPC namespace it has joined.
    pub(crate) shared_memory: Option<BorrowedFd<'a>>,
}

/// The groups of a user namespace.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Those that exist.
    pub(crate) map: IdMap,
    /// Whether a process may choose among them: not under a single mapping.
    pub(crate) may_be_set: bool,
}

/// Does all, and never comes back.
pub(crate) fn run(orders: &Orders<'_>) -> ! {
    if !orders.channel.wait_for_release() {
        process::exit_now(1);
    }
    let Err(failure) = become_container(orders);
    orders.channel.fail(failure.stage, &failure.what, &failure.error);
    process::exit_now(1)
}

fn become_container(orders: &Orders<'_>) -> Result<std::convert::Infallible, Failure> {
    let Orders { plan, rootfs, trees, channel, groups, .. } = *orders;
    let spec = &plan.spec;
    let may_set_groups = !spec.keeps_groups && groups.is_none_or(|groups| groups.may_be_set);
    if let Some(score) = spec.oom_score {
        // While this process is still the caller's to look into.
        std::fs::write("/proc/self/oom_score_adj", score.to_string()).during(Stage::OomScore, score.to_string())?;
    }
    die_with_parent().during(Stage::Identity, "")?;
    if channel.is_abandoned() {
        // It went before the kernel had noted the wish.
        process::exit_now(1);
    }
    if plan.user_namespace.is_some() {
        userns::become_root(may_set_groups).during(Stage::Identity, "")?;
    }
    prepare().during(Stage::Identity, "")?;
    if spec.namespaces.cgroup {
        nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).during(Stage::Cgroup, "")?;
    }
    attach::keep_apart().during(Stage::Propagation, "")?;

    let mut masks = Masks::new().during(Stage::Device, "/dev/null")?;
    if let Rootfs::Overlay { upper, .. } = rootfs
        && plan.user_namespace.is_some_and(|shape| shape.caller() != (0, 0))
    {
        // The root of the tree is the layer's own folder, which the caller has made.
        attach::give_to_root(upper).during(Stage::Rootfs, upper)?;
    }
    // Before the caller's mounts, which may cover them. A directory of the caller's stays as it is.
    let layers = trees.map_or_else(|| Layers::open(rootfs), Trees::layers).during(Stage::Rootfs, "")?;
    let left = match &layers {
        Some(layers) => upper::seed(&layers.lower, &layers.upper, &spec.files).during(Stage::File, "")?,
        None => Vec::new(),
    };
    let label = label_of_files(spec);
    let sources = match trees {
        Some(trees) => trees.sources(spec.ephemeral, label).during(Stage::Mount, "")?,
        None => sources(plan, rootfs)?,
    };
    let mut sources = sources.into_iter();
    let purpose = Purpose { ephemeral: spec.ephemeral, read_only: spec.read_only, label };
    let mounted = own::mount(rootfs, layers.as_ref(), trees, purpose).during(Stage::Rootfs, "")?;
    drop(layers);
    let Mounted { mut root, is_elsewhere, told } = mounted;
    if let Some(told) = told {
        channel.warn(&told).during(Stage::Rootfs, "")?;
    }
    let left = if is_elsewhere { spec.files.iter().collect() } else { left };
    for (path, content) in left {
        root.write(path, content).during(Stage::File, path)?;
    }
    let mut terminal = None;
    nix::unistd::setsid().during(Stage::Terminal, "")?;
    for step in &plan.steps {
        take(step, &mut root, orders, &mut masks, &mut sources, &mut terminal)?;
    }

    let workdir = root.ensure(&spec.cwd, Kind::Directory).during(Stage::Workdir, &spec.cwd)?;
    drop(masks);
    // A directory of the caller's stays as it is.
    if let (Some(account), Rootfs::Overlay { .. } | Rootfs::Own { .. }) = (&spec.account, rootfs) {
        identity::enter(&root, account).during(Stage::User, &spec.user)?;
    }
    run_command(plan, channel, root, workdir, terminal, may_set_groups)
}

/// What a process of ours needs before it lives among a container's.
pub(crate) fn prepare() -> io::Result<()> {
    die_with_parent()?;
    // Until exec, no other process may look into this one, which still is the caller's program.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    process::reset_signals()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Becomes the plan's command, in a process that has the container's root and namespaces.
pub(crate) fn run_command(
    plan: &Plan,
    channel: &Channel,
    root: Root,
    workdir: OwnedFd,
    terminal: Option<OwnedFd>,
    may_set_groups: bool,
) -> Result<std::convert::Infallible, Failure> {
    let spec = &plan.spec;
    let identity = identity::look_up(&root, &spec.user, &spec.groups).during(Stage::User, &spec.user)?;
    let landlock = landlock(&root, &spec.landlock)?;
    if let Some(profile) = &spec.apparmor {
        // Before Landlock and capabilities close the way; an init's fork inherits it.
        lsm::apply_apparmor(&root, profile).during(Stage::AppArmor, profile)?;
    }
    if let Some(labels) = &spec.selinux {
        lsm::apply_label(&root, &labels.process).during(Stage::Label, &labels.process)?;
    }
    rustix::process::fchdir(&workdir).during(Stage::Workdir, &spec.cwd)?;
    let here = rustix::process::getcwd(Vec::new()).during(Stage::Workdir, &spec.cwd)?;
    if !here.as_bytes().starts_with(b"/") {
        return Err(io::Error::other("it lies outside of the container")).during(Stage::Workdir, &spec.cwd);
    }
    drop((root, workdir));
    if let Some(terminal) = terminal {
        pty::take(&terminal, plan.user_namespace.is_none().then_some(identity.uid)).during(Stage::Terminal, "")?;
    } else if !spec.interactive {
        let empty = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let empty = empty.map_err(|error| refusal::of_null(error.into()));
        rustix::stdio::dup2_stdin(empty.during(Stage::Terminal, "")?).during(Stage::Terminal, "")?;
    }

    let command = Command::new(&spec.args, &spec.env, identity.home.as_deref());
    rustix::process::umask(Mode::from_raw_mode(spec.umask));
    if let Some(domain) = spec.personality {
        process::set_personality(domain).during(Stage::Personality, "")?;
    }
    for limit in &spec.limits {
        limit.apply().during(Stage::Limit, &limit.name)?;
    }
    give_up_power(plan, channel, &identity, may_set_groups, landlock)?;
    if let Some(missing) = spec.preserved.iter().find(|&&number| !process::is_inheritable(number)) {
        let error = io::Error::other("the caller has not opened it");
        return Err(error).during(Stage::Descriptor, missing.to_string());
    }
    process::cloexec_from(3).during(Stage::Exec, "")?;
    for &number in &spec.preserved {
        process::make_inheritable(number).during(Stage::Descriptor, number.to_string())?;
    }
    if spec.init {
        init::split(channel).during(Stage::Init, "")?;
    }
    if plan.is_guarded {
        guard::split(channel).during(Stage::Guard, "")?;
    }
    die_with_parent().during(Stage::Identity, "")?;
    let error = command.execute();
    Err(Failure { stage: Stage::Exec, what: command.name(), error })
}

/// The parent's end is ours: no container outlives the program that answers for it. Changing ids undoes it.
fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// What the caller's mounts show, in their order.
fn sources(plan: &Plan, rootfs: &Rootfs) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let mounts = plan.steps.iter().filter_map(|step| if let Step::Mount(mount) = step { Some(mount) } else { None });
    let (ephemeral, label) = (plan.spec.ephemeral, label_of_files(&plan.spec));
    let source = |mount: &Mount| attach::source(mount, rootfs, ephemeral, label).during(Stage::Mount, &mount.target);
    mounts.map(source).collect()
}

fn take(
    step: &Step,
    root: &mut Root,
    orders: &Orders<'_>,
    masks: &mut Masks,
    sources: &mut impl Iterator<Item = Option<OwnedFd>>,
    terminal: &mut Option<OwnedFd>,
) -> Result<(), Failure> {
    match step {
        Step::Keyring => match process::new_session_keyring() {
            // Without keys in the kernel, or with a filter around us that refuses them, the container reaches none either.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOSYS | nix::libc::EPERM)) => Ok(()),
            made => made.during(Stage::Keyring, ""),
        },
        Step::Filesystem { kind, options, target, attributes, refused } => {
            // A group that does not exist here cannot own terminals: they stay the user's own.
            let exists = |(key, value): &&(String, String)| {
                key != "gid" || orders.groups.is_none_or(|groups| value.parse().is_ok_and(|id| groups.map.contains(id)))
            };
            let options: Vec<_> = options.iter().filter(exists).cloned().collect();
            let mounted = attach::filesystem(root, kind, &options, target, *attributes).or_else(|error| {
                // Root of a namespace around, whose groups nobody has told.
                let is_of_group = |(key, _): &(String, String)| key == "gid";
                if error.raw_os_error() != Some(nix::libc::EINVAL) || !options.iter().any(is_of_group) {
                    return Err(error);
                }
                let options: Vec<_> = options.iter().filter(|option| !is_of_group(option)).cloned().collect();
                attach::filesystem(root, kind, &options, target, *attributes)
            });
            match (mounted, refused) {
                (Err(error), Refused::BindHost) if is_refusal(&error) => {
                    if let Some(text) = weaker(kind, &orders.plan.spec) {
                        orders.channel.warn(text).during(Stage::Mount, target)?;
                    }
                    attach::host_folder(root, target, *attributes).during(Stage::Mount, target)
                }
                (Err(error), Refused::Skips) if is_refusal(&error) => Ok(()),
                (mounted, _) => mounted.during(Stage::Mount, target),
            }
        }
        Step::HostFolder(path, attributes) => match attach::host_folder(root, path, *attributes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            bound => bound.during(Stage::Mount, path),
        },
        Step::SharedMemory => {
            let gone = || io::Error::other("that of the other container was not opened");
            let tree = orders.shared_memory.ok_or_else(gone).during(Stage::Mount, "/dev/shm")?;
            attach::shared_memory(root, tree, Path::new("/dev/shm")).during(Stage::Mount, "/dev/shm")
        }
        Step::Devices => attach::devices(root).during(Stage::Device, "/dev"),
        Step::Mount(mount) => {
            let label = label_of_files(&orders.plan.spec);
            attach::volume(root, mount, sources.next().flatten(), label).during(Stage::Mount, &mount.target)
        }
        Step::Files => {
            let spec = &orders.plan.spec;
            let is_memory = |mount: &&Mount| matches!(mount.kind, MountKind::Tmpfs { .. });
            for (path, content) in &spec.files {
                if spec.mounts.iter().filter(is_memory).any(|mount| path.starts_with(&mount.target)) {
                    root.write(path, content).during(Stage::File, path)?;
                }
            }
            Ok(())
        }
        Step::Delegate => owner::delegate(root).during(Stage::Own, "/sys/fs/cgroup"),
        Step::Own(path) => {
            let identity =
                identity::look_up(root, &orders.plan.spec.user, &[]).during(Stage::User, &orders.plan.spec.user)?;
            owner::give(root, path, identity.uid, identity.gid).during(Stage::Own, path)
        }
        Step::Secrets => {
            let spec = &orders.plan.spec;
            attach::secrets(root, &spec.secrets, label_of_files(spec)).during(Stage::Mount, attach::SECRETS)
        }
        Step::Console => {
            let inner = pty::make(root, orders.channel).during(Stage::Terminal, "")?;
            attach::file(root, inner.as_fd(), Path::new("/dev/console")).during(Stage::Terminal, "/dev/console")?;
            *terminal = Some(inner);
            Ok(())
        }
        Step::Sysctl(path, value) => root.set_parameter(path, value).during(Stage::Sysctl, path),
        Step::Pivot => {
            attach::pivot(&*root).during(Stage::Pivot, "")?;
            *root = Root::own().during(Stage::Pivot, "")?;
            Ok(())
        }
        Step::Mask(path) => masks.hide(root, path).during(Stage::Mask, path),
        Step::ReadOnly(path) => attach::read_only(root, path).during(Stage::ReadOnly, path),
        Step::ReadOnlyRoot => attach::read_only_root(root).during(Stage::ReadOnly, "/"),
        Step::Hostname(name) => nix::unistd::sethostname(name).during(Stage::Hostname, name),
        Step::Loopback => match network::loopback_up() {
            Err(error) if error.raw_os_error() == Some(nix::libc::EPERM) => {
                let text = format!("the loopback device is down: {}", refusal::of_loopback(error));
                orders.channel.warn(&text).during(Stage::Loopback, "")
            }
            other => other.during(Stage::Loopback, ""),
        },
        Step::Network => join_network(orders.network).during(Stage::Network, ""),
        Step::Uplink => await_uplink(orders.network),
    }
}

/// The SELinux label of the container's own file systems.
fn label_of_files(spec: &Spec) -> Option<&str> {
    spec.selinux.as_ref().map(|labels| labels.files.as_str())
}

/// What it means that the /proc or /sys of the outside is bound; `None` where it shows what was asked for.
fn weaker(kind: &str, spec: &Spec) -> Option<&'static str> {
    match kind {
        "proc" if spec.namespaces.pid => Some(
            "/proc is the one of the outside, and shows its processes instead of the container's: the kernel refuses a new one \
             where parts of the old are covered, as in a container; start that one with --security-opt unmask=ALL or --privileged",
        ),
        "sysfs" if spec.network != Network::Host => Some(
            "/sys is the one of the outside, and shows its network devices instead of the container's: the kernel refuses a new \
             one where parts of the old are covered, as in a container; start that one with --security-opt unmask=ALL or \
             --privileged",
        ),
        _ => None,
    }
}

fn join_network(keeper: Option<&Channel>) -> io::Result<()> {
    match keeper.ok_or_else(keeper_gone)?.hear()? {
        Heard::Descriptor(network) => Ok(nix::sched::setns(network, CloneFlags::CLONE_NEWNET)?),
        Heard::Failed(_, _, error) => Err(error),
        Heard::Closed | Heard::Released | Heard::Weaker(_) => Err(keeper_gone()),
    }
}

fn await_uplink(keeper: Option<&Channel>) -> Result<(), Failure> {
    let heard = keeper.ok_or_else(keeper_gone).and_then(Channel::hear);
    match heard.during(Stage::Uplink, "")? {
        Heard::Released => Ok(()),
        Heard::Failed(stage, what, error) => Err(Failure { stage, what, error }),
        Heard::Closed | Heard::Descriptor(_) | Heard::Weaker(_) => Err(keeper_gone()).during(Stage::Uplink, ""),
    }
}

fn keeper_gone() -> io::Error {
    io::Error::other("the process that makes it has died")
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy)
        || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// The rules for what files may be reached, about places of the container.
fn landlock(root: &Root, rules: &[LandlockRule]) -> Result<Option<Ruleset>, Failure> {
    if rules.is_empty() {
        return Ok(None);
    }
    let ruleset = Ruleset::new().during(Stage::Landlock, "")?;
    for rule in rules {
        let place = root.place(&rule.path).during(Stage::Landlock, &rule.path)?;
        let is_directory = file_type(&place).during(Stage::Landlock, &rule.path)? == FileType::Directory;
        ruleset.allow(place, is_directory, rule.writing).during(Stage::Landlock, &rule.path)?;
    }
    Ok(Some(ruleset))
}

/// Bounding set, ids, no_new_privs, seccomp, capabilities: in the order in which each is still allowed.
fn give_up_power(
    plan: &Plan,
    channel: &Channel,
    identity: &Identity,
    may_set_groups: bool,
    landlock: Option<Ruleset>,
) -> Result<(), Failure> {
    let kept = plan.spec.capabilities;
    let is_kept = |number: u32| number < 64 && kept & (1 << number) != 0;
    for number in 0..=plan.host.last_capability {
        if !is_kept(number) {
            drop_from_bounding_set(number).during(Stage::Capabilities, "")?;
        }
    }
    // Through the change of ids, so that the filter can still be installed without no_new_privs.
    rustix::thread::set_keep_capabilities(true).during(Stage::Capabilities, "")?;
    if may_set_groups {
        let groups: Vec<Gid> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        match nix::unistd::setgroups(&groups) {
            Err(nix::errno::Errno::EPERM) if refusal::keeps_groups() => {
                channel.warn(refusal::KEPT_GROUPS).during(Stage::User, "")?;
            }
            other => other.during(Stage::User, "")?,
        }
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let explain = |errno| match errno {
        nix::errno::Errno::EINVAL => io::Error::other("the container has no such id; `lrun info` shows which it has"),
        other => other.into(),
    };
    nix::unistd::setresgid(gid, gid, gid).map_err(explain).during(Stage::User, format!("with group {gid}"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(explain).during(Stage::User, format!("{uid}"))?;
    let have = rustix::thread::capabilities(None).during(Stage::Capabilities, "")?;
    let set = |effective, permitted, inheritable| {
        let sets = CapabilitySets { effective, permitted, inheritable };
        rustix::thread::set_capabilities(None, sets).during(Stage::Capabilities, "")
    };
    set(have.permitted, have.permitted, have.inheritable)?;
    if plan.spec.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(Stage::Capabilities, "")?;
    }
    if let Some(rules) = landlock {
        rules.enforce().during(Stage::Landlock, "")?;
    }
    if !plan.seccomp.is_empty() {
        seccomp::install(&plan.seccomp).during(Stage::Seccomp, "")?;
    }
    // A user that is not root has only what was added by name, as podman has it, and that as ambient ones, which its
    // programs keep; programs with file capabilities still gain theirs.
    let granted = if identity.uid == 0 { u64::MAX } else { plan.spec.granted };
    let own = have.permitted & CapabilitySet::from_bits_retain(kept & granted);
    let ambient = if identity.uid == 0 { CapabilitySet::empty() } else { own };
    rustix::thread::clear_ambient_capability_set().during(Stage::Capabilities, "")?;
    if !ambient.is_empty() {
        set(have.permitted, have.permitted, ambient)?;
        for capability in ambient.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true).during(Stage::Capabilities, "")?;
        }
    }
    set(own, own, ambient)
}

pub(crate) fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    match CapabilitySet::from_bits(1 << number) {
        Some(capability) => Ok(rustix::thread::remove_capability_from_bounding_set(capability)?),
        None => Err(io::Error::other(format!("the kernel has a capability {number} that this program does not know"))),
    }
}

/// A program with its arguments and environment, ready for exec.
pub(crate) struct Command {
    paths: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    pub(crate) fn new(args: &[OsString], env: &[OsString], home: Option<&str>) -> Self {
        let mut environment = env.to_vec();
        let has = |name: &str| env.iter().any(|variable| variable.as_bytes().starts_with(name.as_bytes()));
        if !has("HOME=") {
            environment.push(format!("HOME={}", home.unwrap_or("/")).into());
        }
        let path = env.iter().rev().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
        let program = args.first().map(|word| word.as_bytes()).unwrap_or_default();
        let paths = if program.contains(&b'/') {
            vec![program.to_vec()]
        } else {
            let folders = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
            folders.split(|&byte| byte == b':').map(|folder| [folder, b"/", program].concat()).collect()
        };
        let strings = |words: Vec<OsString>| {
            // A NUL within a word ends it: nothing behind it could reach the program anyway.
            let cut = |word: OsString| word.into_vec().into_iter().take_while(|&byte| byte != 0).collect::<Vec<u8>>();
            words.into_iter().filter_map(|word| CString::new(cut(word)).ok()).collect::<Vec<_>>()
        };
        Self {
            paths: strings(paths.into_iter().map(OsString::from_vec).collect()),
            arguments: strings(args.to_vec()),
            environment: strings(environment),
        }
    }

    pub(crate) fn name(&self) -> String {
        self.arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether there is such a program that this user may execute; else the error that exec would meet.
    pub(crate) fn look(&self) -> io::Result<()> {
        let mut told = io::Error::from_raw_os_error(nix::libc::ENOENT);
        for path in &self.paths {
            match rustix::fs::access(path.as_c_str(), rustix::fs::Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => told = error.into(),
            }
        }
        Err(told)
    }

    /// Tries each place of PATH; tells the error that matters most, one that is not "not found".
    pub(crate) fn execute(&self) -> io::Error {
        let mut told = io::Error::from_raw_os_error(nix::libc::ENOENT);
        for path in &self.paths {
            let Err(errno) = nix::unistd::execve(path, &self.arguments, &self.environment);
            match errno {
                nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {}
                nix::errno::Errno::EACCES => told = errno.into(),
                _ => return errno.into(),
            }
        }
        told
    }
}

//! The child: root of fresh namespaces, until it has made itself the container's command.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::fs::{FileType, Mode};
use rustix::process::Signal;

use crate::attach::Masks;
use crate::channel::{Channel, Heard};
use crate::command::Command;
use crate::error::Stage;
use crate::identity;
use crate::idmap::IdMap;
use crate::idmapped::Trees;
use crate::overlay::Layers;
use crate::own::{self, Mounted, Purpose};
use crate::plan::{Plan, Refused, Step};
use crate::power::give_up_power;
use crate::rootfs::Rootfs;
use crate::spec::{LandlockRule, Mount, MountKind, Network, Spec};
use crate::sys::landlock::Ruleset;
use crate::sys::{network, process};
use crate::target::{Kind, Root, file_type};
use crate::{attach, enter, guard, init, lsm, owner, pty, refusal, upper, userns};

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
    if !channel.wait_for_release() {
        // Nobody keeps the container from outliving the program that answers for it.
        process::exit_now(1);
    }
    run_command(plan, channel, root, workdir, terminal, may_set_groups)
}

/// What a process of ours needs before it lives among a container's.
pub(crate) fn prepare() -> io::Result<()> {
    die_with_parent()?;
    // Until exec, no other process may look into this one, which still is the caller's program.
    enter::hide()?;
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
        rustix::stdio::dup2_stdin(attach::null_within().during(Stage::Terminal, "")?).during(Stage::Terminal, "")?;
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
    // Not only marked: while exec changes the memory, the marked ones are still open to who may look into the new one.
    process::close_all_but_numbers(spec.preserved.iter().copied().chain([channel.as_fd().as_raw_fd()]));
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

/// Gives this process a session keyring of its own, in place of the caller's.
pub(crate) fn own_keyring() -> io::Result<()> {
    match process::new_session_keyring() {
        // Without keys in the kernel, or with a filter around us that refuses them, the container reaches none either.
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOSYS | nix::libc::EPERM)) => Ok(()),
        made => made,
    }
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
        Step::Keyring => own_keyring().during(Stage::Keyring, ""),
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
        // A directory of the caller's stays as it is.
        Step::Account(_) if matches!(orders.rootfs, Rootfs::Directory(_)) => Ok(()),
        Step::Account(account) => identity::enter(root, account).during(Stage::User, &orders.plan.spec.user),
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
        Heard::Descriptor(network) => enter::own_network(network),
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

//! The one file that knows both libraries: an image, its checkout and the flags become the runner's spec and root.

pub mod roots;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lrun::Rootfs;
use lrun::cgroup::{Resources, Wish};
use lrun::idmap::Shape;
use lrun::join::Joined;
use lrun::limit::Limit;
use lrun::lsm::Labels;
use lrun::spec::{
    ImageMount, Lower, MappedIds, MappedMount, Mount, MountKind, Namespaces, Network, Propagation, Seccomp, Spec,
    UserNamespace,
};
use lstore::manifest::RunConfig;
use lstore::{Checkout, IdShift};

use crate::capability;
use crate::env::{Environment, HOME};
use crate::lrun::args::{CgroupsArgument, RunArguments, UlimitArgument, UserNamespaceArgument};
use crate::lrun::security::{SeccompOption, SecurityOptions, Unmask};
use crate::lrun::{account, device, etc, uplink, variables};
use crate::report::Failure;
use crate::volume;

/// Puts the wish together: what the image says, overridden by what the caller says.
///
/// # Errors
/// Flags that mean nothing, files that cannot be read.
pub fn spec(
    arguments: &RunArguments,
    config: &RunConfig,
    name: &str,
    environment: &Environment,
) -> Result<Spec, Failure> {
    let security = SecurityOptions::parse(&arguments.security)?;
    if let Some(profile) = &security.apparmor {
        lrun::lsm::require_apparmor(profile)?;
    }
    let mut added = arguments.cap_add.clone();
    if arguments.privileged {
        added.push("ALL".to_owned());
    }
    let capabilities = capability::resolve(&added, &arguments.cap_drop)?;
    if !arguments.uts.is_own() && arguments.hostname.is_some() {
        return Err(
            "--hostname: without a UTS namespace of its own the host name is the host's or another's; leave out one"
                .into(),
        );
    }
    let own_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let network = uplink::network(arguments, config)?;
    // In the host's network the container goes by the host's name, as for podman.
    let has_own_name = arguments.uts.is_own() && network != Network::Host;
    let name = if has_own_name { name.to_owned() } else { own_name() };
    let hostname = arguments.hostname.clone().unwrap_or(name);
    let keeps_groups = keeps_groups(arguments)?;
    let working_dir = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    let cwd = Path::new("/").join(arguments.workdir.clone().unwrap_or_else(|| working_dir.into()));
    let user = user(arguments, config);
    let spec = Spec {
        args: words(arguments, config),
        env: variables::of(arguments, config, environment, &hostname)?,
        account: account::of(arguments, &user, &cwd)?,
        cwd,
        user,
        groups: if keeps_groups { Vec::new() } else { arguments.group_add.clone() },
        keeps_groups,
        files: etc::files(arguments, &hostname, &network)?,
        network,
        namespaces: Namespaces {
            pid: arguments.pid.is_own(),
            ipc: arguments.ipc.is_own(),
            uts: arguments.uts.is_own(),
            cgroup: arguments.cgroupns.is_own(),
            time: arguments.timens,
        },
        user_namespace: user_namespace(arguments)?,
        insists_on_ids: arguments.userns == UserNamespaceArgument::Private,
        capabilities,
        granted: capability::named(&arguments.cap_add)? & capabilities,
        apparmor: security.apparmor,
        selinux: security.label.as_ref().map(Labels::of_machine).transpose()?,
        no_new_privileges: security.no_new_privileges,
        seccomp: match &security.seccomp {
            SeccompOption::Default if arguments.privileged => Seccomp::Unconfined,
            said => seccomp(said, capabilities)?,
        },
        landlock: arguments.landlock.clone(),
        limits: limits(arguments),
        cgroup: cgroup(arguments)?,
        sysctls: arguments.sysctl.clone(),
        oom_score: arguments.oom_score_adj,
        personality: arguments.personality,
        preserved: arguments.descriptors.numbers(),
        umask: arguments.umask,
        shm_size: arguments.shm_size,
        annotations: arguments.annotation.clone(),
        writable_sys: arguments.privileged,
        proc_options: security.proc_options,
        masks: security.mask,
        mounts: mounts(arguments, config)?,
        owned: owned(arguments)?,
        mapped: mapped(arguments)?,
        unmask: match security.unmask {
            _ if arguments.privileged => vec![PathBuf::from("ALL")],
            Unmask::All => vec![PathBuf::from("ALL")],
            Unmask::Paths(paths) => paths,
        },
        read_only: arguments.read_only,
        terminal: arguments.tty,
        interactive: arguments.interactive,
        init: arguments.init,
        systemd: false,
        ephemeral: arguments.rm,
        joined: Joined::default(),
        secrets: Vec::new(),
        hostname: if arguments.uts.is_own() { hostname } else { String::new() },
    };
    check_labels(&spec, environment)?;
    Ok(spec)
}

/// Where a checkout is.
pub fn lower(store: &Path, checkout: &Checkout) -> Lower {
    Lower {
        root: store.join("trees").join(checkout.id.to_string()).join("root"),
        data: checkout.data().map(|_| store.join("objects")),
    }
}

/// The container's root: the checkout, with changes in the container's own folder.
pub fn overlay(store: &Path, checkout: &Checkout, folder: &Path) -> Rootfs {
    let Lower { root, data } = lower(store, checkout);
    Rootfs::Overlay {
        lower: root,
        data,
        upper: folder.join("upper"),
        work: folder.join("work"),
        // In the container's own mounts, and there for a moment: what it hides was opened before.
        mountpoint: folder.to_path_buf(),
    }
}

/// The root of a container that was there before: the same, or the copy that an earlier start had to make of it.
pub fn existing(store: &Path, checkout: &Checkout, folder: &Path) -> Rootfs {
    overlay(store, checkout, folder).as_left()
}

/// Whose ids the container has. A range of its own has its place when the container is made.
fn user_namespace(arguments: &RunArguments) -> Result<UserNamespace, Failure> {
    let is_root = rustix::process::geteuid().is_root();
    match arguments.userns {
        UserNamespaceArgument::Host => Ok(UserNamespace::Host),
        // All power is power over the host's devices and files, as with podman.
        UserNamespaceArgument::Usual if arguments.privileged && is_root => Ok(UserNamespace::Host),
        UserNamespaceArgument::Auto(_) if !is_root => {
            Err("--userns auto: in such a namespace the caller does not exist, and could not read its own store; give host or \
                 keep-id"
                .into())
        }
        UserNamespaceArgument::Usual
        | UserNamespaceArgument::Private
        | UserNamespaceArgument::Other(_)
        | UserNamespaceArgument::Auto(_)
        | UserNamespaceArgument::KeepId { .. } => Ok(UserNamespace::Own(shape(arguments))),
    }
}

/// How the ids of the container relate to the caller's.
pub fn shape(arguments: &RunArguments) -> Shape {
    let (uid, gid, size) = match arguments.userns {
        UserNamespaceArgument::KeepId { uid, gid, size } => (uid, gid, size),
        UserNamespaceArgument::Auto(size) => return Shape::Range { users: 0, groups: 0, size },
        UserNamespaceArgument::Usual
        | UserNamespaceArgument::Private
        | UserNamespaceArgument::Host
        | UserNamespaceArgument::Other(_) => return Shape::Auto,
    };
    let user = uid.unwrap_or_else(|| rustix::process::getuid().as_raw());
    let group = gid.unwrap_or_else(|| rustix::process::getgid().as_raw());
    Shape::KeepId { user, group, size }
}

/// Whose the files of the checkout must be for that.
pub fn shift(arguments: &RunArguments) -> IdShift {
    shift_of(shape(arguments))
}

/// Whose the files of the checkout must be for a relation of ids.
pub fn shift_of(shape: Shape) -> IdShift {
    let (user, group) = shape.caller();
    IdShift { user, group }
}

/// With `keep-id` the caller stays who it is, unless it is told otherwise.
fn user(arguments: &RunArguments, config: &RunConfig) -> String {
    match (&arguments.user, &arguments.userns) {
        (Some(user), _) => user.clone(),
        (None, UserNamespaceArgument::KeepId { .. }) => {
            let (user, group) = shape(arguments).caller();
            format!("{user}:{group}")
        }
        (None, _) => config.user.clone(),
    }
}

/// Entrypoint and command. A new entrypoint drops the image's command too, as podman has it.
fn words(arguments: &RunArguments, config: &RunConfig) -> Vec<OsString> {
    let own = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let said = arguments.command().to_vec();
    if let Some(mut entrypoint) = arguments.entrypoint() {
        entrypoint.extend(said);
        entrypoint
    } else {
        let mut words = own(&config.entrypoint);
        words.extend(if said.is_empty() { own(&config.cmd) } else { said });
        words
    }
}

fn seccomp(option: &SeccompOption, kept: u64) -> Result<Seccomp, Failure> {
    use lrun::seccomp::{NATIVE, compile, oci};
    let SeccompOption::Profile(path) = option else {
        return Ok(if *option == SeccompOption::Unconfined { Seccomp::Unconfined } else { Seccomp::Default });
    };
    let cannot = |error: &dyn std::fmt::Display| Failure::from(format!("seccomp profile {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| cannot(&error))?;
    let uname = rustix::system::uname();
    let kernel = uname.release().to_str().ok().and_then(oci::KernelVersion::parse);
    let kernel = kernel.ok_or("the kernel does not tell its version in a known form")?;
    let parsed = oci::parse(&bytes, NATIVE, kernel).map_err(|error| cannot(&error))?;
    Ok(Seccomp::Program(compile(&parsed.profile, NATIVE, kept)?))
}

/// What stays writable in a read-only container, in memory.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

fn mounts(arguments: &RunArguments, config: &RunConfig) -> Result<Vec<Mount>, Failure> {
    let parsed = volume::mounts(&arguments.volumes, &arguments.mounts, &arguments.tmpfs)?;
    let mut mounts: Vec<Mount> = parsed.into_iter().map(mount).collect::<Result<_, _>>()?;
    for (source, target) in &arguments.device {
        mounts.push(device::device(source, target)?);
    }
    if arguments.read_only && arguments.read_only_tmpfs {
        let is_taken = |target: &&str| {
            mounts.iter().any(|mount| mount.target == Path::new(target))
                || config.volumes.iter().any(|declared| Path::new(declared) == Path::new(target))
        };
        let targets: Vec<&str> = WRITABLE.into_iter().filter(|target| !is_taken(target)).collect();
        mounts.extend(targets.into_iter().map(|target| Mount {
            kind: MountKind::Tmpfs { size: None, mode: 0o1777, copies: true },
            target: target.into(),
            read_only: false,
            nosuid: true,
            nodev: true,
            noexec: false,
        }));
        // Below a folder that the caller mounts, and above what is mounted in one of these.
        mounts.sort_by_key(|mount| mount.target.components().count());
    }
    // What the caller may not open stays closed: a bound node keeps its owner and mode.
    if arguments.privileged && !mounts.iter().any(|mount| mount.target == Path::new("/dev")) {
        let nodes = device::all_devices(Path::new("/dev"));
        mounts.extend(nodes.iter().filter_map(|node| device::device(node, node).ok()));
    }
    Ok(mounts)
}

/// Folders of the host's system, which are nobody's to give away.
const SYSTEM: [&str; 17] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/srv",
    "/sys", "/usr", "/var",
];

/// Further ones, whose files the rest of the system could not use any more with labels of containers.
const UNLABELLED: [&str; 8] =
    ["/etc/passwd", "/etc/pki", "/etc/shadow", "/media", "/tmp", "/var/lib", "/var/log", "/var/tmp"];

/// Refuses to label what is not for containers alone: the folders of the system, all in /usr, and homes.
fn check_labels(spec: &Spec, environment: &Environment) -> Result<(), Failure> {
    if spec.selinux.is_none() {
        return Ok(());
    }
    for mount in &spec.mounts {
        let MountKind::Bind { source, relabel: Some(_), .. } = &mount.kind else { continue };
        let source = std::fs::canonicalize(source)?;
        let is_home = environment.get(HOME).is_some_and(|home| source == Path::new(home));
        let is_systems = SYSTEM.iter().chain(&UNLABELLED).any(|system| source == Path::new(system));
        if is_home || is_systems || source.starts_with("/usr") || source.parent() == Some(Path::new("/home")) {
            return Err(format!(
                "{}: SELinux labels of the system's folders and of homes are not changed; leave out z and Z, or mount \
                 a folder within",
                source.display()
            )
            .into());
        }
    }
    Ok(())
}

/// The targets of mounts whose files are given to the user. Looked for only where one may be meant.
fn owned(arguments: &RunArguments) -> Result<Vec<PathBuf>, Failure> {
    let may_be_meant = |argument: &String| argument.contains('U') || argument.contains("chown");
    if !arguments.volumes.iter().chain(&arguments.mounts).chain(&arguments.tmpfs).any(may_be_meant) {
        return Ok(Vec::new());
    }
    let mut owned = Vec::new();
    for mount in volume::mounts(&arguments.volumes, &arguments.mounts, &arguments.tmpfs)? {
        if let (true, volume::MountKind::Bind { source, .. }) = (mount.owned, &mount.kind) {
            let source = std::fs::canonicalize(source)?;
            if SYSTEM.iter().any(|system| source == Path::new(system)) {
                return Err(
                    format!("{}: a folder of the system is not given away; leave out U", source.display()).into()
                );
            }
        }
        owned.extend(mount.owned.then_some(mount.target));
    }
    Ok(owned)
}

/// The mounts whose files show with other ids than on disk. Looked for only where one may be meant.
fn mapped(arguments: &RunArguments) -> Result<Vec<MappedMount>, Failure> {
    let is_root = rustix::process::geteuid().is_root();
    let mut mapped = Vec::new();
    let said = arguments.volumes.iter().chain(&arguments.mounts).find(|argument| argument.contains("idmap"));
    if let Some(said) = said {
        let ids = |triples: &[volume::Triple]| -> Vec<MappedIds> {
            let one = |&volume::Triple { disk, shown, count, is_inside }| MappedIds { disk, shown, count, is_inside };
            triples.iter().map(one).collect()
        };
        for mount in volume::mounts(&arguments.volumes, &arguments.mounts, &[])? {
            let Some(mapping) = mount.ids else { continue };
            if !is_root {
                return Err(volume::VolumeError::Idmap(said.clone()).into());
            }
            let (users, groups) = (ids(&mapping.users), ids(&mapping.groups));
            mapped.push(MappedMount { target: mount.target, users, groups });
        }
    }
    if is_root {
        // Who gives a device means its use.
        let whole = |(_, target): &(PathBuf, PathBuf)| MappedMount {
            target: target.clone(),
            users: Vec::new(),
            groups: Vec::new(),
        };
        mapped.extend(arguments.device.iter().map(whole));
    }
    Ok(mapped)
}

fn limits(arguments: &RunArguments) -> Vec<Limit> {
    let one = |argument: &UlimitArgument| match argument {
        UlimitArgument::Host => None,
        UlimitArgument::One(limit) => Some(limit.clone()),
    };
    arguments.ulimit.iter().filter_map(one).collect()
}

/// The control group that a command line asks for; named when the container is.
fn cgroup(arguments: &RunArguments) -> Result<Option<Wish>, Failure> {
    let resources = arguments.resources.resources(None)?;
    // No limit is what there is without a group.
    let is_needed = !(Resources { pids: resources.pids.filter(|&most| most > 0), ..resources.clone() }).is_empty();
    let is_wanted = match arguments.cgroups {
        CgroupsArgument::Wanted => is_needed || arguments.cgroup_parent.is_some(),
        CgroupsArgument::Disabled if is_needed || arguments.cgroup_parent.is_some() => {
            return Err("--cgroups=disabled: limits need a control group; leave one of the two out".into());
        }
        CgroupsArgument::Disabled => false,
        CgroupsArgument::Enabled | CgroupsArgument::NoConmon => true,
    };
    let keeps_runner = arguments.cgroups == CgroupsArgument::NoConmon;
    let parent = arguments.cgroup_parent.clone();
    Ok(is_wanted.then(|| Wish { name: String::new(), parent, keeps_runner, resources }))
}

fn keeps_groups(arguments: &RunArguments) -> Result<bool, Failure> {
    let annotated =
        arguments.annotation.iter().any(|(name, value)| name == "run.oci.keep_original_groups" && value == "1");
    let said = arguments.group_add.iter().any(|group| group == "keep-groups");
    if said && arguments.group_add.len() > 1 {
        return Err("--group-add keep-groups keeps your own groups, to which no other can be added".into());
    }
    Ok(said || annotated)
}

/// The runner's word for a mount.
pub fn mount(mount: volume::Mount) -> Result<Mount, Failure> {
    use volume::Propagation as Said;
    let volume::Mount { kind, target, read_only, nosuid, nodev, noexec, owned: _, ids: _ } = mount;
    let kind = match kind {
        volume::MountKind::Tmpfs { size, mode, copies } => {
            MountKind::Tmpfs { size, mode: mode.unwrap_or(0o1777), copies }
        }
        // Which it is becomes known when it is looked up.
        volume::MountKind::Image { name, subpath } => {
            MountKind::Image(ImageMount { name, id: String::new(), subpath, number: 0, checkout: None })
        }
        // Where it is becomes known when it is made.
        volume::MountKind::Volume { name, copies, relabel } => {
            MountKind::Volume { name: name.unwrap_or_default(), folder: PathBuf::new(), copies, relabel }
        }
        volume::MountKind::Bind { source, recursive, propagation, relabel } => {
            let source = std::path::absolute(&source)?;
            if !source.exists() {
                return Err(format!("{}: no such file or directory to bind; make it first", source.display()).into());
            }
            let propagation = match propagation {
                Said::Private | Said::RecursivePrivate | Said::Unbindable | Said::RecursiveUnbindable => {
                    Propagation::Private
                }
                Said::Slave | Said::RecursiveSlave => Propagation::Slave,
                Said::Shared | Said::RecursiveShared => Propagation::Shared,
            };
            MountKind::Bind { source, recursive, propagation, relabel }
        }
    };
    Ok(Mount { kind, target, read_only, nosuid, nodev, noexec })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::lrun::args::{Lrun, LrunCommand, with_command};
    use clap::Parser;

    fn arguments(words: &[&str]) -> RunArguments {
        let words = std::iter::once("lrun").chain(words.iter().copied()).map(OsString::from);
        match Lrun::parse_from(with_command(words)).command {
            LrunCommand::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    fn config() -> RunConfig {
        RunConfig {
            env: vec!["PATH=/image".to_owned(), "A=image".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["default".to_owned()],
            working_dir: "/work".to_owned(),
            user: "bob".to_owned(),
            ..RunConfig::default()
        }
    }

    fn wish(words: &[&str]) -> Spec {
        spec(&arguments(words), &config(), "name", &Environment::from_iter([("B", "host")])).unwrap()
    }

    #[test]
    fn the_image_says_what_to_run_and_the_caller_overrides() {
        assert_eq!(wish(&["i"]).args, ["/entry", "default"]);
        assert_eq!(wish(&["i", "x", "y"]).args, ["/entry", "x", "y"]);
        assert_eq!(wish(&["--entrypoint", "/other", "i"]).args, ["/other"]);
        assert_eq!(wish(&["--entrypoint", "", "i", "x"]).args, ["x"]);
        assert_eq!((wish(&["i"]).cwd, wish(&["i"]).user), ("/work".into(), "bob".to_owned()));
        assert_eq!(wish(&["-w", "/w", "-u", "0", "i"]).cwd, Path::new("/w"));
    }

    #[test]
    fn each_variable_is_there_once_and_the_last_word_wins() {
        let env = wish(&["-e", "A=1", "-e", "B", "-e", "A=2", "i"]).env;
        let of = |name: &str| env.iter().filter(|v| v.as_bytes().starts_with(name.as_bytes())).collect::<Vec<_>>();
        assert_eq!(of("A="), ["A=2"]);
        assert_eq!(of("B="), ["B=host"]);
        assert_eq!(of("PATH="), ["PATH=/image"]);
        assert_eq!(of("HOSTNAME="), ["HOSTNAME=name"]);
    }

    #[test]
    fn a_bind_of_nothing_is_refused() {
        let refused = spec(
            &arguments(&["-v", "/does/not/exist:/x", "i"]),
            &config(),
            "n",
            &Environment::from_iter([("", ""); 0]),
        );
        assert!(refused.unwrap_err().error.to_string().contains("no such file"));
    }
}

//! The command line of `lrun run`: podman's flags with podman's meaning.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lrun::root_ids::USUAL;
use lrun::spec::{LandlockRule, Port};

use std::net::IpAddr;

use super::container_name;
use super::create::CreateArguments;
use super::descriptors::DescriptorArguments;
use super::limits::{self, UlimitArgument};
use super::namespace::{self, NamespaceArgument};
use super::network::{self, NetworkArgument};
use super::refused::RefusedArguments;
use super::resources::{CgroupsArgument, ResourceArguments, SystemdArgument};
use super::variables::VariableArguments;
use crate::global::RegistryArguments;

/// `lrun run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Let the container run in the background, print its id, and keep what it writes in its log
    #[arg(short, long, conflicts_with = "rootfs")]
    pub detach: bool,

    /// What a container is known by and how it is looked after.
    #[command(flatten)]
    pub create: CreateArguments,

    /// Remove the container when it has ended
    #[arg(long)]
    pub rm: bool,

    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Set a variable; NAME alone takes the value from here, PREFIX* all that begin so
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// Set the variables in a file, one on each line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Variables besides.
    #[command(flatten)]
    pub variables: VariableArguments,

    /// Bind a file or directory, or a volume by its name, or a new one; OPTIONS: ro, noexec, nodev, suid, U (its files become the user's, for good), z, Z; of a bind: bind, [r]private|[r]slave|[r]shared, by root idmap[=uids=DISK-SHOWN-COUNT;gids=…]; of a volume: nocopy
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volumes: Vec<String>,

    /// Mount type=bind,source=PATH,target=PATH[,ro], type=volume,source=NAME,target=PATH, type=image,source=IMAGE,target=PATH[,subpath=PATH][,rw=true] (the files of an image, and with rw changes that go with the container) or type=tmpfs,target=PATH[,tmpfs-size=64m]
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,

    /// Mount an empty file system in memory; OPTIONS: size=64m, mode=1777, ro, noexec, exec, suid, dev, tmpcopyup (begin with what the image has there)
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,

    /// Mount what is mounted by -v and --mount in other containers, with ro or rw for all of it
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    pub volumes_from: Vec<String>,

    /// What becomes of the volumes that the image names: bind (a new one for each), tmpfs or ignore
    #[arg(long, value_name = "HOW", default_value = "bind", hide_possible_values = true)]
    pub image_volume: ImageVolume,

    /// Working directory of the command
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,

    /// Who runs the command: names or ids of the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Name of the container
    #[arg(long, value_name = "NAME", value_parser = container_name)]
    pub name: Option<String>,

    /// Host name in the container
    #[arg(short = 'h', long, value_name = "NAME", value_parser = host_name)]
    pub hostname: Option<String>,

    /// What the command is given to: a program, or a JSON array; empty for nothing
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<OsString>,

    /// Make the image's files read-only; /run, /tmp and /var/tmp are then in memory, with what the image has there
    #[arg(long)]
    pub read_only: bool,

    /// With --read-only: whether /run, /tmp and /var/tmp can be written to
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, hide_default_value = true)]
    pub read_only_tmpfs: bool,

    /// none: nothing but lo; host: the host's; pasta[:OPTION,…]: one with a way out, OPTIONs are pasta's own; slirp4netns[:OPTION,…]: the same, OPTIONs are podman's for it, as mtu=1500; private: by pasta, or slirp4netns where only that is installed; container:NAME: that of a container that runs; ns:PATH: that of a file such as /run/netns/NAME
    #[arg(long, visible_alias = "net", value_name = "MODE", value_parser = network::network, default_value = "none", hide_default_value = false)]
    pub network: NetworkArgument,

    /// Let ports of the host lead to ports of the container, with --network pasta or slirp4netns; each may be a range FIRST-LAST; without HOSTPORT free ones are taken, which 'lrun port' tells
    #[arg(short, long, value_name = "[[IP:][HOSTPORT]:]PORT[/PROTOCOL]", value_parser = network::publish)]
    pub publish: Vec<Port>,

    /// Publish what the image or --expose exposes, each with a free port of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,

    /// Note that the container listens on ports, for --publish-all and whoever looks
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = network::exposed)]
    pub expose: Vec<Port>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    pub cap_add: Vec<String>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    pub cap_drop: Vec<String>,

    /// Give it all that you may do: every capability and device, no filter, nothing masked or read-only
    #[arg(long)]
    pub privileged: bool,

    /// no-new-privileges, seccomp=FILE|unconfined, mask=PATH:PATH, unmask=ALL|PATH:PATH, proc-opts=OPTION, apparmor=PROFILE|unconfined, label=disable|user:U|role:R|type:T|filetype:T|level:L
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security: Vec<String>,

    /// Make PID 1 a small init that reaps processes and forwards signals
    #[arg(long)]
    pub init: bool,

    /// User namespace: host (root is you), keep-id[:uid=N,gid=N,size=N] (you are you, root is another), container:NAME or ns:PATH;
    /// by root private (subordinate ids, the default), auto[:size=N] (such as no other container has) or host
    #[arg(long, value_name = "MODE", value_parser = user_namespace, default_value = "", hide_default_value = true, overrides_with = "userns")]
    pub userns: UserNamespaceArgument,

    /// Let nothing be reached but what such rules name; read and executed (ro), or changed too (rw)
    #[arg(long, value_name = "ro|rw:PATH", value_parser = limits::landlock)]
    pub landlock: Vec<LandlockRule>,

    /// Add the user to a group of the container; keep-groups keeps your own instead
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub group_add: Vec<String>,

    /// Leave /etc/passwd and /etc/group without lines for a user that they lack
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true)]
    pub passwd: bool,

    /// Line of /etc/passwd for such a user; $USERNAME, $UID, $GID, $NAME and $HOME are filled in
    #[arg(long, value_name = "LINE")]
    pub passwd_entry: Option<String>,

    /// Line of /etc/group; $GROUPNAME, $GID and $USERNAME are filled in
    #[arg(long, value_name = "LINE")]
    pub group_entry: Option<String>,

    /// Processes: private, host, container:NAME (those of a container that runs) or ns:PATH (those of a file such as /proc/PID/ns/pid)
    #[arg(long, value_name = "MODE", value_parser = namespace::namespace, default_value = "private")]
    pub pid: NamespaceArgument,

    /// System V IPC, message queues and /dev/shm: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace::ipc, default_value = "private")]
    pub ipc: NamespaceArgument,

    /// Host name: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace::namespace, default_value = "private")]
    pub uts: NamespaceArgument,

    /// View of the control groups: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace::namespace, default_value = "private")]
    pub cgroupns: NamespaceArgument,

    /// Clocks that count from boot: private (CLOCK_MONOTONIC and CLOCK_BOOTTIME of its own, which begin as the host's) or host
    #[arg(long, value_name = "MODE", value_parser = namespace::time, default_value = "host", action = clap::ArgAction::Set)]
    pub timens: bool,

    /// Give the container a device of the host
    #[arg(long, value_name = "SOURCE[:TARGET]", value_parser = limits::device)]
    pub device: Vec<(PathBuf, PathBuf)>,

    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = limits::host)]
    pub add_host: Vec<(String, IpAddr)>,

    /// Leave /etc/hosts as the image has it
    #[arg(long, conflicts_with = "add_host")]
    pub no_hosts: bool,

    /// What /etc/hosts begins with: a file of the host, or none for no more than the name of the machine itself
    #[arg(long, value_name = "FILE|none", conflicts_with = "no_hosts", value_parser = limits::hosts_file)]
    pub hosts_file: Option<PathBuf>,

    /// Leave /etc/hostname as the image has it
    #[arg(long)]
    pub no_hostname: bool,

    /// Name server, for /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,

    /// Domain that names are looked up in
    #[arg(long, value_name = "DOMAIN", value_parser = limits::word)]
    pub dns_search: Vec<String>,

    /// Option of the resolver
    #[arg(long, value_name = "OPTION", value_parser = limits::word)]
    pub dns_option: Vec<String>,

    /// Limit a resource of each process: nofile=1024:4096; host leaves your own limits, as without
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = limits::ulimit)]
    pub ulimit: Vec<UlimitArgument>,

    /// Set a kernel parameter of the container's namespaces: net.*, fs.mqueue.*, kernel.shm*, kernel.msg*, kernel.sem
    #[arg(long, value_name = "NAME=VALUE", value_parser = limits::pair)]
    pub sysctl: Vec<(String, String)>,

    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", value_parser = limits::size, default_value = "64m")]
    pub shm_size: u64,

    /// File mode creation mask
    #[arg(long, value_name = "MASK", value_parser = limits::umask, default_value = "0022")]
    pub umask: u32,

    /// Readiness to be killed when memory runs out, -1000 to 1000; yours without
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,

    /// Time zone, as Europe/Paris, or local for that of the host: its file becomes /etc/localtime
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,

    /// Folder in which the command will have its root: gets the files of /etc too that are made for the container
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub chrootdirs: Vec<PathBuf>,

    /// As which system the kernel shows itself: LINUX, or LINUX32 for one of 32 bits
    #[arg(long, value_name = "SYSTEM", value_parser = limits::personality)]
    pub personality: Option<u32>,

    /// Descriptors besides the first three.
    #[command(flatten)]
    pub descriptors: DescriptorArguments,

    /// Note something on the container; run.oci.keep_original_groups=1 is --group-add keep-groups
    #[arg(long, value_name = "NAME=VALUE", value_parser = limits::pair)]
    pub annotation: Vec<(String, String)>,

    /// Start without the process that holds a mapped user namespace ready: some milliseconds slower
    #[arg(long)]
    pub no_holder: bool,

    /// What the container may use.
    #[command(flatten)]
    pub resources: ResourceArguments,

    /// Below which control group to make the container's: a path in the hierarchy, or a slice of systemd's
    #[arg(long, value_name = "PATH|NAME.slice", value_parser = cgroup_parent)]
    pub cgroup_parent: Option<String>,

    /// Whether the container has a control group of its own: enabled, disabled, or no-conmon, which leaves the runner where it is; without a word, if a limit asks for it
    #[arg(long, value_name = "MODE", default_value = "wanted", hide_default_value = true, hide_possible_values = true, value_parser = cgroups)]
    pub cgroups: CgroupsArgument,

    /// Prepare for systemd as process 1: true, if the command is one of systemd's, always, or false
    #[arg(long, value_name = "MODE", default_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = systemd)]
    pub systemd: SystemdArgument,

    /// Program that starts containers; only crun, as which lrun can be taken: it starts them itself
    #[arg(long, value_name = "NAME", value_parser = ["crun", "lrun"], hide = true)]
    pub runtime: Option<String>,

    /// IMAGE is the path of a directory
    #[arg(long)]
    pub rootfs: bool,

    /// When to pull the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_possible_values = true)]
    pub pull: PullPolicy,

    /// How to pull it.
    #[command(flatten)]
    pub registry: RegistryArguments,

    /// Flags that cannot be granted.
    #[command(flatten)]
    pub refused: RefusedArguments,

    /// Image, then the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE", num_args = 1..)]
    pub words: Vec<OsString>,
}

impl RunArguments {
    /// The image, or with `--rootfs` the directory.
    pub fn image(&self) -> &OsString {
        // clap refuses a command line without words.
        &self.words[0]
    }

    /// The command that replaces the image's own, if any.
    pub fn command(&self) -> &[OsString] {
        &self.words[1..]
    }

    /// The entrypoint that replaces the image's: none said (`None`), none wanted (empty), or a program and arguments.
    ///
    /// As for podman a JSON array of strings gives several words; anything else is the name of a program.
    pub fn entrypoint(&self) -> Option<Vec<OsString>> {
        self.entrypoint.as_deref().map(entrypoint)
    }
}

pub(super) fn entrypoint(text: &OsStr) -> Vec<OsString> {
    if text.is_empty() {
        return Vec::new();
    }
    let words = text
        .to_str()
        .filter(|text| text.starts_with('['))
        .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    match words {
        Some(words) => words.into_iter().map(OsString::from).collect(),
        None => vec![text.to_owned()],
    }
}

/// How the ids of a container map to those of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserNamespaceArgument {
    /// That of a container or a file.
    Other(NamespaceArgument),
    /// Nothing was said: as [`Self::Private`], and by root, where that cannot be, as [`Self::Host`].
    Usual,
    /// One of its own. By root with subordinate ids alone; by others as [`Self::Host`].
    Private,
    /// Root's is the host's. That of others has root as the caller, and other ids are the caller's subordinate ids; it is what
    /// podman calls the host's.
    Host,
    /// Ids of the host that no other container has; how many.
    Auto(u32),
    /// The caller has an id inside that is not root's.
    KeepId {
        /// User id of the caller inside; its own without.
        uid: Option<u32>,
        /// Group id of the caller inside; its own without.
        gid: Option<u32>,
        /// Highest number of ids inside.
        size: Option<u32>,
    },
}

/// What becomes of the volumes that an image names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageVolume {
    /// A new volume for each.
    #[value(alias = "anonymous")]
    Bind,
    /// An empty file system in memory.
    Tmpfs,
    /// Nothing.
    Ignore,
}

/// When to pull the image of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// If it is not in the store.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

pub(super) fn user_namespace(text: &str) -> Result<UserNamespaceArgument, String> {
    match text {
        "" => Ok(UserNamespaceArgument::Usual),
        "private" => Ok(UserNamespaceArgument::Private),
        "host" => Ok(UserNamespaceArgument::Host),
        "nomap" => Err(
            "in such a namespace the caller does not exist, and could not read its own store; give host or keep-id; \
                        root's containers have one anyway"
                .into(),
        ),
        _ => match text.split_once(':').unwrap_or((text, "")) {
            ("keep-id", options) => keep_id(options),
            ("auto", options) => auto(options),
            _ => match namespace::other(text) {
                Some(other) => other.map(UserNamespaceArgument::Other),
                None => Err("there is no such mode; give host or keep-id, container:NAME or ns:PATH".into()),
            },
        },
    }
}

fn auto(options: &str) -> Result<UserNamespaceArgument, String> {
    let mut size = USUAL;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let number = option.strip_prefix("size=").ok_or_else(|| format!("unknown option {option:?}; known is size"))?;
        let number = number.parse().ok().filter(|size| (1..=i32::MAX.cast_unsigned()).contains(size));
        size = number.ok_or_else(|| format!("{option}: not a number of ids"))?;
    }
    Ok(UserNamespaceArgument::Auto(size))
}

fn keep_id(options: &str) -> Result<UserNamespaceArgument, String> {
    let (mut uid, mut gid, mut size) = (None, None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let number = || match value.parse() {
            // Larger ones are no ids: tools that hold them in signed numbers would take them for others.
            Ok(number) if number <= i32::MAX.cast_unsigned() => Ok(Some(number)),
            _ => Err(format!("{name}={value}: not a number of an id")),
        };
        match name {
            "uid" => uid = number()?,
            "gid" => gid = number()?,
            "size" => size = number()?,
            _ => return Err(format!("unknown option specified: {option:?}; known are uid, gid and size")),
        }
    }
    Ok(UserNamespaceArgument::KeepId { uid, gid, size })
}

fn cgroup_parent(text: &str) -> Result<String, String> {
    let is_inside = !text.is_empty() && text.split('/').all(|part| part != "..");
    if is_inside { Ok(text.into()) } else { Err("a path in the hierarchy of control groups, or NAME.slice".into()) }
}

fn cgroups(text: &str) -> Result<CgroupsArgument, String> {
    match text {
        "wanted" => Ok(CgroupsArgument::Wanted),
        "enabled" => Ok(CgroupsArgument::Enabled),
        "disabled" => Ok(CgroupsArgument::Disabled),
        "no-conmon" => Ok(CgroupsArgument::NoConmon),
        _ => Err("give enabled, disabled or no-conmon".into()),
    }
}

/// What podman takes: a word of its own, or a boolean as Go reads it.
fn systemd(text: &str) -> Result<SystemdArgument, String> {
    match text {
        "always" => Ok(SystemdArgument::Always),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(SystemdArgument::Found),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(SystemdArgument::Never),
        _ => Err("give true, false or always".into()),
    }
}

/// What sethostname(2) takes: up to 64 bytes.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=64).contains(&text.len()) && is_visible {
        return Ok(text.into());
    }
    Err("a host name has 1 to 64 visible ASCII characters".into())
}

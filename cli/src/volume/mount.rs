//! What is mounted into a container, besides its root.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use lrun::spec::Relabel;

use super::csv;
use super::idmap::IdMapping;
use super::options::Options;
use crate::lrun::args::container_name;

/// A mount that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, in the container: absolute, without `.` and `..`.
    pub target: PathBuf,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// Setuid bits and file capabilities have no effect on it.
    pub nosuid: bool,
    /// Device nodes on it cannot be opened.
    pub nodev: bool,
    /// Nothing on it can be executed.
    pub noexec: bool,
    /// Its files are given to the container's user, for good.
    pub owned: bool,
    /// Which ids its files show with; for none as on disk.
    pub ids: Option<IdMapping>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Its path on the host; a relative one starts with `.` and is meant from the working directory.
        source: PathBuf,
        /// Mounts below it are bound too.
        recursive: bool,
        /// Whether mounts that appear later on one side appear on the other.
        propagation: Propagation,
        /// For whom its files get SELinux labels (`z`, `Z`): nothing to do where containers have none.
        relabel: Option<Relabel>,
    },
    /// A directory that outlives containers.
    Volume {
        /// Its name; `None` for one of the container's own.
        name: Option<String>,
        /// Whether a new one begins with what the image has there.
        copies: bool,
        /// As for a bind.
        relabel: Option<Relabel>,
    },
    /// The files of an image.
    Image {
        /// Its name.
        name: String,
        /// What of it, a path from its root on; empty for all.
        subpath: PathBuf,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its greatest size in bytes; the kernel's default is half of the memory.
        size: Option<u64>,
        /// The mode of its root; the default is 1777.
        mode: Option<u32>,
        /// Whether it begins with what the image has there. Unlike podman's it does so only where that is asked for.
        copies: bool,
    },
}

/// How a mount takes part in later mounts (mount_namespaces(7), "Shared subtrees"). The forms with `r` apply to the
/// mounts below it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of mount(8)")]
pub enum Propagation {
    Private,
    RecursivePrivate,
    Slave,
    RecursiveSlave,
    Shared,
    RecursiveShared,
    Unbindable,
    RecursiveUnbindable,
}

impl Propagation {
    /// The kind with mount(8)'s name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "private" => Self::Private,
            "rprivate" => Self::RecursivePrivate,
            "slave" => Self::Slave,
            "rslave" => Self::RecursiveSlave,
            "shared" => Self::Shared,
            "rshared" => Self::RecursiveShared,
            "unbindable" => Self::Unbindable,
            "runbindable" => Self::RecursiveUnbindable,
            _ => return None,
        })
    }
}

/// Why a mount cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// Too many or too few parts.
    #[error("volume {0:?} is not of the form SOURCE:TARGET[:OPTIONS]; give two absolute paths")]
    Form(String),
    /// The source is neither a path of the host nor the name of a volume.
    #[error(
        "{0:?} is no name of a volume: letters, digits and any of '_.-'; a path of the host starts with '/' or './'"
    )]
    Named(String),
    /// An image that wants a volume in place of the kernel's own files.
    #[error("the image declares a volume at {target:?}, where none can be; mount something of your own there with -v")]
    Declared {
        /// The target.
        target: PathBuf,
    },
    /// The target is no place in the container.
    #[error("cannot mount on {target:?}; the target must be an absolute path other than /")]
    Target {
        /// What was given.
        target: String,
    },
    /// Two mounts have one target.
    #[error("{target:?} is mounted twice; leave one of them out")]
    Twice {
        /// The common target.
        target: PathBuf,
    },
    /// An option that is not known, or has no meaning here.
    #[error("unknown option {option:?} in {whole:?}; see 'lrun run --help'")]
    Option {
        /// The option.
        option: String,
        /// The argument it stands in.
        whole: String,
    },
    /// An option is given twice or contradicts another.
    #[error("option {option:?} in {whole:?} repeats or contradicts another one")]
    Contradiction {
        /// The option.
        option: String,
        /// The argument it stands in.
        whole: String,
    },
    /// A value is not what its option needs.
    #[error("{value:?} in {whole:?} is no {needed}")]
    Value {
        /// The value.
        value: String,
        /// What it should be.
        needed: &'static str,
        /// The argument it stands in.
        whole: String,
    },
    /// `--mount` without what it needs.
    #[error(
        "--mount {whole:?} lacks {part}; write type=bind|volume|image,source=SOURCE,target=PATH or type=tmpfs,target=PATH"
    )]
    Incomplete {
        /// The argument.
        whole: String,
        /// The part it lacks.
        part: &'static str,
    },
    /// A map of ids for one mount.
    #[error(
        "{0:?}: a mount with ids of its own takes power over its file system, which only root has; U gives the files to the container's user instead, --userns keep-id shows them as yours"
    )]
    Idmap(String),
    /// `--mount` of a kind that does not exist here.
    #[error("--mount type {0:?} is not supported; bind, volume, image and tmpfs are")]
    Type(String),
}

impl VolumeError {
    pub(super) fn option(option: &str, whole: &str) -> Self {
        Self::Option { option: option.into(), whole: whole.into() }
    }

    pub(super) fn size(value: &str, whole: &str) -> Self {
        Self::value(value, "size such as 64m", whole)
    }

    pub(super) fn mode(value: &str, whole: &str) -> Self {
        Self::value(value, "octal mode such as 1777", whole)
    }

    fn value(value: &str, needed: &'static str, whole: &str) -> Self {
        Self::Value { value: value.into(), needed, whole: whole.into() }
    }
}

/// All mounts of a container, from the arguments of `-v`, `--mount` and `--tmpfs`, in the order in which they must be
/// made: the fewer components a target has, the earlier, so that no mount hides one below it.
///
/// Errors: an argument that is malformed or asks for what lrun lacks, and two mounts on one target. No path of the host
/// is looked at.
pub fn mounts<T: AsRef<str>>(volumes: &[T], specs: &[T], tmpfs: &[T]) -> Result<Vec<Mount>, VolumeError> {
    let mut mounts = Vec::new();
    for argument in volumes {
        mounts.push(volume(argument.as_ref())?);
    }
    for argument in specs {
        mounts.push(spec(argument.as_ref())?);
    }
    for argument in tmpfs {
        mounts.push(memory(argument.as_ref())?);
    }
    let mut targets = HashSet::new();
    if let Some(twice) = mounts.iter().find(|mount| !targets.insert(&mount.target)) {
        return Err(VolumeError::Twice { target: twice.target.clone() });
    }
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

/// The targets of an image's volumes. An image does not get to cover what the kernel shows of itself, behind which the masks
/// would then be missing.
pub fn declared<'a>(targets: impl Iterator<Item = &'a String>) -> Result<Vec<Mount>, VolumeError> {
    let one = |target: &String| {
        let mount = named(None, &format!("/{}", target.trim_start_matches('/')), &Options::default(), target)?;
        let is_kernels = ["/proc", "/sys", "/dev"].iter().any(|own| mount.target.starts_with(own));
        if is_kernels { Err(VolumeError::Declared { target: mount.target }) } else { Ok(mount) }
    };
    targets.map(one).collect()
}

/// `-v [SOURCE:]TARGET[:OPTIONS]`.
fn volume(argument: &str) -> Result<Mount, VolumeError> {
    let parts: Vec<_> = argument.split(':').collect();
    let (source, target, list) = match parts.as_slice() {
        [target] => return named(None, target, &Options::default(), argument),
        [source, target] => (*source, *target, ""),
        [source, target, list] => (*source, *target, *list),
        _ => return Err(VolumeError::Form(argument.into())),
    };
    if source.is_empty() || target.is_empty() {
        return Err(VolumeError::Form(argument.into()));
    }
    let mut options = Options::default();
    for option in list.split(',').filter(|option| !option.is_empty()) {
        options.add(option, argument)?;
    }
    if source.starts_with(['/', '.']) {
        bind(source, target, &options, argument)
    } else {
        named(Some(source), target, &options, argument)
    }
}

/// `--mount type=…,…`.
fn spec(argument: &str) -> Result<Mount, VolumeError> {
    let incomplete = |part| VolumeError::Incomplete { whole: argument.into(), part };
    let fields = csv::fields(argument).ok_or_else(|| VolumeError::value(argument, "list", argument))?;
    let (mut kind, mut source, mut target, mut subpath) = (None, None, None, None);
    let mut options = Options::default();
    for field in &fields {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (field.as_str(), None),
        };
        match (name, value) {
            ("type", Some(value)) => kind = Some(value),
            ("source" | "src", Some(value)) => source = Some(value),
            ("target" | "destination" | "dst", Some(value)) => target = Some(value),
            ("readonly" | "ro", _) => options.add(flag(value, "ro", "rw", argument)?, argument)?,
            ("rw" | "readwrite", _) => options.add(flag(value, "rw", "ro", argument)?, argument)?,
            ("subpath", Some(value)) => subpath = Some(value),
            ("bind-nonrecursive", _) => {
                options.add(flag(value, "bind", "rbind", argument)?, argument)?;
            }
            ("bind-propagation", Some(value)) => match Propagation::named(value) {
                Some(_) => options.add(value, argument)?,
                None => return Err(VolumeError::value(value, "propagation", argument)),
            },
            ("relabel", Some("shared")) => options.add("z", argument)?,
            ("relabel", Some("private")) => options.add("Z", argument)?,
            ("chown" | "U", None | Some("true")) => options.add("U", argument)?,
            ("idmap", _) => options.add(field, argument)?,
            ("tmpfs-size", Some(value)) => options.add(&format!("size={value}"), argument)?,
            ("tmpfs-mode", Some(value)) => options.add(&format!("mode={value}"), argument)?,
            ("volume-nocopy", None | Some("true")) => options.add("nocopy", argument)?,
            (_, None) => options.add(name, argument)?,
            _ => return Err(VolumeError::option(field, argument)),
        }
    }
    let kind = kind.ok_or_else(|| incomplete("a type"))?;
    let target = target.ok_or_else(|| incomplete("a target"))?;
    if let (Some(subpath), true) = (subpath, kind != "image") {
        return Err(VolumeError::option(&format!("subpath={subpath}"), argument));
    }
    match kind {
        "image" => {
            let name = source.filter(|name| !name.is_empty()).ok_or_else(|| incomplete("a source"))?;
            image(name, subpath.unwrap_or_default(), target, &options, argument)
        }
        "bind" => {
            let source = source.filter(|source| !source.is_empty()).ok_or_else(|| incomplete("a source"))?;
            bind(source, target, &options, argument)
        }
        "volume" => named(source.filter(|source| !source.is_empty()), target, &options, argument),
        "tmpfs" => match source {
            None => tmpfs(target, &options, argument),
            Some(source) => Err(VolumeError::option(&format!("source={source}"), argument)),
        },
        other => Err(VolumeError::Type(other.into())),
    }
}

/// `--tmpfs TARGET[:OPTIONS]`.
fn memory(argument: &str) -> Result<Mount, VolumeError> {
    let (target, list) = argument.split_once(':').unwrap_or((argument, ""));
    let mut options = Options::default();
    for option in list.split(',').filter(|option| !option.is_empty()) {
        options.add(option, argument)?;
    }
    tmpfs(target, &options, argument)
}

/// A flag that may have a value: `ro`, `ro=true`, `ro=false`.
fn flag<'a>(value: Option<&str>, yes: &'a str, no: &'a str, whole: &str) -> Result<&'a str, VolumeError> {
    match value {
        None | Some("true" | "1") => Ok(yes),
        Some("false" | "0") => Ok(no),
        Some(other) => Err(VolumeError::value(other, "true or false", whole)),
    }
}

fn bind(source: &str, target: &str, options: &Options, whole: &str) -> Result<Mount, VolumeError> {
    if options.size.is_some() || options.mode.is_some() || options.copies_up.is_some() || options.copies.is_some() {
        return Err(VolumeError::option("size, mode, copy or tmpcopyup", whole));
    }
    Ok(Mount {
        kind: MountKind::Bind {
            source: source.into(),
            recursive: options.recursive.unwrap_or(true),
            propagation: options.propagation.unwrap_or(Propagation::RecursivePrivate),
            relabel: options.relabel,
        },
        target: normal(target)?,
        read_only: options.read_only.unwrap_or(false),
        // A setuid file of the host has nothing to do in a container, where its owner may be root. Devices are not
        // forbidden: whoever mounts /dev means the devices, and the host's permissions go on to apply.
        nosuid: options.nosuid.unwrap_or(true),
        nodev: options.nodev.unwrap_or(false),
        noexec: options.noexec.unwrap_or(false),
        owned: options.owned(whole)?,
        ids: options.ids.clone(),
    })
}

/// A volume. No mounts are below it, so that it has no propagation and nothing to recurse into.
fn named(name: Option<&str>, target: &str, options: &Options, whole: &str) -> Result<Mount, VolumeError> {
    if options.size.is_some() || options.mode.is_some() || options.copies_up.is_some() {
        return Err(VolumeError::option("size, mode or tmpcopyup", whole));
    }
    if options.recursive.is_some() || options.propagation.is_some() {
        return Err(VolumeError::option("bind or propagation", whole));
    }
    if options.ids.as_ref().is_some_and(|ids| *ids != IdMapping::default()) {
        return Err(VolumeError::option("idmap with ids, since a volume has the container's,", whole));
    }
    let name = name.map(|name| container_name(name).map_err(|_| VolumeError::Named(name.into()))).transpose()?;
    Ok(Mount {
        kind: MountKind::Volume { name, copies: options.copies.unwrap_or(true), relabel: options.relabel },
        target: normal(target)?,
        read_only: options.read_only.unwrap_or(false),
        nosuid: options.nosuid.unwrap_or(true),
        nodev: options.nodev.unwrap_or(true),
        noexec: options.noexec.unwrap_or(false),
        owned: options.owned(whole)?,
        ids: options.ids.clone(),
    })
}

/// An image. Its files are not the container's to give away, and it has no mounts that could be bound with it.
fn image(name: &str, subpath: &str, target: &str, options: &Options, whole: &str) -> Result<Mount, VolumeError> {
    if options.size.is_some() || options.mode.is_some() || options.copies_up.is_some() || options.copies.is_some() {
        return Err(VolumeError::option("size, mode, copy or tmpcopyup", whole));
    }
    if options.recursive.is_some() || options.propagation.is_some() || options.relabel.is_some() {
        return Err(VolumeError::option("bind, propagation or z", whole));
    }
    if options.owned.is_some() {
        return Err(VolumeError::option("U", whole));
    }
    if options.ids.is_some() {
        return Err(VolumeError::option("idmap", whole));
    }
    Ok(Mount {
        kind: MountKind::Image { name: name.into(), subpath: subpath.into() },
        target: normal(target)?,
        read_only: options.read_only.unwrap_or(true),
        nosuid: options.nosuid.unwrap_or(true),
        nodev: options.nodev.unwrap_or(true),
        noexec: options.noexec.unwrap_or(false),
        owned: false,
        ids: None,
    })
}

fn tmpfs(target: &str, options: &Options, whole: &str) -> Result<Mount, VolumeError> {
    if options.recursive.is_some() || options.propagation.is_some() || options.relabel.is_some() {
        return Err(VolumeError::option("bind, propagation or z", whole));
    }
    if options.copies.is_some() || options.ids.is_some() {
        return Err(VolumeError::option("copy, nocopy or idmap", whole));
    }
    Ok(Mount {
        kind: MountKind::Tmpfs { size: options.size, mode: options.mode, copies: options.copies_up.unwrap_or(false) },
        target: normal(target)?,
        read_only: options.read_only.unwrap_or(false),
        nosuid: options.nosuid.unwrap_or(true),
        nodev: options.nodev.unwrap_or(true),
        noexec: options.noexec.unwrap_or(false),
        owned: options.owned(whole)?,
        ids: None,
    })
}

/// A target without `.` and `..`, which are resolved as written: what links the image has there is not known yet.
fn normal(target: &str) -> Result<PathBuf, VolumeError> {
    let refuse = || VolumeError::Target { target: target.into() };
    if !target.starts_with('/') || target.contains('\0') {
        return Err(refuse());
    }
    let mut normal = PathBuf::from("/");
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if normal == Path::new("/") {
        return Err(refuse());
    }
    Ok(normal)
}

#[cfg(test)]
mod tests;

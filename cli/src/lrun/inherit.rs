//! What a container takes over from others: mounts of containers, and files of the host that say where it is.

use std::path::{Component, Path, PathBuf};

use lrun::Spec;
use lrun::spec::{Mount, MountKind};

use super::args::{ImageVolume, RunArguments};
use super::select::containers;
use super::volumes;
use crate::report::Failure;

/// Where time zones are described.
const ZONES: &str = "/usr/share/zoneinfo";
/// The time zone of a system.
const LOCALTIME: &str = "/etc/localtime";
/// Files of ours that a command with a root of its own looks for there.
const OF_ROOT: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Adds the mounts of `--volumes-from`, where the caller mounts nothing else.
///
/// # Errors
/// A container that is not there.
pub(super) fn mounts(arguments: &RunArguments, store: &Path, spec: &mut Spec) -> Result<(), Failure> {
    for text in &arguments.volumes_from {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let mut read_only = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = Some(true),
                "rw" => read_only = Some(false),
                // As for other mounts.
                "z" => {}
                _ => return Err(format!("--volumes-from {text}: the options are ro and rw").into()),
            }
        }
        let found = containers(store).find(name).map_err(|error| format!("--volumes-from: {error}"))?;
        for mount in found.record.spec.mounts {
            let is_kept = !matches!(mount.kind, MountKind::Tmpfs { .. }) && !mount.target.starts_with("/dev");
            if is_kept && spec.mounts.iter().all(|other| other.target != mount.target) {
                spec.mounts.push(Mount { read_only: read_only.unwrap_or(mount.read_only), ..mount });
            }
        }
    }
    spec.mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(())
}

/// Adds what becomes of the volumes that the image names.
///
/// # Errors
/// A target that is none.
pub(super) fn image_volumes<'a>(
    how: ImageVolume,
    targets: impl IntoIterator<Item = &'a String>,
    spec: &mut Spec,
) -> Result<(), Failure> {
    match how {
        ImageVolume::Ignore => {}
        ImageVolume::Bind => volumes::declare(spec, targets)?,
        ImageVolume::Tmpfs => {
            let said: Vec<PathBuf> = spec.mounts.iter().map(|mount| mount.target.clone()).collect();
            volumes::declare(spec, targets)?;
            for mount in spec.mounts.iter_mut().filter(|mount| !said.contains(&mount.target)) {
                mount.kind = MountKind::Tmpfs { size: None, mode: 0o1777, copies: false };
            }
        }
    }
    Ok(())
}

/// Adds the file of a time zone, and copies of others for a command that changes its root.
///
/// # Errors
/// A zone that the host does not know.
pub fn files(arguments: &RunArguments, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<(), Failure> {
    if let Some(zone) = &arguments.tz {
        let path = match zone.as_str() {
            "local" => PathBuf::from(LOCALTIME),
            zone => Path::new(ZONES).join(zone),
        };
        let is_name = Path::new(zone).components().all(|part| matches!(part, Component::Normal(_)));
        let content = if is_name { std::fs::read(&path) } else { Err(std::io::ErrorKind::InvalidInput.into()) };
        let content = content.map_err(|error| {
            format!("--tz {zone}: {}: {error}; the host's zones are those of the package tzdata", path.display())
        })?;
        files.push((LOCALTIME.into(), content));
    }
    if arguments.chrootdirs.is_empty() {
        return Ok(());
    }
    let copied: Vec<_> =
        files.iter().filter(|(path, _)| OF_ROOT.iter().any(|known| path == Path::new(known))).cloned().collect();
    for folder in &arguments.chrootdirs {
        for (path, content) in &copied {
            let inside = path.strip_prefix("/").unwrap_or(path);
            files.push((Path::new("/").join(folder).join(inside), content.clone()));
        }
    }
    Ok(())
}

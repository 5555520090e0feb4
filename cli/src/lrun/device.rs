//! Devices of the host in a container: bound, since a node made in a user namespace opens nothing.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use lrun::spec::{Mount, MountKind, Propagation};

use crate::report::Failure;

/// A node of the host's, bound.
pub fn device(source: &Path, target: &Path) -> Result<Mount, Failure> {
    let kind =
        std::fs::metadata(source).map_err(|error| format!("--device {}: {error}", source.display()))?.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(format!("--device {}: not a device", source.display()).into());
    }
    let kind = MountKind::Bind {
        source: source.to_owned(),
        recursive: false,
        propagation: Propagation::Private,
        relabel: None,
    };
    Ok(Mount { kind, target: target.to_owned(), read_only: false, nosuid: true, nodev: false, noexec: true })
}

/// The nodes below a folder that are not a container's own anyway, nor terminals of the host.
pub fn all_devices(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let is_own = lrun::plan::DEVICES.iter().any(|(own, ..)| *own == name);
        if is_own || name.starts_with("tty") || ["pts", "shm", "mqueue", "ptmx", "console"].contains(&&*name) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(all_devices(&path)),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => found.push(path),
            _ => {}
        }
    }
    found
}

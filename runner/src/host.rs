//! Facts about the machine that a plan depends on.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use rustix::thread::CapabilitySet;

use crate::exec::FirstProcess;

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whether we are real root, or root of a user namespace that maps everybody.
    pub is_root: bool,
    /// The highest capability of the kernel, `/proc/sys/kernel/cap_last_cap`.
    pub last_capability: u32,
    /// Folder of the [holder](crate::holder)'s record; `None` starts without one.
    pub holder: Option<PathBuf>,
    /// First processes of the containers whose namespaces are joined, by the containers' ids.
    pub others: Vec<(String, FirstProcess)>,
}

/// CAP_CHECKPOINT_RESTORE, the last since Linux 5.9.
const LAST: u32 = 40;

/// Where programs that we run are looked for: never through the caller's PATH.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];

/// Where a program of the system is, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    FOLDERS.into_iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

fn read_last() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(LAST)
}

impl Host {
    /// Looks.
    pub fn probe() -> Self {
        // The kernel knows no capability above its last: asked twice, that is sooner told than read from /proc.
        let is_known = |number: u32| {
            let one = CapabilitySet::from_bits_retain(1 << number);
            rustix::thread::capability_is_in_bounding_set(one).is_ok()
        };
        let last_capability = if is_known(LAST) && !is_known(LAST + 1) { LAST } else { read_last() };
        Self { is_root: Uid::effective().is_root(), last_capability, holder: None, others: Vec::new() }
    }
}

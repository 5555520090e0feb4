//! Facts about the machine that a plan depends on.

use std::path::PathBuf;

use nix::unistd::Uid;

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whether we are real root, or root of a user namespace that maps everybody.
    pub is_root: bool,
    /// The highest capability of the kernel, `/proc/sys/kernel/cap_last_cap`.
    pub last_capability: u32,
    /// Folder of the [holder](crate::holder)'s record; `None` starts without one.
    pub holder: Option<PathBuf>,
}

impl Host {
    /// Looks.
    pub fn probe() -> Self {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
        // CAP_CHECKPOINT_RESTORE, the last since Linux 5.9.
        let last_capability = last.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(40);
        Self { is_root: Uid::effective().is_root(), last_capability, holder: None }
    }
}

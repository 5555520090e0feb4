//! File systems in a file: another kind, or a small one. Unmounted and detached with the value.

use std::path::PathBuf;
use std::process::Command;

/// A mounted file system.
#[derive(Debug)]
pub struct LoopDevice {
    folder: tempfile::TempDir,
    kind: String,
}

impl LoopDevice {
    pub fn new(kind: &str, megabytes: u64) -> Result<Self, String> {
        super::user()?;
        super::has(&format!("mkfs.{kind}"))?;
        let folder = tempfile::Builder::new().prefix("lstest-loop-").tempdir().map_err(|error| error.to_string())?;
        let image = folder.path().join("image");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(megabytes << 20).map_err(|error| error.to_string())?;
        super::run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        let device = Self { folder, kind: kind.to_owned() };
        std::fs::create_dir(device.mountpoint()).map_err(|error| error.to_string())?;
        super::run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(device.mountpoint()))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(device.folder.path(), open).map_err(|error| error.to_string())?;
        let user = super::user()?;
        std::os::unix::fs::chown(device.mountpoint(), Some(user.uid), Some(user.gid))
            .map_err(|error| error.to_string())?;
        Ok(device)
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// What is in the image after a file system's shutdown, mounted in its place. A copy: the mount namespaces of other tests'
    /// commands keep the file system itself for as long as they last.
    pub fn mount_again(&self) -> Result<(), String> {
        let (image, copy) = (self.folder.path().join("image"), self.folder.path().join("copy"));
        super::run(Command::new("umount").arg(self.mountpoint()))?;
        super::run(Command::new("cp").arg("--sparse=always").arg(&image).arg(&copy))?;
        let options = if self.kind == "xfs" { "loop,nouuid" } else { "loop" };
        super::run(Command::new("mount").args(["-o", options]).arg(&copy).arg(self.mountpoint())).map(|_| ())
    }

    pub fn store(&self) -> PathBuf {
        self.mountpoint().join("store")
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mountpoint()).status();
    }
}

//! File systems in a file: another kind, or a small one. Unmounted and detached with the value.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A mounted file system.
#[derive(Debug)]
pub struct LoopDevice {
    folder: tempfile::TempDir,
    kind: String,
    options: &'static str,
}

impl LoopDevice {
    pub fn new(kind: &str, megabytes: u64) -> Result<Self, String> {
        Self::with_options(kind, megabytes, "")
    }

    /// One that is mounted with further options.
    pub fn with_options(kind: &str, megabytes: u64, options: &'static str) -> Result<Self, String> {
        super::user()?;
        super::has(&format!("mkfs.{kind}"))?;
        let folder = tempfile::Builder::new().prefix("lstest-loop-").tempdir().map_err(|error| error.to_string())?;
        let image = folder.path().join("image");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(megabytes << 20).map_err(|error| error.to_string())?;
        super::run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        let device = Self { folder, kind: kind.to_owned(), options };
        std::fs::create_dir(device.mountpoint()).map_err(|error| error.to_string())?;
        device.mount()?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(device.folder.path(), open).map_err(|error| error.to_string())?;
        let user = super::user()?;
        std::os::unix::fs::chown(device.mountpoint(), Some(user.uid), Some(user.gid))
            .map_err(|error| error.to_string())?;
        Ok(device)
    }

    fn mount(&self) -> Result<(), String> {
        // Of XFS, where another mount namespace still has what this is a copy of.
        let twin = if self.kind == "xfs" && !self.options.contains("nouuid") { "nouuid," } else { "" };
        let options = format!("loop,{twin}{}", self.options);
        let image = self.folder.path().join("image");
        super::run(
            Command::new("mount").args(["-o", options.trim_end_matches(',')]).arg(&image).arg(self.mountpoint()),
        )?;
        Ok(())
    }

    /// Cuts the power: from now on nothing reaches the disk, not even the journal in memory. Whoever works on the file
    /// system is told of an input/output error.
    pub fn cut(&self) -> Result<(), String> {
        let shutdown = "import fcntl, os, struct, sys; \
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        super::run(Command::new("python3").args(["-c", shutdown]).arg(self.mountpoint()))?;
        Ok(())
    }

    /// The power is back: what the disk has is all there is.
    pub fn restore(&self) -> Result<(), String> {
        // Until the last of those who worked on it have ended.
        let mut tries = 100;
        while let Err(reason) = super::run(Command::new("umount").arg(self.mountpoint())) {
            tries -= 1;
            if tries == 0 {
                return Err(reason);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // Other tests make mount namespaces, in which the dead file system goes on: what it had written is put into a new
        // machine.
        let (image, copy) = (self.folder.path().join("image"), self.folder.path().join("copy"));
        super::run(Command::new("cp").arg("--sparse=always").args([&image, &copy]))?;
        std::fs::rename(&copy, &image).map_err(|error| error.to_string())?;
        self.mount()
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.folder.path().join("mounted")
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

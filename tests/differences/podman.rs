//! Debian's podman without root, in a place where it can run: a mount namespace with control groups of version 2 alone, as
//! podman refuses the old ones.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Env, has, run, said};

/// Makes the place, then stays while its standard input is open. The volume is a mount whose mounts travel, as those of
/// the host do where systemd runs it.
const PLACE: &str = "
    if ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup
    fi && mount -t tmpfs -o size=1m,mode=777 volume \"$1\" && mount --make-shared \"$1\" && echo ready && exec cat";

/// podman with a storage of its own. Ended with the value.
pub struct Podman {
    place: Child,
    folder: PathBuf,
    volume: PathBuf,
}

impl Podman {
    /// Where both programs run; `env` is whose.
    pub fn new(env: &Env) -> Result<Self, String> {
        for program in ["podman", "crun", "catatonit", "nsenter"] {
            has(program)?;
        }
        let folder = env.scratch.join("podman");
        let volume = env.scratch.join("volume");
        run(env.command("mkdir").arg(&folder).arg(&volume).arg(folder.join("run")))?;
        run(env.command("chmod").arg("700").arg(folder.join("run")))?;
        let mut place = Command::new("unshare")
            .args(["-m", "sh", "-c", PLACE, "sh"])
            .arg(&volume)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut answer = [0; 6];
        let is_ready = place.stdout.take().unwrap().read_exact(&mut answer);
        let place = Self { place, folder, volume };
        is_ready.map_err(|_| "control groups of version 2 cannot be mounted alone here".to_owned())?;
        Ok(place)
    }

    /// The folder that is shared.
    pub fn volume(&self) -> &Path {
        &self.volume
    }

    /// A command of the user's in that place.
    pub fn command(&self, env: &Env, program: &Path) -> Command {
        let user = env.user.clone().unwrap();
        let mut command = env.command("nsenter");
        std::os::unix::process::CommandExt::uid(&mut command, 0);
        std::os::unix::process::CommandExt::gid(&mut command, 0);
        command.args(["--mount", "--target", &self.place.id().to_string(), "--", "setpriv", "--clear-groups"]);
        command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--".to_owned()]).arg(program);
        command
    }

    /// podman in that place. Nothing of it is left in the user's home.
    pub fn podman(&self, env: &Env, words: &[&str]) -> Command {
        let mut command = self.command(env, Path::new("/usr/bin/podman"));
        let runtime = self.folder.join("run");
        command.env("HOME", &self.folder).env("XDG_RUNTIME_DIR", &runtime);
        command.arg("--root").arg(self.folder.join("storage")).arg("--runroot").arg(runtime.join("podman"));
        // By default Debian's takes the driver vfs, which copies the image for each container, and systemd, if it is there.
        command.args(["--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
        command.args(words);
        command
    }

    /// Makes an image of a tar.
    pub fn import(&self, env: &Env, tar: &Path, name: &str) {
        said(&self.podman(env, &["import", "--quiet", tar.to_str().unwrap(), name]).output().unwrap());
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The process that keeps podman's user namespace, and with it the mounts of its storage.
        let pid = std::fs::read_to_string(self.folder.join("run/libpod/tmp/pause.pid"));
        let pid = pid.ok().and_then(|pid| rustix::process::Pid::from_raw(pid.trim().parse().ok()?));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.place.kill();
        let _ = self.place.wait();
    }
}

//! Bundles whose root holds a single program, the attacker of `attacker.c`, and what a test puts there.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use super::{Bundle, RANGE};
use crate::support::{programs, run};

/// Where the program is inside.
pub(super) const PROGRAM: &str = "/attacker";

/// The program, compiled once.
fn attacker() -> Result<&'static Path, String> {
    static COMPILED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let compile = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oci/attacker.c");
        let program = programs().join("attacker");
        run(Command::new("cc")
            .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&program)
            .arg(source))?;
        Ok(program)
    };
    COMPILED.get_or_init(compile).as_deref().map_err(Clone::clone)
}

impl Bundle {
    /// With a user namespace for root too, and a root of its own that can be changed.
    pub(super) fn bare(is_root: bool) -> Result<Self, String> {
        let attacker = attacker()?;
        let mut bundle = Self::empty(is_root)?;
        if is_root {
            for name in ["uidMappings", "gidMappings"] {
                bundle.config["linux"][name] = json!([{"containerID": 0, "hostID": RANGE, "size": 65536}]);
            }
            bundle.config["linux"]["namespaces"].as_array_mut().ok_or("no namespaces")?.push(json!({"type": "user"}));
        }
        for folder in ["root", "root/proc", "root/dev", "root/sys", "told"] {
            bundle.make(folder)?;
        }
        std::fs::copy(attacker, bundle.folder.join("root").join(&PROGRAM[1..])).map_err(|error| error.to_string())?;
        bundle.config["root"] = json!({"path": "root"});
        bundle.config["process"]["args"] = json!([PROGRAM, "nothing"]);
        Ok(bundle)
    }

    /// Makes a folder in the bundle, of root inside and open to all.
    pub(super) fn make(&self, folder: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(folder);
        std::fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        let owner = self.env.user.as_ref().map_or((RANGE, RANGE), |user| (user.uid, user.gid));
        chown(&path, Some(owner.0), Some(owner.1)).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// A program that root begins with, with the variables of whoever the bundle is for.
    pub(super) fn by_root(&self, program: &str) -> Command {
        let home = self.env.user.as_ref().map_or(Path::new("/root"), |user| &user.home);
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home).env("S", &self.folder);
        command.env("XDG_RUNTIME_DIR", self.env.scratch.join("run")).current_dir(&self.folder);
        command
    }

    /// The words that make root's command one of whoever the bundle is for, with further groups.
    pub(super) fn whose(&self, groups: &str, words: &[&str]) -> Vec<String> {
        let mut whose = vec!["setpriv".to_owned(), groups.to_owned()];
        if let Some(user) = &self.env.user {
            whose.extend([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
        }
        let lrun = programs().join("lrun").display().to_string();
        whose.extend([lrun, "oci".to_owned(), "--root".to_owned(), self.folder.join("state").display().to_string()]);
        whose.extend(words.iter().map(ToString::to_string));
        whose
    }

    /// A mount of the bundle's, besides those that it has.
    pub(super) fn mount(&mut self, mount: serde_json::Value) {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.push(mount);
        }
    }

    /// Without what is mounted at a place.
    pub(super) fn unmount(&mut self, place: &str) {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["destination"] != place);
        }
    }
}

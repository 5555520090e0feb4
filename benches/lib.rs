//! What the benchmarks share: the release programs, an unprivileged user, a scratch store.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The user that benchmarks run as when root starts them.
const USER: &str = "lstore-bench";

/// Where a benchmark runs.
#[derive(Debug)]
pub struct Bench {
    /// Folder of the programs.
    pub programs: PathBuf,
    /// Scratch folder of the user.
    pub scratch: PathBuf,
    /// Registry and image to use.
    pub image: String,
    ids: Option<(u32, u32)>,
}

impl Bench {
    /// Finds the programs (`LSTORE_BIN_DIR`, else the release build), the registry (`LSTORE_BENCH_REGISTRY`, else
    /// 127.0.0.1:5000), the image (`LSTORE_BENCH_IMAGE`, else debian:12) and a user.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn new() -> Result<Self, String> {
        let variable = |name: &str, other: &str| std::env::var(name).unwrap_or_else(|_| other.to_owned());
        let registry = variable("LSTORE_BENCH_REGISTRY", "127.0.0.1:5000");
        let address = registry.parse().map_err(|_| format!("{registry} is no address"))?;
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1))
            .map_err(|error| format!("no registry at {registry}: {error}"))?;
        let built = find_programs()?;
        let ids = user()?;
        let scratch = std::env::temp_dir().join(format!("lstore-bench-{}", std::process::id()));
        let programs = scratch.join("bin");
        let say = |error: std::io::Error| error.to_string();
        std::fs::create_dir_all(&programs).map_err(say)?;
        for name in ["lstore", "lrun"] {
            std::fs::copy(built.join(name), programs.join(name)).map_err(say)?;
        }
        if let Some((uid, gid)) = ids {
            std::os::unix::fs::chown(&scratch, Some(uid), Some(gid)).map_err(say)?;
        }
        let image = format!("{registry}/{}", variable("LSTORE_BENCH_IMAGE", "debian:12"));
        Ok(Self { programs, scratch, image, ids })
    }

    /// A program as the user, with a store in the scratch folder.
    pub fn command(&self, program: &Path, store: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.programs.display()))
            .env("HOME", &self.scratch)
            .env("LSTORE_ROOT", self.scratch.join(store))
            .current_dir(&self.scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs `lstore`; whether it succeeded.
    pub fn lstore(&self, store: &str, words: &[&str]) -> bool {
        self.command(&self.programs.join("lstore"), store).args(words).status().is_ok_and(|status| status.success())
    }

    /// Runs `lrun`; whether it succeeded.
    pub fn lrun(&self, store: &str, words: &[&str]) -> bool {
        self.command(&self.programs.join("lrun"), store).args(words).status().is_ok_and(|status| status.success())
    }

    /// Removes a store, whose files may belong to subordinate ids.
    pub fn remove(&self, store: &str) {
        let path = self.scratch.join(store);
        self.lstore(store, &["unshare", "rm", "-rf", &path.display().to_string()]);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let scratch = self.scratch.display().to_string();
        self.lstore("none", &["unshare", "rm", "-rf", &scratch]);
        // What root made in it.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

fn find_programs() -> Result<PathBuf, String> {
    if let Ok(folder) = std::env::var("LSTORE_BIN_DIR") {
        return Ok(folder.into());
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let mut folders = vec![target.join("release")];
    let inner = std::fs::read_dir(&target).into_iter().flatten().flatten();
    folders.extend(inner.map(|entry| entry.path().join("release")));
    let found = folders.into_iter().find(|folder| folder.join("lrun").is_file());
    found.ok_or_else(|| "the programs are not built: cargo build --release --bins".to_owned())
}

/// Ids to take: none for a caller who is no root.
fn user() -> Result<Option<(u32, u32)>, String> {
    let id = |words: &[&str]| {
        let output = Command::new("id").args(words).output().map_err(|error| error.to_string())?;
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse::<u32>()
            .map_err(|_| format!("id {words:?} gives no number"))
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    if id(&["-u", USER]).is_err() {
        let made = Command::new("useradd").args(["-m", USER]).status();
        if !made.is_ok_and(|status| status.success()) {
            return Err(format!("useradd cannot make {USER}"));
        }
    }
    Ok(Some((id(&["-u", USER])?, id(&["-g", USER])?)))
}

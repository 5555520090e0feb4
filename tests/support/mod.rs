//! What the tests stand on: a user, a registry, images, and GNU tar as the oracle.

pub mod image;
pub mod listing;
pub mod loop_device;
pub mod registry;
pub mod server;
pub mod site;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The user that the tests make for themselves.
const USER: &str = "lstest";
/// Its subordinate ids.
const RANGE: (u32, u32) = (2_000_000, 65_536);

/// Subordinate ids for containers of root.
pub const ROOT_RANGE: (u32, u32) = (3_000_000, 262_144);

/// Says that a test cannot run here: to the descriptor itself, past the capture of output.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    rustix::io::write(rustix::stdio::stderr(), line.as_bytes()).unwrap();
}

/// Leaves a test that cannot run, with the reason.
#[macro_export]
macro_rules! need {
    ($test:expr, $what:expr) => {
        match $what {
            Ok(value) => value,
            Err(reason) => return $crate::support::skip($test, &reason),
        }
    };
}

/// An unprivileged user with a subordinate range.
#[derive(Debug, Clone)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

/// The tests' user, made where it is missing.
pub fn user() -> Result<User, String> {
    static MADE: OnceLock<Result<User, String>> = OnceLock::new();
    MADE.get_or_init(make_user).clone()
}

fn make_user() -> Result<User, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root, to make an unprivileged user and to be the oracle".to_owned());
    }
    if !Path::new("/usr/bin/newuidmap").exists() {
        return Err("newuidmap is missing: install the package uidmap".to_owned());
    }
    if known_user().is_none() {
        run(Command::new("useradd").args(["-m", USER]))?;
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let others =
            text.lines().filter(|line| ![USER, "root", "containers"].contains(&line.split(':').next().unwrap()));
        let own = format!("{USER}:{}:{}\ncontainers:{}:{}", RANGE.0, RANGE.1, ROOT_RANGE.0, ROOT_RANGE.1);
        let wanted: Vec<&str> = others.chain([own.as_str()]).collect();
        let wanted = wanted.join("\n") + "\n";
        if wanted != text {
            std::fs::write(file, wanted).map_err(|error| error.to_string())?;
        }
    }
    known_user().ok_or_else(|| "useradd made no user".to_owned())
}

/// The tests' user as /etc/passwd has it. Not by `getpwnam`: a static program that loads the host's name services can
/// crash in them.
fn known_user() -> Option<User> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> =
        text.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields.first() == Some(&USER))?;
    Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()?, home: fields.get(5)?.into() })
}

/// Runs a command of the test's own; its output on failure.
pub fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Whether a program can be found.
pub fn has(program: &str) -> Result<(), String> {
    let found =
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if found { Ok(()) } else { Err(format!("{program} is not installed")) }
}

/// Where this machine has its own packages from, security's apart.
pub fn mirror() -> Result<String, String> {
    let words = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let told = run(Command::new("apt-get").args(words))?;
    let told = String::from_utf8_lossy(&told.stdout);
    let own = told.lines().find(|uri| !uri.contains("security"));
    own.map(str::to_owned).ok_or_else(|| "apt has no source of packages".to_owned())
}

/// Both programs where any user can run them: the build's folder may be closed to others. Those of another build in place of
/// this one's are taken from the folder `LSTORE_TEST_PROGRAMS`, so that a test can be seen to fail with them.
pub fn programs() -> &'static Path {
    static COPIED: OnceLock<PathBuf> = OnceLock::new();
    COPIED.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("lstest-bin-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        let others = std::env::var_os("LSTORE_TEST_PROGRAMS").map(PathBuf::from);
        for (name, built) in [("lstore", env!("CARGO_BIN_EXE_lstore")), ("lrun", env!("CARGO_BIN_EXE_lrun"))] {
            let built = others.as_ref().map_or_else(|| PathBuf::from(built), |folder| folder.join(name));
            // By another process: a descriptor open for writing here would pass to a child of another test's, and keep
            // the program from being executed.
            run(Command::new("cp").arg(built).arg(folder.join(name))).unwrap();
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        folder
    })
}

/// A store of a test's own, and the user that owns it.
#[derive(Debug)]
pub struct Env {
    pub scratch: PathBuf,
    pub user: Option<User>,
    pub store: PathBuf,
}

impl Env {
    /// For the unprivileged user.
    pub fn new() -> Result<Self, String> {
        Self::of(Some(user()?))
    }

    /// For root.
    pub fn root() -> Result<Self, String> {
        user()?;
        Self::of(None)
    }

    fn of(user: Option<User>) -> Result<Self, String> {
        let scratch = tempfile::Builder::new().prefix("lstest-").tempdir().map_err(|error| error.to_string())?.keep();
        std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o755)).map_err(|error| error.to_string())?;
        // The holder of the containers' namespaces has its record here, and ends with it.
        std::fs::create_dir(scratch.join("run")).map_err(|error| error.to_string())?;
        if let Some(user) = &user {
            for folder in [&scratch, &scratch.join("run")] {
                chown(folder, Some(user.uid), Some(user.gid)).map_err(|error| error.to_string())?;
            }
        }
        Ok(Self { store: scratch.join("store"), scratch, user })
    }

    /// The same user's, with the store elsewhere.
    pub fn at(store: &Path) -> Result<Self, String> {
        let mut env = Self::new()?;
        env.store = store.to_path_buf();
        Ok(env)
    }

    /// A command as the user sees the world: its own variables, its own ids.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.user.as_ref().map_or(Path::new("/root"), |user| &user.home);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs().display()))
            .env("HOME", home)
            .env("LSTORE_ROOT", &self.store)
            .env("XDG_RUNTIME_DIR", self.scratch.join("run"))
            .current_dir(&self.scratch)
            .stdin(Stdio::null());
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    pub fn lstore(&self, words: &[&str]) -> Output {
        self.command(programs().join("lstore")).args(words).output().unwrap()
    }

    pub fn lrun(&self, words: &[&str]) -> Output {
        self.command(programs().join("lrun")).args(words).output().unwrap()
    }

    pub fn spawn(&self, program: &str, words: &[&str]) -> std::process::Child {
        let mut command = self.command(programs().join(program));
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Standard output of `lstore`, which must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        said(&self.lstore(words))
    }

    /// The JSON that `lstore` prints.
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    /// One line of error, a failure, and no trace in the store.
    pub fn refuses(&self, words: &[&str]) -> String {
        let output = self.lstore(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?} must fail");
        let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("lstore: ")).collect();
        assert_eq!(lines.len(), 1, "one line tells why: {error}");
        assert!(!error.contains("panicked"), "{error}");
        self.assert_no_trace();
        lines[0].to_owned()
    }

    /// Nothing in the store that a successful command would not have left.
    pub fn assert_no_trace(&self) {
        let fsck = self.lstore(&["fsck"]);
        assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
        let left = self.json(&["gc", "--dry-run", "--format", "json"]);
        assert_eq!(left["Orphans"], 0, "{left}");
        for folder in ["tmp", "sessions", "locks"] {
            let count = std::fs::read_dir(self.store.join(folder)).map_or(0, Iterator::count);
            assert_eq!(count, 0, "{folder} is not empty");
        }
    }

    /// Files in the pool.
    pub fn pool_files(&self) -> usize {
        let folders = std::fs::read_dir(self.store.join("objects")).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }

    /// Inodes that checkouts share.
    pub fn shared_inodes(&self) -> usize {
        let folders = std::fs::read_dir(self.store.join("nodes")).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }

    /// How an id of the image shows on disk.
    pub fn shifted(&self, id: u32, own: u32) -> u32 {
        match (&self.user, id) {
            (None, id) => id,
            (Some(_), 0) => own,
            (Some(_), id) => RANGE.0 + id - 1,
        }
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
        if !self.store.starts_with(&self.scratch) {
            let _ = std::fs::remove_dir_all(&self.store);
        }
    }
}

/// Standard output of a command that must have succeeded.
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard output and error together.
pub fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

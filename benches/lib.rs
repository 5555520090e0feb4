//! Shared parts of the benchmarks: release binaries, an unprivileged user, a registry and room for stores.
//!
//! Everything here runs the programs as a user would. A run by root acts as the user `lstore-bench`, who is made with a
//! range of subordinate ids where missing: what root needs no user namespace for would say nothing about others.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Who the programs run as when root measures.
const USER: &str = "lstore-bench";
/// The programs under measurement.
const PROGRAMS: [&str; 2] = ["lstore", "lrun"];

/// Why something could not be measured, for people to read.
pub type Reason = String;

/// Who the programs run as.
#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

/// A place to measure in. Its directory goes when it is dropped.
#[derive(Debug)]
pub struct Bench {
    directory: PathBuf,
    user: User,
    is_root: bool,
    registry: String,
    image: String,
}

impl Bench {
    /// Finds the binaries, the user and the registry, and makes a directory for stores.
    ///
    /// # Errors
    /// What is missing.
    pub fn prepare() -> Result<Self, Reason> {
        let registry = variable("LSTORE_BENCH_REGISTRY", "127.0.0.1:5000");
        let image = format!("{registry}/{}", variable("LSTORE_BENCH_IMAGE", "debian:12"));
        let binaries = binaries()?;
        let own = fs::metadata("/proc/self").map_err(told("/proc/self"))?.uid();
        let user = if own == 0 { bench_user()? } else { look_up(&own.to_string()).ok_or("this user has no name")? };
        let parent = variable("LSTORE_BENCH_TMPDIR", "/var/tmp");
        let directory = Path::new(&parent).join(format!("lstore-bench-{}", std::process::id()));
        fs::create_dir(&directory).map_err(told(directory.display()))?;
        let bench = Self { directory, user, is_root: own == 0, registry, image };
        chown(&bench.directory, Some(bench.user.uid), Some(bench.user.gid)).map_err(told("chown"))?;
        // lrun's holder has its record there, and ends with it.
        bench.folder("run")?;
        // A copy, as a checkout in a home may be closed to the user.
        for program in PROGRAMS {
            bench.install(&binaries.join(program))?;
        }
        let seen = bench.directory.join("seen");
        bench.lstore(&seen, ["pull", "--quiet", "--tls-verify=false", &bench.image])?;
        bench.remove(&seen)?;
        Ok(bench)
    }

    /// The image, with its registry.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Another image of the registry.
    pub fn other_image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry)
    }

    /// Where a store of that name would be.
    pub fn store(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a folder that is the user's alone.
    ///
    /// # Errors
    /// Those of making.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Reason> {
        let path = self.directory.join(name);
        fs::create_dir(&path).map_err(told(path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(told(path.display()))?;
        chown(&path, Some(self.user.uid), Some(self.user.gid)).map_err(told("chown"))?;
        Ok(path)
    }

    /// The process that holds lrun's user namespace, once something was started.
    pub fn holder(&self) -> Option<String> {
        let record = fs::read_to_string(self.directory.join("run/lrun/holder")).ok()?;
        record.lines().nth(1).map(str::to_owned)
    }

    /// Copies a program to where the user can run it.
    ///
    /// # Errors
    /// Those of copying.
    pub fn install(&self, program: &Path) -> Result<PathBuf, Reason> {
        let name = program.file_name().ok_or("a program without a name")?;
        let target = self.directory.join(name);
        fs::copy(program, &target).map_err(told(program.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(told(target.display()))?;
        Ok(target)
    }

    /// A program of [`Bench::install`], to be run as the user. Ids change within the child that executes it, so no
    /// `setpriv` or `runuser` is part of what is measured.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", &self.user.home)
            .env("USER", &self.user.name)
            .env("XDG_RUNTIME_DIR", self.directory.join("run"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if self.is_root {
            command.uid(self.user.uid).gid(self.user.gid);
        }
        command
    }

    /// Runs lstore on a store.
    ///
    /// # Errors
    /// That it failed.
    pub fn lstore(&self, store: &Path, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(), Reason> {
        run(self.command("lstore").env("LSTORE_ROOT", store).args(words))
    }

    /// Runs lrun on a store.
    ///
    /// # Errors
    /// That it failed.
    pub fn lrun(&self, store: &Path, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(), Reason> {
        run(self.command("lrun").env("LSTORE_ROOT", store).args(words))
    }

    /// Removes a store, whose files belong to several ids.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove(&self, store: &Path) -> Result<(), Reason> {
        if self.is_root {
            return fs::remove_dir_all(store).map_err(told(store.display()));
        }
        // The store of `unshare` itself is another: it must not be the one that goes.
        let words = [OsStr::new("unshare"), OsStr::new("rm"), OsStr::new("-rf"), store.as_os_str()];
        self.lstore(&self.directory.join("unshare"), words)
    }

    /// The user's first range of subordinate ids, as `FIRST:COUNT`.
    pub fn range(&self) -> Option<String> {
        range(&self.user)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A container that has just ended may still be removing its files: a few tries.
        for _ in 0..10 {
            if self.remove(&self.directory).is_ok() && !self.directory.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Runs a benchmark's body, and says `skipped:` where it could not be.
pub fn main(body: impl FnOnce() -> Result<(), Reason>) -> ExitCode {
    if let Err(reason) = body() {
        // With standard output closed there is nobody to tell.
        let _ = writeln!(io::stdout(), "skipped: {reason}");
    }
    ExitCode::SUCCESS
}

/// Times a step `times` times; `prepare` is not part of it. The first failure ends it and stays in `failed`.
pub fn time<T>(
    times: u64,
    failed: &mut Option<Reason>,
    mut prepare: impl FnMut() -> Result<T, Reason>,
    mut step: impl FnMut(&T) -> Result<(), Reason>,
    mut clean: impl FnMut(T) -> Result<(), Reason>,
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..times {
        if failed.is_some() {
            break;
        }
        let result = prepare().and_then(|input| {
            let start = Instant::now();
            let result = step(&input);
            total += start.elapsed();
            result.and(clean(input))
        });
        *failed = result.err();
    }
    // Criterion divides by it.
    total.max(Duration::from_nanos(1))
}

/// Compiles the floor of a start, `floor.c`, into the target directory.
///
/// # Errors
/// That there is no C compiler, or no static C library.
pub fn compile_floor() -> Result<PathBuf, Reason> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("floor.c");
    let target = target_directory().join("floor");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O2", "-static", "-o"]).arg(&target).arg(source);
    run(&mut compiler).map(|()| target)
}

/// Runs a command to its end.
///
/// # Errors
/// That it could not be started, or did not end well.
pub fn run(command: &mut Command) -> Result<(), Reason> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::piped()).output().map_err(told(&program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}: {}", output.status, said.trim().replace('\n', " ")))
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

fn told(what: impl Display) -> impl FnOnce(io::Error) -> Reason {
    move |error| format!("{what}: {error}")
}

fn target_directory() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(beside, PathBuf::from)
}

fn binaries() -> Result<PathBuf, Reason> {
    if let Some(directory) = std::env::var_os("LSTORE_BIN_DIR") {
        return Ok(directory.into());
    }
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let tuple = format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    let target = target_directory();
    [target.join(tuple).join("release"), target.join("release")]
        .into_iter()
        .find(|directory| PROGRAMS.iter().all(|program| directory.join(program).exists()))
        .ok_or_else(|| "no release binaries: run 'cargo build --release', or set LSTORE_BIN_DIR".to_owned())
}

fn look_up(key: &str) -> Option<User> {
    let output = Command::new("getent").args(["passwd", key]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut fields = text.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User { name, uid, gid, home: fields.nth(1)?.into() })
}

fn bench_user() -> Result<User, Reason> {
    if let Some(user) = look_up(USER).filter(|user| range(user).is_some()) {
        return Ok(user);
    }
    if look_up(USER).is_none() {
        run(Command::new("useradd").args(["--create-home", USER]))?;
    }
    let user = look_up(USER).ok_or_else(|| format!("user {USER} was not made"))?;
    if range(&user).is_none() {
        return Err(format!("user {USER} has no range in /etc/subuid: usermod --add-subuids --add-subgids"));
    }
    Ok(user)
}

fn range(user: &User) -> Option<String> {
    let text = fs::read_to_string("/etc/subuid").ok()?;
    let uid = user.uid.to_string();
    text.lines().find_map(|line| {
        let (owner, range) = line.split_once(':')?;
        (owner == user.name || owner == uid).then(|| range.to_owned())
    })
}

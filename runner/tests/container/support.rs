//! The unprivileged users, the image and the containers of the tests.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Someone who starts containers.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) const ROOT: User = User { uid: 0, gid: 0 };

/// What all tests share.
pub(crate) struct Bench {
    scratch: tempfile::TempDir,
    program: PathBuf,
    /// Has subordinate ids.
    pub(crate) user: User,
    /// First subordinate uid.
    pub(crate) first_subordinate: u32,
    /// Has none.
    pub(crate) bare: User,
    /// Whether containers start by a holder, or the plain way.
    pub(crate) by_holder: Cell<bool>,
}

/// The programs of the image, taken from the machine with the libraries they need.
const PROGRAMS: &[&str] = &[
    "sh", "cat", "ls", "id", "env", "true", "sleep", "stat", "touch", "mkdir", "mount", "umount", "grep", "stty",
    "tty", "chown", "chmod", "readlink", "rm", "mknod", "wc", "sort", "head", "ln", "chroot", "tr", "cut", "kill",
    "setpriv",
];

pub(crate) fn bench() -> Result<Bench, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root, so no user with subordinate ids can be made".into());
    }
    for helper in ["newuidmap", "newgidmap", "useradd", "usermod"] {
        if !["/usr/bin", "/usr/sbin"].iter().any(|directory| Path::new(directory).join(helper).exists()) {
            return Err(format!("{helper} is not installed (package uidmap, or passwd)"));
        }
    }
    let user = account("lstest")?;
    ensure_range("lstest")?;
    let first_subordinate = fs::read_to_string("/etc/subuid")
        .map_err(|error| error.to_string())?
        .lines()
        .find_map(|line| line.strip_prefix("lstest:")?.split(':').next()?.parse().ok())
        .ok_or("lstest has no line in /etc/subuid")?;
    let bare = account("lsbare")?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        if fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.starts_with("lsbare:"))) {
            system("usermod", &["--del-subuids", "1-4294967294", "--del-subgids", "1-4294967294", "lsbare"])?;
        }
    }
    let scratch = tempfile::Builder::new().prefix("lrun-test-").tempdir_in("/var/tmp").map_err(|e| e.to_string())?;
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    let program = scratch.path().join("launcher");
    fs::copy(std::env::current_exe().map_err(|e| e.to_string())?, &program).map_err(|error| error.to_string())?;
    let bench = Bench { scratch, program, user, first_subordinate, bare, by_holder: Cell::new(false) };
    for user in [user, bare, ROOT] {
        let folder = bench.holder_of(user);
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(|error| error.to_string())?;
        chown(&folder, Some(user.uid), Some(user.gid)).map_err(|error| error.to_string())?;
    }
    make_image(&bench.image_of(ROOT))?;
    for owner in [bench.user, bench.bare] {
        let copy = bench.image_of(owner);
        let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
        system("cp", &["-a", &text(&bench.image_of(ROOT)), &text(&copy)])?;
        system("chown", &["-hR", &format!("{}:{}", owner.uid, owner.gid), &text(&copy)])?;
    }
    Ok(bench)
}

fn account(name: &str) -> Result<User, String> {
    let id = |flag: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id("-u").is_none() {
        system("useradd", &["--create-home", name])?;
    }
    Ok(User { uid: id("-u").ok_or("useradd made no user")?, gid: id("-g").ok_or("useradd made no group")? })
}

fn ensure_range(name: &str) -> Result<(), String> {
    for (file, flag) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        if !fs::read_to_string(file).unwrap_or_default().lines().any(|line| line.starts_with(&format!("{name}:"))) {
            system("usermod", &[flag, "2000000-2065535", name])?;
        }
    }
    Ok(())
}

fn system(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn make_image(image: &Path) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    for directory in ["usr/bin", "etc", "proc", "sys", "dev", "root", "srv", "tmp"] {
        fs::create_dir_all(image.join(directory)).map_err(io)?;
    }
    fs::set_permissions(image.join("tmp"), fs::Permissions::from_mode(0o1777)).map_err(io)?;
    symlink("usr/bin", image.join("bin")).map_err(io)?;
    fs::write(image.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:33:33::/srv:/bin/sh\n").map_err(io)?;
    fs::write(image.join("etc/group"), "root:x:0:\napp:x:33:\nextra:x:44:app\n").map_err(io)?;
    fs::write(image.join("etc/hosts"), "the image's\n").map_err(io)?;
    fs::write(image.join("usr/bin/not-executable"), "#!/bin/sh\n").map_err(io)?;
    for program in PROGRAMS {
        let Some(path) =
            ["/usr/bin", "/bin", "/usr/sbin"].iter().map(|at| Path::new(at).join(program)).find(|p| p.exists())
        else {
            return Err(format!("{program} is not on this machine"));
        };
        fs::copy(&path, image.join("usr/bin").join(program)).map_err(io)?;
        let output = Command::new("ldd").arg(&path).output().map_err(io)?;
        for library in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let target = image.join(library.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap_or(image)).map_err(io)?;
            fs::copy(library, target).map_err(io)?;
        }
    }
    Ok(())
}

impl Bench {
    /// The image, with root's files belonging to this user.
    pub(crate) fn image_of(&self, user: User) -> PathBuf {
        self.scratch.path().join(format!("image-{}", user.uid))
    }

    /// Where a user's holder has its record; it ends when this is removed.
    pub(crate) fn holder_of(&self, user: User) -> PathBuf {
        self.scratch.path().join(format!("holder-{}", user.uid))
    }

    /// A directory of the user's.
    pub(crate) fn directory(&self, user: User) -> tempfile::TempDir {
        let directory = tempfile::tempdir_in(self.scratch.path()).unwrap();
        chown(directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        directory
    }

    /// A container of the unprivileged user with a writable layer.
    pub(crate) fn container(&self) -> Run<'_> {
        self.container_of(self.user)
    }

    pub(crate) fn container_of(&self, user: User) -> Run<'_> {
        let own = self.directory(user);
        for name in ["upper", "work", "root"] {
            let path = own.path().join(name);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(user.uid), Some(user.gid)).unwrap();
        }
        let image = self.image_of(user);
        let mut run = self.bare_run(user);
        run.flag("--overlay").flag(&image).flag(own.path());
        run.own = Some(own);
        run
    }

    /// A run without a root file system yet.
    pub(crate) fn bare_run(&self, user: User) -> Run<'_> {
        let mut run = Run { bench: self, user, flags: vec!["--launch".into()], own: None };
        if self.by_holder.get() {
            run.flag("--holder").flag(self.holder_of(user));
        }
        run
    }

    /// This program, as some user.
    pub(crate) fn program(&self, user: User) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir("/").uid(user.uid).gid(user.gid).stdin(Stdio::null());
        command
    }
}

/// A container to be started.
pub(crate) struct Run<'a> {
    bench: &'a Bench,
    user: User,
    flags: Vec<std::ffi::OsString>,
    own: Option<tempfile::TempDir>,
}

impl Run<'_> {
    pub(crate) fn flag(&mut self, flag: impl AsRef<OsStr>) -> &mut Self {
        self.flags.push(flag.as_ref().into());
        self
    }

    pub(crate) fn flags(&mut self, flags: &[&str]) -> &mut Self {
        for flag in flags {
            self.flag(flag);
        }
        self
    }

    /// The directory with the writable layer.
    pub(crate) fn own(&self) -> &Path {
        self.own.as_ref().expect("the run has a writable layer").path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bench.program(self.user);
        command.args(&self.flags).arg("--").args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        Finished::new(self.command(args).output().unwrap())
    }

    /// Runs a shell script, which must succeed; its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        let finished = self.run(&["/bin/sh", "-c", script]);
        assert_eq!(finished.code, 0, "{script}: {}{}", finished.out, finished.err);
        finished.out
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    pub(crate) fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

//! Containers from the library alone, over an overlay, as unprivileged users: one with a subordinate range, one without.
//!
//! Needs root, to be these users, and cc. The library is for processes of a single thread, so each start happens in a
//! process of its own: this very program, told by its environment. Tests are named on the command line, or all run.

#![allow(
    clippy::unwrap_used,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test, and a program"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use lrun::spec::{Seccomp, Spec};
use lrun::{Error, ExitStatus, Host, Plan, Rootfs, launch};
use tempfile::TempDir;

/// The user that all tests of this project share, and its range.
const USER: &str = "lstest";
const RANGE: (u32, u32) = (2_000_000, 65_536);
/// Nobody has this id: no line in /etc/passwd, no range.
const STRANGER: u32 = 54_321;

type Test = (&'static str, fn());

/// A test under the name of its function.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

const TESTS: &[Test] = tests![
    a_range_is_mapped_whole_and_power_is_the_default,
    nothing_of_the_host_is_in_sight,
    a_caller_without_a_range_or_a_name_has_one_id,
    a_container_ends_as_its_command_does,
    changes_go_above_the_tree_and_nowhere_when_read_only,
    no_container_outlives_its_runner_whatever_id_it_takes,
    the_callers_keys_stay_outside,
];

fn main() {
    if let Some(arguments) = std::env::var_os("LRUN_TEST_ARGUMENTS") {
        start(arguments.to_str().unwrap());
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| is_wanted(name)) {
        let is_fine = std::panic::catch_unwind(test).is_ok();
        failed += i32::from(!is_fine);
        println!("test {name} ... {}", if is_fine { "ok" } else { "FAILED" });
    }
    std::process::exit(i32::from(failed > 0));
}

/// The other half: starts what the environment says, and ends as it ends.
fn start(arguments: &str) -> ! {
    let folder = PathBuf::from(std::env::var_os("LRUN_TEST_FOLDER").unwrap());
    let flags = std::env::var("LRUN_TEST_FLAGS").unwrap();
    let has = |flag: &str| flags.split(' ').any(|given| given == flag);
    let spec = Spec {
        args: arguments.split('\n').map(Into::into).collect(),
        init: has("init"),
        read_only: has("read-only"),
        ephemeral: has("ephemeral"),
        seccomp: if has("unconfined") { Seccomp::Unconfined } else { Seccomp::Default },
        ..Spec::default()
    };
    let part = |name: &str| folder.join(name);
    let rootfs = Rootfs::Overlay {
        lower: part("lower"),
        data: None,
        upper: part("upper"),
        work: part("work"),
        mountpoint: part("root"),
    };
    let plan = Plan::new(spec, Host::probe()).unwrap();
    let ended =
        launch(&plan, &rootfs, None, &mut |weaker| eprintln!("{weaker}")).and_then(|mut container| container.wait());
    std::process::exit(match ended {
        Ok(ExitStatus::Code(code)) => code.into(),
        Ok(ExitStatus::Signal(signal)) => 128 + i32::from(signal),
        Err(Error::NotFound(_)) => 127,
        Err(Error::NotExecutable { .. }) => 126,
        Err(error) => {
            eprintln!("{error}");
            125
        }
    });
}

/// A rootfs with one program in it, and the user that owns it.
struct Scene {
    folder: TempDir,
    uid: u32,
    gid: u32,
}

impl Scene {
    fn of(uid: u32, gid: u32) -> Result<Self, String> {
        // What is missing is a reason to leave; what does not work is a failure.
        run(Command::new("cc").arg("--version"))?;
        let folder = tempfile::Builder::new().prefix("lrun-start-").tempdir().unwrap();
        let path = folder.path();
        let tool = path.join("lower/bin/tool");
        for part in ["lower/bin", "lower/etc", "upper", "work", "root"] {
            fs::create_dir_all(path.join(part)).unwrap();
        }
        fs::write(path.join("lower/bin/text"), "no program\n").unwrap();
        // By another process, so that no test's fork keeps it open for writing.
        run(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(path.join("starter"))).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tool.c");
        run(Command::new("cc").args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&tool).arg(source)).unwrap();
        for part in ["", "starter", "lower", "lower/bin", "lower/bin/tool", "lower/etc", "upper", "work", "root"] {
            fs::set_permissions(path.join(part), PermissionsExt::from_mode(0o755)).unwrap();
            chown(path.join(part), Some(uid), Some(gid)).unwrap();
        }
        fs::set_permissions(path.join("lower/bin/text"), PermissionsExt::from_mode(0o644)).unwrap();
        Ok(Self { folder, uid, gid })
    }

    /// For a user with a range, made where it is missing.
    fn with_range() -> Result<Self, String> {
        needs_root()?;
        for helper in ["newuidmap", "newgidmap"] {
            if !Path::new("/usr/bin").join(helper).exists() {
                return Err(format!("{helper} is missing: install the package uidmap"));
            }
        }
        if known_user().is_none() {
            // Another test may have been faster.
            let made = run(Command::new("useradd").args(["-m", USER]));
            if known_user().is_none() {
                made?;
            }
        }
        for file in ["/etc/subuid", "/etc/subgid"] {
            let own = format!("{USER}:{}:{}", RANGE.0, RANGE.1);
            let text = fs::read_to_string(file).unwrap_or_default();
            if !text.lines().any(|line| line == own) {
                let others = text.lines().filter(|line| !line.starts_with(&format!("{USER}:")));
                let lines: Vec<&str> = others.chain([own.as_str()]).collect();
                fs::write(file, lines.join("\n") + "\n").map_err(|error| error.to_string())?;
            }
        }
        let (uid, gid) = known_user().ok_or("useradd made no user")?;
        Self::of(uid, gid)
    }

    /// For a user that this machine does not know.
    fn without_range() -> Result<Self, String> {
        needs_root()?;
        Self::of(STRANGER, STRANGER)
    }

    /// The starter, as the scene's user; `before` are words that come before its own.
    fn command(&self, before: &[&str], flags: &str, arguments: &[&str]) -> Command {
        let starter = self.folder.path().join("starter");
        let mut words: Vec<&str> = before.to_vec();
        words.push(starter.to_str().unwrap());
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("LRUN_TEST_ARGUMENTS", arguments.join("\n"))
            .env("LRUN_TEST_FOLDER", self.folder.path())
            .env("LRUN_TEST_FLAGS", flags)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .uid(self.uid)
            .gid(self.gid);
        command
    }

    /// What a container says, and how it ends.
    fn run(&self, flags: &str, arguments: &[&str]) -> (String, Option<i32>, String) {
        ended(&self.command(&[], flags, arguments).output().unwrap())
    }

    fn show(&self, path: &str) -> String {
        let (said, code, error) = self.run("", &["/bin/tool", "show", path]);
        assert_eq!(code, Some(0), "{path}: {error}");
        said
    }
}

fn ended(output: &Output) -> (String, Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), output.status.code(), text(&output.stderr))
}

fn needs_root() -> Result<(), String> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root { Ok(()) } else { Err("needs root, to be unprivileged users".to_owned()) }
}

/// The user and group ids of the tests' user, read from /etc/passwd: a static program that loads the host's name
/// services, as `getpwnam` does, can crash in them.
fn known_user() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> =
        text.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields.first() == Some(&USER))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Leaves a test that cannot run here, and says so.
macro_rules! need {
    ($test:literal, $scene:expr) => {
        match $scene {
            Ok(scene) => scene,
            Err(reason) => {
                eprintln!("SKIPPED {}: {reason}", $test);
                return;
            }
        }
    };
}

/// A field of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim()
}

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_ascii_whitespace().collect()).collect()
}

fn a_range_is_mapped_whole_and_power_is_the_default() {
    let scene = need!("a_range_is_mapped_whole", Scene::with_range());
    let map = scene.show("/proc/self/uid_map");
    assert_eq!(words(&map), [vec!["0", &scene.uid.to_string(), "1"], vec!["1", "2000000", "65536"]]);
    assert_eq!(scene.show("/proc/self/setgroups"), "allow\n");
    let status = scene.show("/proc/1/status");
    for (name, value) in [
        ("Name", "tool"),
        ("CapEff", "00000000a80425fb"),
        ("CapPrm", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("SigIgn", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
        ("Groups", ""),
        ("Seccomp", "2"),
        ("NoNewPrivs", "0"),
        ("Umask", "0022"),
    ] {
        assert_eq!(field(&status, name), value, "{name}");
    }
}

fn nothing_of_the_host_is_in_sight() {
    let scene = need!("nothing_of_the_host_is_in_sight", Scene::with_range());
    let mounts = scene.show("/proc/self/mountinfo");
    assert!(mounts.lines().next().unwrap().contains(" / / "), "the overlay is the root: {mounts}");
    let host = scene.folder.path().to_str().unwrap();
    for line in mounts.lines() {
        // Before the dash: what of a file system is mounted, and where. Behind it an overlay names its layers.
        let (mount, _) = line.split_once(" - ").unwrap();
        assert!(!mount.contains(host), "{line}");
    }
    assert!(!mounts.contains("shared:") && !mounts.contains("master:"), "{mounts}");
    let devices = scene.show("/proc/net/dev");
    assert_eq!(devices.lines().filter(|line| line.contains(": ")).count(), 1, "{devices}");
    assert!(devices.contains("lo: "), "{devices}");
}

fn a_caller_without_a_range_or_a_name_has_one_id() {
    let scene = need!("a_caller_without_a_range", Scene::without_range());
    let (map, code, warning) = scene.run("", &["/bin/tool", "show", "/proc/self/uid_map"]);
    assert_eq!(code, Some(0), "{warning}");
    assert_eq!(words(&map), [vec!["0", "54321", "1"]]);
    assert!(warning.contains("single user id") && warning.contains("usermod --add-subuids"), "{warning}");
    assert_eq!(scene.show("/proc/self/setgroups"), "deny\n");
    assert_eq!(field(&scene.show("/proc/1/status"), "CapBnd"), "00000000a80425fb");
}

fn a_container_ends_as_its_command_does() {
    let scene = need!("a_container_ends_as_its_command_does", Scene::with_range());
    let code = |flags: &str, arguments: &[&str]| scene.run(flags, arguments).1;
    assert_eq!(code("", &["/bin/tool", "exit", "0"]), Some(0));
    assert_eq!(code("", &["/bin/tool", "exit", "7"]), Some(7));
    assert_eq!(code("", &["tool", "exit", "8"]), Some(8), "found by PATH");
    assert_eq!(code("init", &["/bin/tool", "kill", "9"]), Some(137));
    assert_eq!(code("init", &["/bin/tool", "kill", "15"]), Some(143));
    assert_eq!(code("", &["/bin/missing"]), Some(127));
    assert_eq!(code("", &["missing"]), Some(127));
    assert_eq!(code("", &["/bin/text"]), Some(126));
    assert_eq!(code("", &["/bin"]), Some(126));
}

fn changes_go_above_the_tree_and_nowhere_when_read_only() {
    let scene = need!("changes_go_above_the_tree", Scene::with_range());
    let (lower, upper) = (scene.folder.path().join("lower/made"), scene.folder.path().join("upper/made"));
    assert_ne!(scene.run("read-only", &["/bin/tool", "write", "/made"]).1, Some(0));
    assert!(!lower.exists() && !upper.exists());
    assert_eq!(scene.run("", &["/bin/tool", "write", "/made"]).1, Some(0));
    assert!(!lower.exists() && upper.exists());
}

fn no_container_outlives_its_runner_whatever_id_it_takes() {
    let scene = need!("no_container_outlives_its_runner", Scene::with_range());
    for (flags, uid) in [("", "0"), ("", "33"), ("init", "33")] {
        let mut starter = scene
            .command(&[], flags, &["/bin/tool", "stay", uid])
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = until_ready(&mut starter);
        starter.kill().unwrap();
        starter.wait().unwrap();
        assert!(ends_soon(output), "process 1 with id {uid} ({flags}) lives on");
    }
}

/// Reads up to the word that the container says when it is up.
fn until_ready(starter: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut output = BufReader::new(starter.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
    }
    output
}

/// Whether the pipe ends, which it does once nobody inside holds it any more.
fn ends_soon(mut output: impl Read + Send + 'static) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(output.read_to_end(&mut Vec::new()).is_ok()));
    receiver.recv_timeout(Duration::from_secs(10)).unwrap_or(false)
}

fn the_callers_keys_stay_outside() {
    let scene = need!("the_callers_keys_stay_outside", Scene::with_range());
    let tool = scene.folder.path().join("lower/bin/tool");
    let before = [tool.to_str().unwrap(), "with-session-key", "lrun-test"];
    // The default program refuses keyctl; without it the session keyring would be as good as the caller's own.
    let inside = ["/bin/tool", "session-key", "lrun-test"];
    let (said, code, error) = ended(&scene.command(&before, "unconfined", &inside).output().unwrap());
    if code == Some(77) {
        eprintln!("SKIPPED the_callers_keys_stay_outside: the kernel refuses keys here");
        return;
    }
    assert_eq!((said.as_str(), code), ("none\n", Some(0)), "{error}");
}

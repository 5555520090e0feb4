//! What the attacks on joining processes stand on: a container in which the attacker of `attacker/` races, and what it got.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::background::eventually;
use crate::support::{Env, all, has, programs, run, said};

/// Full power to trace within the container's user namespace.
pub const TRACER: &[&str] = &["--cap-add", "SYS_PTRACE"];
/// Seconds after which an attacker ends by itself, whatever becomes of the test.
const LIMIT: &str = "900";
/// What is in a file of the host's for as long as nobody has written to it.
const ALIVE: &str = "alive\n";

/// How often a container is joined while it is attacked: `LSTORE_TEST_JOINS`, or 50. Before the mends most joins were caught: 200 by hand say it more surely.
pub fn joins() -> u64 {
    std::env::var("LSTORE_TEST_JOINS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// The attacker, compiled once, where any user can run it.
pub fn attacker() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let make = || {
        has("cc")?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/attacker");
        let program = programs().join("attacker");
        let mut compiler = Command::new("cc");
        compiler.args(["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
        run(compiler.args(["main.c", "race.c", "look.c", "seize.c"].map(|name| sources.join(name))))?;
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).map_err(|error| error.to_string())?;
        Ok(program)
    };
    MADE.get_or_init(make).as_deref().map_err(Clone::clone)
}

/// A store with an image that has nothing in it: what runs in its containers is the attacker.
pub struct Arena {
    pub env: Env,
    volume: String,
}

impl Arena {
    /// The unprivileged user's.
    pub fn of_user() -> Result<Self, String> {
        Self::of(Env::new()?)
    }

    /// Root's own.
    pub fn of_root() -> Result<Self, String> {
        Self::of(Env::root()?)
    }

    fn of(env: Env) -> Result<Self, String> {
        let volume = format!("{}:/attacker:ro", attacker()?.display());
        let (folder, tar) = (env.scratch.join("empty"), env.scratch.join("empty.tar"));
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        run(Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg("."))?;
        said(&env.lstore(&["import", "-q", tar.to_str().unwrap(), "empty:1"]));
        let canary = env.scratch.join("canary");
        std::fs::write(&canary, ALIVE).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o600)).map_err(|error| error.to_string())?;
        if let Some(user) = &env.user {
            chown(&canary, Some(user.uid), Some(user.gid)).map_err(|error| error.to_string())?;
        }
        Ok(Self { env, volume })
    }

    /// A file of the host's that only the caller may write to.
    fn canary(&self) -> PathBuf {
        self.env.scratch.join("canary")
    }

    /// The words that run the attacker in a new container.
    pub fn words<'a>(&'a self, flags: &[&'a str], words: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--rm", "-v", &self.volume], flags, &["empty:1", "/attacker"], words].concat()
    }

    /// Starts a container in which the attacker races; comes back when it does.
    pub fn attack(&self, flags: &[&str], words: &[&str]) -> Attack<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("prey-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let canary = self.canary().display().to_string();
        std::fs::write(self.canary(), ALIVE).unwrap();
        let words = [&["race", LIMIT, &canary], words].concat();
        let flags = [&["--name", &name], flags].concat();
        let mut process = self.env.spawn("lrun", &self.words(&flags, &words));
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        if line != "ready\n" {
            let mut errors = String::new();
            process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("the attacker did not begin: {line}{errors}");
        }
        // Its command may be faster than the record that it runs.
        let is_running = || self.env.lrun(&["inspect", "--format", "{{.State.Status}}", &name]).stdout == b"running\n";
        eventually("the container", is_running);
        Attack { arena: self, name, process, output }
    }
}

/// A container that is under attack from within. It ends with this value.
pub struct Attack<'a> {
    arena: &'a Arena,
    name: String,
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Drop for Attack<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Attack<'_> {
    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has `join` done `count` times, with the container's name, and tells what the attacker got.
    pub fn during(mut self, count: u64, what: &str, mut join: impl FnMut(&str) -> Output) -> Gains {
        let mut failure = None;
        for _ in 0..count {
            // What is hurt fails, and that is a success of the attacker's. The command itself may end as it likes.
            let output = join(&self.name);
            if output.status.code() == Some(125) {
                failure = Some(all(&output));
            }
        }
        // What it tells is the same if its time is over.
        let _ = self.arena.env.lrun(&["kill", "-s", "TERM", &self.name]);
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("\nend\n"), "{what}: the attacker was ended: {text}");
        let number =
            |line: &str| line.split_once('=').and_then(|(kind, got)| Some((kind.to_owned(), got.parse().ok()?)));
        let canary = std::fs::read_to_string(self.arena.canary()).unwrap();
        let caller = if self.arena.env.user.is_some() { "user" } else { "root" };
        Gains {
            what: format!("{caller}, {what}"),
            count,
            got: text.lines().filter_map(number).collect(),
            is_host_written: canary != ALIVE,
            failure,
        }
    }

    /// As [`Self::during`], with commands that join, of a caller that has a folder open and does not say so.
    pub fn during_exec(self, count: u64, flags: &[&str]) -> Gains {
        let (arena, what) = (self.arena, format!("exec {}", flags.join(" ")));
        self.during(count, what.trim_end(), |name| {
            let mut command = arena.env.command("sh");
            command.args(["-c", "exec 7< . && exec lrun exec \"$@\"", "sh"]).args(flags);
            command.args([name, "/attacker", "exit"]).output().unwrap()
        })
    }
}

/// What an attacker got, by kind: over how many processes.
#[derive(Debug)]
pub struct Gains {
    what: String,
    count: u64,
    got: BTreeMap<String, u64>,
    is_host_written: bool,
    /// How a command of ours failed meanwhile, if one did.
    failure: Option<String>,
}

impl Gains {
    /// Of a container with these flags.
    pub fn of(self, flags: &[&str]) -> Self {
        Self { what: format!("{} ({})", self.what, flags.join(" ")), ..self }
    }

    /// How many processes of ours it saw.
    pub fn seen(&self) -> u64 {
        self.got["seen"]
    }

    /// All that it should not have got, in words; empty for nothing.
    fn told(&self) -> String {
        // Who has the caller's id may send it signals, wherever it is.
        let is_gain = |(kind, count): &(&String, &u64)| **count > 0 && !["seen", "signalled"].contains(&kind.as_str());
        let mut told: Vec<String> =
            self.got.iter().filter(is_gain).map(|(kind, count)| format!("{kind} {count}")).collect();
        if self.is_host_written {
            told.push("a file of the host's was written".to_owned());
        }
        told.extend(self.failure.iter().map(|failure| format!("a command failed: {}", failure.trim())));
        if told.is_empty() { String::new() } else { format!("{}, {}x: {}\n", self.what, self.count, told.join(", ")) }
    }

    /// None of these attacks has got anything.
    pub fn assert_none(attacks: &[Self]) {
        let told: String = attacks.iter().map(Self::told).collect();
        assert!(told.is_empty(), "the attacker got:\n{told}");
    }

    /// As [`Self::assert_none`], of attackers that must have seen whom they were after.
    pub fn assert_none_though_seen(attacks: &[Self]) {
        Self::assert_none(attacks);
        for attack in attacks {
            assert!(attack.seen() > 0, "it saw nobody: {attack:?}");
        }
    }
}

//! Twenty-six ways in which containers have got out, or at each other, tried from inside: each row of the list is a test
//! that begins with its number, and none may succeed. `runner/THREATS.md` says what stops them.
//!
//! And nine ways to reach the runner's own processes, from inside or beside a container (`s1` to `s9`): by a program that lies
//! in wait for them, and by looking at each of them in /proc.

mod attack;
mod files;
mod join;
mod kernel;
mod left_overs;
mod life;
mod processes;
mod streams;
mod titles;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex, Weak};

use crate::containers::debian;
use crate::support::{Env, all};

/// A store with a Debian in it, shared by the tests that run at the same time, and what must not change around it.
struct Prison {
    env: Env,
    image: String,
}

static SHARED: Mutex<Weak<Prison>> = Mutex::new(Weak::new());

/// What the host looks like, as far as a container could have changed it.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    parameters: Vec<String>,
    /// Mounts that have to do with the tests' files, but for the one that a test makes itself.
    mounts: Vec<String>,
    canary: Vec<u8>,
}

impl Prison {
    fn open() -> Result<Arc<Self>, String> {
        let mut shared = SHARED.lock().unwrap();
        if let Some(prison) = shared.upgrade() {
            return Ok(prison);
        }
        let (env, image) = debian()?;
        std::fs::write(env.scratch.join("canary"), "alive").unwrap();
        let prison = Arc::new(Self { env, image });
        *shared = Arc::downgrade(&prison);
        Ok(prison)
    }

    fn host(&self) -> Host {
        let read = |name: &str| std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let scratch = self.env.scratch.to_str().unwrap();
        Host {
            parameters: ["core_pattern", "hostname", "domainname", "modprobe"].map(read).to_vec(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(scratch) && !line.contains("row-25"))
                .map(str::to_owned)
                .collect(),
            canary: std::fs::read(self.env.scratch.join("canary")).unwrap(),
        }
    }

    /// Runs a shell script in a container, which must leave the host as it was.
    fn run(&self, flags: &[&str], script: &str) -> Output {
        self.command(flags, &["sh", "-c", script])
    }

    fn command(&self, flags: &[&str], words: &[&str]) -> Output {
        let before = self.host();
        let output = self.env.lrun(&[&["run", "--rm"], flags, &[&self.image], words].concat());
        assert_eq!(self.host(), before, "{flags:?} {words:?}");
        output
    }

    /// What a script prints, errors too.
    fn tell(&self, flags: &[&str], script: &str) -> String {
        all(&self.run(flags, script))
    }

    /// Tries each script by itself, with every set of flags; none may succeed.
    fn fails(&self, flags: &[&[&str]], scripts: &[&str]) {
        for flags in flags {
            // One container for all: each try is a process of its own.
            let tries: Vec<String> = scripts
                .iter()
                .map(|script| format!("( {script} ) >/dev/null 2>&1 && echo '{}'", quoted(script)))
                .collect();
            let told = self.tell(flags, &format!("{}; true", tries.join("\n")));
            assert_eq!(told, "", "{flags:?}: these succeeded");
        }
    }

    /// An image that is nothing but a program of ours and what `script` makes around it.
    fn tiny(&self, name: &str, script: &str) -> String {
        let folder = self.env.scratch.join(format!("tiny-{name}"));
        let make = format!(
            "mkdir -p {0} && cd {0} && cp $(command -v lrun) runner && {script} && tar -cf ../{name}.tar . && \
             lstore import -q -c 'CMD [\"/runner\", \"--version\"]' ../{name}.tar {name}:1",
            folder.display()
        );
        let output = self.env.command("sh").args(["-c", &make]).output().unwrap();
        assert!(output.status.success(), "{}", all(&output));
        format!("{name}:1")
    }

    /// A folder of the user's, to be a volume.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.env.scratch.join(name);
        let _ = std::fs::create_dir(&folder);
        let user = self.env.user.clone().unwrap();
        std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        folder
    }
}

fn quoted(script: &str) -> String {
    script.replace('\'', "")
}

/// Begins a Perl program: `try` makes a system call and tells its error's number, 0 for none.
const PERL: &str = "sub try { my @a = @_; my $r = syscall(shift @a, @a); $r == -1 ? $! + 0 : 0 }";

/// A claim that no test holds up is not made.
#[test]
fn each_threat_names_a_test_that_is_there() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let threats = std::fs::read_to_string(repository.join("runner/THREATS.md")).unwrap();
    let mut sources = String::new();
    let mut folders = ["tests", "runner", "cli/src", "store"].map(|name| repository.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let classes = threats.split("\n## ").next().unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| class ");
    let rows: Vec<&str> = classes.lines().filter(is_row).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let tests = row.rsplit(" | ").next().unwrap();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let is_there = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("\"{name}\""));
            assert!(is_there, "there is no test {name}: {row}");
        }
    }
}

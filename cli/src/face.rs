//! The names under which `lrun` is called, and what its words mean under each.
//!
//! Scripts written for podman or lilipod, Distrobox above all, run a program of that name. A link of that name to `lrun`
//! answers as they expect: global flags before the verb, verbs about images (which `lstore` carries out), exit codes.

use std::ffi::{OsStr, OsString};
use std::path::Path;

mod lilipod;

use crate::exit::Exit;
use crate::lrun::args::{COMMANDS, GLOBAL_WITH_VALUE, with_command};

/// Whom the program stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Itself.
    Own,
    /// podman, by either of the names under which it is installed.
    Podman,
    /// A runtime of the OCI, which engines call by one path.
    Runtime,
    /// lilipod, where the caller stays who it is without being asked.
    Lilipod,
}

/// What is to be done for a command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// A command line of `lrun`.
    Run(Vec<OsString>),
    /// Arguments for `lstore`.
    Store(Vec<OsString>),
    /// Its version is asked for.
    Version,
    /// A command line of the OCI's runtime.
    Runtime(Vec<OsString>),
}

impl Face {
    /// By the name that the program was called by.
    pub fn of(program: Option<&OsString>) -> Self {
        match program.and_then(|program| Path::new(program).file_name()).and_then(OsStr::to_str) {
            Some("podman" | "podman-launcher") => Self::Podman,
            Some("lilipod") => Self::Lilipod,
            Some("lrun-oci") => Self::Runtime,
            _ => Self::Own,
        }
    }

    /// What the words of the process ask for.
    ///
    /// # Errors
    /// A verb that is not known: unlike for `lrun` itself it is no image.
    pub fn order(self, mut words: Vec<OsString>, is_root: bool) -> Result<Order, String> {
        if self == Self::Runtime {
            return Ok(Order::Runtime(words));
        }
        if self == Self::Own {
            if words.get(1).is_some_and(|word| word == "oci") {
                words.remove(0);
                return Ok(Order::Runtime(words));
            }
            return Ok(Order::Run(with_command(words)));
        }
        let at = verb(&words);
        let said = |at: usize| words.get(at).and_then(|word| word.to_str()).unwrap_or_default();
        match (said(at), said(at + 1)) {
            ("version" | "--version" | "-v", _) => return Ok(Order::Version),
            ("-h", _) => words[at] = "--help".into(),
            ("" | "--help", _) => {}
            ("pull" | "images" | "rmi" | "tag", _) => return Ok(Order::Store(words.split_off(1))),
            ("image", kind) => {
                let verb = match kind {
                    "ls" | "list" => "images",
                    "rm" => "rmi",
                    "pull" | "inspect" | "tag" => kind,
                    _ => return Err(unknown("image", kind)),
                };
                words[at + 1] = verb.into();
                words.remove(at);
                return Ok(Order::Store(words.split_off(1)));
            }
            ("container", kind) => {
                let verb: &[&str] = match kind {
                    "ls" | "list" => &["ps"],
                    "inspect" => &["inspect", "--type=container"],
                    "volume" | "secret" | "info" | "completions" | "man" => return Err(unknown("container", kind)),
                    kind if COMMANDS.contains(&kind) => &[kind],
                    _ => return Err(unknown("container", kind)),
                };
                let verb: Vec<OsString> = verb.iter().map(OsString::from).collect();
                words.splice(at..=at + 1, verb);
            }
            ("system", "df") => {
                words[at + 1] = "du".into();
                words.remove(at);
                return Ok(Order::Store(words.split_off(1)));
            }
            ("system", "info") => {
                words.remove(at);
            }
            ("system", "prune") => {
                return Err(
                    "containers are removed by 'lrun prune', volumes by 'lrun volume prune', and what no image \
                            needs by 'lstore gc'"
                        .to_owned(),
                );
            }
            ("mount" | "unmount" | "umount", _) => {
                return Err(
                    "files of a container are mounted in it alone; reach them by 'lrun cp' or 'lrun export'".to_owned()
                );
            }
            (verb, _) if COMMANDS.contains(&verb) => {}
            (verb, _) => return Err(unknown("", verb)),
        }
        if self == Self::Lilipod {
            lilipod::translate(&mut words, at);
        }
        let makes = words.get(at).is_some_and(|verb| verb == "run" || verb == "create");
        // The others' root is the host's.
        match self {
            _ if !makes => {}
            _ if is_root => words.insert(at + 1, "--userns=host".into()),
            Self::Lilipod => words.insert(at + 1, "--userns=keep-id".into()),
            Self::Own | Self::Podman | Self::Runtime => {}
        }
        Ok(Order::Run(words))
    }

    /// The exit code of a command line that was not understood.
    pub fn usage(self) -> Exit {
        self.failure(Exit::RUNNER)
    }

    /// The exit code of a failure that is not the container's: lilipod has but one.
    pub fn failure(self, exit: Exit) -> Exit {
        let is_own = exit != Exit::SUCCESS && exit != Exit::NOT_FOUND && exit != Exit::NOT_EXECUTABLE;
        if self == Self::Lilipod && is_own { Exit::FAILURE } else { exit }
    }

    /// The exit code of `lstore` where it carries out a verb of another program.
    pub fn store_exit(self, exit: Exit, is_rmi: bool) -> Exit {
        match self {
            Self::Podman if exit == Exit::USAGE || exit == Exit::FAILURE && !is_rmi => Exit::RUNNER,
            Self::Podman | Self::Own | Self::Runtime => exit,
            Self::Lilipod => self.failure(exit),
        }
    }

    /// The line that tells the version, in the form of the program that is stood in for.
    pub fn version(self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Self::Own | Self::Runtime => format!("lrun {version}"),
            Self::Podman => format!("podman version {version} (lrun)"),
            Self::Lilipod => format!("lilipod version: {version} (lrun)"),
        }
    }
}

/// Where the verb stands: the first word that is no global option or its value.
fn verb(words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(text) = words.get(at).and_then(|word| word.to_str()) {
        let is_assigned = |name: &&str| text.strip_prefix(*name).is_some_and(|value| value.starts_with('='));
        match text {
            _ if GLOBAL_WITH_VALUE.contains(&text) => at += 2,
            _ if GLOBAL_WITH_VALUE.iter().any(is_assigned) => at += 1,
            _ => break,
        }
    }
    at
}

fn unknown(group: &str, verb: &str) -> String {
    let line = [group, verb].join(" ");
    format!("unrecognized command {:?}; 'lrun --help' lists what there is", line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn order(line: &str) -> Result<Order, String> {
        let words = words(line);
        Face::of(words.first()).order(words, false)
    }

    fn run(line: &str) -> Order {
        Order::Run(words(line))
    }

    #[test]
    fn the_name_decides() {
        for (name, face) in [
            ("lrun", Face::Own),
            ("/usr/bin/podman", Face::Podman),
            ("./podman-launcher", Face::Podman),
            ("/home/u/bin/lilipod", Face::Lilipod),
            ("podman2", Face::Own),
        ] {
            assert_eq!(Face::of(Some(&name.into())), face, "{name}");
        }
        assert_eq!(order("lrun oci state c"), Ok(Order::Runtime(words("oci state c"))));
        assert_eq!(order("/x/lrun-oci --root r state c"), Ok(Order::Runtime(words("/x/lrun-oci --root r state c"))));
        assert_eq!(order("lrun pull"), Ok(run("lrun run pull")), "lrun itself has images for verbs");
    }

    #[test]
    fn verbs_about_images_are_the_stores() {
        for (line, store) in [
            ("podman pull --platform=linux/arm64 i", "pull --platform=linux/arm64 i"),
            ("lilipod --log-level debug images -q", "--log-level debug images -q"),
            ("podman --log-level=debug image ls", "--log-level=debug images"),
            ("podman-launcher image rm i", "rmi i"),
            ("podman image inspect i", "inspect i"),
            ("podman system df --format json", "du --format json"),
        ] {
            assert_eq!(order(line), Ok(Order::Store(words(store))), "{line}");
        }
    }

    #[test]
    fn the_others_are_the_runners() {
        for (line, wanted) in [
            ("podman --log-level debug exec c ls", "podman --log-level debug exec c ls"),
            ("podman container ls -a", "podman ps -a"),
            ("podman container inspect c", "podman inspect --type=container c"),
            ("podman container rm c", "podman rm c"),
            ("podman container prune -f", "podman prune -f"),
            ("podman system info", "podman info"),
            ("podman run i pull", "podman run i pull"),
            ("podman -h", "podman --help"),
            ("lilipod run --rm i", "lilipod run --userns=keep-id --rm i"),
            ("lilipod --log-level trace create i", "lilipod --log-level trace create --userns=keep-id i"),
            ("lilipod exec c run", "lilipod exec c run"),
        ] {
            assert_eq!(order(line), Ok(run(wanted)), "{line}");
        }
        assert_eq!(Face::Lilipod.order(words("lilipod run i"), true), Ok(run("lilipod run --userns=host i")));
        assert_eq!(Face::Podman.order(words("podman run i"), true), Ok(run("podman run --userns=host i")));
        assert_eq!(order("podman --version"), Ok(Order::Version));
        for line in ["podman debian", "podman image squeeze", "podman container info", "lilipod container"] {
            assert!(order(line).unwrap_err().contains("unrecognized"), "{line}");
        }
    }

    #[test]
    fn lilipod_fails_with_1_and_podman_with_125() {
        assert_eq!(Face::Lilipod.failure(Exit::RUNNER), Exit::FAILURE);
        assert_eq!(Face::Lilipod.failure(Exit::NOT_FOUND), Exit::NOT_FOUND);
        assert_eq!(Face::Podman.failure(Exit::RUNNER), Exit::RUNNER);
        assert_eq!(Face::Podman.store_exit(Exit::FAILURE, false), Exit::RUNNER);
        assert_eq!(Face::Podman.store_exit(Exit::FAILURE, true), Exit::FAILURE);
        assert_eq!(Face::Lilipod.store_exit(Exit::USAGE, false), Exit::FAILURE);
        assert_eq!(Face::Own.store_exit(Exit::USAGE, false), Exit::USAGE);
    }
}

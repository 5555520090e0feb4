//! Which namespaces a container gets, and the process that is in them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::PathBuf;

use nix::libc;
use nix::sched::CloneFlags;

use super::config::{Linux, Namespace};
use super::procfs::Procfs;
use crate::channel::Channel;
use crate::child::{During, Failure};
use crate::enter::Hidden;
use crate::error::{Action, Error, Stage};
use crate::exec::sibling;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::process;

/// Every kind, in the order in which those that are there already are joined: power over the others may come with the user
/// namespace, but the others' owner may also be outside of it.
const KINDS: [(&str, i32); 8] = [
    ("network", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("pid", libc::CLONE_NEWPID),
    ("time", libc::CLONE_NEWTIME),
    ("user", libc::CLONE_NEWUSER),
    ("mount", libc::CLONE_NEWNS),
];

/// The namespaces of a container. Those that are named nowhere are the caller's.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// `CLONE_NEW*` of the new ones.
    new: i32,
    /// Those that are there.
    there: Vec<(i32, PathBuf)>,
    /// What is to be written before the first process enters a time namespace.
    offsets: String,
}

impl Namespaces {
    /// As a bundle wants them.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn of(linux: &Linux) -> Result<Self, Error> {
        let refused = |reason: String| Err(Error::Refused(format!("linux.namespaces: {reason}")));
        let mut namespaces = Self::default();
        let mut seen = 0;
        for Namespace { kind, path } in &linux.namespaces {
            let Some((_, flag)) = KINDS.into_iter().find(|(name, _)| name == kind) else {
                return refused(format!("the type {kind:?} is not known"));
            };
            if seen & flag != 0 {
                return refused(format!("{kind} is there twice"));
            }
            seen |= flag;
            match path {
                Some(path) if !path.as_os_str().is_empty() => namespaces.there.push((flag, path.clone())),
                _ => namespaces.new |= flag,
            }
        }
        if namespaces.new & libc::CLONE_NEWNS == 0 {
            return refused("a container needs a mount namespace of its own, {\"type\": \"mount\"}".to_owned());
        }
        let order = |flag: i32| KINDS.iter().position(|(_, known)| *known == flag);
        namespaces.there.sort_by_key(|(flag, _)| order(*flag));
        if !linux.time_offsets.is_empty() && !namespaces.is_new(libc::CLONE_NEWTIME) {
            return refused("timeOffsets need a new time namespace".to_owned());
        }
        for (clock, offset) in &linux.time_offsets {
            // Writing to a text cannot fail.
            let _ = writeln!(namespaces.offsets, "{clock} {} {}", offset.secs, offset.nanosecs);
        }
        Ok(namespaces)
    }

    /// Whether one is new, by its `CLONE_NEW*`.
    pub(super) fn is_new(&self, flag: i32) -> bool {
        self.new & flag != 0
    }

    /// Whether one is not the caller's, by its `CLONE_NEW*`.
    pub(super) fn is_own(&self, flag: i32) -> bool {
        self.is_new(flag) || self.there.iter().any(|(known, _)| *known == flag)
    }

    /// Whether the container's process begins where another process of ours has been before.
    pub(super) fn are_joined(&self) -> bool {
        !self.there.is_empty() || self.is_new(libc::CLONE_NEWTIME)
    }

    /// Makes the container's process in them, a child of this one. Where [`Self::are_joined`] it has the baggage, and nothing else.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(super) fn enter(&self, baggage: &Baggage<'_>) -> Result<Cloned, Error> {
        // Made by the child itself when it is in its control group.
        let flags = self.new & !(libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME);
        let made = |error: io::Error| {
            if self.is_new(libc::CLONE_NEWUSER) {
                Error::user_namespace(error)
            } else {
                Error::Parent { action: "make namespaces", source: error }
            }
        };
        if !self.are_joined() {
            return clone3(flags, None).map_err(made);
        }
        enter_by(baggage, || self.clocks(), |hidden, clocks| self.join(hidden, clocks), flags)
    }

    /// Opens the file by which the clocks of a new time namespace are set: of who is hidden it belongs to root.
    fn clocks(&self) -> Result<Option<File>, Failure> {
        if self.offsets.is_empty() {
            return Ok(None);
        }
        let opened = Procfs::here().and_then(|procfs| procfs.writer("self/timens_offsets"));
        opened.map(Some).during(Stage::Join, "timeOffsets")
    }

    /// Joins those that are there.
    fn join(&self, hidden: &Hidden, clocks: Option<File>) -> Result<(), Failure> {
        let open = |path: &PathBuf| File::open(path).during(Stage::Join, path);
        let mut files = Vec::new();
        for (flag, path) in &self.there {
            files.push((CloneFlags::from_bits_retain(*flag), open(path)?, path));
        }
        // What this process has no power over yet, it may have as root of the user namespace that it joins.
        let mut later = Vec::new();
        for (flag, file, path) in files {
            match hidden.enter(&file, flag) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) && self.is_own(libc::CLONE_NEWUSER) => {
                    later.push((flag, file, path));
                }
                joined => joined.during(Stage::Join, path)?,
            }
        }
        for (flag, file, path) in later {
            hidden.enter(&file, flag).during(Stage::Join, path)?;
        }
        if self.is_new(libc::CLONE_NEWTIME) {
            nix::sched::unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).during(Stage::Join, "time")?;
            if let Some(mut clocks) = clocks {
                clocks.write_all(self.offsets.as_bytes()).during(Stage::Join, "timeOffsets")?;
            }
        }
        Ok(())
    }
}

/// What a process has with it where it joins.
#[derive(Debug)]
pub(super) struct Baggage<'a> {
    /// Descriptors that it works with.
    pub(super) kept: &'a [BorrowedFd<'a>],
    /// Numbers of those that the command is to inherit.
    pub(super) inherited: &'a [RawFd],
    /// How soon it is to end where memory is short.
    pub(super) score: Option<i32>,
}

/// Makes a process, in new namespaces by `CLONE_NEW*` flags, that begins where `join` leads: a fork hides and joins, and makes the
/// process as its own sibling (`CLONE_PARENT`), since only what is made after joining is in a pid or time namespace. Of this
/// process's descriptors it has the standard ones and the baggage. `first` is done before it hides, and what it opens is for `join`.
pub(super) fn enter_by(
    baggage: &Baggage<'_>,
    first: impl FnOnce() -> Result<Option<File>, Failure>,
    join: impl FnOnce(&Hidden, Option<File>) -> Result<(), Failure>,
    flags: i32,
) -> Result<Cloned, Error> {
    let (parent, child) = Channel::pair().action("make a channel")?;
    let Cloned::Parent { id: joiner, .. } = clone3(0, None).action("fork")? else {
        drop(parent);
        let joined = || {
            Procfs::set_score(baggage.score)?;
            let opened = first()?;
            let own = opened.iter().map(AsFd::as_fd).chain([child.as_fd()]);
            let kept = baggage.kept.iter().copied().chain(own);
            let hidden = Hidden::with(kept, baggage.inherited).during(Stage::Join, "")?;
            join(&hidden, opened)
        };
        let made = joined().and_then(|()| clone3(flags | libc::CLONE_PARENT, None).during(Stage::Join, ""));
        let given = match made {
            Ok(Cloned::Child) => return Ok(Cloned::Child),
            Ok(Cloned::Parent { pidfd, .. }) => child.give(&pidfd).during(Stage::Join, ""),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = given {
            child.fail(failure.stage, &failure.what, &failure.error);
        }
        process::exit_now(0)
    };
    drop(child);
    let (id, pidfd) = sibling(&parent, joiner)?;
    Ok(Cloned::Parent { id, pidfd })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Namespaces, Error> {
        Namespaces::of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn new_ones_are_told_from_those_that_are_there() {
        let namespaces =
            of(r#"{"namespaces":[{"type":"user","path":"/u"},{"type":"mount"},{"type":"network","path":"/n"}]}"#)
                .unwrap();
        assert!(namespaces.is_new(libc::CLONE_NEWNS) && !namespaces.is_new(libc::CLONE_NEWNET));
        assert!(namespaces.is_own(libc::CLONE_NEWNET) && !namespaces.is_own(libc::CLONE_NEWPID));
        assert_eq!(namespaces.there[0].0, libc::CLONE_NEWNET, "the user namespace comes after");
    }

    #[test]
    fn what_makes_no_container_is_refused() {
        for text in [
            r#"{"namespaces":[]}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"mount"}]}"#,
            r#"{"namespaces":[{"type":"mount"},{"type":"dream"}]}"#,
            r#"{"namespaces":[{"type":"mount","path":"/m"}]}"#,
            r#"{"namespaces":[{"type":"mount"}],"timeOffsets":{"monotonic":{"secs":1}}}"#,
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}

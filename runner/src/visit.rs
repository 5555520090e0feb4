//! Work on the files of a container by a fork of ours that goes where they are: into the namespaces of one that runs, or into
//! namespaces of its own over the files of one that does not.
//!
//! The fork is no process of the container's: it joins no pid namespace, it hides before it joins, and it executes nothing.
//! What it finds there it reaches by descriptors below the container's root. It keeps the caller's further groups, by which
//! the other end of a copy may be open to the caller.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use nix::sched::CloneFlags;
use nix::unistd::Uid;

use crate::attach;
use crate::child;
use crate::enter::Hidden;
use crate::error::{Action, Error};
use crate::exec::FirstProcess;
use crate::idmap::Shape;
use crate::overlay::Layers;
use crate::own::{self, Purpose};
use crate::rights::Caller;
use crate::rootfs::Rootfs;
use crate::spec::{Mount, MountKind, Spec, UserNamespace};
use crate::sys::process::{self, Fork};
use crate::target::Root;
use crate::userns;

/// A container to be visited.
#[derive(Debug, Clone, Copy)]
pub enum Visited<'a> {
    /// One that runs.
    Running {
        /// Its first process.
        first: &'a FirstProcess,
        /// What it was started by.
        spec: &'a Spec,
    },
    /// One that does not, whose folder the caller has locked.
    Resting {
        /// Its root.
        rootfs: &'a Rootfs,
        /// What it will be started by.
        spec: &'a Spec,
        /// Whether its mounts are wanted too.
        with_mounts: bool,
    },
}

impl Visited<'_> {
    /// What it is started by.
    pub(crate) fn spec(&self) -> &Spec {
        match self {
            Self::Running { spec, .. } | Self::Resting { spec, .. } => spec,
        }
    }

    /// The user namespace of one that runs, if it is another than real root's.
    pub(crate) fn other_ids(&self) -> io::Result<Option<std::fs::File>> {
        match self {
            Self::Running { first, .. } if Uid::effective().is_root() && !first.shares_ids()? => {
                std::fs::File::open(format!("/proc/{}/ns/user", first.id)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The caller's ids, as they are inside.
    pub(crate) fn caller(&self) -> (u32, u32) {
        shape(self.spec()).map_or((0, 0), Shape::caller)
    }

    /// The same where the caller is not root inside. To be asked before a visit, in which the caller is.
    pub(crate) fn other_than_root(&self) -> Caller {
        Some(self.caller()).filter(|ids| *ids != (0, 0))
    }
}

/// How the ids of a container's files on disk relate to the caller's; `None` for real root, which has the image's there
/// whatever the container has.
pub(crate) fn shape(spec: &Spec) -> Option<Shape> {
    match spec.user_namespace {
        _ if Uid::effective().is_root() => None,
        UserNamespace::Own(shape) => Some(shape),
        UserNamespace::Host => Some(Shape::Auto),
    }
}

/// Does `work` below the container's root. Of this process's descriptors it has the standard ones and those in `kept`.
///
/// # Errors
/// [`Error::NotRunning`]; [`Error::Files`] with what the work says.
pub(crate) fn visit(
    container: &Visited<'_>,
    kept: &[RawFd],
    work: impl FnOnce(&Root) -> io::Result<()>,
) -> Result<(), Error> {
    visit_with(container, kept, false, work)
}

/// As [`visit`], for work that makes files of the host's: real root does not take the container's ids, which have no power
/// there, but looks at the container with all of its own.
///
/// # Errors
/// As of [`visit`].
pub(crate) fn visit_to_take(
    container: &Visited<'_>,
    kept: &[RawFd],
    work: impl FnOnce(&Root) -> io::Result<()>,
) -> Result<(), Error> {
    visit_with(container, kept, true, work)
}

fn visit_with(
    container: &Visited<'_>,
    kept: &[RawFd],
    takes: bool,
    work: impl FnOnce(&Root) -> io::Result<()>,
) -> Result<(), Error> {
    in_fork(|teller| {
        let root = match container {
            Visited::Running { first, spec } => join(first, spec, teller, kept, takes),
            Visited::Resting { rootfs, spec, with_mounts } => rebuild(rootfs, spec, *with_mounts),
        };
        root.and_then(|root| work(&root))
    })
}

/// Does `work` in a process of its own, whose namespaces it may leave. `work` is given the descriptor over which its end is told.
///
/// # Errors
/// [`Error::Files`] with what the work says.
pub(crate) fn in_fork(work: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> Result<(), Error> {
    let (mut hear, mut tell) = io::pipe().action("make a pipe")?;
    match process::fork().action("fork")? {
        Fork::Child => {
            drop(hear);
            let word = work(tell.as_fd()).map_or_else(|error| error.to_string(), |()| DONE.to_owned());
            process::exit_now(i32::from(tell.write_all(word.as_bytes()).is_err()))
        }
        Fork::Parent(id) => {
            drop(tell);
            let mut word = String::new();
            hear.read_to_string(&mut word).action("hear from a fork")?;
            process::wait_for(id).action("wait for a fork")?;
            match word.as_str() {
                DONE => Ok(()),
                "" => Err(Error::Died),
                _ => Err(Error::Files(word)),
            }
        }
    }
}

/// What no error says.
const DONE: &str = "\0done";

/// Goes to the root of one that runs.
fn join(first: &FirstProcess, spec: &Spec, teller: BorrowedFd<'_>, kept: &[RawFd], takes: bool) -> io::Result<Root> {
    let target = first.open().ok_or_else(|| io::Error::other(Error::NotRunning))?;
    let is_root = Uid::effective().is_root();
    let has_own_ids = if is_root { !takes && !first.shares_ids()? } else { shape(spec).is_some() };
    let hidden = Hidden::with([teller, target.as_fd()].into_iter(), kept)?;
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    namespaces.set(CloneFlags::CLONE_NEWUSER, has_own_ids);
    first.join(&hidden, &target, namespaces)?;
    if has_own_ids {
        userns::become_root(is_root)?;
    }
    child::prepare()?;
    Root::own()
}

/// Puts the root of one that does not run together.
fn rebuild(rootfs: &Rootfs, spec: &Spec, with_mounts: bool) -> io::Result<Root> {
    enter_namespaces(spec)?;
    if let Rootfs::Overlay { upper, .. } = rootfs
        && shape(spec).is_some_and(|shape| shape.caller() != (0, 0))
    {
        attach::give_to_root(upper)?;
    }
    let shown = spec.mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Tmpfs { .. }));
    let at =
        |mount: &Mount, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", mount.target.display()));
    let opened = |mount| {
        let source = attach::source(mount, rootfs, false, None);
        source.map(|source| (mount, source)).map_err(|error| at(mount, error))
    };
    let shown: Vec<_> = shown.filter(|_| with_mounts).map(opened).collect::<io::Result<_>>()?;
    // Of a copy that is made for this the next start tells.
    let root = own::mount(rootfs, Layers::open(rootfs)?.as_ref(), None, Purpose::default())?.root;
    for (mount, source) in shown {
        attach::volume(&root, mount, source, None).map_err(|error| at(mount, error))?;
    }
    Ok(root)
}

/// Enters a mount namespace of this process's own, and a user namespace like the container's where that has one.
pub(crate) fn enter_namespaces(spec: &Spec) -> io::Result<()> {
    if let Some(shape) = shape(spec) {
        userns::enter_with(shape, false).map_err(io::Error::other)?;
    } else {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        attach::keep_apart()?;
    }
    child::prepare()
}

//! Namespaces of others: a container that lives in some of another container's, or in one that a file stands for.
//!
//! Who enters a namespace needs power in the user namespace that owns it, and to mount `/proc` or `/sys` for it too. So
//! the new container lives in that user namespace, with its ids, as all of podman's without root share one. A fork of ours
//! joins, and makes the first process as its own sibling (`CLONE_PARENT`): the caller stays where it is, and starts the
//! container again elsewhere when the other is another by then.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use crate::attach;
use crate::cgroup;
use crate::channel::{Channel, Heard};
use crate::child::{During, Failure, Groups};
use crate::enter::Hidden;
use crate::error::{Action, Error, Stage};
use crate::exec::{FirstProcess, sibling};
use crate::idmap::IdMap;
use crate::members::Members;
use crate::plan::Plan;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::network::owner;
use crate::sys::process::{self, Fork};
use crate::target::Root;

/// What a namespace is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Other {
    /// A container, by its id.
    Container(String),
    /// A file of `/proc/PID/ns`, or one that such a file is bound to.
    File(PathBuf),
}

/// The namespaces that are taken from others; none of them is the container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Joined {
    /// Ids. Where it is not said, that of the owner of the first of the others is joined.
    pub user: Option<Other>,
    /// Network.
    pub network: Option<Other>,
    /// Processes.
    pub pid: Option<Other>,
    /// System V IPC, message queues, and of a container its `/dev/shm`.
    pub ipc: Option<Other>,
    /// Host name.
    pub uts: Option<Other>,
    /// View of the control groups.
    pub cgroup: Option<Other>,
}

impl Joined {
    /// All that are joined; that of ids first.
    pub fn others(&self) -> impl Iterator<Item = &Other> {
        [&self.user, &self.network, &self.pid, &self.ipc, &self.uts, &self.cgroup].into_iter().flatten()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.others().next().is_none()
    }

    fn flags(&self) -> impl Iterator<Item = (&Other, CloneFlags)> {
        let all = [
            (&self.network, CloneFlags::CLONE_NEWNET),
            (&self.ipc, CloneFlags::CLONE_NEWIPC),
            (&self.uts, CloneFlags::CLONE_NEWUTS),
            (&self.cgroup, CloneFlags::CLONE_NEWCGROUP),
            (&self.pid, CloneFlags::CLONE_NEWPID),
        ];
        all.into_iter().filter_map(|(other, flag)| Some((other.as_ref()?, flag)))
    }
}

/// What the first process finds where it has joined.
#[derive(Debug)]
pub(crate) struct Found {
    /// The groups of the user namespace, if it is not the host's.
    pub(crate) groups: Option<Groups>,
    /// `/dev/shm` of the container whose IPC namespace it is, mounted nowhere yet.
    pub(crate) shared_memory: Option<OwnedFd>,
}

/// Makes the first process in the namespaces of others, and in new ones by `flags`; its number and descriptor. It goes on
/// by `become_container`, once the fork has let go of what is the caller's alone by `leave`, with no descriptors but `child`, those in `kept`, and what it is to hand on. With a control group the
/// fork is born there, and what it makes is too.
pub(crate) fn first_process(
    plan: &Plan,
    flags: i32,
    group: Option<&OwnedFd>,
    (child, kept): (&Channel, &[BorrowedFd<'_>]),
    leave: impl FnOnce(),
    become_container: impl FnOnce(&Found),
) -> Result<(i32, OwnedFd), Error> {
    // One of its own for the fork: what the first process says may come before the fork has told which that is.
    let (hear, tell) = Channel::pair().action("make a channel")?;
    let Cloned::Parent { id: joiner, .. } = clone3(0, cgroup::borrowed(group)).action("fork")? else {
        leave();
        let kept = kept.iter().copied().chain([child.as_fd(), tell.as_fd()]);
        let hidden = Hidden::with(kept, &plan.spec.preserved).during(Stage::Join, "");
        match hidden.and_then(|hidden| join(plan, &hidden, flags)) {
            Ok((Cloned::Child, found)) => match introduce(plan, child) {
                Ok(()) => become_container(&found),
                Err(error) => child.fail(Stage::Join, "", &error),
            },
            Ok((Cloned::Parent { pidfd, .. }, _)) => process::exit_now(i32::from(tell.give(pidfd).is_err())),
            Err(failure) => tell.fail(failure.stage, &failure.what, &failure.error),
        }
        process::exit_now(1)
    };
    drop(tell);
    sibling(&hear, joiner)
}

fn join(plan: &Plan, hidden: &Hidden, flags: i32) -> Result<(Cloned, Found), Failure> {
    let joined = &plan.spec.joined;
    let during = |other: &Other, opened: io::Result<OwnedFd>| opened.during(Stage::Join, name(other));
    let open = |other: &Other| during(other, descriptor(plan, other));
    if plan.user_namespace.is_some()
        && let Some(first) = joined.others().next()
    {
        let target = match (first, &joined.user) {
            (Other::File(path), None) => during(first, File::open(path).and_then(|file| owner(&file)))?,
            _ => open(first)?,
        };
        let entered = hidden.enter(&target, CloneFlags::CLONE_NEWUSER).map_err(|error| match error.raw_os_error() {
            // This process is in there already.
            Some(nix::libc::EINVAL) => io::Error::other("it belongs to the host, which only root can join"),
            _ => explain(error),
        });
        entered.during(Stage::Join, name(first))?;
    }
    let groups = if plan.user_namespace.is_some() { Some(groups().during(Stage::Join, "")?) } else { None };
    let shared_memory = match &joined.ipc {
        Some(other @ Other::Container(_)) => Some(during(other, shared_memory(hidden, open(other)?))?),
        _ => None,
    };
    for (other, flag) in joined.flags() {
        hidden.enter(open(other)?, flag).map_err(explain).during(Stage::Join, name(other))?;
    }
    let cloned = clone3(flags | nix::libc::CLONE_PARENT, None).during(Stage::Join, "")?;
    Ok((cloned, Found { groups, shared_memory }))
}

/// Tells the parent where the first process is: nobody can look into it.
fn introduce(plan: &Plan, parent: &Channel) -> io::Result<()> {
    if plan.user_namespace.is_some() {
        parent.give(File::open("/proc/self/ns/user")?)?;
    }
    Members::introduce(plan, parent)
}

/// Whether what is joined belongs to the user namespace that this process is in; `false` where nothing is joined.
pub(crate) fn is_of_host(plan: &Plan) -> Result<bool, Error> {
    let joined = &plan.spec.joined;
    let Some(first) = joined.others().next() else { return Ok(false) };
    let look = || -> io::Result<bool> {
        match (first, &joined.user) {
            (Other::File(path), None) => is_own(&owner(&File::open(path)?)?),
            (Other::File(path), Some(_)) => is_own(&File::open(path)?),
            (Other::Container(id), _) => {
                let known = plan.host.others.iter().find(|(known, _)| known == id);
                known.ok_or_else(|| io::Error::other("it is not running"))?.1.shares_ids()
            }
        }
    };
    let what = name(first).to_string_lossy().into_owned();
    look().map_err(|source| Error::Child { stage: Stage::Join, what, source })
}

/// Whether an open user namespace is the one that this process is in.
fn is_own(namespace: &impl std::os::fd::AsFd) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (other, own) = (rustix::fs::fstat(namespace)?, std::fs::metadata("/proc/self/ns/user")?);
    Ok((other.st_dev, other.st_ino) == (own.dev(), own.ino()))
}

fn descriptor(plan: &Plan, other: &Other) -> io::Result<OwnedFd> {
    match other {
        Other::File(path) => Ok(File::open(path)?.into()),
        Other::Container(id) => {
            let known = plan.host.others.iter().find(|(known, _)| known == id);
            known.and_then(|(_, first)| FirstProcess::open(first)).ok_or_else(|| io::Error::other("it is not running"))
        }
    }
}

fn name(other: &Other) -> &Path {
    match other {
        Other::Container(id) => Path::new(id.get(..12).unwrap_or(id)),
        Other::File(path) => path,
    }
}

/// What a refusal means here.
fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(nix::libc::EPERM) => io::Error::other(
            "you have no power in the user namespace that it belongs to, or it belongs to another than the first that is joined",
        ),
        Some(nix::libc::EINVAL) => io::Error::other("it is no namespace of this kind"),
        _ => error,
    }
}

/// The groups of the namespace that this process is in now.
fn groups() -> io::Result<Groups> {
    let map = IdMap::shown(&std::fs::read_to_string("/proc/self/gid_map")?);
    let may_be_set = std::fs::read_to_string("/proc/self/setgroups")?.starts_with("allow");
    Ok(Groups { map, may_be_set })
}

/// A detached copy of `/dev/shm` as a container has it, made by a fork that goes there. A link there leads nowhere else.
fn shared_memory(hidden: &Hidden, container: OwnedFd) -> io::Result<OwnedFd> {
    let (hear, tell) = Channel::pair()?;
    match process::fork()? {
        Fork::Child => {
            drop(hear);
            let copied = hidden
                .enter(container, CloneFlags::CLONE_NEWNS)
                .and_then(|()| Root::own()?.place(Path::new("/dev/shm")))
                .and_then(|place| attach::copy(&place));
            match copied {
                Ok(tree) => process::exit_now(i32::from(tell.give(tree).is_err())),
                Err(error) => tell.fail(Stage::Join, "/dev/shm", &error),
            }
            process::exit_now(1)
        }
        Fork::Parent(id) => {
            drop(tell);
            let heard = hear.hear();
            process::wait_for(id)?;
            match heard? {
                Heard::Descriptor(tree) => Ok(tree),
                Heard::Failed(_, _, error) => Err(error),
                Heard::Closed | Heard::Released | Heard::Weaker(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

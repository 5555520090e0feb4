//! User namespaces: entering one for the store, mapping one for a container.

use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};

use crate::error::{Action, Error};
use crate::free_ids::Known;
use crate::host::find_program;
use crate::idmap::{IdMap, IdMapError, Shape, SubordinateRanges, user_name};
use crate::refusal;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::process::{self, Fork};

/// Files with subordinate ranges, `subuid(5)` and `subgid(5)`.
pub(crate) const SUBUID: &str = "/etc/subuid";
pub(crate) const SUBGID: &str = "/etc/subgid";
/// The users of this machine, `passwd(5)`.
pub(crate) const PASSWD: &str = "/etc/passwd";
/// The set-id programs that map a range.
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// The ids of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maps {
    /// User ids.
    pub users: IdMap,
    /// Group ids.
    pub groups: IdMap,
}

impl Maps {
    /// Those of the user namespace that a process is in.
    pub(crate) fn of_process(id: i32) -> io::Result<Self> {
        let map = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).map(|text| IdMap::shown(&text));
        Ok(Self { users: map("uid_map")?, groups: map("gid_map")? })
    }

    /// The maps of a shape for the caller, over its subordinate ids.
    pub(crate) fn of_caller(shape: Shape, users: &SubordinateRanges, groups: &SubordinateRanges) -> Self {
        let (uid, gid) = (Uid::current().as_raw(), Gid::current().as_raw());
        let ((user, group), size) = (shape.caller(), shape.size());
        Self { users: IdMap::plan(user, size, uid, users), groups: IdMap::plan(group, size, gid, groups) }
    }
}

/// What ids a process got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// Real root: the host's ids, without a namespace.
    Host,
    /// The caller and its subordinate range.
    Range(Maps),
    /// The caller alone, and why.
    Single(String),
}

/// Whether this is root outside of all user namespaces.
pub fn is_real_root() -> bool {
    Uid::effective().is_root() && is_initial()
}

impl fmt::Display for Mapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => formatter.write_str("the host's ids (run by root)"),
            Self::Range(maps) => {
                let lines: Vec<String> = maps.users.to_string().lines().map(str::to_owned).collect();
                write!(formatter, "{}", lines.join(", "))
            }
            Self::Single(reason) => write!(formatter, "yours alone ({reason})"),
        }
    }
}

/// The maps that a caller can have in a shape.
///
/// # Errors
/// All of [`IdMapError`].
pub fn maps_of_caller(shape: Shape) -> Result<Maps, IdMapError> {
    let (users, groups) = subordinates()?;
    Ok(Maps::of_caller(shape, &users, &groups))
}

/// The subordinate ids of the caller, users and groups.
///
/// # Errors
/// All of [`IdMapError`].
pub(crate) fn subordinates() -> Result<(SubordinateRanges, SubordinateRanges), IdMapError> {
    let uid = Uid::current().as_raw();
    // By the file, not by the name services: those load modules, which a static program must not (it crashes in them). A
    // user known to them alone is found by its number.
    let passwd = std::fs::read(PASSWD).unwrap_or_default();
    let name = user_name(&String::from_utf8_lossy(&passwd), uid).map_or_else(|| uid.to_string(), str::to_owned);
    if let Some(helper) = HELPERS.into_iter().find(|helper| find_program(helper).is_none()) {
        return Err(IdMapError::NoHelper(helper));
    }
    let ranges = |file: &'static str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let ranges = SubordinateRanges::parse(&text, &name, uid);
        if ranges.is_empty() {
            let remedy = Known::of_machine().remedy(&name, 0);
            return Err(IdMapError::NoRange { user: name.clone(), file, remedy });
        }
        here(&name, ranges, file)
    };
    let both = (ranges(SUBUID)?, ranges(SUBGID)?);
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Err(IdMapError::NoNewPrivileges);
    }
    Ok(both)
}

/// Those of the ranges that `file` gives to `owner` which exist in the user namespace of this process.
///
/// # Errors
/// [`IdMapError::NotHere`].
pub(crate) fn here(owner: &str, ranges: SubordinateRanges, file: &str) -> Result<SubordinateRanges, IdMapError> {
    let map = if file == SUBGID { "/proc/self/gid_map" } else { "/proc/self/uid_map" };
    // Without a /proc nothing tells, and the kernel will.
    let here = match std::fs::read_to_string(map) {
        Ok(map) => ranges.within(&map),
        Err(_) => ranges,
    };
    if here.is_empty() { Err(IdMapError::NotHere(owner.to_owned())) } else { Ok(here) }
}

/// Enters a user and a mount namespace of the process's own, as their root. Where the caller has no subordinate range,
/// only the caller's id exists there, and the answer says so. Real root stays where it is.
///
/// # Errors
/// [`Error::UserNamespace`], [`Error::Helper`]; the process must have a single thread.
pub fn enter() -> Result<Mapping, Error> {
    enter_as(Shape::Auto)
}

/// As [`enter`], with the ids in another shape, of which only the plain one means anything without a subordinate range.
///
/// # Errors
/// Those of [`enter`], and [`Error::IdMap`].
pub fn enter_as(shape: Shape) -> Result<Mapping, Error> {
    enter_with(shape, true)
}

/// As [`enter_as`]; `drops_groups`: without the caller's further groups, by which it reaches files of the host's.
pub(crate) fn enter_with(shape: Shape, drops_groups: bool) -> Result<Mapping, Error> {
    enter_shaped(shape, drops_groups).map_err(refusal::with_proc)
}

fn enter_shaped(shape: Shape, drops_groups: bool) -> Result<Mapping, Error> {
    if Uid::effective().is_root() {
        return Ok(Mapping::Host);
    }
    let (uid, gid) = (Uid::current().as_raw(), Gid::current().as_raw());
    let mapping = match maps_of_caller(shape) {
        Ok(maps) => {
            map_self_by_helpers(&maps)?;
            Mapping::Range(maps)
        }
        Err(error) if shape != Shape::Auto => return Err(error.into()),
        Err(error) => Mapping::Single(error.to_string()),
    };
    if matches!(mapping, Mapping::Single(_)) {
        nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Error::user_namespace(errno.into()))?;
        // Ubuntu lets a program without a profile make one, and then refuses its maps.
        write_single(process::own_id(), uid, gid).map_err(|error| match error {
            Error::Parent { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Error::user_namespace(source)
            }
            other => other,
        })?;
    }
    let powerless = |errno: nix::errno::Errno| Error::user_namespace(errno.into());
    become_root(drops_groups && matches!(mapping, Mapping::Range(_))).map_err(powerless)?;
    // Mounts of the host still come in, ours do not go out.
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(powerless)?;
    Ok(mapping)
}

/// Tries, in a process of its own, whether this one could make a user namespace and mount in it.
///
/// # Errors
/// [`Error::UserNamespace`] with the reason.
pub fn attempt() -> Result<(), Error> {
    match process::fork().action("fork")? {
        Fork::Child => {
            let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SLAVE;
            let tried = nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
                .and_then(|()| nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>));
            process::exit_now(tried.map_or_else(|errno| errno as i32, |()| 0))
        }
        Fork::Parent(child) => match process::wait_for(child).action("wait for a fork")? {
            nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
            nix::sys::wait::WaitStatus::Exited(_, errno) => {
                Err(Error::user_namespace(io::Error::from_raw_os_error(errno)))
            }
            _ => Err(Error::Died),
        },
    }
}

/// The helpers must run outside of the namespace that they map: a fork made before stays there for them.
fn map_self_by_helpers(maps: &Maps) -> Result<(), Error> {
    let (mut ready_read, mut ready_write) = io::pipe().action("make a pipe")?;
    let (mut done_read, mut done_write) = io::pipe().action("make a pipe")?;
    let target = process::own_id();
    match process::fork().action("fork")? {
        Fork::Child => {
            drop((ready_write, done_read));
            let mut byte = [0];
            let result = match ready_read.read_exact(&mut byte) {
                Ok(()) => write_by_helpers(target, maps).map_err(|error| match error {
                    Error::Helper { helper, reason } => format!("{helper} {reason}"),
                    other => format!("{} {other}", HELPERS[0]),
                }),
                Err(_) => Ok(()),
            };
            let told = match result {
                Ok(()) => done_write.write_all(b"ok"),
                Err(error) => done_write.write_all(error.as_bytes()),
            };
            process::exit_now(i32::from(told.is_err()))
        }
        Fork::Parent(helper) => {
            drop((ready_read, done_write));
            let entered = nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
            if entered.is_ok() {
                ready_write.write_all(b"x").action("release the helper")?;
            }
            drop(ready_write);
            let mut told = String::new();
            done_read.read_to_string(&mut told).action("hear from the helper")?;
            process::wait_for(helper).action("wait for the helper")?;
            entered.map_err(|errno| Error::user_namespace(errno.into()))?;
            if told == "ok" {
                return Ok(());
            }
            let (named, reason) = told.split_once(' ').unwrap_or(("", "it was killed"));
            let helper = HELPERS.into_iter().find(|helper| *helper == named).unwrap_or(HELPERS[0]);
            Err(Error::Helper { helper, reason: reason.to_owned() })
        }
    }
}

/// Maps a process's user namespace by newuidmap and newgidmap, side by side.
///
/// # Errors
/// [`Error::Helper`].
pub fn write_by_helpers(target: i32, maps: &Maps) -> Result<(), Error> {
    let start = |helper: &'static str, map: &IdMap| -> Result<Child, Error> {
        let fail = |reason: String| Error::Helper { helper, reason };
        let path = find_program(helper).ok_or_else(|| fail("it is not installed".to_owned()))?;
        Command::new(path)
            .arg(target.to_string())
            .args(map.arguments())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| fail(error.to_string()))
    };
    let end = |helper: &'static str, child: Child| -> Result<(), Error> {
        let output = child.wait_with_output().map_err(|error| Error::Helper { helper, reason: error.to_string() })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        Err(Error::Helper { helper, reason: if said.is_empty() { output.status.to_string() } else { said } })
    };
    let (users, groups) = (start("newuidmap", &maps.users)?, start("newgidmap", &maps.groups)?);
    let (users, groups) = (end("newuidmap", users), end("newgidmap", groups));
    users.and(groups)
}

/// Maps a process's user namespace by writing, which takes privilege over the outer ids: that of root, or of a process
/// that has joined a holder's namespace.
///
/// # Errors
/// Those of writing to `/proc`.
pub fn write_directly(target: i32, maps: &Maps) -> Result<(), Error> {
    let write = |file: &str, text: &str| std::fs::write(format!("/proc/{target}/{file}"), text);
    write("gid_map", &maps.groups.to_string()).action("write the group id map")?;
    write("uid_map", &maps.users.to_string()).action("write the user id map")
}

/// Maps a process's user namespace to the caller's id alone, which needs no privilege once `setgroups` is denied.
///
/// # Errors
/// Those of writing to `/proc`.
pub fn write_single(target: i32, uid: u32, gid: u32) -> Result<(), Error> {
    write_own(target, &Maps { users: IdMap::single(uid), groups: IdMap::single(gid) })
}

/// Maps a process's user namespace to the caller's id alone, whatever that is inside; as [`write_single`].
///
/// # Errors
/// Those of writing to `/proc`.
pub(crate) fn write_own(target: i32, maps: &Maps) -> Result<(), Error> {
    std::fs::write(format!("/proc/{target}/setgroups"), "deny").action("deny setgroups")?;
    write_directly(target, maps)
}

/// Takes id 0 of the namespace; supplementary groups of the outside are given up where that is allowed.
pub(crate) fn become_root(may_set_groups: bool) -> nix::Result<()> {
    if may_set_groups {
        nix::unistd::setgroups(&[])?;
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)
}

/// Whether this process is outside of all user namespaces but the first, whose ids are the machine's.
pub(crate) fn is_initial() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// A user namespace with these maps and nobody in it, for mounts whose files show with its ids.
///
/// # Errors
/// Those of the kernel.
pub(crate) fn sleeping(maps: &Maps) -> Result<std::os::fd::OwnedFd, Error> {
    let (mut wait, release) = io::pipe().action("make a pipe")?;
    let Cloned::Parent { id, .. } = clone3(nix::libc::CLONE_NEWUSER, None).map_err(Error::user_namespace)? else {
        drop(release);
        let _ = wait.read(&mut [0]);
        process::exit_now(0)
    };
    let made = write_directly(id, maps)
        .and_then(|()| std::fs::File::open(format!("/proc/{id}/ns/user")).action("open the user namespace"));
    drop(release);
    process::wait_for(id).action("wait for a fork")?;
    Ok(made?.into())
}

//! Files of the host's, reached from within a user namespace by the rights that the caller has outside.
//!
//! Root of a namespace has power only over files whose owner and group both exist in it (`user_namespaces(7)`, "Interaction of
//! user IDs, group IDs, and file system permissions"). Where the caller is somebody else inside, root does not have the
//! caller's own rights either: a folder of the caller's with a foreign group is closed to it.

use std::io;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// Ids of the caller inside, user and group; `None` for one that is root there.
pub(crate) type Caller = Option<(u32, u32)>;

/// Does `work` with the rights of the caller in place of root's.
pub(crate) fn as_caller<T>(caller: Caller, work: impl FnOnce() -> T) -> T {
    let Some((uid, gid)) = caller else { return work() };
    let group = setfsgid(Gid::from_raw(gid));
    let user = setfsuid(Uid::from_raw(uid));
    let done = work();
    setfsuid(user);
    setfsgid(group);
    done
}

/// Becomes the caller for good, and keeps the power of root besides.
pub(crate) fn add_root_to(caller: Caller) -> io::Result<()> {
    let Some((uid, gid)) = caller else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_keep_capabilities(true)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

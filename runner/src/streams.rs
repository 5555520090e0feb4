//! Standard streams that are pipes, for a container whose root is not the caller: who opens `/dev/stdout` anew, as servers do
//! that log there, needs to own it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Gid, Uid, fchown, fstatfs};

use crate::userns::Maps;

/// `PIPEFS_MAGIC` of `linux/magic.h`: a pipe with a name is somebody's file, one without is nobody's but those who have it.
const PIPE_FS: i64 = 0x5049_5045;

/// Gives the pipes among this process's standard streams to root inside.
pub(crate) fn give(maps: &Maps) {
    let (Some(uid), Some(gid)) = (maps.users.outside(0, 1), maps.groups.outside(0, 1)) else { return };
    let one = |stream: BorrowedFd<'_>| {
        if fstatfs(stream).is_ok_and(|system| system.f_type == PIPE_FS) {
            // One that stays the caller's can still be written to.
            let _ = fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    };
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [input.as_fd(), output.as_fd(), errors.as_fd()].into_iter().for_each(one);
}

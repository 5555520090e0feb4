//! The holder: a sleeping process of the user's, in a user namespace where the user and its subordinate ids are what they
//! are outside. Who joins that namespace maps further ones below it by writing to `/proc`, with no set-id helper, whose
//! pair costs more than the rest of the mapping by far.
//!
//! It is found by a record in a folder that only the user can write to. That folder may still be in a container's hands: with
//! `-v /tmp:/tmp`, or as Distrobox binds `/run/user/UID`, root inside is the user on disk and can write what it likes. So the
//! record is a hint, and what is entered is judged by what the kernel alone says of it. To enter a namespace in which a process of
//! a container has power would be to be in that process's hands, with the caller's root and files.
//!
//! - *It is a child of this process's own user namespace.* To make one there takes a process there, and no container has any:
//!   theirs are in a user namespace of their own, at least. So a namespace that is made within a container, be its maps what they
//!   may, is not entered; nor is that of a container which was started by a holder.
//! - *Its owner is the caller.* Nobody else has made it.
//! - *Its maps are those of a holder*: the caller and its subordinate ids, each as itself. A container that was started without
//!   a holder is a child of this namespace too, but has root inside.
//!
//! What is left is a namespace that a process of the caller's own made outside of all containers. No process of a container is in
//! it, as containers are started in namespaces below, and none can come: who is in a namespace below has no power in the one
//! above (`user_namespaces(7)`). Other than that the number of the process and, where the kernel has one, the number that it never
//! gives again tell the holder from others. The files in the folder are opened so that nothing put there in their stead makes a
//! start wait or write elsewhere. Who can write there can make the next start slower, and no more.
//!
//! The holder has no descriptor but one that tells it of the record's removal, ends with the record, and ends when no start came
//! for ten minutes.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags};

use crate::error::{Action, Error};
use crate::idmap::{IdMap, SubordinateRanges};
use crate::refusal;
use crate::sys::process::{self, Fork};
use crate::sys::title;
use crate::userns::{self, Maps};

mod record;

pub(crate) use record::make_private;
use record::{RECORD, Record};

/// How long a holder waits for the next start.
const IDLE: Duration = Duration::from_mins(10);
/// How often a record that turns out to be stale is replaced before giving up.
const ATTEMPTS: usize = 3;

/// The subordinate ids of the caller, as the holder's namespace has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subordinates {
    /// User ids.
    pub users: SubordinateRanges,
    /// Group ids.
    pub groups: SubordinateRanges,
}

impl Subordinates {
    /// The caller and its subordinate ids, each as itself.
    fn maps(&self) -> Maps {
        let (uid, gid) = (Uid::current().as_raw(), Gid::current().as_raw());
        Maps { users: IdMap::identity(uid, &self.users), groups: IdMap::identity(gid, &self.groups) }
    }
}

/// Where the record is: below the runtime directory of the login, where the caller has one that exists and is its own, as
/// that of the environment is not after `su`; else below the one that a login of the caller would have; else in `/tmp`.
pub fn folder(runtime: Option<&Path>) -> PathBuf {
    let own = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == Uid::current().as_raw())
    };
    let usual = || PathBuf::from(format!("/run/user/{}", Uid::current()));
    match runtime.map(Path::to_path_buf).filter(own).or_else(|| Some(usual()).filter(own)) {
        Some(runtime) => runtime.join("lrun"),
        None => PathBuf::from(format!("/tmp/lrun-{}", Uid::current())),
    }
}

/// Moves this process into the holder's user namespace; a holder is started where there is none. The process must have a
/// single thread. Its ids stay what they are, and it is privileged over the subordinate ones.
///
/// # Errors
/// [`Error::IdMap`] without subordinate ids, [`Error::Helper`], [`Error::UserNamespace`], [`Error::Holder`].
pub fn join(folder: &Path) -> Result<Subordinates, Error> {
    // A monitor starts its container again within the namespace that it is in, whether that holder lives or not.
    static JOINED: std::sync::OnceLock<Subordinates> = std::sync::OnceLock::new();
    if let Some(joined) = JOINED.get() {
        return Ok(joined.clone());
    }
    for _ in 0..ATTEMPTS {
        if let Some(record) = Record::read(folder)
            && record.enter()
        {
            return Ok(JOINED.get_or_init(|| record.subordinates).clone());
        }
        start(folder)?;
    }
    Err(Error::Holder { folder: folder.to_path_buf(), reason: "each that was started ended at once".to_owned() })
}

/// Starts a holder and writes its record, unless another process was faster.
fn start(folder: &Path) -> Result<(), Error> {
    let explain = |source: io::Error| Error::Holder { folder: folder.to_path_buf(), reason: source.to_string() };
    let stamps = record::stamps();
    let (users, groups) = userns::subordinates()?;
    let subordinates = Subordinates { users, groups };
    let opened = record::open_private(folder).map_err(explain)?;
    let lock = record::lock(&opened).map_err(explain)?;
    if Record::read(folder).is_some_and(|record| record.subordinates == subordinates && record.namespace().is_some()) {
        return Ok(());
    }
    let (mut ready, tell_ready) = io::pipe().action("make a pipe")?;
    let (go, mut tell_go) = io::pipe().action("make a pipe")?;
    let place = folder.join(RECORD);
    match process::fork().action("fork")? {
        Fork::Child => {
            drop((ready, tell_go, lock, opened));
            // A fork of the fork belongs to nobody who would have to wait for it.
            if let Ok(Fork::Child) = process::fork() {
                hold(tell_ready, go, &place);
            }
            process::exit_now(0)
        }
        Fork::Parent(id) => {
            drop((tell_ready, go));
            process::wait_for(id).action("wait for a fork")?;
            let mut pid = [0; 4];
            ready.read_exact(&mut pid).action("hear from the holder")?;
            let pid = i32::from_le_bytes(pid);
            if pid <= 0 {
                let mut told = String::new();
                ready.read_to_string(&mut told).action("hear from the holder")?;
                return Err(match pid {
                    0 => Error::Parent { action: "start a holder", source: io::Error::other(told) },
                    errno => Error::user_namespace(io::Error::from_raw_os_error(-errno)),
                });
            }
            let process = Pid::from_raw(pid).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
            let unique = process.and_then(|process| record::unique(&process)).unwrap_or(0);
            let made = Record { pid, unique, is_of_this_boot: true, stamps, subordinates };
            userns::write_by_helpers(made.pid, &made.subordinates.maps())?;
            made.publish(&opened).map_err(explain)?;
            tell_go.write_all(b"g").action("release the holder")
        }
    }
}

/// The holder's life; returns when it is over.
fn hold(mut ready: io::PipeWriter, mut go: io::PipeReader, record: &Path) {
    title::set("holder");
    let prepare = || -> io::Result<()> {
        nix::unistd::setsid()?;
        process::reset_signals()?;
        process::detach_stdio().map_err(refusal::of_null)?;
        std::env::set_current_dir("/")
    };
    // A number that is none of a process means that there is no holder.
    let told = match prepare() {
        Err(error) => [&0_i32.to_le_bytes()[..], error.to_string().as_bytes()].concat(),
        Ok(()) => match nix::sched::unshare(CloneFlags::CLONE_NEWUSER) {
            Err(errno) => (-(errno as i32)).to_le_bytes().to_vec(),
            Ok(()) => process::own_id().to_le_bytes().to_vec(),
        },
    };
    let is_told = ready.write_all(&told).is_ok();
    drop(ready);
    // Closed without a word: whoever wanted a holder could not map it.
    if !is_told || go.read_exact(&mut [0]).is_err() {
        return;
    }
    drop(go);
    process::close_all_but(std::iter::empty());
    let Ok(events) = inotify::init(inotify::CreateFlags::CLOEXEC) else { return };
    let gone = inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::MOVE_SELF;
    if inotify::add_watch(&events, record, gone).is_err() {
        return;
    }
    let is_own = || Record::found(record).map(|found| found.pid);
    let own = process::own_id();
    let mut wait = IDLE;
    while is_own() == Some(own) {
        let timeout = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: 0 };
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {}
            // The record has gone, or another's has taken its place.
            _ => return,
        }
        let age = std::fs::metadata(record).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        match age {
            Ok(Ok(age)) if age < IDLE => wait = IDLE.saturating_sub(age) + Duration::from_secs(1),
            _ => {
                let _ = std::fs::remove_file(record);
                return;
            }
        }
    }
}

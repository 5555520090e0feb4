//! The holder: a sleeping process of the user's, in a user namespace where the user and its subordinate ids are what they
//! are outside. Who joins that namespace maps further ones below it by writing to `/proc`, with no set-id helper, whose
//! pair costs more than the rest of the mapping by far.
//!
//! It is found by a record in a folder that only the user can write to, and believed only while its process has the very
//! maps that the record tells, or is by the kernel's own number the very process that was mapped. It holds no descriptor but one that tells it of the record's removal, ends with the record,
//! and ends when no start came for ten minutes.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, flock, inotify};
use rustix::process::{Pid, PidfdFlags};

use crate::enter;
use crate::error::{Action, Error};
use crate::idmap::{IdMap, SubordinateRanges};
use crate::refusal;
use crate::sys::process::{self, Fork};
use crate::userns::{self, Maps, SUBGID, SUBUID};

/// How long a holder waits for the next start.
const IDLE: Duration = Duration::from_mins(10);
/// A record whose age is below this is not made younger: a start that follows another writes nothing.
const FRESH: Duration = Duration::from_mins(1);
/// The record's name, and the lock's under which one is made.
const RECORD: &str = "holder";
const LOCK: &str = "holder.lock";
/// A record of another form is of another version of this program, and replaced.
const FORM: &str = "lrun holder 2";
/// `PID_FS_MAGIC` and `TMPFS_MAGIC` of `linux/magic.h`.
const PID_FS: i64 = 0x5049_4446;
const TMP_FS: i64 = 0x0102_1994;
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
/// that of the environment is not after `su`; else in `/tmp`.
pub fn folder(runtime: Option<&Path>) -> PathBuf {
    let own = |path: &&Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == Uid::current().as_raw())
    };
    match runtime.filter(own) {
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

/// What a holder's record says.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    pid: i32,
    /// The number that no other process has until the machine is booted anew (Linux 6.9); 0 for none.
    unique: u64,
    /// Whether the record was read from a file system in memory, so that it is of this boot.
    is_of_this_boot: bool,
    /// State of the files that name the subordinate ids, when the holder was mapped.
    stamps: [String; 2],
    subordinates: Subordinates,
}

impl Record {
    /// Reads the record, unless it is missing, of another form, or outdated by a change of the subordinate ids.
    fn read(folder: &Path) -> Option<Self> {
        let mut file = File::open(folder.join(RECORD)).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.uid() != Uid::current().as_raw() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let is_of_this_boot = rustix::fs::fstatfs(&file).is_ok_and(|system| system.f_type == TMP_FS);
        let record = Self { is_of_this_boot, ..Self::parse(&text)? };
        if record.stamps != stamps() {
            return None;
        }
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_none_or(|age| age > FRESH) {
            // Told to the holder by this time alone. A folder on a full or read-only disk lets it end sooner, no more.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(record)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(FORM) {
            return None;
        }
        let mut next = || lines.next().map(str::to_owned);
        let (pid, unique) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let stamps = [next()?, next()?];
        let subordinates = Subordinates { users: ranges(&next()?)?, groups: ranges(&next()?)? };
        Some(Self { pid, unique, is_of_this_boot: false, stamps, subordinates })
    }

    fn text(&self) -> String {
        let Self { pid, unique, stamps: [users, groups], subordinates, .. } = self;
        let mut text = format!("{FORM}\n{pid}\n{unique}\n{users}\n{groups}\n");
        for ranges in [&subordinates.users, &subordinates.groups] {
            let words: Vec<String> = ranges.0.iter().map(|(first, count)| format!("{first}:{count}")).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", words.join(" "));
        }
        text
    }

    /// Joins the namespace. `false`: the process has gone, or its number is another's by now.
    fn enter(&self) -> bool {
        if self.is_of_this_boot
            && self.unique != 0
            && let Some((process, unique)) = identified(self.pid)
        {
            return unique == self.unique && enter::holder(process).is_ok();
        }
        let maps = self.subordinates.maps();
        let has = |file: &str, map: &IdMap| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).is_ok_and(|text| map.is_shown_by(&text))
        };
        // Held open across the checks, so that they are about the namespace that is entered.
        let Ok(namespace) = File::open(format!("/proc/{}/ns/user", self.pid)) else { return false };
        has("uid_map", &maps.users) && has("gid_map", &maps.groups) && enter::holder(&namespace).is_ok()
    }
}

/// A process and its unique number, where the kernel gives one.
fn identified(pid: i32) -> Option<(OwnedFd, u64)> {
    let process = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let is_numbered = rustix::fs::fstatfs(&process).is_ok_and(|system| system.f_type == PID_FS);
    let unique = rustix::fs::fstat(&process).ok()?.st_ino;
    is_numbered.then_some((process, unique))
}

fn ranges(line: &str) -> Option<SubordinateRanges> {
    let range = |word: &str| word.split_once(':').and_then(|(first, count)| first.parse().ok().zip(count.parse().ok()));
    line.split(' ').map(range).collect::<Option<Vec<(u32, u32)>>>().map(SubordinateRanges)
}

/// What changes when the files of subordinate ids are edited.
fn stamps() -> [String; 2] {
    let stamp = |metadata: Metadata| {
        format!("{} {} {}.{}", metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
    };
    [SUBUID, SUBGID].map(|file| std::fs::metadata(file).map_or_else(|_| "none".to_owned(), stamp))
}

/// Starts a holder and writes its record, unless another process was faster.
fn start(folder: &Path) -> Result<(), Error> {
    let explain = |source: io::Error| Error::Holder { folder: folder.to_path_buf(), reason: source.to_string() };
    let stamps = stamps();
    let (users, groups) = userns::subordinates()?;
    let subordinates = Subordinates { users, groups };
    make_private(folder).map_err(explain)?;
    let lock = File::options().create(true).append(true).open(folder.join(LOCK)).map_err(explain)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| explain(errno.into()))?;
    if Record::read(folder).is_some_and(|record| record.subordinates == subordinates && is_alive(&record)) {
        return Ok(());
    }
    let (mut ready, tell_ready) = io::pipe().action("make a pipe")?;
    let (go, mut tell_go) = io::pipe().action("make a pipe")?;
    let record = folder.join(RECORD);
    match process::fork().action("fork")? {
        Fork::Child => {
            drop((ready, tell_go, lock));
            // A fork of the fork belongs to nobody who would have to wait for it.
            if let Ok(Fork::Child) = process::fork() {
                hold(tell_ready, go, &record);
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
            let unique = identified(pid).map_or(0, |(_, unique)| unique);
            let made = Record { pid, unique, is_of_this_boot: true, stamps, subordinates };
            userns::write_by_helpers(made.pid, &made.subordinates.maps())?;
            let draft = folder.join(format!("{RECORD}.{}", process::own_id()));
            std::fs::write(&draft, made.text()).and_then(|()| std::fs::rename(&draft, &record)).map_err(explain)?;
            tell_go.write_all(b"g").action("release the holder")
        }
    }
}

/// Makes the folder; one that somebody else can write to is refused, as is a link to elsewhere.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let metadata = std::fs::symlink_metadata(folder)?;
    let is_own = metadata.is_dir() && metadata.uid() == Uid::current().as_raw() && metadata.mode() & 0o022 == 0;
    if is_own { Ok(()) } else { Err(io::Error::other("the folder is not yours alone")) }
}

fn is_alive(record: &Record) -> bool {
    Path::new(&format!("/proc/{}/ns/user", record.pid)).exists()
}

/// The holder's life; returns when it is over.
fn hold(mut ready: io::PipeWriter, mut go: io::PipeReader, record: &Path) {
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
    let _ = rustix::thread::set_name(c"lrun-holder");
    let Ok(events) = inotify::init(inotify::CreateFlags::CLOEXEC) else { return };
    let gone = inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::MOVE_SELF;
    if inotify::add_watch(&events, record, gone).is_err() {
        return;
    }
    let is_own = || std::fs::read_to_string(record).ok().and_then(|text| Record::parse(&text)).map(|found| found.pid);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let subordinates = Subordinates {
            users: SubordinateRanges(vec![(100_000, 65_536), (300_000, 5)]),
            groups: SubordinateRanges(vec![(200_000, 65_536)]),
        };
        let stamps = ["1 2 3".to_owned(), "none".to_owned()];
        let record = Record { pid: 7, unique: 1 << 40, is_of_this_boot: false, stamps, subordinates };
        assert_eq!(Record::parse(&record.text()), Some(record));
        assert_eq!(Record::parse("lrun holder 1\n7\na\nb\n1:1\n1:1\n"), None);
        assert_eq!(Record::parse(""), None);
    }

    #[test]
    fn a_process_is_known_by_a_number_of_its_own() {
        let Some((_, own)) = identified(process::own_id()) else { return };
        assert_eq!(identified(process::own_id()).unwrap().1, own);
        assert_ne!(identified(1).unwrap().1, own);
        let nobody = SubordinateRanges(Vec::new());
        let record = Record {
            pid: 1,
            unique: own,
            is_of_this_boot: true,
            stamps: stamps(),
            subordinates: Subordinates { users: nobody.clone(), groups: nobody },
        };
        assert!(!record.enter(), "another process than was recorded");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        make_private(folder.path()).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(make_private(folder.path()).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(make_private(&link).is_err());
    }
}

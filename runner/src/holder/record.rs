//! The holder's record: which process it is, and the ids that its namespace has. [`super`] tells why it is no more than a hint.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::Uid;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat};
use rustix::process::{Pid, PidfdFlags};

use super::Subordinates;
use crate::enter;
use crate::exec::has_ended;
use crate::idmap::{IdMap, SubordinateRanges};
use crate::sys::{namespace, process};
use crate::userns::{SUBGID, SUBUID};

/// A record whose age is below this is not made younger: a start that follows another writes nothing.
const FRESH: Duration = Duration::from_mins(1);
/// The record's name, and the lock's under which one is made.
pub(super) const RECORD: &str = "holder";
const LOCK: &str = "holder.lock";
/// A record of another form is of another version of this program, and replaced.
const FORM: &str = "lrun holder 2";
/// `PID_FS_MAGIC` and `TMPFS_MAGIC` of `linux/magic.h`.
const PID_FS: i64 = 0x5049_4446;
const TMP_FS: i64 = 0x0102_1994;
/// Longer than any record: a line of ranges for users, and one for groups.
const LONGEST: u64 = 64 * 1024;
/// As long as most are, and as the maps of a namespace.
const USUAL: usize = 1024;
/// How long another start may take to make a holder before this one does without.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a holder's record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) pid: i32,
    /// The number that no other process has until the machine is booted anew (Linux 6.9); 0 for none.
    pub(super) unique: u64,
    /// Whether the record was read from a file system in memory, so that it is of this boot.
    pub(super) is_of_this_boot: bool,
    /// State of the files that name the subordinate ids, when the holder was mapped.
    pub(super) stamps: [String; 2],
    pub(super) subordinates: Subordinates,
}

impl Record {
    /// Reads the record, unless it is missing, of another form, or outdated by a change of the subordinate ids.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let (file, metadata) = open(rustix::fs::CWD, &folder.join(RECORD)).ok()?;
        let is_of_this_boot = rustix::fs::fstatfs(&file).is_ok_and(|system| system.f_type == TMP_FS);
        let record = Self { is_of_this_boot, ..Self::parse(&text(&file).ok()?)? };
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

    /// What a file that may be a record says.
    pub(super) fn found(path: &Path) -> Option<Self> {
        let (file, _) = open(rustix::fs::CWD, path).ok()?;
        Self::parse(&text(&file).ok()?)
    }

    /// Puts it in place of what is there.
    pub(super) fn publish(&self, folder: &OwnedFd) -> io::Result<()> {
        let draft = format!("{RECORD}.{}", process::own_id());
        match rustix::fs::unlinkat(folder, &draft, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, &draft, flags, Mode::RUSR | Mode::WUSR)?;
        File::from(file).write_all(self.text().as_bytes())?;
        Ok(rustix::fs::renameat(folder, &draft, folder, RECORD)?)
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

    /// Joins the namespace. `false`: the process has gone, its number is another's by now, or it is none that a holder has.
    pub(super) fn enter(&self) -> bool {
        self.namespace().is_some_and(|found| enter::holder(found).is_ok())
    }

    /// The user namespace of the process, if it can be a holder's; see above.
    pub(super) fn namespace(&self) -> Option<OwnedFd> {
        let process = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        if self.is_of_this_boot && self.unique != 0 && unique(&process).is_some_and(|unique| unique != self.unique) {
            return None;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{}", self.pid), flags, Mode::empty()).ok()?;
        let open = |name: &str| openat(&folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from);
        let found = open("ns/user").ok()?;
        let maps = self.subordinates.maps();
        let has = |file: &str, map: &IdMap| {
            open(file)
                .and_then(|file| text(&file).map_err(|_| rustix::io::Errno::IO))
                .is_ok_and(|text| map.is_shown_by(&text))
        };
        let is_holders = is_own_child(&found)? && has("uid_map", &maps.users) && has("gid_map", &maps.groups);
        // Alive after all was looked at, so that all was about the process of this number.
        (is_holders && !has_ended(process.as_fd())).then(|| found.into())
    }
}

/// Whether a user namespace was made by the caller, in the one that this process is in.
fn is_own_child(found: &File) -> Option<bool> {
    if namespace::owner_of_user_namespace(found).ok()? != Uid::current().as_raw() {
        return Some(false);
    }
    let around = rustix::fs::fstat(namespace::around(found).ok()?).ok()?;
    let own = std::fs::metadata("/proc/self/ns/user").ok()?;
    Some((around.st_dev, around.st_ino) == (own.dev(), own.ino()))
}

/// Opens a file of the folder, which somebody else may have put there: it is not waited for, no link is followed, and it is a file
/// of the caller's.
fn open(folder: BorrowedFd<'_>, name: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    checked(openat(folder, name, flags, Mode::empty())?.into())
}

fn checked(file: File) -> io::Result<(File, Metadata)> {
    let metadata = file.metadata()?;
    let is_own = metadata.is_file() && metadata.uid() == Uid::current().as_raw();
    if is_own { Ok((file, metadata)) } else { Err(io::Error::other("a file in it is not yours, or is none")) }
}

fn text(file: &File) -> io::Result<String> {
    // With room for what there usually is: one read for it, and one for the end.
    let mut text = String::with_capacity(USUAL);
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Takes the lock under which a holder is made.
pub(super) fn lock(folder: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (lock, _) = checked(openat(folder, LOCK, flags, Mode::RUSR | Mode::WUSR)?.into())?;
    let (begin, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::AGAIN) => return Err(io::Error::other("another process keeps its lock")),
            locked => {
                locked?;
                return Ok(lock);
            }
        }
    }
}

/// The number that a process has and no other gets until the machine is booted anew, where the kernel gives one.
pub(super) fn unique(process: &OwnedFd) -> Option<u64> {
    let is_numbered = rustix::fs::fstatfs(process).is_ok_and(|system| system.f_type == PID_FS);
    let number = rustix::fs::fstat(process).ok()?.st_ino;
    is_numbered.then_some(number)
}

fn ranges(line: &str) -> Option<SubordinateRanges> {
    let range = |word: &str| word.split_once(':').and_then(|(first, count)| first.parse().ok().zip(count.parse().ok()));
    line.split(' ').map(range).collect::<Option<Vec<(u32, u32)>>>().map(SubordinateRanges)
}

/// What changes when the files of subordinate ids are edited.
pub(super) fn stamps() -> [String; 2] {
    let stamp = |metadata: Metadata| {
        format!("{} {} {}.{}", metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
    };
    [SUBUID, SUBGID].map(|file| std::fs::metadata(file).map_or_else(|_| "none".to_owned(), stamp))
}

/// Makes the folder; one that somebody else can write to is refused, as is a link to elsewhere.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    open_private(folder).map(drop)
}

pub(super) fn open_private(folder: &Path) -> io::Result<OwnedFd> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let alien = || io::Error::other("the folder is not yours alone");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(folder, flags, Mode::empty()).map_err(|_| alien())?);
    let metadata = opened.metadata()?;
    let is_own = metadata.uid() == Uid::current().as_raw() && metadata.mode() & 0o022 == 0;
    if is_own { Ok(opened.into()) } else { Err(alien()) }
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
        let open = |pid: i32| rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let Some(own) = unique(&open(process::own_id())) else { return };
        assert_eq!(unique(&open(process::own_id())), Some(own));
        assert_ne!(unique(&open(1)), Some(own));
    }

    #[test]
    fn a_namespace_that_is_not_below_ours_is_not_entered() {
        let nobody = SubordinateRanges(Vec::new());
        let pid = process::own_id();
        let subordinates = Subordinates { users: nobody.clone(), groups: nobody };
        let record = Record { pid, unique: 0, is_of_this_boot: true, stamps: stamps(), subordinates };
        assert!(record.namespace().is_none(), "that of this process");
        let own = File::open("/proc/self/ns/user").unwrap();
        assert_ne!(is_own_child(&own), Some(true));
    }

    #[test]
    fn what_was_put_in_place_of_a_file_is_neither_waited_for_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("lrun");
        let opened = open_private(&place).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "untouched").unwrap();
        let fifo = place.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(opened.as_fd(), Path::new("fifo")).is_err());
        std::os::unix::fs::symlink(&other, place.join(RECORD)).unwrap();
        assert!(open(opened.as_fd(), Path::new(RECORD)).is_err() && Record::read(&place).is_none());
        std::os::unix::fs::symlink(&other, place.join(LOCK)).unwrap();
        assert!(lock(&opened).is_err());
        std::os::unix::fs::symlink(&other, place.join(format!("{RECORD}.{}", process::own_id()))).unwrap();
        let nobody = SubordinateRanges(Vec::new());
        let subordinates = Subordinates { users: nobody.clone(), groups: nobody };
        let record = Record { pid: 1, unique: 0, is_of_this_boot: true, stamps: stamps(), subordinates };
        record.publish(&opened).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"untouched");
        assert!(std::fs::symlink_metadata(place.join(RECORD)).unwrap().is_file());
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

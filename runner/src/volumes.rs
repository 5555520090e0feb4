//! Volumes: directories that outlive containers.
//!
//! ```text
//! volumes/NAME/   the folder; its lock is shared by who is about to note a use of it, and taken alone by who removes it
//!   record        what is known of it, JSON; without it the volume is still being made
//!   data/         the volume
//!   fresh         nobody has used it yet: the first container puts in what its image has there
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::copy::{Copier, Owner, names};
use crate::state::{Moment, now};
use crate::target::{Root, file_type};

/// Name of the volume itself in its folder.
pub(crate) const DATA: &str = "data";
const RECORD: &str = "record";
const FRESH: &str = "fresh";
/// The record before it is whole.
const DRAFT: &str = "record.new";
/// A record of another form is of another version of this program.
const FORM: u32 = 1;

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    form: u32,
    /// When it was made.
    pub created: Moment,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it was made for one container, without a name of the caller's.
    pub anonymous: bool,
}

impl VolumeRecord {
    /// Of a volume to be.
    pub fn new(labels: BTreeMap<String, String>, anonymous: bool) -> Self {
        Self { form: FORM, created: now(), labels, anonymous }
    }
}

/// A volume that is there, kept from being removed for as long as this value lives.
#[derive(Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What is known of it.
    pub record: VolumeRecord,
    _lock: File,
}

impl Volume {
    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// Whether no container has used it yet.
    pub fn is_fresh(&self) -> bool {
        self.folder.join(FRESH).exists()
    }
}

/// The volumes of a store, by the folder of their folders.
#[derive(Debug, Clone)]
pub struct Volumes(PathBuf);

impl Volumes {
    /// Those whose folders are in `folder`.
    pub fn within(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The volume of a name, made where it is missing, and whether it was. The name is one that [`Self::find`] takes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn ensure(&self, name: &str, record: &VolumeRecord) -> io::Result<(Volume, bool)> {
        let folder = self.0.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        loop {
            match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let Some(lock) = lock(&folder, FlockOperation::LockShared)? else { continue };
            if let Some(record) = read(&folder)? {
                return Ok((Volume { name: name.to_owned(), folder, record, _lock: lock }, false));
            }
            // The kernel lets go of the shared lock meanwhile: what was true under it need not be.
            flock(&lock, FlockOperation::LockExclusive)?;
            if !is_at(&lock, &folder)? || read(&folder)?.is_some() {
                continue;
            }
            make(&lock, record)?;
            flock(&lock, FlockOperation::LockShared)?;
            if is_at(&lock, &folder)? {
                return Ok((Volume { name: name.to_owned(), folder, record: record.clone(), _lock: lock }, true));
            }
        }
    }

    /// The volume of a name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn find(&self, name: &str) -> io::Result<Option<Volume>> {
        self.locked(name, FlockOperation::LockShared)
    }

    /// The volume of a name, for removing it: waits until nobody is about to use it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn take(&self, name: &str) -> io::Result<Option<Volume>> {
        self.locked(name, FlockOperation::LockExclusive)
    }

    fn locked(&self, name: &str, how: FlockOperation) -> io::Result<Option<Volume>> {
        // What is no name leads nowhere: not out of the folder, and not to the folder itself.
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Ok(None);
        }
        let folder = self.0.join(name);
        let Some(lock) = lock(&folder, how)? else { return Ok(None) };
        let record = read(&folder)?;
        Ok(record.map(|record| Volume { name: name.to_owned(), folder, record, _lock: lock }))
    }

    /// Folders of volumes that were never finished, and that nobody is at: those who were to finish them were killed. Each is
    /// locked, as by [`Self::take`]. A folder with anything in it that such a volume has not is another's.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn unfinished(&self) -> io::Result<Vec<(PathBuf, File)>> {
        let mut left = Vec::new();
        for name in self.names() {
            let folder = self.0.join(name);
            let lock = match lock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if is_unfinished(&folder)? {
                left.push((folder, lock));
            }
        }
        Ok(left)
    }

    /// The names of all, in order.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Opens and locks a volume's folder; `None` if it is another's or nobody's by then.
fn lock(folder: &Path, how: FlockOperation) -> io::Result<Option<File>> {
    let lock = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    flock(&lock, how)?;
    Ok(is_at(&lock, folder)?.then_some(lock))
}

fn is_at(lock: &File, folder: &Path) -> io::Result<bool> {
    let own = lock.metadata()?.ino();
    Ok(std::fs::metadata(folder).is_ok_and(|now| now.ino() == own))
}

fn read(folder: &Path) -> io::Result<Option<VolumeRecord>> {
    let text = match std::fs::read(folder.join(RECORD)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other?,
    };
    let record: VolumeRecord = serde_json::from_slice(&text)?;
    if record.form == FORM { Ok(Some(record)) } else { Err(io::Error::other("it is of another version of lrun")) }
}

/// Whether a folder has nothing but what a volume has before its record. Nothing is in its data by then.
fn is_unfinished(folder: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let is_own = match entry.file_name().to_str() {
            Some(DATA) => entry.file_type()?.is_dir() && std::fs::read_dir(entry.path())?.next().is_none(),
            Some(FRESH | DRAFT) => true,
            _ => false,
        };
        if !is_own {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes what a folder lacks; the record last, by which the volume is there.
fn make(folder: &File, record: &VolumeRecord) -> io::Result<()> {
    match mkdirat(folder, DATA, Mode::from_raw_mode(0o755)) {
        Err(error) if error != Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    openat(folder, FRESH, flags, Mode::RUSR | Mode::WUSR)?;
    let draft = openat(folder, DRAFT, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(draft).write_all(&serde_json::to_vec(record)?)?;
    Ok(renameat(folder, DRAFT, folder, RECORD)?)
}

/// Opens the folder of a volume.
pub(crate) fn open(folder: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens for working in it what is open as a place.
pub(crate) fn reopen(folder: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What is done with a volume before it covers `place`: the first time, and if it is still empty, it gets what is there in the
/// image. Runs among the ids of the container. Whether it was the first time.
pub(crate) fn begin(folder: &OwnedFd, copies: bool, root: &Root, place: &OwnedFd) -> io::Result<bool> {
    let mark = match openat(folder, FRESH, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    flock(&mark, FlockOperation::LockExclusive)?;
    // Another was first, and is done with it.
    if fstat(&mark)?.st_nlink == 0 {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let data = openat(folder, DATA, flags, Mode::empty())?;
    // What other mounts have there, as those of the host's /dev, is not the image's.
    let is_images = file_type(place)? == FileType::Directory && fstat(place)?.st_dev == fstat(root)?.st_dev;
    if is_images && names(&data)?.is_empty() {
        let original = openat(place, ".", flags, Mode::empty())?;
        fill(folder, original, copies)?;
    }
    unlinkat(folder, FRESH, AtFlags::empty())?;
    Ok(true)
}

/// Puts a whole copy in the place of the empty volume; one that a kill has cut short stays aside and goes with the volume.
fn fill(folder: &OwnedFd, original: OwnedFd, copies: bool) -> io::Result<()> {
    let mut copier = Copier::new(Owner::Kept, false, false);
    let mut number = 0;
    let draft = loop {
        let draft = format!("draft.{number}");
        match mkdirat(folder, draft.as_str(), Mode::RWXU) {
            Err(Errno::EXIST) => number += 1,
            Err(error) => return Err(error.into()),
            Ok(()) => break draft,
        }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = openat(folder, draft.as_str(), flags, Mode::empty())?;
    if copies {
        copier.contents(original, open, true)?;
    } else {
        copier.metadata(original.as_fd(), open.as_fd())?;
    }
    match renameat(folder, draft.as_str(), folder, DATA) {
        // Somebody has put something in meanwhile, which stays.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

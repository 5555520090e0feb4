//! Walks through trees of folders, of any depth and width, with few descriptors and without recursion.
//!
//! A walk holds the folders open that it is in: the deepest ones. The others are closed on the way down and opened again,
//! by "..", on the way up; that what is found there is the folder that was left is seen by its device and number.

use std::io;

use rustix::fs::{FileType, Mode, OFlags};

use super::dir::Dir;

/// Folders that a walk holds open at once.
const OPEN: usize = 32;

/// Where a walk is: the folders from its first one down to the present one, each with what the walker keeps of it.
#[derive(Debug)]
pub struct Walk<T> {
    levels: Vec<Level<T>>,
    /// Levels at the beginning that are closed.
    closed: usize,
}

#[derive(Debug)]
struct Level<T> {
    dir: Option<Dir>,
    /// Device and inode number.
    identity: (u64, u64),
    kept: T,
}

impl<T> Walk<T> {
    /// Begins in `dir`.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn new(dir: Dir, kept: T) -> io::Result<Self> {
        let mut walk = Self { levels: Vec::new(), closed: 0 };
        walk.enter(dir, kept)?;
        Ok(walk)
    }

    /// Goes down into a folder of the present one.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn enter(&mut self, dir: Dir, kept: T) -> io::Result<()> {
        let identity = identity(&dir)?;
        self.levels.push(Level { dir: Some(dir), identity, kept });
        if self.levels.len() - self.closed > OPEN {
            self.levels[self.closed].dir = None;
            self.closed += 1;
        }
        Ok(())
    }

    /// The present folder; `None` at the end of the walk.
    pub fn here(&mut self) -> Option<(&Dir, &mut T)> {
        let level = self.levels.last_mut()?;
        Some((level.dir.as_ref()?, &mut level.kept))
    }

    /// Goes up again; the folder that was left. The walk ends with the first one.
    ///
    /// # Errors
    /// `NotFound` where another process has removed the folder meanwhile; another where it has been moved.
    pub fn leave(&mut self) -> io::Result<Option<(Dir, T)>> {
        let Some(Level { dir: Some(dir), kept, .. }) = self.levels.pop() else { return Ok(None) };
        if let Some(above) = self.levels.last_mut()
            && above.dir.is_none()
        {
            let found = dir.parent()?;
            if identity(&found)? != above.identity {
                return Err(io::Error::other("a folder was moved while it was looked through"));
            }
            above.dir = Some(found);
            self.closed -= 1;
        }
        Ok(Some((dir, kept)))
    }
}

fn identity(dir: &Dir) -> io::Result<(u64, u64)> {
    let stat = dir.stat_self()?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A folder that is being removed, and what is left to remove in it.
type Removed = (Vec<u8>, std::vec::IntoIter<(Vec<u8>, FileType)>);

impl Dir {
    /// The folder that this one is in, as it is now.
    fn parent(&self) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(self, "..", flags, Mode::empty())?.into())
    }

    /// Removes `name` and all below it. Directories without permissions are made passable first; nothing is followed.
    /// What another process removes at the same time is gone as well as by our hand.
    ///
    /// # Errors
    /// Those of the file system; that nothing has the name is none.
    pub fn remove_tree(&self, name: &[u8]) -> io::Result<()> {
        loop {
            match self.unlink(name) {
                Err(error) if is_folder(&error) => {}
                other => return unless_gone(other).map(drop),
            }
            let Some(dir) = unless_gone(self.open_passable(name))? else { return Ok(()) };
            match remove_all(dir) {
                // Another process removed the folder that the walk was in, so that there is no way up: the rest is begun anew.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            }
            return unless_gone(self.remove_dir(name)).map(drop);
        }
    }

    fn open_passable(&self, name: &[u8]) -> io::Result<Self> {
        const PASSABLE: u32 = 0o700;
        let dir = match self.open_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.set_mode(name, PASSABLE)?;
                self.open_dir(name)?
            }
            other => other?,
        };
        if dir.stat_self()?.st_mode & PASSABLE != PASSABLE {
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(PASSABLE))?;
        }
        Ok(dir)
    }
}

/// Removes all that is in a folder.
fn remove_all(dir: Dir) -> io::Result<()> {
    let entries = list(&dir)?;
    let mut walk: Walk<Removed> = Walk::new(dir, (Vec::new(), entries))?;
    while let Some((dir, (_, entries))) = walk.here() {
        let Some((name, kind)) = entries.next() else {
            if let Some((_, (name, _))) = walk.leave()?
                && let Some((parent, _)) = walk.here()
            {
                unless_gone(parent.remove_dir(&name))?;
            }
            continue;
        };
        if kind != FileType::Directory {
            match dir.unlink(&name) {
                // A file system may not tell what is a folder.
                Err(error) if is_folder(&error) => {}
                other => {
                    unless_gone(other)?;
                    continue;
                }
            }
        }
        if let Some(deeper) = unless_gone(dir.open_passable(&name))? {
            let entries = list(&deeper)?;
            walk.enter(deeper, (name, entries))?;
        }
    }
    Ok(())
}

/// What is in a folder; nothing where that has gone.
fn list(dir: &Dir) -> io::Result<std::vec::IntoIter<(Vec<u8>, FileType)>> {
    Ok(unless_gone(dir.entries())?.unwrap_or_default().into_iter())
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Whether `unlink(2)` was refused because it was a folder's name: the standard has EPERM for that, Linux EISDIR.
fn is_folder(error: &io::Error) -> bool {
    const EISDIR: i32 = rustix::io::Errno::ISDIR.raw_os_error();
    const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
    matches!(error.raw_os_error(), Some(EISDIR | EPERM))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// Makes folders within folders, without a descriptor for each.
    fn deep(dir: &Dir, depth: usize) {
        let mut level = dir.try_clone().unwrap();
        for _ in 0..depth {
            level.symlink(b"../canary", b"link").unwrap();
            level = level.ensure_dir(b"d", 0o700).unwrap();
        }
    }

    #[test]
    fn deep_trees_are_removed_with_few_descriptors_and_link_targets_spared() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        dir.create_new(b"canary", 0o600).unwrap();
        deep(&dir.ensure_dir(b"t", 0o700).unwrap(), 3000);
        dir.remove_tree(b"t").unwrap();
        assert!(!dir.exists(b"t").unwrap());
        assert!(dir.exists(b"canary").unwrap());
        dir.remove_tree(b"missing").unwrap();
    }

    #[test]
    fn a_walk_comes_back_to_the_folders_that_it_left() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        deep(&root, 500);
        let before = open_descriptors();
        let mut walk = Walk::new(root, 0).unwrap();
        for depth in 1..=500 {
            let (dir, _) = walk.here().unwrap();
            let deeper = dir.open_dir(b"d").unwrap();
            walk.enter(deeper, depth).unwrap();
        }
        // Other tests run beside this one.
        assert!(open_descriptors() < before + 300);
        for depth in (1..=500).rev() {
            let (_, kept) = walk.leave().unwrap().unwrap();
            assert_eq!(kept, depth);
            let (dir, kept) = walk.here().unwrap();
            assert_eq!(*kept, depth - 1);
            assert!(dir.exists(b"link").unwrap());
        }
        assert!(walk.leave().unwrap().is_some());
        assert!(walk.here().is_none());
    }

    #[test]
    fn a_folder_that_was_moved_is_no_way_up() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        deep(&root, 100);
        let mut walk = Walk::new(root.try_clone().unwrap(), ()).unwrap();
        for _ in 0..100 {
            let deeper = walk.here().unwrap().0.open_dir(b"d").unwrap();
            walk.enter(deeper, ()).unwrap();
        }
        // The first folder that is closed, 40 above the last, is put elsewhere.
        let mut above = root.try_clone().unwrap();
        for _ in 0..68 {
            above = above.open_dir(b"d").unwrap();
        }
        above.rename(b"d", &root, b"elsewhere").unwrap();
        let left = (0..100).find_map(|_| walk.leave().err());
        assert!(left.is_some_and(|error| error.to_string().contains("moved")));
    }

    #[test]
    fn many_folders_in_one_are_removed_in_a_time_that_grows_with_their_number() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        let mut taken = Vec::new();
        for count in [1000, 8000] {
            let wide = dir.ensure_dir(b"wide", 0o700).unwrap();
            for number in 0..count {
                wide.make_dir(format!("{number}").as_bytes(), 0).unwrap();
            }
            let begin = Instant::now();
            dir.remove_tree(b"wide").unwrap();
            taken.push(begin.elapsed());
        }
        // Eight times as many; each one listing the rest anew would take sixty-four times as long.
        assert!(taken[1] < taken[0] * 30 + Duration::from_millis(200), "{taken:?}");
    }
}

//! What the changes of containers take on disk.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::copy::names;
use crate::error::{Action, Error};
use crate::own;
use crate::spec::Spec;
use crate::sys::process::{self, Fork};
use crate::userns;

/// Bytes on disk of what each container has changed, by the containers' folders, but for files of the runner's own. A file
/// with several names counts once; of a copy of the image's files, what was touched since that was made. Counted by a fork in a user namespace of the caller's, whose root may look into what belongs to ids of its range.
///
/// # Errors
/// Those of the namespace; [`Error::Files`].
pub fn sizes(folders: &[(PathBuf, &Spec)]) -> Result<Vec<u64>, Error> {
    let (mut hear, mut tell) = io::pipe().action("make a pipe")?;
    match process::fork().action("fork")? {
        Fork::Child => {
            drop(hear);
            let counted = userns::enter().map_err(io::Error::other).and_then(|_| {
                let size = |(folder, spec): &(PathBuf, &Spec)| {
                    size(folder, spec).map_err(|error| io::Error::other(format!("{}: {error}", folder.display())))
                };
                folders.iter().map(size).collect::<io::Result<Vec<u64>>>()
            });
            let word = serde_json::to_vec(&counted.map_err(|error| error.to_string())).unwrap_or_default();
            process::exit_now(i32::from(tell.write_all(&word).is_err()))
        }
        Fork::Parent(id) => {
            drop(tell);
            let mut word = Vec::new();
            hear.read_to_end(&mut word).action("hear from a fork")?;
            process::wait_for(id).action("wait for a fork")?;
            let counted: Result<Vec<u64>, String> = serde_json::from_slice(&word).map_err(|_| Error::Died)?;
            counted.map_err(Error::Files)
        }
    }
}

fn size(folder: &Path, spec: &Spec) -> io::Result<u64> {
    const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let tree = folder.join(own::TREE);
    let since = if own::is_made(&tree) { Some(own::made(&tree)?) } else { None };
    let changed = if since.is_some() { tree } else { folder.join("upper") };
    let root = match rustix::fs::open(&changed, FLAGS, Mode::empty()) {
        // The container has gone meanwhile.
        Err(Errno::NOENT) => return Ok(0),
        other => other?,
    };
    let open = |folder: BorrowedFd<'_>, name: &std::ffi::OsStr| openat(folder, name, FLAGS, Mode::empty());
    let (mut bytes, mut seen) = (0, HashSet::new());
    let first = names(&root)?;
    // A stack instead of recursion: the depth is the container's choice.
    let mut stack: Vec<(PathBuf, OwnedFd, _)> = vec![(PathBuf::from("/"), root, first)];
    while let Some((path, folder, entries)) = stack.last_mut() {
        let Some(name) = entries.pop() else {
            stack.pop();
            continue;
        };
        let stat = match statat(&*folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let whole = path.join(&name);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match open(folder.as_fd(), &name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
                Ok(deeper) => {
                    let entries = names(&deeper)?;
                    stack.push((whole, deeper, entries));
                }
            }
        } else if since.is_none_or(|since| (stat.st_ctime, stat.st_ctime_nsec) > since)
            && spec.files.iter().all(|(own, _)| *own != whole)
            && (stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)))
        {
            bytes += stat.st_blocks.unsigned_abs() * 512;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_those_of_the_runner_not_at_all() {
        let scratch = tempfile::tempdir().unwrap();
        let upper = scratch.path().join("upper");
        let write = |name: &str, length: usize| std::fs::write(upper.join(name), vec![1; length]).unwrap();
        std::fs::create_dir_all(upper.join("etc/deep/er")).unwrap();
        write("etc/hosts", 9000);
        write("etc/deep/er/f", 64 << 10);
        std::fs::hard_link(upper.join("etc/deep/er/f"), upper.join("second")).unwrap();
        std::os::unix::fs::symlink("/usr", upper.join("link")).unwrap();
        let spec = Spec { files: vec![("/etc/hosts".into(), Vec::new())], ..Spec::default() };
        assert_eq!(size(scratch.path(), &spec).unwrap(), 64 << 10);
        assert_eq!(size(&scratch.path().join("gone"), &spec).unwrap(), 0);
    }
}

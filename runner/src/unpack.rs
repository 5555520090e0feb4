//! A tar taken apart below a directory of a container: names in directories that were opened from there, none followed.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use lstore_tar::entry::{Entry, EntryKind, Metadata};
use lstore_tar::member::Member;
use lstore_tar::path::EntryPath;
use lstore_tar::reader::Reader;
use lstore_tar::sparse::SparseMap;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, openat, openat2, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::copy::{Owner, clear_for_directory, make_node, make_way, set_attribute};

/// Unpacks all that comes into a directory.
pub(crate) fn unpack(archive: impl Read, into: &OwnedFd, owner: Owner, overwrite: bool) -> io::Result<()> {
    let mut archive = Reader::new(archive);
    let mut folders: Vec<(EntryPath, Metadata)> = Vec::new();
    while let Some(Member { entry, flag, sparse, .. }) = archive.advance().map_err(io::Error::other)? {
        let Some(entry) = entry else {
            // What is not known is not guessed at.
            let kind = char::from(flag);
            return Err(io::Error::other(format!("the archive has a member of an unknown kind, {kind:?}")));
        };
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", entry.path));
        let Some((parent, name)) = entry.path.split_last() else { continue };
        let parent = ensure(into, &parent).map_err(told)?;
        let name = OsStr::from_bytes(name);
        let place = New { parent: &parent, name, owner, overwrite };
        place.make(&entry, sparse.as_ref(), &mut archive, into).map_err(told)?;
        if entry.kind == EntryKind::Directory {
            folders.push((entry.path, entry.metadata));
        }
    }
    // Inner ones first: what is put into a directory changes its time.
    for (path, metadata) in folders.iter().rev() {
        dress(ensure(into, path)?.as_fd(), metadata, owner)?;
    }
    Ok(())
}

/// Opens a directory below another; missing ones are made.
fn ensure(base: &OwnedFd, path: &EntryPath) -> io::Result<OwnedFd> {
    let mut folder = base.try_clone()?;
    for name in path.components() {
        match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, name, flags, Mode::empty())?;
    }
    Ok(folder)
}

/// Where a member goes, and how.
struct New<'a> {
    parent: &'a OwnedFd,
    name: &'a OsStr,
    owner: Owner,
    overwrite: bool,
}

impl New<'_> {
    /// Makes what an entry describes. A directory is only made: it is dressed in the end.
    fn make(&self, entry: &Entry, sparse: Option<&SparseMap>, body: &mut impl Read, base: &OwnedFd) -> io::Result<()> {
        let Self { parent, name, owner, overwrite } = *self;
        let metadata = &entry.metadata;
        match &entry.kind {
            EntryKind::Directory => {
                if overwrite {
                    clear_for_directory(parent.as_fd(), name)?;
                }
                ensure(parent, &EntryPath::parse(name.as_bytes()).map_err(io::Error::other)?)?;
            }
            EntryKind::Regular { size } => {
                make_way(parent.as_fd(), name, overwrite)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                match sparse {
                    None => copy(body, &mut file, *size)?,
                    Some(map) => fill(body, &mut file, map)?,
                }
                dress(file.as_fd(), metadata, owner)?;
            }
            EntryKind::Symlink { target } => {
                make_way(parent.as_fd(), name, overwrite)?;
                symlinkat(target.as_slice(), parent, name)?;
                self.dress_by_name(metadata)?;
            }
            EntryKind::Hardlink { target } => {
                let first = target.split_last();
                let (folder, first) = first.ok_or_else(|| io::Error::other("a link that leads nowhere"))?;
                let folder = if folder.is_root() { b".".as_slice() } else { folder.as_bytes() };
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let folder = openat2(base, folder, flags, Mode::empty(), resolve)?;
                make_way(parent.as_fd(), name, overwrite)?;
                linkat(folder, first, parent, name, AtFlags::empty())?;
            }
            EntryKind::Fifo => {
                make_way(parent.as_fd(), name, overwrite)?;
                make_node(parent.as_fd(), name, FileType::Fifo, Mode::from_raw_mode(metadata.mode & 0o777), 0)?;
                self.dress_by_name(metadata)?;
            }
            // Devices are the host's.
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {}
        }
        Ok(())
    }

    /// Owner and time of what is not opened.
    fn dress_by_name(&self, metadata: &Metadata) -> io::Result<()> {
        let (uid, gid) = ids(metadata, self.owner);
        chownat(self.parent, self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(self.parent, self.name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Copies the next `size` bytes.
fn copy(body: &mut impl Read, file: &mut File, size: u64) -> io::Result<()> {
    if io::copy(&mut body.take(size), file)? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Writes the data of a sparse file to where it belongs; all else stays a hole.
fn fill(body: &mut impl Read, file: &mut File, map: &SparseMap) -> io::Result<()> {
    file.set_len(map.size)?;
    for &(offset, length) in &map.regions {
        file.seek(SeekFrom::Start(offset))?;
        copy(body, file, length)?;
    }
    Ok(())
}

/// The owner first, whose change clears what must come after.
fn dress(file: BorrowedFd<'_>, metadata: &Metadata, owner: Owner) -> io::Result<()> {
    let (uid, gid) = ids(metadata, owner);
    fchown(file, Some(uid), Some(gid))?;
    fchmod(file, Mode::from_raw_mode(metadata.mode))?;
    for (name, value) in &metadata.xattrs {
        set_attribute(file, &CString::new(name.as_slice())?, value)?;
    }
    Ok(futimens(file, &times(metadata))?)
}

fn ids(metadata: &Metadata, owner: Owner) -> (Uid, Gid) {
    let (uid, gid) = match owner {
        Owner::Given(uid, gid) => (uid, gid),
        Owner::Kept => (metadata.uid, metadata.gid),
    };
    (Uid::from_raw(uid), Gid::from_raw(gid))
}

fn times(metadata: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: metadata.mtime.seconds, tv_nsec: metadata.mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tar::{EntryType, Header};

    fn into(members: &[(&str, EntryType, &str, &[u8])], overwrite: bool, folder: &Path) -> io::Result<()> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, link, body) in members {
            let mut header = Header::new_ustar();
            // By hand: the crate refuses to write what leads out.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(body.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(7);
            header.set_cksum();
            builder.append(&header, *body).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let own = Owner::Given(rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        unpack(tar.as_slice(), &File::open(folder)?.into(), own, overwrite)
    }

    #[test]
    fn nothing_is_written_through_a_link_or_outside() {
        let scratch = tempfile::tempdir().unwrap();
        let (inside, outside) = (scratch.path().join("in"), scratch.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("f"), "old").unwrap();
        let away = outside.to_str().unwrap();
        assert!(into(&[("../out/f", EntryType::Regular, "", b"new")], false, &inside).is_err());
        assert!(
            into(&[("l", EntryType::Symlink, away, b""), ("l/f", EntryType::Regular, "", b"new")], false, &inside)
                .is_err()
        );
        assert!(into(&[("h", EntryType::Link, "l/f", b"")], false, &inside).is_err());
        assert!(into(&[("h", EntryType::Link, "../out/f", b"")], false, &inside).is_err());
        assert!(into(&[("l", EntryType::Directory, "", b"")], false, &inside).is_err(), "a link is no directory");
        // A name that an extended header gives, and one that a sparse map's gives.
        for record in ["19 path=../out/new\n", "30 GNU.sparse.name=../out/new\n"] {
            let members = [("p", EntryType::XHeader, "", record.as_bytes()), ("n", EntryType::Regular, "", b"new")];
            assert!(into(&members, false, &inside).unwrap_err().to_string().contains("leads upwards"), "{record}");
        }
        let odd = [("dev", EntryType::Char, "", b"".as_slice()), ("f", EntryType::Regular, "", b"")];
        into(&odd, false, &inside).unwrap();
        assert!(!inside.join("dev").exists(), "a device is left out");
        assert!(
            into(&[("odd", EntryType::new(b'Q'), "", b"")], false, &inside).unwrap_err().to_string().contains("'Q'")
        );
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        into(&[("/abs/f", EntryType::Regular, "", b"new"), ("l", EntryType::Regular, "", b"file")], false, &inside)
            .unwrap();
        assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(inside.join("abs/f")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(inside.join("l")).unwrap(), "file", "a link is replaced");
    }

    #[test]
    fn a_directory_is_replaced_only_where_that_is_asked_for() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("d/e")).unwrap();
        std::fs::write(scratch.path().join("f"), "file").unwrap();
        let members: &[(&str, EntryType, &str, &[u8])] =
            &[("d", EntryType::Regular, "", b"new"), ("f/", EntryType::Directory, "", b"")];
        assert!(into(members, false, scratch.path()).is_err());
        into(members, true, scratch.path()).unwrap();
        assert!(scratch.path().join("d").is_file() && scratch.path().join("f").is_dir());
    }

    /// What an extraction must agree in: kind, mode, owner, size, time, attributes, content or target.
    fn portrait(folder: &Path) -> String {
        let script = "cd \"$0\"; find . -mindepth 1 -printf '%P %y %m %U:%G %T@ %l\\n' | sort; \
            find . -type f -exec sha256sum {} + | sort -k2; getfattr -dR -e hex -m '^(user|security|trusted)\\.' . | sort";
        let output = std::process::Command::new("bash").args(["-ec", script]).arg(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn every_format_of_gnu_tar_is_unpacked_as_by_gnu_tar() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().join("from");
        let script = "mkdir -p \"$0\"/d/e; cd \"$0\"; echo small > d/small; : > d/empty; ln d/small d/second; \
            for at in 0 1 2 3 4 5 10; do printf data | dd of=sparse bs=1M seek=$at conv=notrunc status=none; done; \
            truncate -s 16M sparse; truncate -s 3M hole; echo long > d/e/$(printf 'long%.0s' $(seq 40)); \
            ln -s ../sparse d/link; ln -s $(printf 't%.0s' $(seq 150)) d/longlink; mkfifo -m 710 d/fifo; \
            chown 1:2 d/small; chmod 6755 d/empty; chown 77777:88888 hole; chown -h 5:6 d/link; chmod 1770 d/e; \
            setfattr -n user.of.file -v 'a value' d/small; setfattr -n user.of.folder -v x d/e; \
            setfattr -n user.empty sparse; setfattr -n trusted.t -v 1 sparse; \
            touch -hd '2001-02-03 04:05:06.789012345' d/small sparse d/link d/e; touch -d '1969-12-31 23:59:58.25' hole d";
        let made = std::process::Command::new("bash").args(["-ec", script]).arg(&from).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let formats = [
            "--format=gnu",
            "--format=gnu --sparse",
            "--format=pax --xattrs --xattrs-include=*",
            "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=0.0",
            "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=0.1",
            "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=1.0",
        ];
        for (round, format) in formats.into_iter().enumerate() {
            let mut pack = std::process::Command::new("tar");
            let tar = pack.args(format.split(' ')).args(["-cf", "-", "-C"]).arg(&from).arg(".").output().unwrap();
            assert!(tar.status.success(), "{format}: {}", String::from_utf8_lossy(&tar.stderr));
            let folders = ["theirs", "ours"].map(|name| scratch.path().join(format!("{name}{round}")));
            for folder in &folders {
                std::fs::create_dir(folder).unwrap();
            }
            std::fs::write(scratch.path().join("tar"), &tar.stdout).unwrap();
            let options = ["--xattrs", "--xattrs-include=*", "-pxf"];
            let mut theirs = std::process::Command::new("tar");
            theirs.args(options).arg(scratch.path().join("tar")).arg("-C").arg(&folders[0]);
            assert!(theirs.output().unwrap().status.success());
            unpack(tar.stdout.as_slice(), &File::open(&folders[1]).unwrap().into(), Owner::Kept, false).unwrap();
            let [theirs, ours] = folders.each_ref().map(|folder| portrait(folder));
            assert!(theirs == ours, "{format}:\n{theirs}\n{ours}");
            let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(folders[1].join("sparse")).unwrap());
            assert!(!format.contains("sparse") || blocks < 2048, "holes stay holes: {blocks} blocks");
        }
    }
}

//! Roots: what keeps an image besides its names. A container that does not run is one; its checkout is used by nobody, and
//! its image may have lost its name.
//!
//! ```text
//! roots/container-<id>              one root: see FORMAT.md, "Roots"
//! roots/container-<id>.<pid>.new    one that is being written
//! ```
//!
//! A lock on the folder orders those who add roots and those who act by them: who adds holds it shared, from the writing of
//! the file until it has seen that the images are still there; who collects or removes images holds it alone, from the look
//! at the roots until that is committed. So an image is either seen to be kept, or found to be gone.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::index::{Durability, Index};
use crate::store::{INDEX, Store};
use crate::sys::dir::Dir;
use crate::sys::flock;

/// The folder in the store.
const ROOTS: &[u8] = b"roots";
/// First and last line of a file: another first line is another version's, and without the last one the file is torn.
const BEGIN: &str = "lstore root 1";
const END: &str = "end";
/// End of the name of a file that is being written.
const DRAFT: &str = ".new";
/// Most bytes of a file that is read.
const LARGEST: u64 = 64 * 1024;

/// A keeper of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    name: String,
    purpose: String,
    images: Vec<Digest>,
}

impl Root {
    /// The root of a keeper of some kind (1 to 16 letters `a` to `z`) with an id (1 to 64 hexadecimal digits, in small
    /// letters). `purpose` says to people what it is for, in one line.
    ///
    /// # Errors
    /// [`Error::RootForm`].
    pub fn new(kind: &str, id: &str, purpose: &str, images: Vec<Digest>) -> Result<Self> {
        let name = format!("{kind}-{id}");
        if !is_name(&name) {
            return Err(Error::RootForm { what: name, reason: "a root is named letters-digits" });
        }
        if purpose.is_empty() || purpose.len() > 1024 || purpose.chars().any(char::is_control) {
            return Err(Error::RootForm { what: purpose.to_owned(), reason: "a purpose is one line of text" });
        }
        Ok(Self { name, purpose: purpose.to_owned(), images })
    }

    /// Its name: the file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// The images that it keeps.
    pub fn images(&self) -> &[Digest] {
        &self.images
    }

    /// Writes the root into the store at a path, in place of one of the same name. From then on no image of it is
    /// collected. With [`Durability::Synced`] it is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`] where an image has been removed before: then there is no root. Those of the index and the
    /// file system.
    pub fn keep(&self, store: &Path, durability: Durability) -> Result<()> {
        let path = store.join("roots");
        let folder = Dir::open(store).and_then(|store| store.ensure_dir(ROOTS, 0o700)).context("open", &path)?;
        flock::shared(&folder).context("lock", &path)?;
        self.write(&folder, durability).context("write a root in", &path)?;
        let found = self.find_images(store);
        if found.is_err() {
            folder.unlink(self.name.as_bytes()).context("remove a root from", &path)?;
        }
        found
    }

    /// Whether the store at a path has this root, whole and with these images.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_kept(&self, store: &Path) -> Result<bool> {
        let path = store.join("roots").join(&self.name);
        let file = Dir::open(store).and_then(|store| store.open_dir(ROOTS)?.open_file(self.name.as_bytes()));
        let text = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => text_of(&file.context("open", &path)?).context("read", &path)?,
        };
        Ok(Self::parse(&self.name, &text).is_ok_and(|root| root.images == self.images))
    }

    fn find_images(&self, store: &Path) -> Result<()> {
        // SQLite follows no link on the way.
        let folder = store.canonicalize().context("resolve", store)?;
        let index = Index::open_read_only(&folder.join(INDEX))?;
        for image in &self.images {
            index.image(image)?.ok_or_else(|| Error::ImageNotFound(image.to_string()))?;
        }
        Ok(())
    }

    fn write(&self, folder: &Dir, durability: Durability) -> io::Result<()> {
        let draft = format!("{}.{}{DRAFT}", self.name, std::process::id());
        let mut file = match folder.create_new(draft.as_bytes(), 0o600) {
            // Of a process of this number that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                folder.unlink(draft.as_bytes())?;
                folder.create_new(draft.as_bytes(), 0o600)?
            }
            other => other?,
        };
        file.write_all(self.text().as_bytes())?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        folder.rename(draft.as_bytes(), folder, self.name.as_bytes())?;
        if durability == Durability::Synced {
            rustix::fs::fsync(folder.as_fd())?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let images = self.images.iter().map(|image| format!("image {image}"));
        let lines = [BEGIN.to_owned(), format!("for {}", self.purpose)].into_iter().chain(images);
        lines.chain([END.to_owned(), String::new()]).collect::<Vec<_>>().join("\n")
    }

    fn parse(name: &str, text: &str) -> std::result::Result<Self, String> {
        let mut lines = text.strip_suffix('\n').ok_or("it is torn")?.split('\n');
        if lines.next() != Some(BEGIN) {
            return Err(format!("it does not begin with {BEGIN:?}"));
        }
        let purpose = lines.next().and_then(|line| line.strip_prefix("for ")).ok_or("it has no purpose")?.to_owned();
        let mut images = Vec::new();
        loop {
            let line = lines.next().ok_or("it is torn")?;
            if line == END {
                break;
            }
            let image = line.strip_prefix("image ").ok_or_else(|| format!("the line {line:?} has no meaning"))?;
            images.push(image.parse().map_err(|error| format!("{image:?}: {error}"))?);
        }
        if lines.next().is_some() {
            return Err("something follows its end".to_owned());
        }
        Ok(Self { name: name.to_owned(), purpose, images })
    }
}

/// Removes the root of a keeper of a kind with an id from the store at a path; one that is not there is none.
///
/// # Errors
/// [`Error::RootForm`], or those of the file system.
pub fn release_root(store: &Path, kind: &str, id: &str) -> Result<()> {
    let name = format!("{kind}-{id}");
    if !is_name(&name) {
        return Err(Error::RootForm { what: name, reason: "a root is named letters-digits" });
    }
    let path = store.join("roots");
    let folder = Dir::open(store).and_then(|store| store.open_dir(ROOTS));
    crate::gc::ignore_gone(folder.and_then(|folder| folder.unlink(name.as_bytes()))).context("remove a root from", path)
}

/// Whether a name has the form of a root's.
fn is_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(kind, id)| {
        (1..=16).contains(&kind.len())
            && (1..=64).contains(&id.len())
            && kind.bytes().all(|byte| byte.is_ascii_lowercase())
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The name of the root that a draft is of.
fn of_draft(name: &str) -> Option<&str> {
    let (root, process) = name.strip_suffix(DRAFT)?.rsplit_once('.')?;
    (is_name(root) && crate::names::number(process.as_bytes(), 10).is_some()).then_some(root)
}

/// The roots of a store, to which none is added meanwhile.
#[derive(Debug)]
pub(crate) struct LockedRoots {
    folder: Dir,
    path: PathBuf,
}

impl LockedRoots {
    /// All roots.
    pub(crate) fn all(&self) -> Result<Vec<Root>> {
        read(&self.folder, &self.path)
    }
}

fn read(folder: &Dir, path: &Path) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for name in names(folder).context("list", path)? {
        let file = match folder.open_file(name.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.context("open", path.join(&name))?,
        };
        let text = text_of(&file).context("read", path.join(&name))?;
        let root = Root::parse(&name, &text).map_err(|reason| Error::RootDamaged { path: path.join(&name), reason })?;
        roots.push(root);
    }
    Ok(roots)
}

fn text_of(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    // What is no text has no line that means anything.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Names of all roots, in order.
fn names(folder: &Dir) -> io::Result<Vec<String>> {
    let own = |(name, _)| String::from_utf8(name).ok().filter(|name| is_name(name));
    let mut names: Vec<String> = folder.entries()?.into_iter().filter_map(own).collect();
    names.sort_unstable();
    Ok(names)
}

/// A lock under which no root is added or acted upon by another and, where all who move keepers take it, none is moved.
/// Shared by all who hold it so.
#[derive(Debug)]
pub struct RootsLock {
    _folder: Dir,
}

impl RootsLock {
    /// Waits for the lock, shared; makes the folder of roots where it is missing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn shared(store: &Path) -> Result<Self> {
        let path = store.join("roots");
        let folder = Dir::open(store).and_then(|store| store.ensure_dir(ROOTS, 0o700)).context("open", &path)?;
        flock::shared(&folder).context("lock", &path)?;
        Ok(Self { _folder: folder })
    }
}

impl Store {
    /// Locks the roots against newcomers.
    pub(crate) fn lock_roots(&self) -> Result<LockedRoots> {
        let path = self.path().join("roots");
        let folder = Dir::open(self.path()).and_then(|store| store.ensure_dir(ROOTS, 0o700)).context("open", &path)?;
        flock::exclusive(&folder).context("lock", &path)?;
        Ok(LockedRoots { folder, path })
    }

    /// All roots, as they are now.
    ///
    /// # Errors
    /// [`Error::RootDamaged`], or those of the file system.
    pub fn roots(&self) -> Result<Vec<Root>> {
        let path = self.path().join("roots");
        match Dir::open(self.path()).and_then(|store| store.open_dir(ROOTS)) {
            // A store of an older version has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            folder => read(&folder.context("open", &path)?, &path),
        }
    }

    /// Removes roots whose keepers are gone: those of the ids of a kind that `gone` picks. It is asked while no root can be
    /// added. Also removes what a writer that was killed has left. The number of roots that were removed.
    ///
    /// # Errors
    /// Those of `gone` and of the file system.
    pub fn sweep_roots<E: From<Error>>(
        &self,
        kind: &str,
        gone: impl FnOnce(&[String]) -> std::result::Result<HashSet<String>, E>,
    ) -> std::result::Result<u64, E> {
        let LockedRoots { folder, path } = self.lock_roots()?;
        for (name, _) in folder.entries().context("list", &path)? {
            if std::str::from_utf8(&name).is_ok_and(|name| of_draft(name).is_some()) {
                folder.unlink(&name).context("remove a draft from", &path)?;
            }
        }
        let prefix = format!("{kind}-");
        let ids: Vec<String> = names(&folder)
            .context("list", &path)?
            .iter()
            .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
            .collect();
        let gone = gone(&ids)?;
        let mut removed = 0;
        for id in ids.iter().filter(|id| gone.contains(*id)) {
            crate::gc::ignore_gone(folder.unlink(format!("{prefix}{id}").as_bytes()))
                .context("remove a root from", &path)?;
            removed += 1;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root::new("container", "0a1f", "container box", vec![Digest::of(b"a"), Digest::of(b"b")]).unwrap()
    }

    #[test]
    fn a_root_is_read_as_it_was_written() {
        let root = root();
        let text = root.text();
        assert_eq!(
            text,
            format!("lstore root 1\nfor container box\nimage {}\nimage {}\nend\n", Digest::of(b"a"), Digest::of(b"b"))
        );
        assert_eq!(Root::parse(root.name(), &text).unwrap(), root);
    }

    #[test]
    fn what_is_torn_or_another_versions_is_no_root() {
        let text = root().text();
        for length in 0..text.len() {
            assert!(Root::parse("container-0a1f", &text[..length]).is_err(), "{length}");
        }
        assert!(Root::parse("container-0a1f", &text.replace("root 1", "root 2")).is_err());
        assert!(Root::parse("container-0a1f", &format!("{text}x\n")).is_err());
        assert!(Root::parse("container-0a1f", &text.replace("image ", "snapshot ")).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for (kind, id) in
            [("container", "../x"), ("", "1"), ("Container", "1"), ("container", ""), ("a", "G"), ("a/b", "1")]
        {
            assert!(matches!(Root::new(kind, id, "p", Vec::new()), Err(Error::RootForm { .. })), "{kind}-{id}");
        }
        assert!(Root::new("container", "1", "a\nimage x", Vec::new()).is_err());
        assert_eq!(of_draft("container-1f.77.new"), Some("container-1f"));
        assert_eq!((of_draft("thesis.new"), of_draft("container-1f.x.new")), (None, None));
    }

    #[test]
    fn an_image_that_is_gone_gets_no_root() {
        let scratch = tempfile::tempdir().unwrap();
        drop(Index::open(&scratch.path().join(INDEX), Durability::Consistent).unwrap());
        assert!(matches!(root().keep(scratch.path(), Durability::Synced), Err(Error::ImageNotFound(_))));
        assert_eq!(std::fs::read_dir(scratch.path().join("roots")).unwrap().count(), 0);
        let empty = Root::new("container", "2", "p", Vec::new()).unwrap();
        empty.keep(scratch.path(), Durability::Synced).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path().join("roots")).unwrap().count(), 1);
        release_root(scratch.path(), "container", "2").unwrap();
        release_root(scratch.path(), "container", "2").unwrap();
        assert_eq!(std::fs::read_dir(scratch.path().join("roots")).unwrap().count(), 0);
    }
}

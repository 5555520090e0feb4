//! What a start needs of an image, kept beside the index: its configuration and its checkout.
//!
//! To open the index, ask it and close it again takes longer than all else that a start does before its first system call
//! for the container. So the answer is written down, under the state that the index's files had when it was given, and
//! holds for as long as they have it: every commit changes them. The lease is taken as always.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::checkout::{IdShift, Placement};
use crate::error::Result;
use crate::image::Image;
use crate::index::trees::StoredTree;
use crate::lease::Checkout;
use crate::manifest::RunConfig;
use crate::names;
use crate::store::{INDEX, Store};
use crate::sys::dir::Dir;
use crate::sys::kernel;

/// The folder in the store.
pub(crate) const STARTS: &str = "starts";
/// Answers of another form are another version's.
const FORM: u32 = 3;
/// An index that changed so short a time ago might change again without another time stamp: file systems tell times no
/// finer than the kernel's tick, at most 10 ms.
const SETTLED: Duration = Duration::from_millis(100);

/// A checkout with the image's wishes.
#[derive(Debug)]
pub struct Start {
    /// The image's id, `sha256:…`.
    pub image: String,
    /// How the image wants to be run.
    pub config: RunConfig,
    /// Its checkout, leased.
    pub checkout: Checkout,
}

/// The form of an answer on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    form: u32,
    /// State of the index that it was given by.
    index: String,
    boot: String,
    /// What was asked: the hash in the file's name is no proof.
    name: String,
    image: String,
    wanted: Option<String>,
    shift: String,
    tree: u64,
    placement: String,
    lost: String,
    config: RunConfig,
}

/// The state of the index's files, and whether it is old enough to be told from the next.
fn state(store: &Path) -> Option<(String, bool)> {
    let mut text = String::new();
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut add = |metadata: &Metadata| {
        let (ino, size) = (metadata.ino(), metadata.size());
        // Writing to a string does not fail.
        let _ = write!(text, "{ino} {size} {}.{} ", metadata.mtime(), metadata.mtime_nsec());
        newest = newest.max(metadata.modified().unwrap_or(SystemTime::now()));
    };
    add(&std::fs::metadata(store.join(INDEX)).ok()?);
    if let Ok(log) = std::fs::metadata(store.join(format!("{INDEX}-wal"))) {
        add(&log);
    }
    let is_settled = newest.elapsed().is_ok_and(|age| age > SETTLED);
    Some((text, is_settled))
}

fn file_name(name: &str, wanted: Option<Placement>, shift: IdShift) -> String {
    let question = format!("{}\0{name}\0{shift}", wanted.map_or("", Placement::name));
    // One of the library's own: others ask the processor first what it can do, which takes a virtual machine longer.
    let mut hasher = DefaultHasher::new();
    question.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl Start {
    /// What an earlier start was told of this image, if the index has not changed since. `None` says only that the index
    /// must be asked.
    pub fn recall(store: &Path, name: &str, wanted: Option<Placement>, shift: IdShift) -> Option<Self> {
        let mut text = String::new();
        let path = store.join(STARTS).join(file_name(name, wanted, shift));
        File::open(path).ok()?.read_to_string(&mut text).ok()?;
        let answer: Answer = serde_json::from_str(&text).ok()?;
        let is_this = answer.form == FORM
            && answer.name == name
            && answer.wanted.as_deref() == wanted.map(Placement::name)
            && answer.shift == shift.to_string()
            && state(store).is_some_and(|(index, _)| index == answer.index)
            && kernel::boot_id().is_ok_and(|boot| boot == answer.boot);
        if !is_this {
            return None;
        }
        let root = Dir::open(store).ok()?;
        let (trees, objects) = (root.open_dir(b"trees").ok()?, root.open_dir(b"objects").ok()?);
        let placement = answer.placement.parse().ok()?;
        let tree = StoredTree { id: answer.tree, chain_id: String::new(), placement, shift, lost: answer.lost };
        let checkout = Checkout::lease(&trees, &objects, &tree).ok()??;
        Some(Self { image: answer.image, config: answer.config, checkout })
    }
}

impl Store {
    /// The checkout of an image that is there already, by the index; written down for the next start.
    ///
    /// # Errors
    /// [`crate::Error::ImageNotFound`], or those of the index.
    pub fn start(&self, name: &str, wanted: Option<Placement>, shift: IdShift) -> Result<Option<Start>> {
        let before = state(self.path());
        let image = self.image(name)?;
        let Some(checkout) = self.find_checkout(&image, wanted, shift)? else { return Ok(None) };
        if let Some((index, true)) = before
            && state(self.path()).is_some_and(|(now, _)| now == index)
        {
            // Whoever may not write here, or has no room to, asks again next time.
            let _ = self.write_down(name, (wanted, shift), &image, &checkout, index);
        }
        Ok(Some(Start { image: image.id.to_string(), config: image.config.config, checkout }))
    }

    fn write_down(
        &self,
        name: &str,
        (wanted, shift): (Option<Placement>, IdShift),
        image: &Image,
        checkout: &Checkout,
        index: String,
    ) -> std::io::Result<()> {
        let answer = Answer {
            form: FORM,
            index,
            boot: self.boot.clone(),
            name: name.to_owned(),
            image: image.id.to_string(),
            wanted: wanted.map(|wanted| wanted.name().to_owned()),
            shift: shift.to_string(),
            tree: checkout.id,
            placement: checkout.placement.name().to_owned(),
            lost: serde_json::to_string(&checkout.lost)?,
            config: image.config.config.clone(),
        };
        let folder = Dir::open(self.path())?.ensure_dir(STARTS.as_bytes(), 0o700)?;
        let name = file_name(name, wanted, shift);
        let draft = format!("{name}.{}", std::process::id());
        folder.create_new(draft.as_bytes(), 0o600)?.write_all(&serde_json::to_vec(&answer)?)?;
        folder.rename(draft.as_bytes(), &folder, name.as_bytes())
    }

    /// Forgets what was written down for starts, drafts of killed ones included.
    pub(crate) fn forget_starts(&self) -> std::io::Result<()> {
        let folder = match Dir::open(self.path())?.open_dir(STARTS.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for (name, _) in folder.entries()?.into_iter().filter(|(name, _)| names::is_start(name)) {
            match folder.unlink(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

//! What is known of a container besides its files: a JSON file in its folder, written whole or not at all.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use lrun::{FirstProcess, Spec};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::report::Failure;

/// File name in the container's folder.
const STATE: &str = "state";
/// A state of another form is of another version of this program.
const FORM: u32 = 1;

/// A container that was started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    form: u32,
    /// The image, as it was named.
    pub(super) image: String,
    /// When it was started, seconds since 1970.
    pub(super) started: u64,
    /// Boot that `first` is of.
    boot: String,
    /// Its first process.
    first: FirstProcess,
    /// Signal that asks it to end, as the image names it.
    pub(super) stop_signal: Option<String>,
    /// What it was started by.
    pub(super) spec: Spec,
    /// Exit status, once it has ended and is kept.
    pub(super) status: Option<u8>,
}

impl State {
    /// Of a container that has just been started.
    pub(super) fn new(id: i32, image: String, stop_signal: Option<String>, spec: Spec) -> io::Result<Self> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let first = FirstProcess::of(id)?;
        Ok(Self { form: FORM, image, started, boot: boot()?, first, stop_signal, spec, status: None })
    }

    /// Writes it into the container's folder.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join("state.new");
        std::fs::write(&draft, serde_json::to_vec(self)?)?;
        std::fs::rename(&draft, folder.join(STATE))
    }

    /// Reads that of a container.
    ///
    /// # Errors
    /// No container of that name, or a state of another version.
    pub(super) fn read(store: &Path, name: &str) -> Result<(PathBuf, Self), Failure> {
        let folder = store.join("containers").join(name);
        if !folder.exists() {
            return Err(format!("{name}: no such container").into());
        }
        let text = std::fs::read(folder.join(STATE)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{name}: the container is being started or removed; try again"),
            _ => format!("{name}: cannot read its state: {error}"),
        })?;
        let state: Self = serde_json::from_slice(&text)
            .ok()
            .filter(|state: &Self| state.form == FORM)
            .ok_or_else(|| format!("{name}: its state is of another version of lrun; `lrun rm {name}` removes it"))?;
        Ok((folder, state))
    }

    /// Its first process, while it runs.
    pub(super) fn running(&self) -> Option<FirstProcess> {
        let is_this_boot = boot().is_ok_and(|boot| boot == self.boot);
        (is_this_boot && self.first.open().is_some()).then_some(self.first)
    }
}

/// Takes the lock of a container's folder, which its runner and keeper hold as long as it runs; waits for them to let go.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::open(folder)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

//! What was changed of a container after it was made, beside its record, which its monitor writes.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cgroup::Wish;
use crate::state::Restart;

/// Its file in the container's folder.
const AMENDMENT: &str = "amendment";

/// What was changed of a container after it was made. In a file of its own, since its monitor writes the record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amendment {
    /// Its control group, with all limits.
    pub cgroup: Option<Wish>,
    /// What happens when it ends.
    pub restart: Option<Restart>,
}

impl Amendment {
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(AMENDMENT)).ok()?).ok()
    }

    /// Writes it into the container's folder, in place of an earlier one.
    ///
    /// # Errors
    /// A full disk, a folder that has gone.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join(format!("{AMENDMENT}.{}", crate::sys::process::own_id()));
        std::fs::write(&draft, serde_json::to_vec(self)?)?;
        std::fs::rename(draft, folder.join(AMENDMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Amendment::read(folder.path()), None);
        let first = Amendment { restart: Some(Restart::OnFailure(3)), cgroup: Some(Wish::default()) };
        first.write(folder.path()).unwrap();
        assert_eq!(Amendment::read(folder.path()), Some(first));
        let second = Amendment { restart: Some(Restart::No), cgroup: None };
        second.write(folder.path()).unwrap();
        assert_eq!(Amendment::read(folder.path()), Some(second));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }
}

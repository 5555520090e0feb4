//! Secrets: small pieces of data with names, kept for containers that are given them and for nobody else.
//!
//! ```text
//! secrets/NAME      what is known of it, JSON
//! secrets/.ID       its bytes
//! ```
//!
//! Both are the user's alone to read. A container finds a secret in a file system in memory, or in a variable: it is
//! written neither into the container's files nor into its record.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::state::{Moment, now, random_id};

/// Most bytes of a secret, as podman has it.
pub const LARGEST: u64 = 512_000;
/// Digits of an id.
const DIGITS: usize = 25;

/// Why there is no such secret to be had. One line.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing has that name or id.
    #[error("no secret with name or id {0:?}: no such secret; `lrun secret ls` lists those that there are")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}: secret name in use; remove it first, or choose another name")]
    Taken(String),
    /// More than [`LARGEST`], or nothing.
    #[error("secret data must be larger than 0 and at most {LARGEST} bytes")]
    Size,
    /// The file system.
    #[error("secret {name}: {source}")]
    Io {
        /// Its name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What is known of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// 25 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Moment,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The secrets of a store, by their folder.
#[derive(Debug, Clone)]
pub struct Secrets(PathBuf);

impl Secrets {
    /// Those whose files are in `folder`.
    pub fn within(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Keeps a secret under a name that may become that of a file.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn create(&self, name: &str, labels: BTreeMap<String, String>, data: &[u8]) -> Result<Secret, SecretError> {
        if data.is_empty() || data.len() as u64 > LARGEST {
            return Err(SecretError::Size);
        }
        let make = || -> io::Result<Secret> {
            match DirBuilder::new().mode(0o700).create(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let mut id = random_id()?;
            id.truncate(DIGITS);
            let secret = Secret { id, name: name.to_owned(), created: now(), labels };
            let own = |path: PathBuf| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            own(self.data(&secret.id))?.write_all(data)?;
            // Under its name only when it is whole; a name that is taken stays its owner's.
            let draft = self.0.join(format!(".{}.new", secret.id));
            let named = own(draft.clone())
                .and_then(|mut file| file.write_all(&serde_json::to_vec(&secret)?))
                .and_then(|()| std::fs::hard_link(&draft, self.0.join(name)));
            let _ = std::fs::remove_file(&draft);
            if named.is_err() {
                let _ = std::fs::remove_file(self.data(&secret.id));
            }
            named.map(|()| secret)
        };
        make().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => SecretError::Taken(name.to_owned()),
            _ => SecretError::Io { name: name.to_owned(), source },
        })
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Secret> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let read = |name: String| self.read(&name);
        let mut all: Vec<Secret> = names.filter(|name| !name.starts_with('.')).filter_map(read).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The secret of a name, an id or the beginning of an id. Names win.
    ///
    /// # Errors
    /// [`SecretError::NotFound`], also where several ids begin so.
    pub fn find(&self, wanted: &str) -> Result<Secret, SecretError> {
        let not_found = || SecretError::NotFound(wanted.to_owned());
        if wanted.is_empty() || wanted.contains('/') || wanted.starts_with('.') {
            return Err(not_found());
        }
        if let Some(secret) = self.read(wanted) {
            return Ok(secret);
        }
        let mut found: Vec<Secret> = self.all().into_iter().filter(|secret| secret.id.starts_with(wanted)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(not_found()),
        }
    }

    /// The bytes of a secret.
    ///
    /// # Errors
    /// It has gone.
    pub fn reveal(&self, id: &str, name: &str) -> Result<Vec<u8>, SecretError> {
        let mut data = Vec::new();
        let read = File::open(self.data(id)).and_then(|file| file.take(LARGEST).read_to_end(&mut data));
        match read {
            Ok(_) => Ok(data),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SecretError::NotFound(name.to_owned())),
            Err(source) => Err(SecretError::Io { name: name.to_owned(), source }),
        }
    }

    /// Removes a secret. Containers that were given it cannot be started any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, secret: &Secret) -> Result<(), SecretError> {
        let removed = std::fs::remove_file(self.0.join(&secret.name));
        removed
            .and_then(|()| std::fs::remove_file(self.data(&secret.id)))
            .map_err(|source| SecretError::Io { name: secret.name.clone(), source })
    }

    fn data(&self, id: &str) -> PathBuf {
        self.0.join(format!(".{id}"))
    }

    fn read(&self, name: &str) -> Option<Secret> {
        serde_json::from_slice(&std::fs::read(self.0.join(name)).ok()?).ok()
    }
}

/// A secret that a container is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Its id, so that another of its name is not taken for it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How.
    pub manner: Manner,
}

/// How a container is given a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// In a file: a name in `/run/secrets`, or a path.
    File {
        /// Where.
        target: PathBuf,
        /// Whose it is.
        uid: u32,
        /// And of which group.
        gid: u32,
        /// Its mode.
        mode: u32,
    },
    /// In a variable of this name.
    Variable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_for_its_owner_alone_and_goes_whole() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let secrets = Secrets::within(scratch.path().join("secrets"));
        assert!(secrets.all().is_empty());
        let made = secrets.create("key", BTreeMap::new(), b"a\0b").unwrap();
        for entry in std::fs::read_dir(scratch.path().join("secrets")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(secrets.create("key", BTreeMap::new(), b"x"), Err(SecretError::Taken(_))));
        assert!(matches!(secrets.create("none", BTreeMap::new(), b""), Err(SecretError::Size)));
        assert_eq!(secrets.find(&made.id[..7]).unwrap(), made);
        assert_eq!(secrets.reveal(&made.id, "key").unwrap(), b"a\0b");
        assert!(secrets.find("../key").is_err() && secrets.find(&format!(".{}", made.id)).is_err());
        secrets.remove(&made).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path().join("secrets")).unwrap().count(), 0);
        assert!(matches!(secrets.reveal(&made.id, "key"), Err(SecretError::NotFound(_))));
    }
}

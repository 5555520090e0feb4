//! One pull or import while it runs: what it relies on is not collected under it.

use std::fs::File;
use std::io;

use crate::error::{Context, Error, Result};
use crate::index::{Counter, Index};
use crate::names;
use crate::sys::dir::Dir;
use crate::sys::flock;

/// A numbered lock file in `sessions/`, held from before the first look into the index until the image is entered.
#[derive(Debug)]
pub(crate) struct Session {
    number: u64,
    dir: Dir,
    _lock: File,
}

impl Session {
    /// Starts a session.
    pub(crate) fn start(sessions: &Dir, index: &mut Index) -> Result<Self> {
        loop {
            let number = index.next(Counter::Session)?;
            let name = number.to_string();
            // An index that is older than the files hands out numbers that others have had: these are passed over.
            let lock = match sessions.create_new(name.as_bytes(), 0o600) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.context("create session", &name)?,
            };
            let ours = flock::try_exclusive(&lock).context("lock session", &name)?;
            // A collector may have swept the new file before it was locked: then take another number.
            if ours && sessions.exists(name.as_bytes()).context("look for session", &name)? {
                return Ok(Self { number, dir: sessions.try_clone().context("open", "sessions")?, _lock: lock });
            }
        }
    }

    /// Its number, which pins carry.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its pins are void with the lock; a file that stays is swept by the next gc.
        let _ = self.dir.unlink(self.number.to_string().as_bytes());
    }
}

/// Numbers of the sessions that are alive; the files of dead ones are removed. To be asked within the transaction that acts
/// by the answer: a session that starts after the look has a number that the transaction does not know.
pub(crate) fn living(sessions: &Dir) -> Result<Vec<u64>> {
    let (living, dead) = look(sessions)?;
    // Each lock is held until the file is gone: a session in the making that gets it finds its file, or takes another number.
    for (number, _lock) in dead {
        match sessions.unlink(number.to_string().as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io { action: "remove session", path: number_path(number).into(), source: error });
            }
            _ => {}
        }
    }
    Ok(living)
}

/// The same, and nothing is removed.
pub(crate) fn seen_alive(sessions: &Dir) -> Result<Vec<u64>> {
    look(sessions).map(|(living, _)| living)
}

/// A dead session: its number, and the lock of its file.
type Dead = (u64, File);

/// Numbers of living sessions, and the dead ones.
fn look(sessions: &Dir) -> Result<(Vec<u64>, Vec<Dead>)> {
    let (mut living, mut dead) = (Vec::new(), Vec::new());
    for (name, _) in sessions.entries().context("list", "sessions")? {
        let Some(number) = names::number(&name, 10) else { continue };
        let lock = match sessions.open_file(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.context("open session", number_path(number))?,
        };
        let is_dead = flock::try_exclusive(&lock).context("lock session", number_path(number))?;
        if is_dead {
            dead.push((number, lock));
        } else {
            living.push(number);
        }
    }
    living.sort_unstable();
    Ok((living, dead))
}

fn number_path(number: u64) -> String {
    format!("sessions/{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Durability;

    #[test]
    fn a_session_lives_as_long_as_its_value_and_a_dead_one_is_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let mut index = Index::open(&scratch.path().join("index.db"), Durability::Consistent).unwrap();
        let sessions = Dir::open(scratch.path()).unwrap().ensure_dir(b"sessions", 0o700).unwrap();
        // One that the index should not hand out again.
        drop(sessions.open_lock(b"1").unwrap());
        let session = Session::start(&sessions, &mut index).unwrap();
        assert_eq!(session.number(), 2);
        drop(sessions.open_lock(b"999").unwrap());
        assert_eq!(living(&sessions).unwrap(), [session.number()]);
        assert!(!sessions.exists(b"999").unwrap());
        drop(session);
        assert!(living(&sessions).unwrap().is_empty());
    }
}

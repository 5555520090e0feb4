//! What the folders of a store's containers say of themselves, whether or not a container can be had of them: for who must
//! know of all that there are.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::state::{Record, STATE};

/// What a folder is.
#[derive(Debug)]
pub enum Surveyed {
    /// That of a container.
    Container(Box<Record>),
    /// That of a container which is just being made, or removed.
    InTheMaking,
    /// What is left of one that was never finished, or not removed whole: nobody answers for it.
    LeftOver,
    /// That of a container whose record this version cannot read.
    Unreadable {
        /// Its id, where that much can be read.
        id: Option<String>,
        /// Its image's id, without `sha256:`.
        image: Option<String>,
    },
}

pub(crate) fn survey(containers: &Path) -> io::Result<Vec<(String, Surveyed)>> {
    let entries = match std::fs::read_dir(containers) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // No name of a container is anything else.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(surveyed) = look(&entry.path())? {
            found.push((name, surveyed));
        }
    }
    Ok(found)
}

/// `None` for what is no folder, or has gone.
fn look(folder: &Path) -> io::Result<Option<Surveyed>> {
    let gone = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    // Before the record is looked for: who makes a container lets go of its folder when the record is there.
    let lock = match File::open(folder) {
        Err(error) if gone(&error) => return Ok(None),
        other => other?,
    };
    let is_held = match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        Err(rustix::io::Errno::WOULDBLOCK) => true,
        Err(error) => return Err(error.into()),
    };
    drop(lock);
    let text = match std::fs::read(folder.join(STATE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.exists() => {
            return Ok(Some(if is_held { Surveyed::InTheMaking } else { Surveyed::LeftOver }));
        }
        Err(error) if gone(&error) => return Ok(None),
        other => other?,
    };
    if let Some(record) = Record::left_in(folder) {
        return Ok(Some(Surveyed::Container(Box::new(record))));
    }
    // Another version's has these at the same places.
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let field = |name: &str| value[name].as_str().map(str::to_owned);
    Ok(Some(Surveyed::Unreadable { id: field("id"), image: field("image_id") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;
    use crate::state::Containers;

    #[test]
    fn every_folder_is_something() {
        let scratch = tempfile::tempdir().unwrap();
        let containers = Containers::within(scratch.path().to_owned());
        let make = |name: &str| {
            std::fs::create_dir(containers.folder(name)).unwrap();
            File::open(containers.folder(name)).unwrap()
        };
        let record = Record::new("ab".repeat(32), "i".to_owned(), "cd".repeat(32), Spec::default());
        record.write(make("whole")).unwrap();
        drop(make("left"));
        let made = make("made");
        flock(&made, FlockOperation::LockExclusive).unwrap();
        drop(make("torn"));
        std::fs::write(containers.folder("torn").join(STATE), "{\"form\":").unwrap();
        drop(make("other"));
        std::fs::write(containers.folder("other").join(STATE), r#"{"form":1,"id":"x","image_id":"y"}"#).unwrap();
        std::fs::write(containers.folder("file"), "").unwrap();
        let mut found = containers.survey().unwrap();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let told: Vec<String> = found
            .iter()
            .map(|(name, surveyed)| match surveyed {
                Surveyed::Container(record) => format!("{name} {:?}", record.images().collect::<Vec<_>>()),
                Surveyed::InTheMaking => format!("{name} made"),
                Surveyed::LeftOver => format!("{name} left"),
                Surveyed::Unreadable { id, image } => format!("{name} {id:?} {image:?}"),
            })
            .collect();
        let image = format!("whole [\"sha256:{}\"]", "cd".repeat(32));
        let other = "other Some(\"x\") Some(\"y\")";
        assert_eq!(told, ["left left", "made made", other, "torn None None", &image]);
        assert!(Containers::within(scratch.path().join("none")).survey().unwrap().is_empty());
    }
}

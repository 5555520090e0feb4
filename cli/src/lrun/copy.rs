//! `lrun cp`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lrun::state::{Found, random_id};
use lrun::transfer::{Manner, Original, Place, copy_in, copy_out, pack_out, unpack_in};

use super::args::CopyArguments;
use super::run::SHORT;
use super::select::containers;
use super::visit::visit;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

/// Standard input or output in place of a file.
const STREAM: &str = "-";

pub(super) fn run(global: &Global, arguments: &CopyArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let (source, destination) = (arguments.source.as_str(), arguments.destination.as_str());
    let manner = Manner { keeps_owners: !arguments.archive, overwrite: arguments.overwrite };
    let copying = Copying { global, store: &store, manner };
    match (of_container(source), of_container(destination)) {
        (Some(from), None) if destination == STREAM => copying.pack(from)?,
        (Some(from), None) => copying.take_out(from, Path::new(destination))?,
        (None, Some(to)) if source == STREAM => copying.unpack(to)?,
        (None, Some(to)) => copying.put_in(Path::new(source), to)?,
        (Some(from), Some(to)) => copying.across(from, to)?,
        (None, None) => return Err("one of the two must be a file of a container: CONTAINER:PATH".into()),
    }
    Ok(Exit::SUCCESS)
}

/// A container's name, and a path in it.
type Inside<'a> = (&'a str, &'a str);

struct Copying<'a> {
    global: &'a Global,
    store: &'a Path,
    manner: Manner,
}

impl Copying<'_> {
    /// The container, and the path from its root on.
    fn find(&self, (name, path): Inside<'_>) -> Result<(Found, PathBuf), Failure> {
        let found = containers(self.store).find(name)?;
        // With the slash or dot at its end, which mean something.
        let inside = PathBuf::from(if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", found.record.spec.cwd.display())
        });
        Ok((found, inside))
    }

    fn put_in(&self, source: &Path, to: Inside<'_>) -> Result<(), Failure> {
        let (found, inside) = self.find(to)?;
        // Before the container: what is not there needs none.
        let original = Original::of_host(source).map_err(|error| of_host(source, &error))?;
        visit(self.global, self.store, &found, true, |container| {
            Ok(copy_in(container, original, &inside, self.manner)?)
        })
    }

    fn take_out(&self, from: Inside<'_>, destination: &Path) -> Result<(), Failure> {
        let (found, inside) = self.find(from)?;
        let place = Place::of_host(destination).map_err(|error| of_host(destination, &error))?;
        let overwrite = self.manner.overwrite;
        visit(self.global, self.store, &found, true, |container| Ok(copy_out(container, &inside, place, overwrite)?))
    }

    fn pack(&self, from: Inside<'_>) -> Result<(), Failure> {
        let (found, inside) = self.find(from)?;
        if std::io::stdout().is_terminal() {
            return Err("a tar is not for a terminal; give a file instead of -, or a pipe".into());
        }
        let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        visit(self.global, self.store, &found, true, |container| Ok(pack_out(container, &inside, &out)?))
    }

    fn unpack(&self, to: Inside<'_>) -> Result<(), Failure> {
        let (found, inside) = self.find(to)?;
        if std::io::stdin().is_terminal() {
            return Err("a tar does not come from a terminal; give a file instead of -, or a pipe".into());
        }
        let archive = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        visit(self.global, self.store, &found, true, |container| {
            Ok(unpack_in(container, &archive, &inside, self.manner)?)
        })
    }

    /// By way of a folder of the store's, so that neither container sees the other.
    fn across(&self, from: Inside<'_>, to: Inside<'_>) -> Result<(), Failure> {
        let (_, inside) = self.find(from)?;
        self.find(to)?;
        let between = self.store.join("tmp").join(format!("copy-{}", &random_id()?[..SHORT]));
        std::fs::create_dir_all(&between)?;
        // Under its own name where it has one that counts.
        let name = inside.file_name().filter(|_| !from.1.ends_with("/.") && from.1 != ".");
        let copied = self.take_out(from, &between).and_then(|()| match name {
            Some(name) => self.put_in(&between.join(name), to),
            None => self.put_in(&between.join("."), to),
        });
        lstore::remove_tree(&between)?;
        copied
    }
}

fn of_host(path: &Path, error: &std::io::Error) -> Failure {
    format!("{}: {error}", path.display()).into()
}

/// `CONTAINER:PATH`; a path of the host's with a colon begins with `/` or `.`.
fn of_container(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    text.split_once(':').filter(|(name, path)| !name.is_empty() && !name.contains('/') && !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_tells_a_container_from_a_path() {
        assert_eq!(of_container("box:/a:b"), Some(("box", "/a:b")));
        assert_eq!(of_container("box:."), Some(("box", ".")));
        for path in ["/a:b", "./box:/a", "file", "a/b:c", ":x", "box:"] {
            assert_eq!(of_container(path), None, "{path}");
        }
    }
}

//! `lrun cp`.

use std::path::{Path, PathBuf};

use lrun::transfer::{Original, Place, copy_in, copy_out};

use super::args::CopyArguments;
use super::select::containers;
use super::visit::visit;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &CopyArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let (source, destination) = (arguments.source.as_str(), arguments.destination.as_str());
    let (name, path, goes_in) = match (of_container(source), of_container(destination)) {
        (Some((name, path)), None) => (name, path, false),
        (None, Some((name, path))) => (name, path, true),
        _ => return Err("one of the two must be a file of a container: CONTAINER:PATH".into()),
    };
    let found = containers(&store).find(name)?;
    // With the slash or dot at its end, which mean something.
    let inside = PathBuf::from(if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{}/{path}", found.record.spec.cwd.display())
    });
    let host = |error: &std::io::Error, path: &str| Failure::from(format!("{path}: {error}"));
    if goes_in {
        // Before the container: what is not there needs none.
        let original = Original::of_host(Path::new(source)).map_err(|error| host(&error, source))?;
        visit(global, &store, &found, true, |container| {
            Ok(copy_in(container, original, &inside, !arguments.archive)?)
        })?;
    } else {
        let place = Place::of_host(Path::new(destination)).map_err(|error| host(&error, destination))?;
        visit(global, &store, &found, true, |container| Ok(copy_out(container, &inside, place)?))?;
    }
    Ok(Exit::SUCCESS)
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

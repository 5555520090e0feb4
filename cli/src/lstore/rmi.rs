//! `lstore rmi`.

use lstore::Store;
use serde_json::json;

use super::args::RmiArguments;
use super::context::{Context, PROGRAM};
use crate::bridge::roots;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::lrun::displace_all;
use crate::output::Format;
use crate::report::{self, Failure};

/// With `--force`, removes the containers of the images that are to go, running ones too, as podman does. To be called before
/// the process enters the store's user namespace, from which the processes of containers cannot be ended.
///
/// # Errors
/// A container that cannot be removed.
pub(super) fn remove_containers(global: &Global, arguments: &RmiArguments) -> Result<(), Failure> {
    if !arguments.force {
        return Ok(());
    }
    let root = Environment::of_process().store(global)?;
    // A store that is just being made has none, and cannot be read yet.
    if roots::known(&root)?.is_empty() {
        return Ok(());
    }
    let store = Store::open_existing(&root)?;
    let doomed = store.would_forget(&names(&store, arguments)?)?;
    drop(store);
    let containers = roots::using(&root, &doomed)?;
    if containers.is_empty() { Ok(()) } else { displace_all(&root, containers) }
}

/// The images that are meant.
fn names(store: &Store, arguments: &RmiArguments) -> Result<Vec<String>, Failure> {
    if arguments.all {
        Ok(store.images()?.into_iter().map(|image| image.id.to_string()).collect())
    } else {
        Ok(arguments.images.clone())
    }
}

pub(super) fn run(context: &Context, arguments: &RmiArguments) -> Result<Exit, Failure> {
    let store = context.found_to_change()?;
    if let Some(store) = &store {
        roots::mend(store)?;
    }
    let force = arguments.force || arguments.all;
    let names = match &store {
        Some(store) => names(store, arguments)?,
        None => arguments.images.clone(),
    };
    let mut removed = Vec::new();
    let mut exit = Exit::SUCCESS;
    for name in names {
        let unknown = || lstore::Error::ImageNotFound(name.clone());
        let known = roots::known(&context.root)?;
        match store.as_ref().ok_or_else(unknown).and_then(|store| store.remove(&name, force, &known)) {
            Ok(one) => removed.push(one),
            Err(lstore::Error::ImageNotFound(_)) if arguments.force => {}
            Err(error) => {
                // The others are removed all the same, as podman does.
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "{}", report::line(PROGRAM, &error));
                exit = Exit::FAILURE;
            }
        }
    }
    let mut output = context.output();
    if let Some(format) = &arguments.output.format {
        let values: Vec<_> =
            removed.iter().map(|one| json!({ "Untagged": one.untagged, "Deleted": one.deleted })).collect();
        output.list(&values, &Format::parse(format)?, &[])?;
    } else if !context.global.quiet {
        for one in &removed {
            for name in &one.untagged {
                output.line(&format!("Untagged: {name}"))?;
            }
            if let Some(id) = &one.deleted {
                output.line(&format!("Deleted: {}", id.trim_start_matches("sha256:")))?;
            }
        }
    }
    output.flush()?;
    Ok(exit)
}

//! `lstore rmi`.

use serde_json::json;

use super::args::RmiArguments;
use super::context::{Context, PROGRAM};
use crate::exit::Exit;
use crate::output::Format;
use crate::report::{self, Failure};

pub(super) fn run(context: &Context, arguments: &RmiArguments) -> Result<Exit, Failure> {
    let store = context.found_to_change()?;
    let force = arguments.force || arguments.all;
    let names = match (&store, arguments.all) {
        (Some(store), true) => store.images()?.into_iter().map(|image| image.id.to_string()).collect(),
        (None, true) => Vec::new(),
        (_, false) => arguments.images.clone(),
    };
    let mut removed = Vec::new();
    let mut exit = Exit::SUCCESS;
    for name in names {
        let unknown = || lstore::Error::ImageNotFound(name.clone());
        match store.as_ref().ok_or_else(unknown).and_then(|store| store.remove(&name, force)) {
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

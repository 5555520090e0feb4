//! `lstore export`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};

use lstore::Digest;

use super::args::ExportArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &ExportArguments) -> Result<Exit, Failure> {
    let store = context.found()?.ok_or_else(|| lstore::Error::NoStore(context.root.clone()))?;
    // What is asked for is looked up before the file is made: a mistyped name leaves no empty archive behind.
    let image = arguments.image.as_deref().map(|name| store.image(name)).transpose()?;
    let layer = arguments.layer.as_deref().map(str::parse::<Digest>).transpose()?;
    if let Some(layer) = &layer {
        store.layer(layer)?;
    }
    let out: Box<dyn Write> = match &arguments.output {
        Some(path) => {
            Box::new(File::create(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?)
        }
        None if std::io::stdout().is_terminal() => {
            return Err("an archive is not for a terminal; give -o FILE, or a pipe".into());
        }
        None => Box::new(std::io::stdout()),
    };
    let mut out = BufWriter::with_capacity(1 << 20, out);
    match (image, layer) {
        (_, Some(layer)) => {
            store.export_layer(&layer, &mut out)?;
        }
        (Some(image), None) => store.export(&image, &mut out)?,
        (None, None) => {}
    }
    out.flush()?;
    Ok(Exit::SUCCESS)
}

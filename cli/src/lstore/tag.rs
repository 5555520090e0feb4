//! `lstore tag`.

use lstore::Reference;

use super::args::TagArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &TagArguments) -> Result<Exit, Failure> {
    // All names are read before any is given: a mistake in the last one changes nothing.
    let names = arguments.names.iter().map(|name| Reference::parse(name)).collect::<Result<Vec<_>, _>>()?;
    context.found_with(&arguments.image)?.tag(&arguments.image, &names)?;
    Ok(Exit::SUCCESS)
}

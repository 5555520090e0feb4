//! `lstore prepare`: makes the checkout that a container needs. `lrun` runs it where it finds none.

use super::args::PrepareArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &PrepareArguments) -> Result<Exit, Failure> {
    let store = context.found_with(&arguments.image)?;
    let image = store.image(&arguments.image)?;
    if arguments.if_complete && !image.is_complete() {
        return Ok(Exit::SUCCESS);
    }
    let placement = store.placement(context.forced_placement())?;
    let checkout = store.checkout(&image, placement, arguments.caller)?;
    context.tell_lost(&checkout.lost);
    Ok(Exit::SUCCESS)
}

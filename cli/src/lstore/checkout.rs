//! `lstore checkout`.

use lstore::{Placement, SetId, Store};

use super::args::CheckoutArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &CheckoutArguments) -> Result<Exit, Failure> {
    let store = context.found_with(&arguments.image)?;
    let image = store.image(&arguments.image)?;
    let placement = if arguments.hardlink { Placement::Hardlink } else { independent(context, &store)? };
    let target = std::path::absolute(&arguments.directory)?;
    let set_id = if arguments.set_id { SetId::Kept } else { SetId::Off };
    let lost = store.checkout_into(&image, &target, placement, set_id)?;
    context.tell_lost(&lost);
    Ok(Exit::SUCCESS)
}

/// The placement of a tree that may be changed: shared extents where the file system has them.
fn independent(context: &Context, store: &Store) -> Result<Placement, Failure> {
    match context.forced_placement() {
        Some(Placement::Stub) => {
            Err("a stub checkout shows its contents through an overlay only; take reflink, copy or --hardlink".into())
        }
        Some(placement) => Ok(store.placement(Some(placement))?),
        None if store.support()?.refusal(Placement::Reflink).is_none() => Ok(Placement::Reflink),
        None => Ok(Placement::Copy),
    }
}

//! `lstore gc`.

use lstore::{Collected, Collection, Store};
use serde_json::json;

use super::args::GcArguments;
use super::context::{Context, print};
use crate::bridge::roots;
use crate::exit::Exit;
use crate::output::size;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &GcArguments) -> Result<Exit, Failure> {
    let (dry_run, checkouts, cold) = (arguments.dry_run, arguments.checkouts, arguments.cold);
    let collection = Collection { dry_run, checkouts, cold };
    let collect =
        |store: &Store| -> Result<_, Failure> { Ok(store.collect(collection, &roots::known(&context.root)?)?) };
    let freed = if dry_run {
        match Store::open_existing(&context.root) {
            Err(lstore::Error::NoStore(_)) => Collected::default(),
            store => collect(&store?)?,
        }
    } else if let Some(store) = context.found_to_change()? {
        roots::mend(&store)?;
        let freed = collect(&store)?;
        store.settle_what_is_old()?;
        freed
    } else {
        Collected::default()
    };
    let value = json!({
        "Images": freed.images, "Layers": freed.layers, "Trees": freed.trees, "Objects": freed.objects,
        "Orphans": freed.orphans, "Bytes": freed.bytes, "Deferred": freed.deferred, "Packed": freed.packed,
        "PackedFrom": freed.packed_from, "PackedInto": freed.packed_into, "Packs": freed.packs, "DryRun": dry_run,
    });
    print(context, arguments.output.format.as_deref(), &value, |output| {
        if context.global.quiet {
            return Ok(());
        }
        let verb = if dry_run { "would free" } else { "freed" };
        output.line(&format!(
            "{verb} {}: {} images, {} layers, {} checkouts, {} contents, {} left-over files",
            size(freed.bytes),
            freed.images,
            freed.layers,
            freed.trees,
            freed.objects,
            freed.orphans
        ))?;
        if cold && dry_run {
            output.line(&format!("would pack {} contents ({})", freed.packed, size(freed.packed_from)))?;
        } else if cold {
            let (from, into) = (size(freed.packed_from), size(freed.packed_into));
            output.line(&format!("packed {} contents: {from} became {into}", freed.packed))?;
        }
        if freed.deferred > 0 {
            output.line(&format!("{} contents wait for running pulls to end; run gc again then", freed.deferred))?;
        }
        Ok(())
    })?;
    Ok(Exit::SUCCESS)
}

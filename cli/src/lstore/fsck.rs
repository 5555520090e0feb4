//! `lstore fsck`.

use serde_json::json;

use super::args::FsckArguments;
use super::context::{Context, print};
use crate::exit::Exit;
use crate::output::size;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &FsckArguments) -> Result<Exit, Failure> {
    let store = if arguments.repair { context.found_to_change()? } else { context.found()? };
    let report = store.map(|store| store.fsck(arguments.repair)).transpose()?.unwrap_or_default();
    let incomplete =
        report.incomplete.iter().map(|one| json!({ "Id": one.id.hex(), "Names": one.names, "Missing": one.missing }));
    let incomplete: Vec<_> = incomplete.collect();
    let damage: Vec<_> = report.damage.iter().map(|one| json!({ "What": one.what, "Problem": one.problem })).collect();
    let value = json!({
        "Clean": report.is_clean(), "Layers": report.layers, "Objects": report.objects, "Bytes": report.bytes,
        "Trees": report.trees, "Incomplete": incomplete, "Damage": damage, "Repaired": report.repaired,
        "Foreign": report.foreign,
    });
    print(context, arguments.output.format.as_deref(), &value, |output| {
        for one in &report.damage {
            output.line(&format!("{}: {}", one.what, one.problem))?;
        }
        for one in report.incomplete.iter().filter(|_| !arguments.repair) {
            let name = if one.names.is_empty() { one.id.to_string() } else { one.names.join(", ") };
            let count = one.missing.len();
            output.line(&format!(
                "{name}: incomplete: {count} of its layers are missing; a pull or `lrun` fetches them"
            ))?;
        }
        for one in &report.repaired {
            output.line(&format!("repaired: {one}"))?;
        }
        for path in &report.foreign {
            output.line(&format!("{path}: not the store's; it is left alone"))?;
        }
        if context.global.quiet && report.is_clean() {
            return Ok(());
        }
        let verdict = match (report.is_clean(), arguments.repair) {
            (true, _) => "clean",
            (false, true) => "damaged parts taken out; pull their images again",
            (false, false) => "damaged; `lstore fsck --repair` takes the damaged parts out of use",
        };
        // A repair has told of each that it forgot.
        let incomplete = match report.incomplete.len() {
            0 => String::new(),
            _ if arguments.repair => String::new(),
            count => format!(", {count} incomplete images"),
        };
        output.line(&format!(
            "{} layers, {} contents ({}), {} checkouts{incomplete}: {verdict}",
            report.layers,
            report.objects,
            size(report.bytes),
            report.trees
        ))
    })?;
    Ok(if report.is_clean() || arguments.repair { Exit::SUCCESS } else { Exit::FAILURE })
}

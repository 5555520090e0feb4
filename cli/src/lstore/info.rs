//! `lstore info`.

use lstore::Placement;
use serde_json::json;

use super::args::ReportArguments;
use super::context::{Context, print};
use crate::exit::Exit;
use crate::output::Table;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &ReportArguments) -> Result<Exit, Failure> {
    let store = context.open()?;
    let support = store.support()?;
    let chosen = Placement::choose(&support, context.forced_placement())?;
    let why = |placement| support.refusal(placement).map_or_else(|| "works here".to_owned(), str::to_owned);
    let reason = if context.forced_placement().is_some() {
        "asked for".to_owned()
    } else {
        let better: Vec<String> = Placement::ALL
            .into_iter()
            .take_while(|placement| *placement != chosen)
            .map(|placement| format!("{placement}: {}", why(placement)))
            .collect();
        if better.is_empty() { "the best that there is".to_owned() } else { better.join("; ") }
    };
    let (images, uname) = (store.images()?.len(), rustix::system::uname());
    let kernel = uname.release().to_string_lossy().into_owned();
    let mapping = context.mapping.to_string();
    let value = json!({
        "Root": store.path(), "Objects": store.path().join("objects"), "Images": images,
        "Placement": chosen.name(), "PlacementReason": reason,
        "Placements": {
            "Stub": why(Placement::Stub), "Hardlink": why(Placement::Hardlink),
            "Reflink": why(Placement::Reflink), "Copy": why(Placement::Copy),
        },
        "Mapping": mapping, "Kernel": kernel, "Sqlite": lstore::index::sqlite_version(),
        "Version": env!("CARGO_PKG_VERSION"),
    });
    print(context, arguments.output.format.as_deref(), &value, |output| {
        let mut table = Table::with_header(["", ""]);
        let path = store.path().display().to_string();
        for (name, text) in
            [("store", path.as_str()), ("images", &images.to_string()), ("placement", &format!("{chosen} ({reason})"))]
        {
            table.row([name, text]);
        }
        for placement in Placement::ALL {
            table.row([&format!("  {placement}"), why(placement).as_str()]);
        }
        for (name, text) in [
            ("ids", mapping.as_str()),
            ("kernel", &kernel),
            ("SQLite", lstore::index::sqlite_version()),
            ("lstore", env!("CARGO_PKG_VERSION")),
        ] {
            table.row([name, text]);
        }
        output.table(&table)
    })?;
    Ok(Exit::SUCCESS)
}

//! `lstore info`.

use lstore::{Placement, Store, Support};
use serde_json::{Value, json};

use super::args::ReportArguments;
use super::context::{Context, one_machine, print};
use crate::exit::Exit;
use crate::output::Table;
use crate::report::Failure;

/// What cannot be tried before there is a store to try it in.
const NOT_TRIED: &str = "not known before there is a store";

/// What a store can do, and holds.
struct Facts {
    images: usize,
    support: Support,
    chosen: Placement,
    reason: String,
    shared: Option<&'static str>,
}

impl Facts {
    fn of(store: &Store, context: &Context) -> Result<Self, Failure> {
        let support = store.support()?;
        let chosen = Placement::choose(&support, context.forced_placement())?;
        let better = Placement::ALL.into_iter().take_while(|placement| *placement != chosen);
        let better: Vec<String> =
            better.map(|placement| format!("{placement}: {}", works(&support, placement))).collect();
        let reason = match (context.forced_placement(), better.as_slice()) {
            (Some(_), _) => "asked for".to_owned(),
            (None, []) => "the best that there is".to_owned(),
            (None, better) => better.join("; "),
        };
        Ok(Self { images: store.images()?.len(), support, chosen, reason, shared: store.shared_file_system()? })
    }
}

fn works(support: &Support, placement: Placement) -> String {
    support.refusal(placement).map_or_else(|| "works here".to_owned(), str::to_owned)
}

pub(super) fn run(context: &Context, arguments: &ReportArguments) -> Result<Exit, Failure> {
    let facts = context.found()?.map(|store| Facts::of(&store, context)).transpose()?;
    let facts = facts.as_ref();
    let why = |placement| facts.map_or_else(|| NOT_TRIED.to_owned(), |facts| works(&facts.support, placement));
    let shared = facts.and_then(|facts| facts.shared).map(one_machine);
    let images = facts.map_or(0, |facts| facts.images);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let mapping = context.mapping.to_string();
    let value = json!({
        "Root": context.root, "Objects": context.root.join("objects"), "Exists": facts.is_some(), "Images": images,
        "Placement": facts.map_or(Value::Null, |facts| facts.chosen.name().into()),
        "PlacementReason": facts.map_or(NOT_TRIED, |facts| &facts.reason),
        "Placements": {
            "Stub": why(Placement::Stub), "Hardlink": why(Placement::Hardlink),
            "Reflink": why(Placement::Reflink), "Copy": why(Placement::Copy),
        },
        "SharedFileSystem": shared, "Mapping": mapping, "Kernel": kernel, "Sqlite": lstore::index::sqlite_version(),
        "Version": env!("CARGO_PKG_VERSION"),
    });
    print(context, arguments.output.format.as_deref(), &value, |output| {
        let mut table = Table::with_header(["", ""]);
        let path = context.root.display();
        let place = if facts.is_some() { path.to_string() } else { format!("none yet at {path}; a pull makes it") };
        let placement = facts.map(|facts| format!("{} ({})", facts.chosen, facts.reason));
        table.row(["store", &place]);
        if let Some(shared) = &shared {
            table.row(["file system", shared]);
        }
        table.row(["images", &images.to_string()]);
        table.row(["placement", placement.as_deref().unwrap_or(NOT_TRIED)]);
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

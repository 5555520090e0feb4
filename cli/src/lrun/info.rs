//! `lrun info`: what this machine allows a container, and what is missing for more.

use lrun::idmap::Shape;
use lrun::userns::maps_of_caller;
use serde_json::json;

use crate::exit::Exit;
use crate::lstore::args::ReportArguments;
use crate::output::{Format, Output, Table};
use crate::report::Failure;

pub(super) fn run(arguments: &ReportArguments) -> Result<Exit, Failure> {
    let host = lrun::Host::probe();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let ids = if host.is_root {
        "the host's (run by root)".to_owned()
    } else {
        match maps_of_caller(Shape::Auto) {
            Ok(maps) => maps.users.to_string().trim().replace('\n', ", "),
            Err(error) => format!("yours alone: {error}"),
        }
    };
    let helpers = ["newuidmap", "newgidmap"]
        .map(|name| ["/usr/bin", "/bin"].iter().any(|dir| std::path::Path::new(dir).join(name).exists()));
    let helpers = if helpers == [true, true] { "installed" } else { "missing: install the package uidmap" };
    let limit =
        |file: &str| std::fs::read_to_string(file).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
    let namespaces = limit("/proc/sys/user/max_user_namespaces");
    let apparmor = match limit("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_str() {
        "1" => "restricts user namespaces: lrun needs a profile with `userns,`",
        _ => "does not restrict user namespaces",
    };
    let value = json!({
        "Version": env!("CARGO_PKG_VERSION"), "Kernel": kernel, "Root": host.is_root, "Ids": ids, "IdHelpers": helpers,
        "MaxUserNamespaces": namespaces, "AppArmor": apparmor, "LastCapability": host.last_capability,
    });
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    if let Some(format) = &arguments.output.format {
        output.item(&value, &Format::parse(format)?)?;
    } else {
        let mut table = Table::with_header(["", ""]);
        for (name, text) in [
            ("lrun", env!("CARGO_PKG_VERSION")),
            ("kernel", kernel.as_str()),
            ("ids", &ids),
            ("id helpers", helpers),
            ("user namespaces", &namespaces),
            ("AppArmor", apparmor),
        ] {
            table.row([name, text]);
        }
        output.table(&table)?;
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

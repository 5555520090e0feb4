//! `lrun port`.

use std::io::Write;

use lrun::state::Found;

use super::args::PortArguments;
use super::describe::published;
use super::publish::leads_to;
use super::run::SHORT;
use super::select::{containers, latest};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &PortArguments) -> Result<Exit, Failure> {
    let (name, wanted) = arguments.wanted()?;
    let store = Environment::of_process().store(global)?;
    let containers = containers(&store);
    let found: Vec<Found> = match name {
        Some(name) => vec![containers.find(name)?],
        None if arguments.all => containers.all(),
        None => vec![latest(&containers)?],
    };
    let mut told = false;
    let mut stdout = std::io::stdout().lock();
    // As for podman, nothing leads into one that does not run.
    for found in found.iter().filter(|found| found.record.running().is_some()) {
        let mark =
            found.record.id.get(..SHORT).filter(|_| arguments.all).map(|id| format!("{id}\t")).unwrap_or_default();
        for port in published(&found.record.spec) {
            let address = port.address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
            match &wanted {
                Some(wanted) => {
                    if let Some(host) = leads_to(port, wanted) {
                        writeln!(stdout, "{mark}{address}:{host}")?;
                        told = true;
                    }
                }
                None => {
                    for at in 0..port.count {
                        let (container, host) = (port.container + at, port.host + at);
                        writeln!(stdout, "{mark}{container}/{} -> {address}:{host}", port.protocol)?;
                    }
                }
            }
        }
    }
    match wanted {
        Some(wanted) if !told => {
            Err(format!("failed to find published port \"{}/{}\"", wanted.container, wanted.protocol).into())
        }
        _ => Ok(Exit::SUCCESS),
    }
}

//! `lrun update`: other limits, and another policy, for a container that is there.

use std::io::Write;

use lrun::amendment::Amendment;
use lrun::cgroup::{Resources, Wish};

use super::args::UpdateArguments;
use super::control;
use super::remake::remake;
use super::select::containers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &UpdateArguments) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    let containers = containers(&store);
    let mut found = arguments.one.select(&containers)?;
    let wish = found.record.spec.cgroup.clone();
    let had = wish.as_ref().map_or_else(Resources::default, |wish| wish.resources.clone());
    let said = arguments.resources.resources(had.memory)?;
    let remakes = !arguments.remake.is_empty();
    if said.is_empty() && arguments.restart.is_none() && !remakes {
        return Err("nothing to change; give a limit, as --memory 1g, or --restart".into());
    }
    let wanted = had.changed_by(&said);
    if let (Some(memory), Some(swap @ 0..)) = (wanted.memory, wanted.memory_swap)
        && swap.cast_unsigned() < memory
    {
        return Err("--memory above the limit of memory and swap together; give --memory-swap too".into());
    }
    if remakes {
        remake(&store, &found, &arguments.remake, &environment)?;
        if said.is_empty() && arguments.restart.is_none() {
            writeln!(std::io::stdout(), "{}", found.record.id)?;
            return Ok(Exit::SUCCESS);
        }
        found = found.again()?;
    }
    let amendment = Amendment {
        // One that was made without a group gets one at its next start.
        cgroup: (!said.is_empty()).then(|| {
            let wish = wish.unwrap_or_else(|| Wish { name: found.record.id.clone(), ..Wish::default() });
            Wish { resources: wanted.clone(), ..wish }
        }),
        restart: arguments.restart.or(found.record.amendment.restart),
        group: None,
    };
    if found.record.running().is_some() && !said.is_empty() {
        // All of them, since one file can hold several.
        control::demand(&found, &containers, &environment)?.group.set(&wanted).map_err(lrun::Error::from)?;
    }
    // As it is now, with a group that was just made.
    let kept = Amendment::read(&found.path).unwrap_or_default();
    Amendment { cgroup: amendment.cgroup.or(kept.cgroup), group: kept.group, ..amendment }.write(&found.path)?;
    writeln!(std::io::stdout(), "{}", found.record.id)?;
    Ok(Exit::SUCCESS)
}

//! `lrun prune`: removes all containers that do not run.

use std::io::{BufRead, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lrun::state::{Found, Status};

use super::args::{PruneArguments, RemoveArguments, Which};
use super::moment;
use super::select::{containers, is_wanted};
use super::stop::remove_from;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &PruneArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let until = arguments.until().map(|text| {
        let moment = moment::parse(text, SystemTime::now());
        moment.ok_or_else(|| format!("until={text}: give RFC 3339, seconds since 1970, or how long ago, as 24h"))
    });
    let until = until.transpose()?;
    let labels = arguments.labels();
    let is_doomed = |found: &Found| {
        let made = UNIX_EPOCH + Duration::from_nanos(found.record.created);
        matches!(found.record.status(), Status::Created | Status::Exited)
            && until.is_none_or(|until| made < until)
            && is_wanted(found, &labels)
    };
    let doomed: Vec<Found> = containers(&store).all().into_iter().filter(is_doomed).collect();
    if doomed.is_empty() || !arguments.force && !is_agreed(&doomed)? {
        return Ok(Exit::SUCCESS);
    }
    // By their ids: a name may be another's by now. One that was started meanwhile is left alone, and told.
    let which = Which { containers: doomed.into_iter().map(|found| found.record.id).collect(), ..Which::default() };
    remove_from(&store, &RemoveArguments { force: false, ignore: true, time: None, volumes: false, which })
}

fn is_agreed(doomed: &[Found]) -> Result<bool, Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "These containers, which do not run, will be removed:")?;
    for found in doomed {
        writeln!(out, "{}", found.name)?;
    }
    write!(out, "Are you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

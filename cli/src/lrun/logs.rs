//! `lrun logs`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lrun::logs::{Line, Reader, Stream, stamp};
use lrun::state::Found;

use super::args::{LogsArguments, Which};
use super::moment;
use super::run::SHORT;
use super::select::containers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

/// How often a log that is followed is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn run(global: &Global, arguments: &LogsArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let which = Which { latest: arguments.latest, containers: arguments.containers.clone(), ..Which::default() };
    let selected = which.select(&containers(&store))?;
    let found = selected.into_iter().map(|(_, found)| found).collect::<Result<Vec<_>, _>>()?;
    let now = SystemTime::now();
    let moment = |text: &Option<String>, flag| match text {
        None => Ok(None),
        Some(text) => match moment::parse(text, now) {
            Some(moment) => Ok(Some(stamp(moment))),
            None => Err(format!("--{flag} {text}: give RFC 3339, seconds since 1970, or how long ago, as 10m")),
        },
    };
    let (since, until) = (moment(&arguments.since, "since")?, moment(&arguments.until, "until")?);
    let is_wanted = |line: &Line| {
        since.as_ref().is_none_or(|since| line.stamp >= *since)
            && until.as_ref().is_none_or(|until| line.stamp <= *until)
    };
    if let Some(found) = found.iter().find(|found| found.record.attendance.unlogged) {
        return Err(format!("{}: it was made with --log-driver none, so nothing is there to read", found.name).into());
    }
    let is_one = found.len() == 1;
    let mut sources = Vec::new();
    for (number, found) in found.into_iter().enumerate() {
        let prefix = if is_one { String::new() } else { prefix(&found, number, arguments) };
        let printer = Printer { prefix, timestamps: arguments.timestamps, midway: [false; 2] };
        match Reader::open(&found.path) {
            // It was never started, or in the foreground: there, what it wrote was seen.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            reader => sources.push(Source { reader: reader?, printer, path: found.path }),
        }
    }
    let tail = usize::try_from(arguments.tail).ok();
    for source in &mut sources {
        source.print_last(tail, is_wanted)?;
    }
    let is_over = |moment: &str| until.as_ref().is_some_and(|until| moment > until.as_str());
    while arguments.follow && !sources.is_empty() {
        let mut going = Vec::new();
        for mut source in sources {
            // Looked at before the last lines, so that none is missed.
            let runs = lrun::state::is_locked(&source.path);
            let mut goes_on = runs;
            while let Some(line) = source.reader.next_line()? {
                if is_over(&line.stamp) {
                    goes_on = false;
                    break;
                }
                if is_wanted(&line) {
                    source.printer.print(&line)?;
                }
            }
            if goes_on && !is_over(&stamp(SystemTime::now())) {
                going.push(source);
            }
        }
        sources = going;
        if !sources.is_empty() {
            std::thread::sleep(INTERVAL);
        }
    }
    Ok(Exit::SUCCESS)
}

/// What the lines of one of several containers begin with.
fn prefix(found: &Found, number: usize, arguments: &LogsArguments) -> String {
    let id = found.record.id.get(..SHORT).unwrap_or(&found.record.id);
    let name = if arguments.names { &found.name } else { id };
    // Red and the five colours after it.
    if arguments.color { format!("\x1b[{};1m{name}\x1b[0m ", 31 + number % 6) } else { format!("{name} ") }
}

/// The log of one container.
struct Source {
    reader: Reader,
    printer: Printer,
    path: PathBuf,
}

impl Source {
    /// Prints what is there, or its last lines.
    fn print_last(&mut self, tail: Option<usize>, is_wanted: impl Fn(&Line) -> bool) -> io::Result<()> {
        let mut last = VecDeque::new();
        let mut lines = 0;
        while let Some(line) = self.reader.next_line()? {
            if !is_wanted(&line) {
                continue;
            }
            let Some(tail) = tail else {
                self.printer.print(&line)?;
                continue;
            };
            lines += usize::from(line.text.ends_with(b"\n"));
            last.push_back(line);
            while lines > tail
                && let Some(first) = last.pop_front()
            {
                lines -= usize::from(first.text.ends_with(b"\n"));
            }
        }
        last.iter().try_for_each(|line| self.printer.print(line))
    }
}

/// Puts each line where it went inside.
struct Printer {
    /// Which container it is of, where there are several.
    prefix: String,
    timestamps: bool,
    /// Whether the last that was printed on a stream was a part of a line.
    midway: [bool; 2],
}

impl Printer {
    fn print(&mut self, line: &Line) -> io::Result<()> {
        let midway = &mut self.midway[usize::from(line.stream == Stream::Errors)];
        let mut text = Vec::with_capacity(line.text.len() + 40);
        if !*midway {
            text.extend_from_slice(self.prefix.as_bytes());
        }
        if self.timestamps && !*midway {
            text.extend_from_slice(line.stamp.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&line.text);
        *midway = !line.text.ends_with(b"\n");
        match line.stream {
            Stream::Output => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&text)?;
                stdout.flush()
            }
            Stream::Errors => io::stderr().write_all(&text),
        }
    }
}

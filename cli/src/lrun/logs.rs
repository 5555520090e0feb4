//! `lrun logs`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use lrun::logs::{Line, Reader, Stream, stamp};

use super::args::LogsArguments;
use super::moment;
use super::select::containers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

/// How often a log that is followed is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn run(global: &Global, arguments: &LogsArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let found = arguments.one.select(&containers(&store))?;
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
    let mut printer = Printer { timestamps: arguments.timestamps, midway: [false; 2] };
    let mut reader = match Reader::open(&found.path) {
        // It was never started, or in the foreground: there, what it wrote was seen.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Exit::SUCCESS),
        other => other?,
    };
    let tail = usize::try_from(arguments.tail).ok();
    let mut last = VecDeque::new();
    let mut lines = 0;
    while let Some(line) = reader.next_line()? {
        if !is_wanted(&line) {
            continue;
        }
        let Some(tail) = tail else {
            printer.print(&line)?;
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
    last.iter().try_for_each(|line| printer.print(line))?;
    if !arguments.follow {
        return Ok(Exit::SUCCESS);
    }
    loop {
        // Looked at before the last lines, so that none is missed.
        let runs = lrun::state::is_locked(&found.path);
        while let Some(line) = reader.next_line()? {
            if until.as_ref().is_some_and(|until| line.stamp > *until) {
                return Ok(Exit::SUCCESS);
            }
            if is_wanted(&line) {
                printer.print(&line)?;
            }
        }
        if !runs || until.as_ref().is_some_and(|until| stamp(SystemTime::now()) > *until) {
            return Ok(Exit::SUCCESS);
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Puts each line where it went inside.
struct Printer {
    timestamps: bool,
    /// Whether the last that was printed on a stream was a part of a line.
    midway: [bool; 2],
}

impl Printer {
    fn print(&mut self, line: &Line) -> io::Result<()> {
        let midway = &mut self.midway[usize::from(line.stream == Stream::Errors)];
        let mut text = Vec::with_capacity(line.text.len() + 40);
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

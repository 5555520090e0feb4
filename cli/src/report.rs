//! How a failure is told: one line on standard error, `lstore: what: why; remedy`, and an exit code.
//!
//! Library errors name the operation, the thing it was done to and, after a semicolon, what to do about it; their
//! sources say why. This file joins such a chain into a sentence in which nothing is said twice.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::exit::Exit;
use crate::output::escape;

/// What a command body returns when it fails: any error, and the exit code it asks for.
///
/// `?` turns every error into a failure with the exit code of `lstore`, [`Exit::FAILURE`].
#[derive(Debug)]
pub struct Failure {
    /// The exit code to leave with.
    pub exit: Exit,
    /// What went wrong; its chain of sources is told too.
    pub error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A failure with an exit code of its own, for the codes of `lrun run`.
    pub fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::FAILURE, error)
    }
}

/// Tells the outcome of a command on `stderr` and gives the exit code to leave with.
///
/// A broken pipe is no failure: whoever read standard output (`lstore images | head -1`) has all it wanted.
pub fn finish(program: &str, outcome: Result<Exit, Failure>, stderr: &mut impl Write) -> Exit {
    match outcome {
        Ok(exit) => exit,
        Err(failure) if is_broken_pipe(failure.error.as_ref()) => Exit::SUCCESS,
        Err(failure) => {
            // If standard error cannot be written either, the exit code is all that is left to tell.
            let _ = writeln!(stderr, "{}", line(program, failure.error.as_ref()));
            failure.exit
        }
    }
}

/// Writes a warning, in the form of an error line, to `stderr`: the command goes on, with less than was hoped for.
pub fn warn(program: &str, message: &str, stderr: &mut impl Write) {
    let _ = writeln!(stderr, "{program}: warning: {}", escape(message));
}

/// The one line that tells `error` and its sources: `program: what: why; remedy`.
///
/// A source whose text its parent already contains is left out. Remedies, which is what follows "; " in a message,
/// move to the end. Control characters, which an image or a registry may have put into a name, are escaped.
pub fn line(program: &str, error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut remedies: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let (cause, remedy) = split_remedy(&text);
        if !cause.is_empty() && !causes.iter().any(|told| told.contains(cause)) {
            causes.push(cause.to_owned());
        }
        if let Some(remedy) = remedy
            && !remedies.iter().any(|told| told.contains(remedy))
        {
            remedies.push(remedy.to_owned());
        }
        next = error.source();
    }
    if remedies.is_empty()
        && let Some(remedy) = remedy_for(error)
    {
        remedies.push(remedy.to_owned());
    }
    let mut line = format!("{program}: {}", causes.join(": "));
    for remedy in remedies {
        let _ = write!(line, "; {remedy}");
    }
    escape(&line).into_owned()
}

/// Splits a message into what happened and what to do about it.
fn split_remedy(text: &str) -> (&str, Option<&str>) {
    let text = text.trim().trim_end_matches('.');
    match text.split_once("; ") {
        Some((cause, remedy)) => (cause.trim_end(), Some(remedy.trim())),
        None => (text, None),
    }
}

/// What to do about a failure of the operating system that no library named a remedy for.
fn remedy_for(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let kind = sources(error).find_map(|error| Some(error.downcast_ref::<io::Error>()?.kind()))?;
    match kind {
        io::ErrorKind::StorageFull => Some("free some space, or run 'lstore gc'"),
        io::ErrorKind::QuotaExceeded => Some("raise the quota, or run 'lstore gc'"),
        io::ErrorKind::ReadOnlyFilesystem => Some("use a store on a writable file system (--root DIR)"),
        _ => None,
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    sources(error)
        .any(|error| error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Reads the command line `arguments`, the program's name first.
///
/// Help and version texts are written to `stdout` (with clap's styles if `colours`), mistakes as one line to `stderr`;
/// both end the command with the exit code that is returned as the error: [`Exit::SUCCESS`] or `usage`.
pub fn parse<T: clap::Parser>(
    arguments: &[OsString],
    usage: Exit,
    colours: bool,
    stdout: &mut impl Write,
    stderr: &mut impl Write,
) -> Result<T, Exit> {
    let error = match T::try_parse_from(arguments) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    // Neither text can be told otherwise if its stream cannot be written.
    if !error.use_stderr() {
        let text = error.render();
        let _ = if colours { write!(stdout, "{}", text.ansi()) } else { write!(stdout, "{text}") };
        return Err(Exit::SUCCESS);
    }
    let command = T::command();
    let program = command.get_name();
    let subcommand = arguments.iter().skip(1).find_map(|argument| command.find_subcommand(argument));
    let help = match subcommand {
        Some(subcommand) => format!("{program} {} --help", subcommand.get_name()),
        None => format!("{program} --help"),
    };
    let _ = writeln!(stderr, "{}", usage_line(program, &error, &help));
    Err(usage)
}

/// Turns clap's several lines (error, tip, usage, pointer to the help) into the one line of this project.
///
/// `help` is the command that explains more, such as `lrun run --help`.
fn usage_line(program: &str, error: &clap::Error, help: &str) -> String {
    let text = error.to_string();
    let mut told = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        // clap's tip to put '--' before an unknown flag would turn the flag into the name of an image.
        if line.is_empty() || (line.starts_with("tip: to pass") && line.contains("as a value")) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(if line.starts_with("tip: ") { "; " } else { " " });
        }
        told.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    format!("{program}: {}; see '{help}'", escape(&told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("cannot open the store {path}; check --root")]
        Open { path: &'static str, source: io::Error },
        #[error("cannot pull {0}")]
        Pull(&'static str, #[source] Box<Sample>),
        #[error("layer failed: {0}")]
        Repeats(#[source] io::Error),
        #[error("no image named {0:?}; see 'lstore images'")]
        Missing(String),
        #[error("{0}")]
        Plain(String),
        #[error("cannot write {0}")]
        Write(&'static str, #[source] io::Error),
    }

    fn denied() -> io::Error {
        io::Error::from_raw_os_error(13)
    }

    #[test]
    fn a_chain_becomes_one_sentence_with_the_remedy_last() {
        let error = Sample::Pull("debian", Box::new(Sample::Open { path: "/s", source: denied() }));
        assert_eq!(
            line("lstore", &error),
            "lstore: cannot pull debian: cannot open the store /s: Permission denied (os error 13); check --root"
        );
    }

    #[test]
    fn what_a_message_already_says_is_not_said_again() {
        assert_eq!(line("lstore", &Sample::Repeats(denied())), "lstore: layer failed: Permission denied (os error 13)");
    }

    #[test]
    fn control_characters_from_an_image_do_not_reach_the_terminal() {
        let error = Sample::Plain("bad entry \u{1b}]0;x\u{7}\nfake: line".into());
        assert_eq!(line("lstore", &error), "lstore: bad entry \\x1b]0;x\\x07\\nfake: line");
    }

    #[test]
    fn a_full_disk_gets_a_remedy_where_the_library_gave_none() {
        let full = Sample::Write("object", io::Error::from_raw_os_error(28));
        assert_eq!(
            line("lstore", &full),
            "lstore: cannot write object: No space left on device (os error 28); free some space, or run 'lstore gc'"
        );
        let named = Sample::Missing("x".into());
        assert_eq!(line("lstore", &named), "lstore: no image named \"x\"; see 'lstore images'");
    }

    #[test]
    fn a_failure_is_one_line_and_its_exit_code() {
        let mut stderr = Vec::new();
        let failure = Failure::new(Exit::RUNNER, Sample::Missing("x".into()));
        assert_eq!(finish("lrun", Err(failure), &mut stderr), Exit::RUNNER);
        assert_eq!(String::from_utf8(stderr).unwrap().lines().count(), 1);
        assert_eq!(Failure::from(denied()).exit, Exit::FAILURE);
    }

    #[test]
    fn a_reader_that_has_enough_is_no_failure() {
        let mut stderr = Vec::new();
        let pipe = Sample::Write("output", io::Error::from_raw_os_error(32));
        assert_eq!(finish("lstore", Err(pipe.into()), &mut stderr), Exit::SUCCESS);
        assert_eq!(stderr, b"");
    }
}

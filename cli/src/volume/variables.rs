//! The variables that a user gives to a container.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::env::Environment;
use crate::output::escape_bytes;

/// Why variables cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    /// The name is empty or has white space in it.
    #[error("invalid environment variable {0:?}; write NAME=VALUE, NAME or PREFIX*")]
    Name(String),
    /// A file cannot be read.
    #[error("cannot read the environment file {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line in a file is no variable.
    #[error("line {line} of {path:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: Box<VariableError>,
    },
}

/// The variables of all `--env-file` files and, after them, of all `-e` arguments, as name and value; each name once,
/// with its last value.
///
/// `NAME=VALUE` sets a variable; `NAME` takes it from `host` and is left out if it is not set there; `PRE*` takes all
/// whose names begin with `PRE`. A file has one on each line; empty lines and those that begin with `#` are skipped, and
/// so is white space before a name. Values are taken as they are, quotes and trailing spaces included.
///
/// Errors: a name that is empty or contains white space; a file that cannot be read (`read` does that, so that parsing
/// can be tested without files).
pub fn variables<P: AsRef<Path>, A: AsRef<OsStr>>(
    files: &[P],
    arguments: &[A],
    host: &Environment,
    read: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<Vec<(OsString, OsString)>, VariableError> {
    let mut variables = Variables { all: Vec::new(), host };
    for file in files {
        let path = file.as_ref();
        let content = read(path).map_err(|source| VariableError::File { path: path.into(), source })?;
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            variables.add(line).map_err(|source| VariableError::Line {
                path: path.into(),
                line: index + 1,
                source: Box::new(source),
            })?;
        }
    }
    for argument in arguments {
        variables.add(argument.as_ref().as_bytes())?;
    }
    Ok(variables.all)
}

struct Variables<'a> {
    all: Vec<(OsString, OsString)>,
    host: &'a Environment,
}

impl Variables<'_> {
    fn add(&mut self, text: &[u8]) -> Result<(), VariableError> {
        let (name, value) = match text.iter().position(|byte| *byte == b'=') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let name = name.trim_ascii_start();
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return Err(VariableError::Name(escape_bytes(text)));
        }
        let host = self.host;
        match (value, name.strip_suffix(b"*")) {
            (Some(value), _) => self.set(OsStr::from_bytes(name), OsStr::from_bytes(value)),
            (None, Some(prefix)) => {
                for (name, value) in host.iter() {
                    if name.as_bytes().starts_with(prefix) {
                        self.set(name, value);
                    }
                }
            }
            (None, None) => {
                let name = OsStr::from_bytes(name);
                if let Some(value) = host.get(name) {
                    self.set(name, value);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &OsStr, value: &OsStr) {
        let value = OsString::from_vec(value.as_bytes().to_vec());
        match self.all.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.all.push((name.to_owned(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "A=1\n# c\n  B=2 \nHOME\nZZNOPE\nPO*\nE=\n  \nQ=\"q\"\r\n";

    fn given(files: &[&str], arguments: &[&str]) -> Result<Vec<String>, String> {
        let host: Environment = [("HOME", "/root"), ("POXX", "1"), ("POXY", "2")].into_iter().collect();
        let read = |path: &Path| match path.to_str() {
            Some("missing") => Err(std::io::Error::from_raw_os_error(2)),
            Some(content) => Ok(content.as_bytes().to_vec()),
            None => Ok(Vec::new()),
        };
        match variables(files, arguments, &host, read) {
            Ok(variables) => {
                Ok(variables.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect())
            }
            Err(error) => Err(crate::report::line("lrun", &error)),
        }
    }

    #[test]
    fn files_are_read_as_podman_does() {
        assert_eq!(given(&[FILE], &[]).unwrap(), ["A=1", "B=2 ", "HOME=/root", "POXX=1", "POXY=2", "E=", "Q=\"q\""]);
    }

    #[test]
    fn arguments_come_after_files_and_the_last_value_wins() {
        assert_eq!(
            given(&["A=1\nB=2"], &["B=over", "A", "D=x", "D=y=z", "HOME"]).unwrap(),
            ["A=1", "B=over", "D=y=z", "HOME=/root"]
        );
    }

    #[test]
    fn a_variable_that_the_host_lacks_is_left_out() {
        assert_eq!(given(&[], &["ZZNOPE", "NO*"]).unwrap(), [""; 0]);
        assert_eq!(given(&[], &["PO*"]).unwrap(), ["POXX=1", "POXY=2"]);
    }

    #[test]
    fn bad_names_are_refused_with_their_place() {
        for argument in ["=a", "", "X Y=1"] {
            assert!(given(&[], &[argument]).unwrap_err().contains("invalid environment variable"));
        }
        assert_eq!(
            given(&["A=1\n=x\n"], &[]).unwrap_err(),
            "lrun: line 2 of \"A=1\\n=x\\n\": invalid environment variable \"=x\"; write NAME=VALUE, NAME or PREFIX*"
        );
        assert!(given(&["missing"], &[]).unwrap_err().contains("No such file"));
    }
}

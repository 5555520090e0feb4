//! The log that an engine reads when a command fails (`--log`, `--log-format`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use super::args::{Global, LogFormat};
use crate::report::Failure;

/// Opens the log, where one was asked for.
pub(super) fn open(global: &Global) -> Result<Option<File>, Failure> {
    let Some(path) = &global.log else { return Ok(None) };
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map(Some).map_err(|error| format!("cannot write the log {}: {error}", path.display()).into())
}

/// Adds a line.
pub(super) fn write(log: Option<&File>, format: LogFormat, level: &str, text: &str) -> std::io::Result<()> {
    let Some(mut log) = log else { return Ok(()) };
    let line = match format {
        LogFormat::Text => text.to_owned(),
        LogFormat::Json => {
            let time = lrun::logs::stamp(SystemTime::now());
            serde_json::json!({"msg": text, "level": level, "time": time}).to_string()
        }
    };
    writeln!(log, "{line}")
}

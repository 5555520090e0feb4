//! The log that an engine reads when a command fails (`--log`, `--log-format`).

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use super::args::{Global, LogFormat};
use crate::report::Failure;

/// Adds a line, where a log was asked for.
pub(super) fn write(global: &Global, level: &str, text: &str) -> Result<(), Failure> {
    let Some(path) = &global.log else { return Ok(()) };
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|error| {
        Failure::from(format!("cannot write the log {}: {error}, and this would stand there: {text}", path.display()))
    })?;
    let text = text.trim_start_matches(": ");
    let line = match global.log_format {
        LogFormat::Text => text.to_owned(),
        LogFormat::Json => {
            let time = lrun::logs::stamp(SystemTime::now());
            serde_json::json!({"msg": text, "level": level, "time": time}).to_string()
        }
    };
    Ok(writeln!(file, "{line}")?)
}

//! `spec`.

use std::fs::OpenOptions;
use std::io::Write;

use lrun::oci::template::template;
use rustix::process::{getegid, geteuid};

use super::args::SpecArguments;
use crate::report::Failure;

pub(super) fn run(arguments: &SpecArguments) -> Result<(), Failure> {
    let owner = arguments.rootless.then(|| (geteuid().as_raw(), getegid().as_raw()));
    let path = arguments.bundle.join("config.json");
    let refused = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!("{} is there already; remove it first", path.display()),
        _ => format!("cannot write {}: {error}", path.display()),
    };
    let mut text = serde_json::to_string_pretty(&template(owner))?;
    text.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(refused)?;
    Ok(file.write_all(text.as_bytes())?)
}

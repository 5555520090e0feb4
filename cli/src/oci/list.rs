//! `list` and `ps`.

use std::io::Write;

use lrun::oci::state::Containers;
use serde_json::json;

use super::args::{Format, ListArguments, PsArguments};
use crate::report::Failure;

pub(super) fn containers(containers: &Containers, arguments: &ListArguments) -> Result<(), Failure> {
    let all = containers.all();
    if arguments.format == Format::Json {
        let list: Vec<_> = all
            .iter()
            .map(|one| {
                let state = one.state();
                json!({
                    "ociVersion": state["ociVersion"], "id": state["id"], "pid": state["pid"], "status": state["status"],
                    "bundle": state["bundle"], "rootfs": state["rootfs"], "created": state["created"],
                    "owner": state["owner"], "annotations": state["annotations"],
                })
            })
            .collect();
        return super::json(&json!(list));
    }
    let mut out = std::io::stdout().lock();
    if !arguments.quiet {
        out.write_all(row("NAME", "PID", "STATUS", "BUNDLE PATH", "CREATED", "OWNER").as_bytes())?;
    }
    for one in &all {
        let record = &one.record;
        if arguments.quiet {
            writeln!(out, "{}", record.id)?;
        } else {
            let pid = one.state()["pid"].to_string();
            let bundle = record.bundle.display().to_string();
            let row = row(&record.id, &pid, one.status().name(), &bundle, &record.created, &record.owner_name());
            out.write_all(row.as_bytes())?;
        }
    }
    Ok(())
}

fn row(name: &str, pid: &str, status: &str, bundle: &str, created: &str, owner: &str) -> String {
    format!("{name:<11} {pid:<8} {status:<8} {bundle:<40} {created:<30} {owner}\n")
}

pub(super) fn processes(containers: &Containers, arguments: &PsArguments) -> Result<(), Failure> {
    let ids = containers.find(&arguments.id)?.processes();
    if arguments.format == Format::Json {
        return super::json(&json!(ids));
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "PID")?;
    for id in ids {
        writeln!(out, "{id}")?;
    }
    Ok(())
}

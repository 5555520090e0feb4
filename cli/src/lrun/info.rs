//! `lrun info`: what this machine allows a container, what is missing for more, and how it is had.

use std::path::Path;

use lrun::host::find_program;
use lrun::idmap::Shape;
use lrun::refusal::Obstacles;
use lrun::spec::Program;
use lrun::sys::landlock;
use lrun::userns::{attempt, maps_of_caller};
use serde_json::json;

use crate::exit::Exit;
use crate::lstore::args::ReportArguments;
use crate::output::{Format, Output, Table};
use crate::report::Failure;

pub(super) fn run(arguments: &ReportArguments) -> Result<Exit, Failure> {
    let host = lrun::Host::probe();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let works = if host.is_root {
        // A process that lacks power is told why no container starts, rather than that none is needed.
        Obstacles::probe().cause_for_root(nix::libc::EPERM).unwrap_or("not needed (run by root)").to_owned()
    } else {
        attempt().map_or_else(|error| error.to_string(), |()| "work".to_owned())
    };
    let ids = if host.is_root {
        "the host's (run by root)".to_owned()
    } else {
        match maps_of_caller(Shape::Auto) {
            Ok(maps) => maps.users.to_string().trim().replace('\n', ", "),
            Err(error) => format!("yours alone: {error}"),
        }
    };
    let helpers = ["newuidmap", "newgidmap"].map(|name| find_program(name).is_some());
    let helpers = if helpers == [true, true] { "installed" } else { "missing: install the package uidmap" };
    let namespaces = read("/proc/sys/user/max_user_namespaces").unwrap_or_else(|| "unknown".to_owned());
    let (apparmor, selinux) = (apparmor(), selinux());
    let landlock = landlock::version().map_or_else(|error| error.to_string(), |version| format!("version {version}"));
    let (cgroups, nested) = (cgroups(), nested());
    let uplinks = uplinks();
    let value = json!({
        "Version": env!("CARGO_PKG_VERSION"), "Kernel": kernel, "Root": host.is_root, "UserNamespaces": works, "Ids": ids,
        "IdHelpers": helpers, "MaxUserNamespaces": namespaces, "AppArmor": apparmor, "SELinux": selinux,
        "Landlock": landlock, "Cgroups": cgroups, "Uplinks": uplinks, "Nested": nested, "LastCapability": host.last_capability,
    });
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    if let Some(format) = &arguments.output.format {
        output.item(&value, &Format::parse(format)?)?;
    } else {
        let mut table = Table::with_header(["", ""]);
        for (name, text) in [
            ("lrun", env!("CARGO_PKG_VERSION")),
            ("kernel", &kernel),
            ("user namespaces", &works),
            ("at most", &namespaces),
            ("ids", &ids),
            ("id helpers", helpers),
            ("AppArmor", apparmor),
            ("SELinux", selinux),
            ("Landlock", &landlock),
            ("cgroups", cgroups),
            ("ways out", &told(&uplinks)),
            ("nested", nested),
        ] {
            table.row([name, text]);
        }
        output.table(&table)?;
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

/// The programs that give a container a way out, of those that are known.
fn uplinks() -> Vec<&'static str> {
    [Program::Pasta, Program::Slirp4netns]
        .into_iter()
        .filter(|known| known.find().is_some())
        .map(Program::name)
        .collect()
}

fn told(uplinks: &[&str]) -> String {
    match uplinks {
        [] => "none but the host's network: install the package passt for --network pasta".to_owned(),
        found => format!("by {}", found.join(" and ")),
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn apparmor() -> &'static str {
    match read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() {
        Some("1") => "withholds power in user namespaces from programs without a profile; `lrun apparmor` prints one",
        _ if read("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y") => {
            "does not restrict user namespaces; --security-opt apparmor=PROFILE confines a container"
        }
        _ => "not there",
    }
}

fn selinux() -> &'static str {
    match read("/sys/fs/selinux/enforce").as_deref() {
        Some("1") => "enforces; --security-opt label=type:TYPE and the like label a container",
        Some(_) => "permissive",
        None => "not there",
    }
}

fn cgroups() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "version 2; limits need a systemd of yours, or a group that you may make groups in"
    } else {
        "version 1, which cannot be delegated; limits are refused"
    }
}

fn nested() -> &'static str {
    let marks = ["/run/.containerenv", "/.dockerenv"];
    if !marks.iter().any(|mark| Path::new(mark).exists()) {
        return "no";
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|target| target.starts_with("/proc/"))) {
        "inside a container, which covers parts of /proc: unless you are its root, containers are given that /proc and /sys"
    } else {
        "inside a container"
    }
}
